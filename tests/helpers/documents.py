"""README and docs/ as texts, and how their code is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = 'README.md'
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding='utf-8')
    for path in [ROOT / README, *sorted((ROOT / 'docs').glob('*.md'))]
}
EVERY_DOCUMENT = pytest.mark.parametrize('name', DOCUMENTS)

CODE_SPAN = re.compile(r'(?<!`)`([^`\n]+)`(?!`)')
FENCED = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def code_blocks(text: str, *languages: str) -> list[str]:
    """The code blocks of a document in these languages; `''` are those that name none."""
    return [body for language, body in FENCED.findall(text) if language in languages]

"""JSON files, and digests of what a result depends on."""

import hashlib
import json
from pathlib import Path
from typing import Any

from c2fdft_arch.common.atomic_write import write_bytes


def read_json(path: Path) -> Any:
    """The content of a file, None if it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: Any) -> None:
    """Write a file, all of it or nothing; folders are made as needed."""
    write_bytes(path, (json.dumps(content, indent=2) + '\n').encode())


def digest(content: Any) -> str:
    """A short digest, equal for contents that are equal as JSON."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

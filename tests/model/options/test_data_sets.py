"""Pairs of all data sets of an option file, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from c2fdft_model.options.data_sets import data_set_problems


@pytest.fixture
def problems(tmp_path):
    """The problems of one data set over folders with these files."""

    def find(kind: str, lq: list[str], gt: list[str], **changes: Any) -> list[str]:
        for side, names in (('lq', lq), ('gt', gt)):
            for name in names:
                path = tmp_path / side / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        return list(data_set_problems({'datasets': {'test_1': section(tmp_path, kind, **changes)}}))

    return find


def section(root: Path, kind: str, **changes: Any) -> dict[str, Any]:
    folders = {f'dataroot_{side}': str(root / side) for side in ('lq', 'gt')}
    opt = {'name': 'Set', 'type': kind, 'phase': 'test', 'scale': 1, 'io_backend': {'type': 'disk'}}
    return {**opt, **folders, **changes}


OURS, BASICSR = 'PatchCyclePairedDataset', 'PairedImageDataset'


@pytest.mark.parametrize('kind', [OURS, BASICSR])
def test_the_set_both_folders_and_what_is_missing_are_named(problems, tmp_path, kind):
    assert problems(kind, ['1.png', '2.png'], ['1.png', '2.png']) == []
    (line,) = problems(kind, ['3.png'], [])
    assert line.startswith(f'datasets: Set: {tmp_path / "lq"} and {tmp_path / "gt"} do not pair')
    assert '1 of 3 degraded images have no clean one: 3.png' in line


@pytest.mark.parametrize(
    ('lq', 'gt', 'what'),
    [
        (['a/1.png', '1.png'], ['a/1.png', '1.png'], 'looks for elsewhere, e.g. a/1.png'),
        (['1.jpg'], ['1.png'], 'looks for elsewhere, e.g. 1.png'),
        (['1.png', 'Thumbs.db'], ['1.png'], 'which are no images, e.g. Thumbs.db'),
    ],
)
def test_what_basicsrs_data_set_would_pair_wrongly_is_refused(problems, lq, gt, what):
    (line,) = problems(BASICSR, lq, gt)
    assert what in line and f'give type: {OURS}' in line
    assert problems(OURS, lq, gt) == []


@pytest.mark.parametrize(
    ('content', 'what'),
    [
        ('a/1.png (8,8,3)\n', 'looks for elsewhere, e.g. a/1.png'),
        ('a b.png (8,8,3)\n', 'cuts at the blank, e.g. a b.png'),
        ('1.png (8,8,3)\n\n', 'empty lines of the list'),
    ],
)
def test_what_basicsr_would_read_wrongly_in_a_list_is_refused(problems, tmp_path, content, what):
    listed = tmp_path / 'list.txt'
    listed.write_text(content)
    files = ['1.png', 'a/1.png', 'a b.png']
    (line,) = problems(BASICSR, files, files, meta_info_file=str(listed))
    assert what in line
    assert problems(OURS, [], [], meta_info_file=str(listed)) == []


def test_two_test_sets_of_one_name_are_refused(tmp_path):
    sets = {f'test_{k}': section(tmp_path / str(k), OURS) for k in (1, 2)}
    for k in (1, 2):
        for side in ('lq', 'gt'):
            (tmp_path / str(k) / side).mkdir(parents=True)
            (tmp_path / str(k) / side / '1.png').touch()
    (line,) = data_set_problems({'datasets': sets})
    assert '2 of them have the name Set' in line


def test_other_data_sets_are_left_alone(problems):
    assert problems('SingleImageDataset', ['1.png'], []) == []

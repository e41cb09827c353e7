"""The README against the tree: every key, script and option file that it should or does name."""

from __future__ import annotations

import dataclasses
import re

import pytest

from c2fdft_model.data.dataset_options import DatasetOptions
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.training.options import TrainOptions
from c2fdft_model.validation.options import ValidationOptions

# Set by BasicSR itself, or BasicSR's own and without effect here.
UNDOCUMENTED = {
    *('phase', 'name', 'type', 'scale', 'gt_size', 'use_shuffle', 'num_prefetch_queue'),
    'dataset_enlarge_ratio',
}


@pytest.fixture(scope='module')
def readme(project_root):
    return (project_root / 'README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize(
    'section', [TrainOptions, DiffusionOptions, ValidationOptions, DatasetOptions]
)
def test_every_option_key_is_in_the_readme(readme, section):
    keys = {field.name for field in dataclasses.fields(section)} - UNDOCUMENTED
    missing = {key for key in keys if f'`{key}`' not in readme}
    assert missing == set()


def test_every_file_that_the_readme_names_is_there(readme, project_root):
    named = set(re.findall(r'\b((?:scripts|options|c2fdft_arch)/[\w/.]+\.(?:py|sh|yml))\b', readme))
    missing = {name for name in named if not (project_root / name).exists()}
    assert len(named) > 10
    assert missing == set()


def test_every_script_is_in_the_readme(readme, project_root):
    scripts = {path.name for path in (project_root / 'scripts').glob('*.*')}
    # Called by setup_env.sh.
    missing = {name for name in scripts - {'install_environment.py'} if name not in readme}
    assert missing == set()


def test_nothing_is_left_to_fill_in(readme):
    assert '@@' not in readme


def test_every_benchmark_is_there(project_root, monkeypatch):
    monkeypatch.syspath_prepend(str(project_root / 'scripts'))
    from benchmark import BENCHMARKS

    files = {path.stem for path in (project_root / 'scripts' / 'benchmarks').glob('*.py')}
    assert set(BENCHMARKS) == files - {'__init__'}

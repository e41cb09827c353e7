"""The layers of the source tree hold: imports point down, files are of one concept, leaves thin."""

from __future__ import annotations

import ast
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from c2fdft_model.plugin.autoload import LEAVES
from helpers import layers

ROOT = Path(__file__).resolve().parents[2]
MODULES = layers.source_files(ROOT)
LARGEST_FOLDER, LONGEST_FILE, LONGEST_CPP_FILE, LONGEST_LEAF = 14, 350, 400, 300


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the source tree to plant something in."""
    for package in layers.PACKAGES:
        ignored = shutil.ignore_patterns('__pycache__')
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    return tmp_path


def plant(root: Path, file: str, code: str) -> int:
    """Add lines to the end of a file; returns the number of the last one."""
    path = root / file
    path.write_text(f'{path.read_text(encoding="utf-8")}\n{code}\n', encoding='utf-8')
    return len(path.read_text(encoding='utf-8').splitlines())


def test_every_import_points_down():
    assert layers.violations(ROOT) == []


@pytest.mark.parametrize(
    ('file', 'code'),
    [
        ('c2fdft_arch/network/plain_dft.py', 'import c2fdft_model.diffusion.sampling'),
        ('c2fdft_arch/network/plain_dft.py', 'from c2fdft_arch.dft import DFT'),
        ('c2fdft_arch/inference/settings.py', 'from c2fdft_arch.training import network'),
        ('c2fdft_model/diffusion/sampling.py', 'from c2fdft_model.training import stages'),
        ('c2fdft_model/data/pairing.py', 'def f():\n    from c2fdft_model import commands'),
        (
            'c2fdft_model/images/__init__.py',
            "import importlib\nimportlib.import_module('c2fdft_model.restoring.tiling')",
        ),
        ('c2fdft_model/training/stages.py', 'from scripts import benchmark'),
        ('c2fdft_model/diffusion/process.py', 'def f():\n    import basicsr'),
        ('c2fdft_model/plugin/doctor.py', 'import basicsr.utils'),
        ('c2fdft_model/commands/train.py', 'import c2fdft_model.losses'),
    ],
)
def test_a_planted_import_upwards_is_named_with_its_line(copy, file, code):
    line = plant(copy, file, code)
    assert [text for text in layers.violations(copy) if text.startswith(f'{file}:{line}: ')]


def test_a_planted_circle_inside_a_room_is_named(copy):
    file = 'c2fdft_model/diffusion/noise_schedule.py'
    plant(copy, file, 'import c2fdft_model.diffusion.process')
    texts = [text for text in layers.violations(copy) if 'closes the circle' in text]
    assert texts
    assert all('c2fdft_model.diffusion.noise_schedule' in text for text in texts)


def test_a_room_and_a_folder_in_it_do_not_import_each_other():
    folders = {
        (each.source.rpartition('.')[0], each.target.rpartition('.')[0])
        for each in layers.read_imports(ROOT)
        if layers.room(each.source) == layers.room(each.target) and each.target in MODULES
    }
    assert {pair for pair in folders if pair[0] != pair[1] and pair[::-1] in folders} == set()


def test_the_cpp_files_include_each_other_one_way():
    assert layers.include_circles(ROOT / 'c2fdft_arch' / 'native' / 'csrc') == []


def test_the_leaves_are_those_that_the_hook_imports():
    assert set(LEAVES) == layers.LEAVES
    assert set(LEAVES) <= set(MODULES)


@pytest.mark.parametrize('name', sorted(name for name in MODULES if not name.startswith('scripts')))
def test_a_module_that_registers_something_is_a_leaf_and_the_reverse(name):
    tree = ast.parse(MODULES[name].read_text(encoding='utf-8'))
    registers = any(
        isinstance(node, ast.Attribute) and node.attr == 'register' for node in ast.walk(tree)
    )
    assert registers == (name in LEAVES)


def test_every_folder_has_a_room_and_no_more_than_a_dozen_modules():
    floors = layers.ROOMS.items()
    known = {(package, room) for package, rooms in floors for row in rooms for room in row}
    folders = {layers.room(name) for name, path in MODULES.items() if path.name == '__init__.py'}
    assert {folder for folder in folders if len(folder) == 2 and folder[0] in layers.ROOMS} <= known
    counts = Counter(path.parent for path in MODULES.values() if path.name != '__init__.py')
    assert {folder: n for folder, n in counts.items() if n > LARGEST_FOLDER} == {}


def test_no_file_is_long():
    limits = dict.fromkeys(MODULES.values(), LONGEST_FILE)
    limits |= {MODULES[leaf]: LONGEST_LEAF for leaf in LEAVES}
    limits |= dict.fromkeys((ROOT / 'c2fdft_arch').rglob('*.[hc]pp'), LONGEST_CPP_FILE)
    limits |= dict.fromkeys((ROOT / 'c2fdft_arch').rglob('*.h'), LONGEST_CPP_FILE)
    lines = {path: len(path.read_text(encoding='utf-8').splitlines()) for path in limits}
    too_long = {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > limits[path]}
    assert too_long == {}


@pytest.mark.parametrize(
    'name', ['c2fdft_model', 'c2fdft_model.plugin', 'c2fdft_model.plugin.autoload']
)
def test_what_every_interpreter_imports_needs_only_what_is_loaded_already(name):
    loaded = [each for each in layers.read_imports(ROOT) if each.source == name and not each.lazy]
    assert {each.target for each in loaded} <= {'os', 'sys'}


def test_the_hook_needs_the_standard_library_alone():
    hook = 'c2fdft_model.plugin.registration'
    targets = {each.target for each in layers.read_imports(ROOT) if each.source == hook}
    outside = {name for name in targets if name.split('.')[0] not in sys.stdlib_module_names}
    assert {name for name in outside if not name.startswith('c2fdft_model.plugin')} == set()

"""Every module is pure (no BasicSR), a leaf (registers, imported by the hook) or plumbing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from c2fdft_model.plugin.autoload import LEAVES

ROOT = Path(__file__).resolve().parents[2]
# What connects the package with the interpreter and with BasicSR, and computes nothing.
PLUMBING = {
    'c2fdft_arch',
    'c2fdft_arch.__main__',
    'c2fdft_model',
    'c2fdft_model.plugin',
    'c2fdft_model.plugin.__main__',
    'c2fdft_model.plugin.autoload',
    'c2fdft_model.plugin.basicsr_patches',
    'c2fdft_model.plugin.doctor',
    'c2fdft_model.plugin.option_files',
    'c2fdft_model.plugin.registration',
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {
    module_name(path): path
    for package in ('c2fdft_arch', 'c2fdft_model')
    for path in sorted((ROOT / package).rglob('*.py'))
}
SCRIPTS = {module_name(path): path for path in sorted((ROOT / 'scripts').rglob('*.py'))}
PURE = sorted(set(MODULES) - set(LEAVES) - PLUMBING)


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Full names of what `import a.b` and `from a import b` name: a.b in both cases, and a."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names.update(f'{node.module}.{alias.name}' for alias in node.names)
    return names


def all_imports(path: Path) -> set[str]:
    return imported(ast.walk(ast.parse(path.read_text(encoding='utf-8'))))


def imports_when_loaded(path: Path) -> set[str]:
    """Imports outside functions: those that importing the module carries out."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield child
                yield from walk(child)

    return imported(walk(ast.parse(path.read_text(encoding='utf-8'))))


def top_level(names: set[str]) -> set[str]:
    return {name.split('.')[0] for name in names}


def test_leaves_and_plumbing_exist():
    assert set(LEAVES) | PLUMBING <= set(MODULES)


@pytest.mark.parametrize('name', PURE)
def test_pure_module_does_not_import_basicsr(name):
    assert 'basicsr' not in top_level(all_imports(MODULES[name]))


@pytest.mark.parametrize('name', sorted(PLUMBING))
def test_plumbing_does_not_import_basicsr_when_loaded(name):
    assert 'basicsr' not in top_level(imports_when_loaded(MODULES[name]))


@pytest.mark.parametrize('name', sorted({**MODULES, **SCRIPTS}))
def test_no_module_imports_a_leaf(name):
    path = {**MODULES, **SCRIPTS}[name]
    assert not all_imports(path) & set(LEAVES)


@pytest.mark.parametrize('name', sorted(set(MODULES) - PLUMBING))
def test_module_that_registers_something_is_a_leaf_and_the_reverse(name):
    names = all_imports(MODULES[name])
    registers = any(entry.startswith('basicsr.utils.registry.') for entry in names)
    assert registers == (name in LEAVES)


@pytest.mark.parametrize(
    'name', ['c2fdft_model', 'c2fdft_model.plugin', 'c2fdft_model.plugin.autoload']
)
def test_what_every_interpreter_imports_needs_only_what_is_loaded_already(name):
    assert all_imports(MODULES[name]) <= {
        'os',
        'sys',
        'c2fdft_model.plugin',
        'c2fdft_model.plugin.registration',
    }
    assert imports_when_loaded(MODULES[name]) <= {'os', 'sys'}


def test_the_hook_needs_the_standard_library_alone():
    path = MODULES['c2fdft_model.plugin.registration']
    assert top_level(all_imports(path)) <= sys.stdlib_module_names | {'c2fdft_model'}

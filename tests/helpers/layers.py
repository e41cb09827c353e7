"""The layers of the source tree: which module may import which, read from every import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# From the ground up; a room may import the rooms before it. Rooms on one line do not know each
# other.
ROOMS = {
    'c2fdft_arch': [
        ('common',),
        ('network',),
        ('native', 'triton_kernels'),
        ('inference', 'training'),
        ('baselines',),
        ('dft',),
    ],
    'c2fdft_model': [
        ('diffusion',),
        ('images',),
        ('data',),
        ('evaluation',),
        ('zoo',),
        ('restoring',),
        ('training',),
        ('checkpointing',),
        ('validation',),
        ('options',),
        ('plugin',),
        ('experiments', 'web'),
        ('commands',),
    ],
}
PACKAGES = (*ROOMS, 'scripts')
# Modules that carry registry decorators; only the start-up hook imports them, by their names.
LEAVES = {
    'c2fdft_arch.dft_arch',
    'c2fdft_arch.noise_predictor_arch',
    'c2fdft_arch.baselines_arch',
    'c2fdft_model.losses',
    'c2fdft_model.baseline_losses',
    'c2fdft_model.metrics',
    'c2fdft_model.patch_cycle_dataset',
    'c2fdft_model.c2fdft_model',
}
# Rooms whose modules may import BasicSR, but not when they are loaded.
BASICSR_ROOMS = {('c2fdft_model', room) for room in ('plugin', 'experiments', 'commands')}


@dataclass(frozen=True)
class Import:
    """One imported module, and the line that imports it."""

    source: str
    target: str
    path: Path
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: {self.source} imports {self.target}'


def module_name(path: Path, root: Path) -> str:
    """The dotted name of a source file below `root`."""
    parts = path.relative_to(root).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def source_files(root: Path) -> dict[str, Path]:
    """Module name -> file, of both packages and the scripts."""
    files = [path for package in PACKAGES for path in sorted((root / package).rglob('*.py'))]
    return {module_name(path, root): path for path in files}


def read_imports(root: Path) -> list[Import]:
    """Every import in every module: of statements, lazy ones too, and of import_module('name')."""
    modules = source_files(root)
    return [
        Import(name, target, path.relative_to(root), node.lineno, lazy)
        for name, path in modules.items()
        for node, lazy in _nodes(ast.parse(path.read_text(encoding='utf-8')), False)
        for target in _targets(node, modules)
    ]


def _nodes(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield child, inside
        yield from _nodes(child, inside)


def _targets(node: ast.AST, modules: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f'line {node.lineno}: a relative import'
        named = [f'{node.module}.{alias.name}' for alias in node.names]
        # `from package import module` imports the module; anything else, what it is taken from.
        found = [name if name in modules else str(node.module) for name in named]
        return list(dict.fromkeys(found))
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
        if function in ('import_module', 'run_module', '__import__'):
            return [str(node.args[0].value)]
    return []


def level(module: str) -> tuple[int, int]:
    """(package, room): larger is higher; leaves and a package's other root modules are on top."""
    package, _, rest = module.partition('.')
    room = rest.split('.')[0]
    if package not in ROOMS:
        return len(ROOMS), 0
    floors = ROOMS[package]
    found = [number for number, rooms in enumerate(floors) if room in rooms]
    return list(ROOMS).index(package), found[0] if found else len(floors)


def room(module: str) -> tuple[str, ...]:
    """A module's package and the folder in it; a package's root modules are rooms themselves."""
    return tuple(module.split('.')[:2])


def violations(root: Path) -> list[str]:
    """What the imports below `root` do against the layers, each with its file and line."""
    imports = read_imports(root)
    modules = source_files(root)
    return [
        *_upward(imports, modules),
        *_of_leaves(imports),
        *_of_basicsr(imports),
        *_circles(imports, modules),
    ]


def _upward(imports: list[Import], modules: dict[str, Path]) -> Iterator[str]:
    for each in imports:
        # A package without a room is its __init__ alone, which holds the version.
        if each.target not in modules or '.' not in each.target:
            continue
        if room(each.source) == room(each.target):
            continue
        if level(each.source) <= level(each.target):
            yield f'{each}, which is not below it'


def _of_leaves(imports: list[Import]) -> Iterator[str]:
    for each in imports:
        if each.target in LEAVES:
            yield f'{each}, a registered leaf, which only the start-up hook imports'


def _of_basicsr(imports: list[Import]) -> Iterator[str]:
    for each in imports:
        if each.target.split('.')[0] != 'basicsr' or each.source.startswith('scripts'):
            continue
        if each.source in LEAVES:
            continue
        if room(each.source) not in BASICSR_ROOMS:
            yield f'{each}: only leaves, plugin, experiments and commands know BasicSR'
        elif not each.lazy:
            yield f'{each} when it is loaded; import it in the function that needs it'


def _circles(imports: list[Import], modules: dict[str, Path]) -> Iterator[str]:
    """One line for each circle of files, naming the import that closes it."""
    ways: dict[str, list[Import]] = {}
    for each in imports:
        if each.target in modules and each.target != each.source:
            ways.setdefault(each.source, []).append(each)
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> Iterator[str]:
        for each in ways.get(module, []):
            if each.target in path:
                circle = [*path[path.index(each.target) :], each.target]
                yield f'{each}, which closes the circle {" -> ".join(circle)}'
            elif each.target not in done:
                yield from visit(each.target, [*path, each.target])
        done.add(module)

    for module in modules:
        if module not in done:
            yield from visit(module, [module])


def include_circles(folder: Path) -> list[str]:
    """Circles among the C++ files of a folder, by their `#include "..."` lines."""
    includes = {
        path.name: re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)
        for path in sorted(folder.glob('*.[hc]*'))
    }
    found = []

    def visit(name: str, path: list[str]) -> None:
        for other in includes.get(name, []):
            if other in path:
                found.append(' -> '.join([*path[path.index(other) :], other]))
            else:
                visit(other, [*path, other])

    for name in includes:
        visit(name, [name])
    return found

"""What the hook of `autoload` does around `import basicsr`: patch it, import the leaves, report.

BasicSR imports all its modules itself: they are patched, and the leaves registered, as soon as it
is whole. Other projects carry a package of that name which may import nothing, or run a training
when its `train` is imported: of those only what they import themselves is touched, once they have
done so. One without BasicSR's registries is left alone.

Standard library only, until BasicSR is being imported.
"""

import importlib
import importlib.machinery
import sys
import threading
import warnings
from collections.abc import Callable, Iterable

from c2fdft_model.plugin.patches.patch import executed, is_loaded

PATCHES = 'c2fdft_model.plugin.patches.table'
PACKAGE = 'basicsr'
# After which module of BasicSR a leaf can be imported; others, as soon as the package is there.
AFTER = {
    'c2fdft_arch.dft_arch': 'basicsr.archs',
    'c2fdft_arch.noise_predictor_arch': 'basicsr.archs',
    'c2fdft_arch.baselines_arch': 'basicsr.archs',
    'c2fdft_model.losses': 'basicsr.losses',
    'c2fdft_model.patch_cycle_dataset': 'basicsr.models',
    'c2fdft_model.c2fdft_model': 'basicsr.models',
    'c2fdft_model.metrics': 'basicsr.metrics',
}
failures: list[str] = []  # what has failed in this process, in words; the doctor reads it
_searching = threading.local()


def find_spec(hook, leaves: Iterable[str], name: str, path=None, target=None):
    """The spec of a module from the finders other than `hook`; loading it registers the leaves."""
    if getattr(_searching, 'now', False):  # another finder asks the whole import system again
        return None
    others = [finder for finder in sys.meta_path if finder is not hook]
    specs = (f.find_spec(name, path, target) for f in others if hasattr(f, 'find_spec'))
    _searching.now = True
    try:
        spec = next((spec for spec in specs if spec is not None), None)
    finally:
        _searching.now = False
    # Without an origin it is a namespace package: any folder called basicsr without __init__.py.
    if spec is None or spec.origin is None:
        return spec
    try:
        if name != PACKAGE:
            _wrap_loader(spec.loader, name, lambda load: _load_part(hook, leaves, name, load))
        elif _has_registries(spec):
            _wrap_loader(spec.loader, name, lambda load: _load_package(hook, leaves, load))
        else:
            _warn(
                f"c2fdft is not added to {spec.origin}, which has no registries like BasicSR's; "
                'C2FDFT_AUTOLOAD=0 in the environment switches c2fdft off.'
            )
    except Exception as error:
        _report([_in_words(__name__, error)])
    return spec


def _has_registries(spec: importlib.machinery.ModuleSpec) -> bool:
    """Whether the package has a module utils.registry, found without importing anything of it."""
    finder = importlib.machinery.PathFinder
    utils = finder.find_spec(f'{PACKAGE}.utils', spec.submodule_search_locations)
    folders = None if utils is None else utils.submodule_search_locations
    if folders is None:
        return False
    return finder.find_spec(f'{PACKAGE}.utils.registry', folders) is not None


def _wrap_loader(loader, name: str, around: Callable[[Callable[[], None]], None]) -> None:
    """Let `around` load a module, once; it is given a function that runs the module's own code.

    The instance's method is wrapped and the loader kept, so that everything else that is asked of
    it (source text, resources) still gets BasicSR's own answer.
    """
    if 'exec_module' in vars(loader):
        return
    exec_module = loader.exec_module

    def exec_module_and_register(module):
        if module.__name__ != name:  # a zip archive has one loader for all its modules
            return exec_module(module)
        vars(loader).pop('exec_module', None)
        around(lambda: exec_module(module))
        return None

    loader.exec_module = exec_module_and_register


def _load_package(hook, leaves: Iterable[str], load: Callable[[], None]) -> None:
    problems = _load(PATCHES, 'before_import')
    load()
    executed.add(PACKAGE)
    register(hook, leaves, problems)


def _load_part(hook, leaves: Iterable[str], name: str, load: Callable[[], None]) -> None:
    load()
    executed.add(name)
    register(hook, leaves, [])


def register(hook, leaves: Iterable[str], problems: list[str]) -> None:
    """Patch what is imported of BasicSR and import the leaves for it; one warning says what failed.

    `problems` are those from before the import. Each leaf is tried on its own, so that a missing
    package costs one entry of a registry and not all of them.
    """
    problems = problems + _load(PATCHES, 'after_import')
    for leaf in leaves:
        if is_loaded(AFTER.get(leaf, PACKAGE)):
            problems += _load(leaf)
    needed = {*AFTER.values(), *_modules_with_patches()}
    hook.waiting = {module for module in needed if not is_loaded(module)}
    if problems:
        _report(problems)
    if shared := _what_is_shared():
        _warn(shared)


def register_late(hook, leaves: Iterable[str]) -> None:
    """Register into a BasicSR that was imported before the hook was in place."""
    spec = getattr(sys.modules[PACKAGE], '__spec__', None)
    if spec is None or spec.origin is None:
        return
    if not is_loaded(PACKAGE):
        _report(['the hook was installed while basicsr was being imported; install it before'])
    elif _has_registries(spec):
        register(hook, leaves, [])


def _modules_with_patches() -> Iterable[str]:
    table = sys.modules.get(PATCHES)
    return [] if table is None else table.modules()


def _what_is_shared() -> str:
    names = sys.modules.get(f'{PATCHES.rpartition(".")[0]}.registry_names')
    return '' if names is None else names.what_is_shared()


def _load(module: str, function: str | None = None) -> list[str]:
    """Import a module and call one of its functions, if named; returns what failed, in words."""
    try:
        imported = importlib.import_module(module)
        if function is not None:
            getattr(imported, function)()
    except Exception as error:
        return [_in_words(module, error)]
    return []


def _in_words(module: str, error: Exception) -> str:
    return f'{module}: {type(error).__name__}: {error}'


def _report(problems: list[str]) -> None:
    failures.extend(problems)
    _warn(
        f'c2fdft could not add itself to BasicSR completely: {"; ".join(problems)}. '
        '`python -m c2fdft_arch` says more; '
        'C2FDFT_AUTOLOAD=0 in the environment switches c2fdft off.'
    )


def _warn(text: str) -> None:
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:  # warnings are errors here, but BasicSR must import all the same
        print(f'RuntimeWarning: {text}', file=sys.stderr)

"""What the hook of `autoload` does around `import basicsr`: patch it, import the leaves, report.

Standard library only, until BasicSR is being imported.
"""

import importlib
import sys
import threading
import warnings
from collections.abc import Iterable

PATCHES = 'c2fdft_model.plugin.patches.table'
failures: list[str] = []  # what has failed in this process, in words; the doctor reads it
_searching = threading.local()


def find_spec(hook, leaves: Iterable[str], path=None, target=None):
    """The spec of `basicsr` from the finders other than `hook`; loading it registers the leaves."""
    if getattr(_searching, 'now', False):  # another finder asks the whole import system again
        return None
    others = [finder for finder in sys.meta_path if finder is not hook]
    specs = (f.find_spec('basicsr', path, target) for f in others if hasattr(f, 'find_spec'))
    _searching.now = True
    try:
        spec = next((spec for spec in specs if spec is not None), None)
    finally:
        _searching.now = False
    # Without an origin it is a namespace package: any folder called basicsr without __init__.py.
    if spec is not None and spec.origin is not None:
        try:
            _wrap_loader(spec.loader, leaves)
        except Exception as error:
            _warn([_in_words(__name__, error)])
    return spec


def _wrap_loader(loader, leaves: Iterable[str]) -> None:
    """Let this loader patch and register around BasicSR's own module code, once.

    The instance's method is wrapped and the loader kept, so that everything else that is asked of
    it (source text, resources) still gets BasicSR's own answer.
    """
    if 'exec_module' in vars(loader):
        return
    exec_module = loader.exec_module

    def exec_module_and_register(module):
        if module.__name__ != 'basicsr':  # a zip archive has one loader for all its modules
            return exec_module(module)
        vars(loader).pop('exec_module', None)
        problems = _load(PATCHES, 'before_import')
        exec_module(module)
        register(leaves, problems)
        return None

    loader.exec_module = exec_module_and_register


def register(leaves: Iterable[str], problems: list[str]) -> None:
    """Patch the imported BasicSR and import the leaves; one warning says what failed, if any did.

    `problems` are those from before the import. Each leaf is tried on its own, so that a missing
    package costs one entry of a registry and not all of them.
    """
    problems = problems + _load(PATCHES, 'after_import')
    for leaf in leaves:
        problems += _load(leaf)
    if problems:
        _warn(problems)


def register_late(leaves: Iterable[str]) -> None:
    """Register into a BasicSR that was imported before the hook was in place."""
    spec = getattr(sys.modules['basicsr'], '__spec__', None)
    if spec is None or spec.origin is None:
        return
    if getattr(spec, '_initializing', False):
        _warn(['the hook was installed while basicsr was being imported; install it before'])
        return
    register(leaves, [])


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


def _warn(problems: list[str]) -> None:
    failures.extend(problems)
    text = (
        f'c2fdft could not add itself to BasicSR completely: {"; ".join(problems)}. '
        '`python -m c2fdft_arch` says more; '
        'C2FDFT_AUTOLOAD=0 in the environment switches c2fdft off.'
    )
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=4)  # the user's `import basicsr`
    except RuntimeWarning:  # warnings are errors here, but BasicSR must import all the same
        print(f'RuntimeWarning: {text}', file=sys.stderr)

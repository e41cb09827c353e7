"""What the hook of `autoload` does around `import basicsr`: mend, import the leaves, report.

Standard library only, until BasicSR is being imported.
"""

from __future__ import annotations

import importlib
import sys
import threading
import warnings

from c2fdft_model.plugin.autoload import LEAVES, SWITCH, TRIGGER

_searching = threading.local()


def find_spec(hook, path=None, target=None):
    """Return the spec of `basicsr` from the finders other than `hook`, its loader prepared."""
    if getattr(_searching, 'now', False):  # another finder asks the whole import system again
        return None
    _searching.now = True
    try:
        spec = _ask_others(hook, path, target)
    finally:
        _searching.now = False
    # A spec without origin is a namespace: a mere folder called basicsr, say in the working folder.
    if spec is not None and spec.origin is not None:
        try:
            _wrap_loader(spec.loader)
        except Exception as error:
            _warn([_describe('c2fdft_model.plugin.registration', error)])
    return spec


def _ask_others(hook, path, target):
    for finder in list(sys.meta_path):
        if finder is hook or not hasattr(finder, 'find_spec'):
            continue
        spec = finder.find_spec(TRIGGER, path, target)
        if spec is not None:
            return spec
    return None


def _wrap_loader(loader) -> None:
    """Let this loader run our two steps around BasicSR's own module code, once.

    The instance's method is wrapped and the loader kept, so that everything else that is asked of
    it (source text, resources) still gets BasicSR's own answer.
    """
    if 'exec_module' in vars(loader):
        return
    exec_module = loader.exec_module

    def exec_module_and_register(module):
        if module.__name__ != TRIGGER:  # a zip archive has one loader for all its modules
            return exec_module(module)
        vars(loader).pop('exec_module', None)
        problems = _prepare()
        exec_module(module)
        register(problems)
        return None

    loader.exec_module = exec_module_and_register


def _prepare() -> list[str]:
    """Do what must be done before BasicSR's own code runs; returns what failed, in words."""
    try:
        from c2fdft_model.plugin import basicsr_patches as basicsr_compat

        basicsr_compat.before_import()
    except Exception as error:
        return [_describe('c2fdft_model.plugin.basicsr_patches', error)]
    return []


def register(problems=()) -> list[str]:
    """Mend BasicSR's faults and import the leaves; one warning says what failed, if anything did.

    Called when `basicsr` has finished importing. Each leaf is tried on its own, so that a missing
    package costs one entry of a registry and not all of them.
    """
    problems = list(problems)
    try:
        from c2fdft_model.plugin import basicsr_patches as basicsr_compat

        basicsr_compat.after_import()
    except Exception as error:
        problems.append(_describe('c2fdft_model.plugin.basicsr_patches', error))
    for leaf in LEAVES:
        try:
            importlib.import_module(leaf)
        except Exception as error:
            problems.append(_describe(leaf, error))
    if problems:
        _warn(problems)
    return problems


def register_late() -> None:
    """Register into a BasicSR that was imported before the hook was in place."""
    spec = getattr(sys.modules[TRIGGER], '__spec__', None)
    if spec is None or spec.origin is None:
        return
    if getattr(spec, '_initializing', False):
        _warn(['the hook was installed while basicsr was being imported; install it before'])
        return
    register()


def _describe(module: str, error: Exception) -> str:
    return f'{module}: {type(error).__name__}: {error}'


def _warn(problems: list[str]) -> None:
    text = (
        f'c2fdft could not add itself to BasicSR completely: {"; ".join(problems)}. '
        f'`python -m c2fdft_arch` says more; {SWITCH}=0 in the environment switches c2fdft off.'
    )
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=4)  # the user's `import basicsr`
    except RuntimeWarning:  # warnings are errors here, but BasicSR must import all the same
        print(f'RuntimeWarning: {text}', file=sys.stderr)

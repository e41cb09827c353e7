"""What a patch is: a function that changes BasicSR, what it is for, and what it did."""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MASTER = 'fixed in GitHub master'
NOT_FIXED = 'not fixed upstream'
executed: set[str] = set()  # modules whose code has run, though their import goes on


@dataclass
class Patch:
    """A function that works around one fault of BasicSR; calling the patch applies it once.

    `function` returns whether BasicSR needed it. `module` is the one of BasicSR that it changes.
    `upstream` is the report of the fault, `fixed_in` says which version makes the patch
    unnecessary: `MASTER` or `NOT_FIXED`.
    """

    function: Callable[[], bool]
    fault: str
    upstream: str
    fixed_in: str = NOT_FIXED
    module: str = 'basicsr'
    state: str = 'not called'

    @property
    def name(self) -> str:
        return self.function.__name__

    def __call__(self) -> None:
        """Apply it unless that is done; raises what the function raises, and remembers it."""
        if self.state == 'applied':
            return
        try:
            self.state = 'applied' if self.function() else 'not needed'
        except Exception as error:
            self.state = f'failed: {type(error).__name__}: {error}'
            raise


def is_loaded(module: str) -> bool:
    """Whether a module has been imported, to the end of its code."""
    if module not in sys.modules:
        return False
    spec = getattr(sys.modules[module], '__spec__', None)
    return module in executed or not getattr(spec, '_initializing', False)


def patch(
    fault: str, upstream: str, fixed_in: str = NOT_FIXED, module: str = 'basicsr'
) -> Callable[[Callable[[], bool]], Patch]:
    """Decorator that makes a function a `Patch`."""
    return functools.partial(
        Patch, fault=fault, upstream=upstream, fixed_in=fixed_in, module=module
    )


def replaces(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: put a function in the place of `owner.name`, which is its first argument.

    `owner` is a class, or a module of BasicSR, whose function other modules may have imported.
    """
    original = getattr(owner, name)

    def replace(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def replacement(*arguments, **settings):
            return function(original, *arguments, **settings)

        if isinstance(owner, type):
            setattr(owner, name, replacement)
        else:
            replace_everywhere(original, replacement)
        return replacement

    return replace


def replace_everywhere(old: Any, new: Any) -> None:
    """Replace a function under every name by which BasicSR's modules have imported it."""
    for module_name, module in list(sys.modules.items()):
        if module_name == 'basicsr' or module_name.startswith('basicsr.'):
            for name, value in list(vars(module).items()):
                if value is old:
                    setattr(module, name, new)

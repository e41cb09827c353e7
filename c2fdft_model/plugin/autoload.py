"""The hook that adds the plugin to BasicSR as soon as BasicSR is imported.

A start-up file in site-packages calls `install()` in every interpreter, so this file is kept small,
imports nothing that an interpreter has not loaded anyway, and does nothing until somebody imports
`basicsr`, or `spandrel`, which then knows the weights of DFT. `C2FDFT_AUTOLOAD=0` in the
environment switches it off.
"""

import os
import sys

SWITCH = 'C2FDFT_AUTOLOAD'
TRIGGER = 'basicsr'
SPANDREL = 'spandrel'
# The leaves: modules that carry registry decorators. Nobody else imports them.
LEAVES = (
    'c2fdft_arch.dft_arch',
    'c2fdft_arch.noise_predictor_arch',
    'c2fdft_arch.baselines_arch',
    'c2fdft_model.losses',
    'c2fdft_model.baseline_losses',
    'c2fdft_model.patch_cycle_dataset',
    'c2fdft_model.c2fdft_model',
    'c2fdft_model.metrics',
)


class PostImportHook:
    """A meta path finder for `basicsr` alone; it finds what the others find, and then registers.

    `waiting` are modules of a `basicsr` that does not import them itself: they are patched, and
    leaves registered, when somebody else imports them.
    """

    c2fdft_hook = True

    def __init__(self):
        self.waiting = set()

    def find_spec(self, name, path=None, target=None):
        """Return the spec that the other finders give for `basicsr`, its loader prepared."""
        if name != TRIGGER and name not in self.waiting:
            return None
        from c2fdft_model.plugin import registration

        return registration.find_spec(self, LEAVES, name, path, target)


class SpandrelHook:
    """A meta path finder for `spandrel` alone; it then knows the weights of DFT."""

    def find_spec(self, name, path=None, target=None):
        """Return the spec that the other finders give for `spandrel`, its loader prepared."""
        if name != SPANDREL:
            return None
        from c2fdft_model.plugin import spandrel_hook

        return spandrel_hook.find_spec(self, path, target)


def installed_hook():
    """Return the hook on `sys.meta_path`, or None."""
    return next((finder for finder in sys.meta_path if hasattr(finder, 'c2fdft_hook')), None)


def switched_off():
    """Whether the environment says that BasicSR is to be left as it is."""
    return os.environ.get(SWITCH, '').strip().lower() in ('0', 'off', 'false', 'no')


def install():
    """Put the hook in place, once; if BasicSR is imported already, register at once."""
    if switched_off() or installed_hook() is not None:
        return
    hook = PostImportHook()
    sys.meta_path[:0] = [hook, SpandrelHook()]
    if SPANDREL in sys.modules:
        from c2fdft_model.plugin import spandrel_hook

        spandrel_hook.add_dft()
    if TRIGGER in sys.modules:
        from c2fdft_model.plugin import registration

        registration.register_late(hook, LEAVES)

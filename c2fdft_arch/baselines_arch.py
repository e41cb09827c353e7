"""Registers the paper's rivals in BasicSR, as `network_g: {type: spandrel/Restormer}` and so on.

Nothing is imported here but the table: whether the extra is installed shows when one is built.
"""

from __future__ import annotations

from basicsr.utils.registry import ARCH_REGISTRY

from c2fdft_arch.rivals import RIVALS, RivalFactory

for name in RIVALS:
    ARCH_REGISTRY.register(RivalFactory(name))

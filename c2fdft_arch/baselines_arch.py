"""Registers the paper's baselines in BasicSR, as `network_g: {type: spandrel/Restormer}` and so on.

Nothing is imported here but the table: whether the extra is installed shows when one is built.
"""

from basicsr.utils.registry import ARCH_REGISTRY

from c2fdft_arch.baselines.spandrel_networks import BASELINES, BaselineFactory

for name in BASELINES:
    ARCH_REGISTRY.register(BaselineFactory(name))

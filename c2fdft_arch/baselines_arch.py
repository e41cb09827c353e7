"""Registers the paper's baselines in BasicSR, as `PReNet` or, if spandrel's, `spandrel/Restormer`.

Of spandrel nothing is imported but the table: whether the extra is installed shows when one is
built.
"""

from basicsr.utils.registry import ARCH_REGISTRY

from c2fdft_arch.baselines.spandrel_networks import BASELINES, BaselineFactory
from c2fdft_arch.baselines.systems import DISCRIMINATORS, SYSTEMS

for name in BASELINES:
    ARCH_REGISTRY.register(BaselineFactory(name))
for network in (*SYSTEMS.values(), *DISCRIMINATORS.values()):
    ARCH_REGISTRY.register(network)

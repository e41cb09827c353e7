"""Registers the network in BasicSR, so that option files can say `network_g: {type: DFT}`."""

from basicsr.utils.registry import ARCH_REGISTRY

from c2fdft_arch.dft import DFT

ARCH_REGISTRY.register(DFT)

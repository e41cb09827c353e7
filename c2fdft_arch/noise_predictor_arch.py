"""Registers `network_g: {type: NoisePredictor, backbone: {type: ..., ...}}` in BasicSR."""

from basicsr.utils.registry import ARCH_REGISTRY

from c2fdft_arch.baselines.backbones import NoisePredictorFactory

ARCH_REGISTRY.register(NoisePredictorFactory(ARCH_REGISTRY))

"""Registers `network_g: {type: NoisePredictor, backbone: {type: ..., ...}}` in BasicSR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from c2fdft_arch.baselines.backbones import build_noise_predictor


@ARCH_REGISTRY.register()
def NoisePredictor(
    backbone: Mapping[str, Any],
    time: str | None = None,
    num_timesteps: int = 1000,
    residual: bool | None = None,
    unshuffle: int = 1,
    adapters: bool = False,
    size_multiple: int | None = None,
) -> nn.Module:
    """Any registered architecture as the noise predictor; see `baselines.noise_predictor`."""
    return build_noise_predictor(
        ARCH_REGISTRY,
        backbone,
        time=time,
        num_timesteps=num_timesteps,
        residual=residual,
        unshuffle=unshuffle,
        adapters=adapters,
        size_multiple=size_multiple,
    )

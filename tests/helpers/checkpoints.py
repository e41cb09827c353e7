"""Checkpoint files of tiny networks, with and without a description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from c2fdft_arch.dft import DFT
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.restoring.description import DESCRIPTION_KEY, Description

TINY = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1], 'ffn_factor': 1.0}


def description(stage: str = 'coarse', network: Any = None, **diffusion: Any) -> Description:
    """What a training of the tiny network says of its checkpoints."""
    return Description(
        network_g={'type': 'DFT', **TINY, **(network or {})},
        diffusion=DiffusionOptions(**diffusion),
        stage=stage,
        iteration=5,
        data=('pairs',),
    )


def save_network(path: Path, saved: Description | None = None, **options: Any) -> Path:
    """A checkpoint of the tiny network, none of whose parameters is at its initial value."""
    torch.manual_seed(0)
    network = DFT(**{**TINY, **options})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    content: dict[str, Any] = {'params': network.state_dict()}
    if saved is not None:
        content[DESCRIPTION_KEY] = saved.to_plain()
    torch.save(content, path)
    return path

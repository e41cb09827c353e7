"""Checkpoint files of tiny networks, with and without a description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from c2fdft_arch.dft import DFT
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.restoring.description import DESCRIPTION_KEY, Description
from c2fdft_model.restoring.restoration import restore

TINY = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1], 'ffn_factor': 1.0}

OTHER_SETTINGS: dict[str, dict[str, Any]] = {
    'T = 500': {'num_diffusion_timesteps': 500},
    'another schedule': {'beta_schedule': 'quad'},
    'ir_sde': {'process': 'ir_sde', 'ir_sde': {'noise_level': 20.0}},
    'the clean image': {'prediction': 'clean'},
    'one call': {'sampling_timesteps': 1},
}
"""Sections `diffusion`, each with another restoration than the paper's settings."""

OTHER_SKIP = 'degraded'
"""A `network_g: skip` that is not the paper's; the shapes of parameters do not show it."""


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


def save_trained_otherwise(path: Path, settings: dict[str, Any], skip: str = OTHER_SKIP) -> Path:
    """A checkpoint that says it was trained with these settings of `diffusion` and this `skip`."""
    return save_network(path, description(network={'skip': skip}, **settings))


def restored_otherwise(
    path: Path,
    settings: dict[str, Any],
    image: torch.Tensor,
    name: str,
    skip: str = OTHER_SKIP,
    **options: Any,
) -> torch.Tensor:
    """What the parameters of `save_trained_otherwise` restore with these settings and this `skip`.

    What the file says of itself is not read. `name` is that of the noise; `options` are those of
    `restore`.
    """
    network = DFT(**TINY, skip=skip).eval()
    network.load_state_dict(torch.load(path, weights_only=True)['params'])
    process = build_process(DiffusionOptions(**settings))
    return restore(network, image, process=process, noise_name=name, **options)

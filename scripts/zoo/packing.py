"""The file of a model that ships: the averaged weights in float16, and what they are."""

from pathlib import Path

import torch
import yaml

from c2fdft_arch.common.atomic_write import replacing
from c2fdft_arch.common.option_parsing import parse_section
from c2fdft_arch.dft import DFT
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.restoring.checkpoint import EMA_KEY, read_checkpoint
from c2fdft_model.restoring.description import DESCRIPTION_KEY, Description, describe
from c2fdft_model.zoo import FOLDER


def pack(task: str, weights: Path, folder: Path = FOLDER) -> Path:
    """Write `folder`/<task>.pth from a checkpoint of the task's fine training; returns its path.

    Raises WeightsError for a file that is no checkpoint.
    """
    checkpoint = read_checkpoint(weights, EMA_KEY)
    description = checkpoint.description or described(task)
    content = {
        EMA_KEY: {name: value.half() for name, value in checkpoint.parameters.items()},
        DESCRIPTION_KEY: description.to_plain(),
    }
    path = folder / f'{task}.pth'
    with replacing(path) as temporary:
        torch.save(content, temporary)
    return path


def described(task: str) -> Description:
    """What the option file of the task's fine training says of its last checkpoint."""
    opt = yaml.safe_load((FOLDER / f'{task}_fine.yml').read_text(encoding='utf-8'))
    diffusion = parse_section(DiffusionOptions, opt['diffusion'], 'diffusion')
    description = describe(opt, diffusion, lambda name: DFT if name == 'DFT' else None)
    return description.model_copy(update={'iteration': opt['train']['total_iter']})

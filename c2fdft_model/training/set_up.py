"""The start of a training: what the options ask for is built, and what looks wrong is said."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from c2fdft_arch.common.hardware import has_fast_bf16
from c2fdft_arch.common.kernel_choice import check_kernels, check_precision
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.training.options import TrainOptions
from c2fdft_model.training.stages import CoarseStage, FineStage, Stage

logger = logging.getLogger('basicsr')


def build_stage(
    options: TrainOptions,
    network: nn.Module,
    process: DiffusionProcess,
    build_loss: Callable[[dict[str, Any]], nn.Module],
    device: torch.device,
) -> Stage:
    """The stage with its losses, each of which `build_loss` makes from its section.

    Raises OptionError if the options ask for what the network or the device cannot do.
    """
    choose_kernels(options, network, device)
    if options.deterministic:
        use_deterministic_algorithms()
    if options.checkpoint == 'blocks':
        if not hasattr(network, 'checkpoint_blocks'):
            raise OptionError(
                f'train: checkpoint: blocks is not possible for network_g: '
                f'{type(network).__name__}; allowed here are none and, with stage: fine, steps.'
            )
        network.checkpoint_blocks = True  # type: ignore[assignment]

    def losses(**sections: Mapping[str, Any] | None) -> dict[str, nn.Module]:
        return {name: build_loss(dict(s)).to(device) for name, s in sections.items() if s}

    settings = {'bf16': options.amp == 'bf16', 'compiled': options.compiled}
    if options.stage == 'coarse':
        return CoarseStage(network, process, losses(noise=options.pixel_opt)['noise'], **settings)
    return FineStage(
        network,
        process,
        losses(l_pix=options.pixel_opt),
        losses(l_ssim=options.ssim_opt, l_percep=options.perceptual_opt),
        grad_steps=options.grad_steps,
        checkpoint=options.checkpoint == 'steps',
        **settings,
    )


UNSUITABLE_SKIPS = {('noise', 'degraded'): 'noisy', ('clean', 'noisy'): 'degraded'}
"""A prediction and a skip that make the network learn to remove the image that is added, and the
skip that suits."""


def warn_of_skip(prediction: str, skip: str | None) -> None:
    """Say that another skip suits what the network predicts, if one does."""
    suitable = UNSUITABLE_SKIPS.get((prediction, skip or ''))
    if suitable:
        logger.warning(
            f'network_g: skip: {skip} with diffusion: prediction: {prediction}: the network must '
            f'learn to remove the {skip} image again; skip: {suitable} suits this prediction.'
        )


def choose_kernels(options: TrainOptions, network: nn.Module, device: torch.device) -> None:
    """Have the network computed as the options say; raises OptionError if it cannot be."""
    try:
        check_kernels(options.kernels, device)
        check_precision('bf16' if options.amp == 'bf16' else 'fp32', device, 'amp')
    except OptionError as error:
        raise OptionError(f'train: {error}') from error
    if hasattr(network, 'kernels'):
        network.kernels = options.kernels  # type: ignore[assignment]
        network.cuda_graphs = options.records_calls  # type: ignore[assignment]
    elif options.kernels in ('torch', 'triton'):
        raise OptionError(
            f'train: kernels: {options.kernels} is not possible for network_g: '
            f'{type(network).__name__}; allowed here are auto and compile.'
        )


def use_deterministic_algorithms() -> None:
    """Have the same training give the same bits on a GPU; operations that cannot raise an error."""
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def zero_last_convolution(network: nn.Module) -> None:
    """Have an untrained network return its skip alone; raises OptionError if it has none."""
    last = getattr(network, 'output', None)
    if not isinstance(last, nn.Conv2d):
        raise OptionError(
            f'train: zero_init: true is not possible for network_g: {type(network).__name__}, '
            'but for DFT; allowed here is false.'
        )
    for parameter in last.parameters():
        nn.init.zeros_(parameter)


def report_start(options: TrainOptions, pretrained: bool, device_type: str) -> None:
    """Say what the training starts from, and warn of settings that will disappoint."""
    if not pretrained and options.stage == 'coarse':
        logger.info('No weights loaded (path: pretrain_network_g is not set): a random start.')
    elif not pretrained:
        logger.warning(
            'train: stage: fine starts from untrained weights, since path: pretrain_network_g '
            'is not set. Set it to the network of the coarse stage, e.g. '
            'experiments/<name of the coarse run>/models/net_g_latest.pth.'
        )
    if options.amp == 'bf16' and not has_fast_bf16(device_type):
        logger.warning(
            f'train: amp: bf16: this {device_type.upper()} does not multiply bfloat16 in '
            'hardware: amp: off is as fast or faster (on a CPU DFT computes in float32 anyway).'
        )

"""Perceptual distances between images: LPIPS, and any metric of pyiqa, by name.

Both need a package that is not installed by default, and weights that are downloaded. They are
looked for at the first use, and the error for a missing one names the command that gets it.
"""

import contextlib
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor, nn

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import nearest, one_line
from c2fdft_model.evaluation.downloads import await_answer, limited_silence

WEIGHTS_VARIABLE = 'C2FDFT_LPIPS_WEIGHTS'
SMALLEST_SIDE = 32
# LPIPS' names of its backbones and torchvision's names of the same networks' weights.
BACKBONES = {'alex': 'AlexNet_Weights', 'vgg': 'VGG16_Weights', 'squeeze': 'SqueezeNet1_1_Weights'}


class MetricUnavailable(C2FDFTError, RuntimeError):
    """A metric's package or weights are missing, or do not fit; the message says what to do."""


def bgr_to_tensor(image: np.ndarray, input_order: str = 'HWC', border: int = 0) -> Tensor:
    """BasicSR's image ([0, 255], BGR, HWC or CHW) as an RGB tensor (1, 3, H, W) in [0, 1].

    `border` pixels are cut off on each side.
    """
    if input_order not in ('HWC', 'CHW'):
        raise ValueError(f"input_order is {input_order!r}: 'HWC' or 'CHW'.")
    if image.ndim == 2:
        image = np.stack([image] * 3, axis=-1)
    elif input_order == 'CHW':
        image = image.transpose(1, 2, 0)
    if image.shape[-1] != 3:
        raise ValueError(f'the image has the shape {image.shape}: three channels are expected.')
    rgb = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
    tensor = torch.from_numpy(rgb).float().div(255).unsqueeze(0)
    return tensor[..., border:-border, border:-border] if border else tensor


def lpips_distance(
    image: Tensor, gt: Tensor, net: str = 'alex', weights: str | None = None
) -> float:
    """LPIPS 0.1 (Zhang et al., 2018) of two RGB images (1, 3, H, W) in [0, 1]; 0 is equal.

    `net` is the backbone: alex (as papers report), vgg or squeeze. `weights` is the file of the
    backbone's ImageNet weights; without it `$C2FDFT_LPIPS_WEIGHTS`, torch's cache and the network
    are tried. Raises MetricUnavailable.
    """
    if min(image.shape[-2:]) < SMALLEST_SIDE:
        height, width = image.shape[-2:]
        raise ValueError(
            f'LPIPS needs sides of {SMALLEST_SIDE} pixels or more: this is {width} x {height}.'
        )
    model = _lpips_model(net, weights or os.environ.get(WEIGHTS_VARIABLE))
    device = next(model.parameters()).device
    with torch.no_grad():
        return model(image.to(device) * 2 - 1, gt.to(device) * 2 - 1).item()


def lpips_problem() -> str:
    """Why LPIPS (alex) cannot be measured here, on one line; empty if it can."""
    grey = torch.full((1, 3, 64, 64), 0.5)
    try:
        lpips_distance(grey, grey)
    except MetricUnavailable as error:
        return one_line(error)
    return ''


def iqa_score(image: Tensor, gt: Tensor | None, metric: str, weights: str | None = None) -> float:
    """The value of a metric of pyiqa for RGB images (1, 3, H, W) in [0, 1].

    `weights` is the metric's own weights file, for machines without a network. Raises
    MetricUnavailable for a missing package, name or file.
    """
    model = _iqa_model(metric, weights)
    if model.metric_mode == 'FR':
        if gt is None:
            raise ValueError(f'{metric} compares with a ground truth, and there is none.')
        return float(model(image, gt))
    return float(model(image))


def check_metrics(metrics: Mapping[str, Mapping[str, Any]] | None) -> None:
    """Load what the perceptual metrics of `val: metrics:` need, to fail at the start if at all.

    Raises MetricUnavailable, naming the metric's key.
    """
    for key, options in (metrics or {}).items():
        weights = options.get('weights')
        try:
            if options.get('type') == 'calculate_lpips':
                weights = weights or os.environ.get(WEIGHTS_VARIABLE)
                _lpips_model(options.get('net', 'alex'), weights)
            elif options.get('type') == 'calculate_iqa':
                _iqa_model(options['metric'], weights)
        except MetricUnavailable as error:
            raise MetricUnavailable(f'val: metrics: {key}: {error}') from error


def _device() -> torch.device:
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


@lru_cache(maxsize=4)
def _lpips_model(net: str, weights: str | None) -> nn.Module:
    if net not in BACKBONES:
        raise MetricUnavailable(f'no LPIPS backbone {net!r}: there are {", ".join(BACKBONES)}.')
    try:
        import lpips
    except ImportError as error:
        raise MetricUnavailable(
            'LPIPS needs the package lpips: pip install c2fdft[metrics]'
        ) from error
    parameters = _backbone_parameters(net, weights)
    with warnings.catch_warnings():
        # lpips builds its backbone by an argument that torchvision has deprecated
        warnings.simplefilter('ignore', UserWarning)
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    _load_backbone(model.net, parameters, weights or net)
    return model.to(_device()).eval().requires_grad_(False)


def _backbone_parameters(net: str, weights: str | None) -> dict[str, Tensor]:
    if weights:
        if not Path(weights).is_file():
            raise MetricUnavailable(f'the LPIPS weights {weights} do not exist.')
        try:
            return torch.load(weights, map_location='cpu', weights_only=True)
        except Exception as error:
            raise MetricUnavailable(f'{weights} is not a file of weights ({error}).') from error
    import torchvision

    url = getattr(torchvision.models, BACKBONES[net]).IMAGENET1K_V1.url
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    cached = folder / Path(urlsplit(url).path).name
    advice = (
        f'Get {url} elsewhere, and put it into {folder}, or name the file in the option `weights` '
        f'of calculate_lpips or in ${WEIGHTS_VARIABLE}.'
    )
    with _downloading(f'{net} for LPIPS', advice):
        if not cached.exists():
            await_answer(url)
        try:
            # The hash is in the name: what has been cut short is not kept.
            return torch.hub.load_state_dict_from_url(url, map_location='cpu', check_hash=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            if cached.exists():
                raise MetricUnavailable(
                    f'{cached} cannot be read ({one_line(error)}): remove it.'
                ) from error
            raise OSError(one_line(error)) from error


def _load_backbone(backbone: nn.Module, parameters: dict[str, Tensor], source: str) -> None:
    """Fill LPIPS' slices, whose layers keep their number in torchvision's `features`."""
    keys = {name: 'features.' + name.partition('.')[2] for name in backbone.state_dict()}
    try:
        backbone.load_state_dict({name: parameters[key] for name, key in keys.items()})
    except (KeyError, RuntimeError, TypeError) as error:
        raise MetricUnavailable(
            f'{source} does not hold the ImageNet weights of this LPIPS backbone ({error}).'
        ) from error


@lru_cache(maxsize=8)
def _iqa_model(metric: str, weights: str | None) -> Any:
    try:
        import pyiqa
    except ImportError as error:
        raise MetricUnavailable(
            f'{metric!r} needs the package pyiqa: pip install c2fdft[iqa]'
        ) from error
    names = pyiqa.list_models()
    if metric not in names:
        raise MetricUnavailable(f'pyiqa has no metric {metric!r}{nearest(metric, names)}.')
    settings = {'pretrained_model_path': weights} if weights else {}
    if weights and not Path(weights).is_file():
        raise MetricUnavailable(f'the weights {weights} of {metric} do not exist.')
    advice = (
        'Name the file in the option `weights` of calculate_iqa, or fill the cache of pyiqa '
        f'elsewhere and copy it to {Path(torch.hub.get_dir()) / "pyiqa"}.'
    )
    with _downloading(metric, advice):
        return pyiqa.create_metric(metric, device=_device(), **settings)


@contextlib.contextmanager
def _downloading(what: str, advice: str) -> Iterator[None]:
    """Let connections that nobody answers fail soon: torch.hub would wait forever.

    Raises MetricUnavailable with the advice.
    """
    try:
        with limited_silence():
            yield
    except OSError as error:
        raise MetricUnavailable(
            f'the weights of {what} are not here and cannot be downloaded ({error}). {advice}'
        ) from error

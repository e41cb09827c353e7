"""Registers `network_g: {type: NoisePredictor, backbone: {type: ..., ...}}` in BasicSR."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from c2fdft_arch.baselines import noise_predictor
from c2fdft_arch.baselines.noise_predictor import IMAGE_CHANNELS, stacked_channels, takes_time
from c2fdft_arch.common.option_parsing import OptionError, check_names
from c2fdft_arch.common.registry_lookup import find_registered

IN_CHANNELS = (
    'inp_channels', 'num_in_ch', 'in_channels', 'in_chans', 'img_channel', 'in_nc', 'in_c', 'dd_in',
)  # fmt: skip
UPSCALE_HINT = (
    '. If it has no upscaling of 1, give it another, s, and add unshuffle: s to network_g'
)
OUT_CHANNELS = ('out_channels', 'num_out_ch', 'out_nc', 'out_c')


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
    """Any registered architecture as the noise predictor (see `noise_predictor.NoisePredictor`).

    `backbone` holds its `type` and its own options. The numbers of channels may be left out: the
    input gets what it is fed, the output 3, or as many as the input where that alone works.

    Raises OptionError for an architecture that is not registered, for options that it does not
    have, and for one that cannot predict noise.
    """
    section = dict(backbone)
    name = section.pop('type', None)
    constructor = find_registered(ARCH_REGISTRY, name, 'network_g: backbone')
    problem: OptionError | None = None
    for channels in _channel_choices(constructor, section, time, unshuffle, adapters, name):
        network = build_backbone(constructor, {**section, **channels}, name)
        given_in = _channels(constructor, {**section, **channels}, IN_CHANNELS)
        try:
            return noise_predictor.NoisePredictor(
                network,
                time=time,
                num_timesteps=num_timesteps,
                residual=residual,
                unshuffle=unshuffle,
                adapters=adapters,
                in_channels=given_in,
                size_multiple=size_multiple,
                name=name,
            )
        except OptionError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def build_backbone(
    constructor: Callable[..., nn.Module], section: Mapping[str, Any], name: str
) -> nn.Module:
    """Call the constructor; a mistake in its options is an OptionError that names it."""
    parameters = inspect.signature(constructor).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not open_ended:
        check_names(section, parameters, f'network_g: backbone: {name}')
    missing = [
        key
        for key, p in parameters.items()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and key not in section
    ]
    if missing:
        raise OptionError(f'network_g: backbone: {name} needs {", ".join(missing)}.')
    try:
        return constructor(**section)
    except (TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
        hint = UPSCALE_HINT if isinstance(error, AttributeError) else ''
        raise OptionError(f'network_g: backbone: {name} cannot be built: {error}{hint}.') from error


def _channel_choices(
    constructor: Callable[..., nn.Module],
    section: Mapping[str, Any],
    time: str | None,
    unshuffle: int,
    adapters: bool,
    name: str,
) -> Iterator[dict[str, int]]:
    """Numbers of channels to build with, where the options leave them out."""
    parameters = inspect.signature(constructor).parameters
    in_key = next((key for key in IN_CHANNELS if key in parameters), None)
    out_key = next((key for key in OUT_CHANNELS if key in parameters), None)
    if adapters or in_key is None or _architecture_takes_time(constructor):
        yield {}
        return
    wanted = stacked_channels(time or 'channel', unshuffle)
    if section.get(in_key, wanted) != wanted:
        raise OptionError(
            f'network_g: backbone: {in_key}: {section[in_key]} given, but {name} is fed {wanted} '
            f'channels: {_stack_in_words(time, unshuffle)}. Set {in_key}: {wanted} or leave it '
            'out; if the network cannot have that many, add adapters: true to network_g.'
        )
    if out_key is None or out_key in section:
        yield {in_key: wanted}
        return
    yield {in_key: wanted, out_key: IMAGE_CHANNELS}
    if unshuffle == 1:
        yield {in_key: wanted, out_key: wanted}


def _stack_in_words(time: str | None, unshuffle: int) -> str:
    words = f'{IMAGE_CHANNELS} of the degraded image, {IMAGE_CHANNELS} of the noisy one'
    words += '' if time == 'none' else ' and 1 of time'
    return words if unshuffle == 1 else f'({words}) times {unshuffle}^2 for unshuffle: {unshuffle}'


def _architecture_takes_time(constructor: Callable[..., nn.Module]) -> bool:
    return isinstance(constructor, type) and takes_time(constructor)


def _channels(
    constructor: Callable[..., nn.Module], section: Mapping[str, Any], keys: tuple[str, ...]
) -> int | None:
    parameters = inspect.signature(constructor).parameters
    for key in keys:
        if key in parameters:
            value = section.get(key, parameters[key].default)
            return value if isinstance(value, int) else None
    return None

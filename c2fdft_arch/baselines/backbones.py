"""Building a registered architecture with the channels that a noise predictor feeds it."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from c2fdft_arch.baselines.noise_predictor import IMAGE_CHANNELS, NoisePredictor, stacked_channels
from c2fdft_arch.baselines.probing import takes_time
from c2fdft_arch.common.option_parsing import OptionError, check_names
from c2fdft_arch.common.registry_lookup import find_registered, options_of

IN_CHANNELS = (
    'inp_channels', 'num_in_ch', 'in_channels', 'in_chans', 'img_channel', 'in_nc', 'in_c', 'dd_in',
)  # fmt: skip
OUT_CHANNELS = ('out_channels', 'num_out_ch', 'out_nc', 'out_c')
UPSCALE_HINT = (
    '. If it has no upscaling of 1, give it another, s, and add unshuffle: s to network_g'
)
Parameters = Mapping[str, inspect.Parameter]


class NoisePredictorFactory:
    """Builds noise predictors around the architectures of a BasicSR registry.

    `backbone` holds its `type` and its own options, the other arguments are those of
    `NoisePredictor`. The numbers of channels may be left out: the input gets what it is fed, the
    output 3, or as many as the input where that alone works.

    Raises OptionError for an architecture that is not registered, for options that it does not
    have, and for one that cannot predict noise.
    """

    def __init__(self, registry: Iterable[tuple[str, Any]]) -> None:
        self.registry = registry
        self.__name__ = 'NoisePredictor'  # what the registry calls it

    def __call__(
        self,
        backbone: Mapping[str, Any],
        time: str | None = None,
        num_timesteps: int = 1000,
        residual: bool | None = None,
        unshuffle: int = 1,
        adapters: bool = False,
        size_multiple: int | None = None,
        skip: str | None = None,
    ) -> NoisePredictor:
        section = dict(backbone)
        name = section.pop('type', None)
        constructor = find_registered(self.registry, name, 'network_g: backbone')
        parameters = options_of(constructor)
        in_key = _first_key(IN_CHANNELS, parameters)
        choices: Iterable[dict[str, int]] = [{}]
        gets_time = isinstance(constructor, type) and takes_time(constructor)
        if in_key and not adapters and not gets_time:
            choices = _channel_choices(in_key, parameters, section, time, unshuffle, name)
        problems = []
        for channels in choices:
            options = {**section, **channels}
            network = build_backbone(constructor, parameters, options, name)
            in_channels = options.get(in_key, parameters[in_key].default) if in_key else None
            try:
                return NoisePredictor(
                    network,
                    name=name,
                    time=time,
                    num_timesteps=num_timesteps,
                    residual=residual,
                    unshuffle=unshuffle,
                    adapters=adapters,
                    in_channels=in_channels,
                    size_multiple=size_multiple,
                    skip=skip,
                )
            except OptionError as error:
                problems.append(error)
        raise problems[0]


def build_backbone(
    constructor: Callable[..., nn.Module],
    parameters: Parameters,
    options: Mapping[str, Any],
    name: str,
) -> nn.Module:
    """Call the constructor; a mistake in its options is an OptionError that names it."""
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_names(options, parameters, f'network_g: backbone: {name}')
    missing = [
        key
        for key, p in parameters.items()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and key not in options
    ]
    if missing:
        raise OptionError(f'network_g: backbone: {name} needs {", ".join(missing)}.')
    try:
        return constructor(**options)
    except (TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
        hint = UPSCALE_HINT if isinstance(error, AttributeError) else ''
        raise OptionError(f'network_g: backbone: {name} cannot be built: {error}{hint}.') from error


def _channel_choices(
    in_key: str,
    parameters: Parameters,
    section: Mapping[str, Any],
    time: str | None,
    unshuffle: int,
    name: str,
) -> Iterator[dict[str, int]]:
    """Numbers of channels to build with, where the options leave them out."""
    fed = stacked_channels(time or 'channel', unshuffle)
    if section.get(in_key, fed) != fed:
        raise OptionError(
            f'network_g: backbone: {in_key}: {section[in_key]} given, but {name} is fed {fed} '
            f'channels: {_stack_in_words(time, unshuffle)}. Set {in_key}: {fed} or leave it '
            'out; if the network cannot have that many, add adapters: true to network_g.'
        )
    out_key = _first_key(OUT_CHANNELS, parameters)
    if out_key is None or out_key in section:
        yield {in_key: fed}
        return
    yield {in_key: fed, out_key: IMAGE_CHANNELS}
    if unshuffle == 1:
        yield {in_key: fed, out_key: fed}


def _first_key(keys: Iterable[str], parameters: Parameters) -> str | None:
    return next((key for key in keys if key in parameters), None)


def _stack_in_words(time: str | None, unshuffle: int) -> str:
    words = f'{IMAGE_CHANNELS} of the degraded image, {IMAGE_CHANNELS} of the noisy one'
    words += '' if time == 'none' else ' and 1 of time'
    return words if unshuffle == 1 else f'({words}) times {unshuffle}^2 for unshuffle: {unshuffle}'

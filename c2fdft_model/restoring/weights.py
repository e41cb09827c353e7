"""Building the network that a checkpoint belongs to, and loading checkpoints into networks."""

import contextlib
import inspect
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from c2fdft_arch.common.messages import shortened
from c2fdft_arch.common.option_parsing import OptionError, check_names
from c2fdft_arch.common.registry_lookup import check_network_options, find_registered
from c2fdft_arch.dft import DFT
from c2fdft_arch.network.network_options import check_skip
from c2fdft_model.restoring.checkpoint import (
    EMA_KEY,
    Checkpoint,
    WeightsError,
    read_checkpoint,
)

LEVELS = ('encoder_level1', 'encoder_level2', 'encoder_level3', 'latent')

ADVICE = 'Adapt network_g, give another file, or set path: strict_load_g: false to load what fits.'

LARGEST_SHARE, ALWAYS_BUILT = 4, 2**16
"""A network of more numbers than so many times those of its checkpoint, and these, is not built."""

Architectures = Callable[[], Iterable[tuple[str, Any]]]
"""Gives BasicSR's registry of networks, when one is asked for that is not DFT."""


def load_network(
    path: str | os.PathLike[str], param_key: str | None = None, device: torch.device | str = 'cpu'
) -> nn.Module:
    """Build the network that a checkpoint belongs to and load it strictly, in evaluation mode.

    `param_key` None takes `params_ema` where the file has it; the log says which key was used.
    `restore` samples with it as its checkpoint describes. Raises WeightsError.
    """
    checkpoint = read_checkpoint(path, param_key)
    network = build_network(checkpoint)
    logging.getLogger(__name__).info('Weights: %s', checkpoint)
    return network.to(device)


def build_network(
    checkpoint: Checkpoint, architectures: Architectures | None = None, **options: Any
) -> nn.Module:
    """Build the network whose parameters the checkpoint holds, in evaluation mode.

    `options` are those of `network_g`, `type` included; what they leave out is taken from the
    checkpoint's description, then from the shapes of its parameters. The attribute `description`
    of the network is the checkpoint's.

    Raises WeightsError if names or shapes are those of another network, or a value is not finite;
    OptionError for options that the network does not have.
    """
    described = dict(checkpoint.description.network_g) if checkpoint.description else {}
    if options.get('type', described.get('type')) == described.get('type'):
        options = {**described, **options}
    name = options.pop('type', 'DFT')
    if name == 'DFT':
        network = _build_dft(checkpoint, options)
    else:
        network = _build_registered(checkpoint, architectures, {'type': name, **options})
    network.load_state_dict(checkpoint.parameters)
    damaged = [n for n, value in network.state_dict().items() if not value.isfinite().all()]
    if damaged:
        raise WeightsError(
            f'{checkpoint}: {shortened(damaged)} not finite (NaN or infinite): the training had '
            'diverged. Give an earlier checkpoint.'
        )
    network.description = checkpoint.description  # type: ignore[assignment]
    return network.eval()


def _build_dft(checkpoint: Checkpoint, options: Mapping[str, Any]) -> nn.Module:
    """The network of the parameters' shapes, with what cannot be seen in them from `options`.

    Nothing is allocated before all names and shapes fit.
    """
    known = inspect.signature(DFT).parameters
    check_names(options, known, f'{checkpoint.path}: network_g')
    try:
        check_skip(options.get('skip', known['skip'].default))
    except ValueError as error:
        raise OptionError(f'{checkpoint.path}: network_g: {error}.') from error
    given = checkpoint.parameters
    try:
        seen = network_arguments(given)
        with torch.device('meta'):
            network = DFT(**{**options, **seen})
    except KeyError as error:
        problems = [f'missing: {error.args[0]}', f'given: {shortened(list(given))}']
        raise other_network(checkpoint, problems) from error
    except (IndexError, ZeroDivisionError, ValueError, TypeError) as error:
        raise other_network(checkpoint, [str(error)]) from error
    if problems := mismatches(network.state_dict(), given):
        raise other_network(checkpoint, problems)
    return network.to_empty(device='cpu')


def _build_registered(
    checkpoint: Checkpoint, architectures: Architectures | None, section: Mapping[str, Any]
) -> nn.Module:
    """Any network that is registered in BasicSR."""
    name = section['type']
    if architectures is None:
        raise WeightsError(
            f'{checkpoint}: weights of the network {name}, which BasicSR builds; use the commands.'
        )
    check_network_options(architectures(), section)
    constructor = find_registered(architectures(), name, 'network_g')
    described = f'{name} with the options of network_g'
    options = {key: value for key, value in section.items() if key != 'type'}

    def build() -> nn.Module:
        try:
            return constructor(**options)
        except _TooManyParameters:
            raise
        except (TypeError, ValueError) as error:
            reason = str(error).rstrip('.')
            raise WeightsError(f'network_g: {name} cannot be built: {reason}.') from error

    def check(network: nn.Module | None) -> None:
        if network and (problems := mismatches(network.state_dict(), checkpoint.parameters)):
            raise other_network(checkpoint, problems, described)

    held = sum(value.numel() for value in checkpoint.parameters.values())
    try:
        with _parameters_limited(LARGEST_SHARE * held + ALWAYS_BUILT):
            check(_unallocated(constructor, options))
            network = build()
    except _TooManyParameters as error:
        problems = [f'it has more than the {held:,} numbers of this file']
        raise other_network(checkpoint, problems, described) from error
    check(network)
    return network


class _TooManyParameters(ValueError):
    """A network has far more parameters than it is given."""


@contextlib.contextmanager
def _parameters_limited(count: int) -> Iterator[None]:
    """Let networks of up to `count` numbers be built; raises _TooManyParameters beyond them."""
    left = count

    def count_down(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else parameter.numel()
        if left < 0:
            raise _TooManyParameters

    hook = register_module_parameter_registration_hook(count_down)
    try:
        yield
    finally:
        hook.remove()


def _unallocated(
    constructor: Callable[..., nn.Module], options: Mapping[str, Any]
) -> nn.Module | None:
    """The network without memory for its parameters; None for one that cannot be built so."""
    try:
        with torch.device('meta'):
            return constructor(**options)
    except _TooManyParameters:
        raise
    except Exception:  # it needs values, or its options are wrong
        return None


def load_into(
    network: nn.Module,
    path: str | os.PathLike[str],
    param_key: str | None,
    strict: bool,
    log: Callable[[str], object],
    advice: str = ADVICE,
) -> Checkpoint:
    """Load a checkpoint file's parameters into a network, and log which ones they were.

    `param_key` None takes the averaged weights where there are any; `params_ema` falls back to the
    others where there are none. Unless `strict`, parameters that the file lacks, or has in another
    shape, stay as they are. `advice`: what to do about a file of another network.

    Raises WeightsError for a file that is no checkpoint, and for one of another network.
    """
    try:
        checkpoint = read_checkpoint(path, param_key)
    except WeightsError:
        if param_key != EMA_KEY:
            raise
        checkpoint = read_checkpoint(path)
    expected, given = network.state_dict(), checkpoint.parameters
    kind = type(network).__name__
    problems = mismatches(expected, given)
    if problems and strict:
        raise other_network(checkpoint, problems, f'{kind} with the options of network_g', advice)
    fitting = {
        name: value
        for name, value in given.items()
        if name in expected
        and expected[name].shape == value.shape
        and expected[name].is_floating_point() == value.is_floating_point()
    }
    network.load_state_dict(fitting, strict=False)
    count = sum(value.numel() for value in fitting.values())
    log(
        f'Loaded {len(fitting)} of {len(expected)} parameters ({count:,} numbers) of {kind} from '
        f'{checkpoint.path}, key {checkpoint.key or "(none)"}.'
    )
    if problems:
        log(f'Not loaded: {"; ".join(problems)}.')
    return checkpoint


def network_arguments(parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the arguments of `DFT` from the names and shapes of its parameters.

    Those without parameters, such as `time_embedding`, are not among them. Raises KeyError for a
    missing name.
    """
    blocks = [_count_blocks(parameters, level) for level in LEVELS]
    dim, inp_channels = parameters['patch_embed.proj.weight'].shape[:2]
    norm_shift = 'encoder_level1.0.norm1.body.bias' in parameters
    return {
        'inp_channels': inp_channels,
        'out_channels': parameters['output.weight'].shape[0],
        'dim': dim,
        'num_blocks': blocks,
        'heads': [parameters[f'{level}.0.attn.temperature'].shape[0] for level in LEVELS],
        'ffn_factor': _ffn_factor(
            [tuple(parameters[f'{level}.0.ffn.project_in.weight'].shape[:2]) for level in LEVELS]
        ),
        'bias': 'encoder_level1.0.attn.qkv.bias' in parameters,
        'LayerNorm_type': 'WithBias' if norm_shift else 'BiasFree',
        'dual_pixel_task': 'skip_conv.weight' in parameters,
    }


def _count_blocks(parameters: Mapping[str, Tensor], level: str) -> int:
    """How many blocks a level has. Raises KeyError for one that is missing before the last."""
    pattern = re.compile(rf'{level}\.(\d+)\.')
    found = {int(match[1]) for name in parameters if (match := pattern.match(name))}
    if missing := [number for number in range(len(found)) if number not in found]:
        raise KeyError(f'{level}.{missing[0]}')
    return len(found)


def _ffn_factor(shapes: list[tuple[int, int]]) -> float:
    """The factor f with int(channels * f) hidden channels at every level, as short as possible."""
    low = max(hidden / channels for hidden, channels in shapes)
    high = min((hidden + 1) / channels for hidden, channels in shapes)
    for digits in range(16):
        factor = round((low + high) / 2 if digits else low, digits)
        if all(int(channels * factor) == hidden for hidden, channels in shapes):
            return float(factor)
    return low


def mismatches(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What keeps parameters from fitting, in words: missing, unexpected, of another shape or kind.

    Floating-point formats are converted into one another; integers are no weights.
    """
    both = [name for name in expected if name in given]
    groups = {
        'missing': [name for name in expected if name not in given],
        'unexpected': [name for name in given if name not in expected],
        'of another shape': [
            f'{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}'
            for name in both
            if given[name].shape != expected[name].shape
        ],
        'of another kind': [
            f'{name} {given[name].dtype} instead of {expected[name].dtype}'.replace('torch.', '')
            for name in both
            if given[name].is_floating_point() != expected[name].is_floating_point()
        ],
    }
    return [f'{len(names)} {kind}: {shortened(names)}' for kind, names in groups.items() if names]


def other_network(
    checkpoint: Checkpoint, problems: list[str], network: str = 'DFT', advice: str = ''
) -> WeightsError:
    reasons = '; '.join(problems).rstrip('.')
    return WeightsError(
        f'{checkpoint}: weights of another network than {network}: {reasons}. {advice}'.rstrip()
    )

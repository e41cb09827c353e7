"""Checkpoints: which weights they hold, and loading these into the network they belong to."""

import logging
import os
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import shortened
from c2fdft_arch.dft import DFT

EMA_KEY = 'params_ema'
WRAPPER_KEYS = (EMA_KEY, 'params', 'state_dict', 'model_state_dict', 'model')
"""Keys under which training programs keep a network's parameters, in the order of preference."""

PREFIXES = ('module.', '_orig_mod.', 'net_g.')
"""What wrappers put before every parameter's name."""

LEVELS = ('encoder_level1', 'encoder_level2', 'encoder_level3', 'latent')

ADVICE = 'Adapt network_g, give another file, or set path: strict_load_g: false to load what fits.'

Parameters = dict[str, Tensor]


class WeightsError(C2FDFTError, ValueError):
    """A checkpoint cannot be used; the message says which file, why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """The parameters of one network, and where they were found."""

    path: Path
    key: str
    """The file's key, `params_ema` or another; empty if the file is the parameters themselves."""
    parameters: Parameters
    """On the CPU, as float32, without the prefixes of wrappers."""
    prefix: str = ''
    """What stood before every parameter's name in the file."""
    other_keys: tuple[str, ...] = ()
    """The file's keys besides `key`; none if the file is the parameters themselves."""

    def __str__(self) -> str:
        return f'{self.path}, key {self.key}' if self.key else str(self.path)


def load_network(
    path: str | os.PathLike[str], param_key: str | None = None, device: torch.device | str = 'cpu'
) -> DFT:
    """Build the network that a checkpoint belongs to and load it strictly, in evaluation mode.

    `param_key` None takes `params_ema` where the file has it; the log says which key was used.
    Raises WeightsError.
    """
    checkpoint = read_checkpoint(path, param_key)
    network = build_network(checkpoint)
    logging.getLogger(__name__).info('Weights: %s', checkpoint)
    return network.to(device)


def read_checkpoint(path: str | os.PathLike[str], param_key: str | None = None) -> Checkpoint:
    """Read a checkpoint's parameters; `param_key` None takes the preferred key there is.

    Nothing but tensors and plain containers is unpickled. Raises WeightsError.
    """
    path = Path(path)
    content = _load(path)
    key, stored = _find_parameters(path, content, param_key)
    prefix = _common_prefix(stored)
    parameters = {name.removeprefix(prefix): value.float() for name, value in stored.items()}
    others = tuple(str(name) for name in content if name != key) if key else ()
    return Checkpoint(path, key, parameters, prefix, others)


def build_network(
    checkpoint: Checkpoint, *, time_embedding: bool = True, skip: str = 'noisy'
) -> DFT:
    """Build the network whose parameters the checkpoint holds, in evaluation mode.

    `time_embedding` and `skip` have no parameters and cannot be seen in a checkpoint. Raises
    WeightsError if names or shapes are those of another network, or a value is not finite.
    """
    given = checkpoint.parameters
    try:
        network = DFT(**network_arguments(given), time_embedding=time_embedding, skip=skip)
    except KeyError as error:
        problems = [f'missing: {error.args[0]}', f'given: {shortened(list(given))}']
        raise _other_network(checkpoint, problems) from error
    except (IndexError, ZeroDivisionError, ValueError) as error:
        raise _other_network(checkpoint, [str(error)]) from error
    if problems := mismatches(network.state_dict(), given):
        raise _other_network(checkpoint, problems)
    damaged = [name for name, value in given.items() if not value.isfinite().all()]
    if damaged:
        raise WeightsError(
            f'{checkpoint}: {shortened(damaged)} not finite (NaN or infinite): the training had '
            'diverged. Give an earlier checkpoint.'
        )
    network.load_state_dict(given)
    return network.eval()


def load_into(
    network: nn.Module,
    path: str | os.PathLike[str],
    param_key: str | None,
    strict: bool,
    log: Callable[[str], object],
    advice: str = ADVICE,
) -> None:
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
        raise _other_network(checkpoint, problems, f'{kind} with the options of network_g', advice)
    fitting = {
        name: value
        for name, value in given.items()
        if name in expected and expected[name].shape == value.shape
    }
    network.load_state_dict(fitting, strict=False)
    count = sum(value.numel() for value in fitting.values())
    log(
        f'Loaded {len(fitting)} of {len(expected)} parameters ({count:,} numbers) of {kind} from '
        f'{checkpoint.path}, key {checkpoint.key or "(none)"}.'
    )
    if problems:
        log(f'Not loaded: {"; ".join(problems)}.')


def network_arguments(parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the arguments of `DFT` from the names and shapes of its parameters.

    `time_embedding` and `skip` are not among them. Raises KeyError for a missing name.
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
    pattern = re.compile(rf'{level}\.(\d+)\.')
    found = [int(match[1]) for name in parameters if (match := pattern.match(name))]
    return max(found, default=-1) + 1


def _ffn_factor(shapes: list[tuple[int, int]]) -> float:
    """The factor f with int(channels * f) hidden channels at every level, as short as possible."""
    low = max(hidden / channels for hidden, channels in shapes)
    high = min((hidden + 1) / channels for hidden, channels in shapes)
    for digits in range(16):
        factor = round((low + high) / 2 if digits else low, digits)
        if all(int(channels * factor) == hidden for hidden, channels in shapes):
            return float(factor)
    return low


def _load(path: Path) -> Any:
    advice = 'Give a network saved by training, such as models/net_g_latest.pth.'
    if not path.exists():
        raise WeightsError(f'{path}: no such file. {advice}')
    if path.is_dir():
        raise WeightsError(f'{path} is a folder. {advice}')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except PermissionError as error:
        raise WeightsError(f'{path}: no permission to read it.') from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f'{path} is not a checkpoint, or holds Python objects besides tensors, which are not '
            f'loaded because they can run code. {advice}'
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
        state = 'is empty' if path.stat().st_size == 0 else 'is not a checkpoint, or is cut short'
        raise WeightsError(f'{path} {state}. {advice}') from error


def _find_parameters(path: Path, content: Any, param_key: str | None) -> tuple[str, Parameters]:
    if not isinstance(content, Mapping):
        raise WeightsError(f'{path} holds a {type(content).__name__}, not weights of a network.')
    for key in WRAPPER_KEYS if param_key is None else (param_key,):
        if _is_parameters(content.get(key)):
            return key, dict(content[key])
    if param_key is not None:
        held = ', '.join(str(key) for key in content if _is_parameters(content[key]))
        raise WeightsError(
            f'{path} has no weights under {param_key!r}; it has them under: {held or "no key"}.'
        )
    if _is_parameters(content):
        return '', dict(content)
    if 'optimizers' in content:
        raise WeightsError(
            f'{path} is a training state (for resuming), not a network. Give the network saved '
            'beside it, such as models/net_g_latest.pth.'
        )
    keys = ', '.join(str(key) for key in list(content)[:5])
    raise WeightsError(f'{path} holds no weights of a network; its keys are: {keys or "none"}.')


def _is_parameters(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(item, Tensor) for name, item in value.items())
    )


def _common_prefix(names: Iterable[str]) -> str:
    prefix = ''
    while more := [p for p in PREFIXES if all(name.startswith(prefix + p) for name in names)]:
        prefix += more[0]
    return prefix


def mismatches(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What keeps parameters from fitting, in words: missing, unexpected and of another shape."""
    groups = {
        'missing': [name for name in expected if name not in given],
        'unexpected': [name for name in given if name not in expected],
        'of another shape': [
            f'{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}'
            for name, value in expected.items()
            if name in given and given[name].shape != value.shape
        ],
    }
    return [f'{len(names)} {kind}: {shortened(names)}' for kind, names in groups.items() if names]


def _other_network(
    checkpoint: Checkpoint, problems: list[str], network: str = 'DFT', advice: str = ''
) -> WeightsError:
    reasons = '; '.join(problems).rstrip('.')
    return WeightsError(
        f'{checkpoint}: weights of another network than {network}: {reasons}. {advice}'.rstrip()
    )

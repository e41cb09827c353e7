"""Reading checkpoints: which weights they hold, and the network that the weights belong to."""

from __future__ import annotations

import logging
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c2fdft_arch.dft import DFT

EMA_KEY = 'params_ema'
WRAPPER_KEYS = (EMA_KEY, 'params', 'state_dict', 'model_state_dict', 'model')
"""Keys under which training programs keep a network's parameters, in the order of preference."""

PREFIXES = ('module.', '_orig_mod.', 'net_g.')
"""What wrappers put before every parameter's name."""

LEVELS = ('encoder_level1', 'encoder_level2', 'encoder_level3', 'latent')

Parameters = dict[str, Tensor]


class WeightsError(ValueError):
    """A checkpoint cannot be used; the message says which file, why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """The parameters of one network, and where they were found."""

    path: Path
    key: str
    """The file's key, `params_ema` or another; empty if the file is the parameters themselves."""
    parameters: Parameters

    def __str__(self) -> str:
        return f'{self.path}, key {self.key}' if self.key else str(self.path)


def load_network(
    path: str | os.PathLike[str],
    param_key: str | None = None,
    device: torch.device | str = 'cpu',
    *,
    time_embedding: bool = True,
) -> DFT:
    """Build the network that a checkpoint belongs to and load it strictly, in evaluation mode.

    `param_key` None takes `params_ema` where the file has it; the log says which key was used.
    `time_embedding` has no parameters and cannot be seen in a checkpoint. Raises WeightsError.
    """
    checkpoint = read_checkpoint(path, param_key)
    network = build_network(checkpoint, time_embedding=time_embedding)
    logging.getLogger(__name__).info('Weights: %s', checkpoint)
    return network.to(device)


def read_checkpoint(path: str | os.PathLike[str], param_key: str | None = None) -> Checkpoint:
    """Read a checkpoint's parameters, on the CPU, as float32, without the prefixes of wrappers.

    Nothing but tensors and plain containers is unpickled. Raises WeightsError.
    """
    path = Path(path)
    content = _load(path)
    key, parameters = _find_parameters(path, content, param_key)
    prefix = _common_prefix(parameters)
    return Checkpoint(path, key, {n[len(prefix) :]: p.float() for n, p in parameters.items()})


def build_network(checkpoint: Checkpoint, *, time_embedding: bool = True) -> DFT:
    """Build the network whose parameters the checkpoint holds, in evaluation mode.

    Raises WeightsError if names or shapes are those of another network, or a value is not finite.
    """
    try:
        network = DFT(**network_arguments(checkpoint.parameters), time_embedding=time_embedding)
    except (KeyError, IndexError, ZeroDivisionError, ValueError) as error:
        wanted = list(DFT(dim=8, num_blocks=(1, 1, 1, 1)).state_dict())
        raise WeightsError(_other_network(checkpoint, wanted, error)) from error
    _check_parameters(checkpoint, network.state_dict())
    network.load_state_dict(checkpoint.parameters)
    return network.eval()


def network_arguments(parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the arguments of `DFT` from the names and shapes of its parameters.

    `time_embedding` is not among them. Raises KeyError if a name that tells an argument is missing.
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
        if 'Unsupported global' in str(error) or 'Weights only load failed' in str(error):
            raise WeightsError(
                f'{path} is not a checkpoint, or holds Python objects besides tensors, not '
                f'loaded because they can run code. {advice}'
            ) from error
        raise WeightsError(f'{path} is not a checkpoint. {advice}') from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
        state = 'is empty' if path.stat().st_size == 0 else 'is not a checkpoint, or is cut short'
        raise WeightsError(f'{path} {state}. {advice}') from error


def _find_parameters(path: Path, content: Any, param_key: str | None) -> tuple[str, Parameters]:
    if not isinstance(content, Mapping):
        raise WeightsError(f'{path} holds a {type(content).__name__}, not weights of a network.')
    if param_key is not None:
        if not _is_parameters(content.get(param_key)):
            held = ', '.join(str(key) for key in content if _is_parameters(content[key]))
            raise WeightsError(
                f'{path} has no weights under {param_key!r}; it has them under: {held or "no key"}.'
            )
        return param_key, dict(content[param_key])
    for key in WRAPPER_KEYS:
        if _is_parameters(content.get(key)):
            return key, dict(content[key])
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


def _common_prefix(parameters: Mapping[str, Tensor]) -> str:
    prefix = ''
    while True:
        for candidate in PREFIXES:
            if all(name.startswith(prefix + candidate) for name in parameters):
                prefix += candidate
                break
        else:
            return prefix


def _check_parameters(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> None:
    given = checkpoint.parameters
    if given.keys() != wanted.keys():
        raise WeightsError(_other_network(checkpoint, list(wanted)))
    for name, parameter in wanted.items():
        if given[name].shape != parameter.shape:
            raise WeightsError(
                f'{checkpoint}: weights of another network: {name} has shape '
                f'{tuple(given[name].shape)} where {tuple(parameter.shape)} belongs.'
            )
    damaged = [name for name, parameter in given.items() if not parameter.isfinite().all()]
    if damaged:
        raise WeightsError(
            f'{checkpoint}: {_some(damaged)} not finite (NaN or infinite): the training had '
            'diverged. Give an earlier checkpoint.'
        )


def _other_network(
    checkpoint: Checkpoint, wanted: list[str], error: Exception | None = None
) -> str:
    given = checkpoint.parameters
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    if error is not None and not missing:
        return f'{checkpoint}: not weights of DFT: {error}'
    parts = []
    if missing:
        parts.append(f'missing {_some(missing)}')
    if unexpected:
        parts.append(f'unexpected {_some(unexpected)}')
    return f'{checkpoint}: weights of another network than DFT: {"; ".join(parts)}.'


def _some(names: list[str], shown: int = 3) -> str:
    more = f' and {len(names) - shown} more' if len(names) > shown else ''
    return ', '.join(names[:shown]) + more

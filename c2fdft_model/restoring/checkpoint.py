"""Checkpoint files: the parameters in them and what they say of themselves, believed once checked.

Nothing but tensors and plain containers is unpickled, and nothing is allocated because a file
claims to be large: what it claims is compared with what it holds first.
"""

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import one_line, shortened
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.restoring.description import (
    DESCRIPTION_KEY,
    Description,
    parse_description,
    with_description,
)
from c2fdft_model.restoring.file_kinds import kind_of
from c2fdft_model.restoring.weight_files.hub import described_beside, weights_file
from c2fdft_model.restoring.weight_files.safetensors_files import (
    WeightFileError,
    is_safetensors,
    read_safetensors,
)

EMA_KEY = 'params_ema'
WRAPPER_KEYS = (EMA_KEY, 'params', 'state_dict', 'model_state_dict', 'model')
"""Keys under which training programs keep a network's parameters, in the order of preference."""

PREFIXES = ('module.', '_orig_mod.', 'net_g.')
"""What wrappers put before every parameter's name."""

ALWAYS_BELIEVED = 2**30
"""Bytes that parameters may claim whatever the size of their file."""

UNREADABLE = (
    RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, OSError, AttributeError,
    AssertionError, OverflowError,
)  # fmt: skip
"""What `torch.load` raises, beside UnpicklingError, for a file that is damaged or no checkpoint."""

DIGEST_BLOCK = 2**22

ADVICE = 'Give a network saved by training, such as models/net_g_latest.pth.'

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
    """On the CPU, as they are stored, without the prefixes of wrappers."""
    prefix: str = ''
    """What stood before every parameter's name in the file."""
    other_keys: tuple[str, ...] = ()
    """The file's keys besides `key`; none if the file is the parameters themselves."""
    description: Description | None = None
    """What the file says of itself; None for the released format."""

    def __str__(self) -> str:
        return f'{self.path}, key {self.key}' if self.key else str(self.path)


def read_checkpoint(path: str | os.PathLike[str], param_key: str | None = None) -> Checkpoint:
    """Read a checkpoint's parameters; `param_key` None takes the preferred key there is.

    Raises WeightsError.
    """
    path = located(Path(path))
    content = load_content(path)
    key, stored = _find_parameters(path, content, param_key)
    prefix = _common_prefix(stored)
    parameters = {name.removeprefix(prefix): value for name, value in stored.items()}
    others = tuple(str(k) for k in content if k not in (key, DESCRIPTION_KEY)) if key else ()
    try:
        description = parse_description(content, path)
    except OptionError as error:
        raise WeightsError(str(error)) from error
    checkpoint = Checkpoint(path, key, parameters, prefix, others, description)
    _check_tensors(checkpoint)
    return checkpoint


def complete_from_weights(opt: dict[str, Any], log: Callable[[str], object]) -> None:
    """Fill what an option file leaves out of `network_g` and `diffusion` as its weights say.

    `opt` holds BasicSR's options of a test. Raises WeightsError for weights that cannot be read.
    """
    weights = (opt.get('path') or {}).get('pretrain_network_g')
    if not weights:
        return
    try:
        saved = parse_description(load_content(located(Path(weights))), Path(weights))
    except (WeightsError, OptionError) as error:
        raise WeightsError(f'path: pretrain_network_g: {error}') from error
    before = {key: opt.get(key) or {} for key in ('network_g', 'diffusion')}
    network_g, diffusion = with_description(before['network_g'], before['diffusion'], saved)
    completed = {'network_g': network_g, 'diffusion': diffusion}
    usual = {'network_g': {}, 'diffusion': DiffusionOptions().model_dump(mode='json')}
    for key, section in completed.items():
        for name, value in section.items():
            if name not in before[key] and value != usual[key].get(name):
                log(f'{key}: {name}: {value}, as the weights say.')
    opt.update(completed)


def located(path: Path) -> Path:
    """The file of weights that a path means: itself, or that in a folder or of a name on a hub.

    Raises WeightsError.
    """
    try:
        return weights_file(path)
    except WeightFileError as error:
        raise WeightsError(str(error)) from error


def load_content(path: Path) -> Any:
    """What a checkpoint file holds, on the CPU. Raises WeightsError, saying what it is if not."""
    if not path.exists():
        raise WeightsError(f'{path}: no such file. {ADVICE}')
    if not path.is_file():
        raise WeightsError(f'{path} is not a regular file. {ADVICE}')
    try:
        if is_safetensors(path):
            return _safetensors_content(path)
        with open(path, 'rb') as file:  # a file, since PyTorch goes by the endings of names
            return torch.load(file, map_location='cpu', weights_only=True)
    except WeightFileError as error:
        raise WeightsError(f'{error} {ADVICE}') from error
    except PermissionError as error:
        raise WeightsError(f'{path}: no permission to read it.') from error
    except pickle.UnpicklingError as error:
        reason = _kind_of(path) or (
            'is not a checkpoint, or holds Python objects besides tensors, which are not loaded '
            'because they can run code'
        )
        raise WeightsError(f'{path} {reason}. {ADVICE}') from error
    except (*UNREADABLE, MemoryError) as error:
        kind = _kind_of(path)
        reason = kind or f'is damaged, or cannot be read ({one_line(error)[:200].rstrip(".")})'
        raise WeightsError(f'{path} {reason}. {ADVICE}') from error


def _safetensors_content(path: Path) -> dict[str, Any]:
    """As a checkpoint of ours holds it. Raises WeightFileError."""
    parameters, description = read_safetensors(path)
    content: dict[str, Any] = {'params': parameters}
    if (said := description or described_beside(path)) is not None:
        content[DESCRIPTION_KEY] = said
    return content


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, as `sha256sum` prints it. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(DIGEST_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _kind_of(path: Path) -> str:
    kind = kind_of(path)
    return f'is not a checkpoint: it {kind}' if kind else ''


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


def _check_tensors(checkpoint: Checkpoint) -> None:
    """Refuse tensors without values or of a kind that no network here has, and claims of size."""
    odd: dict[str, list[str]] = {}
    for name, value in checkpoint.parameters.items():
        if kind := _odd_kind(value):
            odd.setdefault(kind, []).append(name)
    if odd:
        reasons = '; '.join(f'{kind}: {shortened(names)}' for kind, names in odd.items())
        raise WeightsError(f'{checkpoint}: not parameters of a network: {reasons}. {ADVICE}')
    claimed = sum(v.numel() * v.element_size() for v in checkpoint.parameters.values())
    size = checkpoint.path.stat().st_size
    if claimed > max(size, ALWAYS_BELIEVED):
        largest = max(checkpoint.parameters.items(), key=lambda item: item[1].numel())
        raise WeightsError(
            f'{checkpoint}: parameters of {claimed / 2**30:,.0f} GiB are claimed by a file of '
            f'{size:,} bytes, the largest {largest[0]} {tuple(largest[1].shape)}. {ADVICE}'
        )


def _odd_kind(value: Tensor) -> str:
    """Why a tensor is no parameter; empty if it may be one."""
    if value.is_meta:
        return 'without values (device meta)'
    if value.layout != torch.strided:
        return f'sparse ({str(value.layout).removeprefix("torch.")})'
    if value.is_quantized:
        return 'quantised'
    return 'complex numbers' if value.is_complex() else ''

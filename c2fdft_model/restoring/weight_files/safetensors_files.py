"""Weights as safetensors: the parameters, and what they say of themselves in the metadata."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from c2fdft_arch.common.atomic_write import replacing
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import one_line

ENDING = '.safetensors'
METADATA_KEY = 'c2fdft'
"""Of the description in the metadata, and in a folder's config.json."""


class WeightFileError(C2FDFTError, ValueError):
    """Weights cannot be read or written in one of these shapes; the message says why."""


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors does: the length of a header, then the header, JSON.

    Raises OSError.
    """
    with open(path, 'rb') as file:
        start = file.read(9)
    if len(start) < 9 or start[8:] != b'{':
        return False
    return struct.unpack('<Q', start[:8])[0] <= path.stat().st_size - 8


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The parameters, on the CPU, and the description in plain types, if there is one.

    Raises WeightFileError.
    """
    try:
        with safetensors.safe_open(str(path), 'pt') as file:
            metadata = file.metadata() or {}
            parameters = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata.get(METADATA_KEY)
        description = None if text is None else json.loads(text)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightFileError(
            f'{path} is damaged ({one_line(error)[:200].rstrip(".")}).'
        ) from error
    return parameters, description


def write_safetensors(
    path: Path, parameters: Mapping[str, Tensor], description: Mapping[str, Any] | None
) -> None:
    """Write all of a file or nothing. Raises OSError, or WeightFileError for what does not fit."""
    metadata = {'format': 'pt'}
    if description is not None:
        metadata[METADATA_KEY] = json.dumps(description)
    own = {name: value.detach().cpu().contiguous().clone() for name, value in parameters.items()}
    try:
        content = safetensors.torch.save(own, metadata)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise WeightFileError(f'{path}: {one_line(error)}') from error
    with replacing(path, durable=True) as new:
        Path(new).write_bytes(content)

"""Weights as a hub keeps them: a folder of config.json and model.safetensors, or its name there."""

import importlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from c2fdft_arch.common.messages import one_line
from c2fdft_model.restoring.weight_files.safetensors_files import (
    ENDING,
    METADATA_KEY,
    WeightFileError,
)

CONFIG, WEIGHTS, CARD = 'config.json', f'model{ENDING}', 'README.md'
FILE_ENDINGS = (ENDING, '.pth', '.pt', '.ckpt', '.bin')
HUB_NAME = re.compile(r'([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?')
INSTALL = 'pip install "c2fdft[hub]"'


def is_hub_name(path: Path) -> bool:
    """Whether a path that does not exist reads as `user/name` or `user/name@revision` of a hub."""
    named = HUB_NAME.fullmatch(path.as_posix()) is not None
    # in a folder that is here, a file was meant
    return named and path.suffix not in FILE_ENDINGS and not Path(path.parts[0]).is_dir()


def weights_file(path: Path) -> Path:
    """The file that holds the weights of a folder, or of a name on a hub; any other path as it is.

    What a name stands for is downloaded, once. Raises WeightFileError.
    """
    if not path.exists() and is_hub_name(path):
        path = download(path.as_posix())
    if not path.is_dir():
        return path
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise WeightFileError(
                f'{path} is a folder without {name}: give a file of weights, or a folder that '
                'c2fdft publish wrote.'
            )
    return path / WEIGHTS


def described_beside(path: Path) -> dict[str, Any] | None:
    """What the config.json beside a folder's weights says of them; None where there is none.

    A config without a description holds options of the network alone. Raises WeightFileError.
    """
    config = path.with_name(CONFIG)
    if path.name != WEIGHTS or not config.is_file():
        return None
    try:
        content = json.loads(config.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise WeightFileError(f'{config} cannot be read: {one_line(error)}') from error
    if not isinstance(content, Mapping):
        raise WeightFileError(f'{config} holds no options of a network.')
    options = {key: value for key, value in content.items() if key != METADATA_KEY}
    return content.get(METADATA_KEY) or {'network_g': {'type': 'DFT', **options}, 'diffusion': {}}


def download(name: str) -> Path:
    """The folder of a name on a hub, in the cache of huggingface_hub. Raises WeightFileError."""
    repository, _, revision = name.partition('@')
    try:
        hub = importlib.import_module('huggingface_hub')
    except ModuleNotFoundError as error:
        raise WeightFileError(f'{name}: no such file; to take it from a hub: {INSTALL}.') from error
    fetch = hub.hf_hub_download  # imported now, and its logger set up
    logging.getLogger('huggingface_hub').setLevel(logging.ERROR)  # it tells of every try
    found = Path()
    for file in (CONFIG, WEIGHTS):
        try:
            found = Path(fetch(repository, file, revision=revision or None))
        except Exception as error:  # of the hub, of its client for HTTP, of the system
            raise WeightFileError(f'{name}: {_reason(hub, file, error)}') from error
    return found.parent


def _reason(hub: Any, file: str, error: Exception) -> str:
    errors = hub.errors
    if isinstance(error, errors.GatedRepoError):
        return (
            'access to it has to be asked for on the hub, and given: log in with `hf auth login`.'
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return 'neither a file here nor a name on the hub (a private one needs `hf auth login`).'
    if isinstance(error, errors.RevisionNotFoundError):
        return 'the hub has the name, but no such revision.'
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f'the hub has the name, but no {file} under it: not weights in a shape known here.'
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            'no such file here, and the hub cannot be reached: check the network, or give a file.'
        )
    return f'cannot be taken from the hub: {one_line(error)[:200]}'

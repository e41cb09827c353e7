"""Loading a checkpoint into a network that an option file describes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from c2fdft_model.restoring.weights import EMA_KEY, Checkpoint, WeightsError, read_checkpoint

SHOWN_NAMES = 3
ADVICE = 'Adapt network_g, give another file, or set path: strict_load_g: false to load what fits.'


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
    checkpoint = _read(path, param_key)
    wanted = network.state_dict()
    problems = mismatches(wanted, checkpoint.parameters)
    if problems and strict:
        raise WeightsError(
            f'{checkpoint}: weights of another network than {type(network).__name__} with the '
            f'options of network_g: {"; ".join(problems)}. {advice}'
        )
    fitting = {
        name: value
        for name, value in checkpoint.parameters.items()
        if name in wanted and wanted[name].shape == value.shape
    }
    network.load_state_dict(fitting, strict=False)
    count = sum(value.numel() for value in fitting.values())
    log(
        f'Loaded {len(fitting)} of {len(wanted)} parameters ({count:,} numbers) of '
        f'{type(network).__name__} from {checkpoint.path}, key {checkpoint.key or "(none)"}.'
    )
    if problems:
        log(f'Not loaded: {"; ".join(problems)}.')
    return checkpoint


def _read(path: str | os.PathLike[str], param_key: str | None) -> Checkpoint:
    try:
        return read_checkpoint(path, param_key)
    except WeightsError:
        if param_key != EMA_KEY:
            raise
        return read_checkpoint(path)


def mismatches(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What keeps parameters from fitting, in words: missing, unexpected and of another shape."""
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    reshaped = [
        f'{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}'
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    groups = {'missing': missing, 'unexpected': unexpected, 'of another shape': reshaped}
    return [f'{len(names)} {kind}: {_some(names)}' for kind, names in groups.items() if names]


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ', '.join(names[:SHOWN_NAMES]) + (f' and {more} more' if more > 0 else '')

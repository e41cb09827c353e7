"""What a training state holds besides BasicSR's part: random states and the run it is of."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_arch.common.registry_lookup import options_of
from c2fdft_model.data.dataset_options import DatasetOptions
from c2fdft_model.data.patch_cycle import DATASET_TYPE
from c2fdft_model.diffusion.options import DiffusionOptions, IRSDEOptions
from c2fdft_model.training.options import TrainOptions

RUN_KEY = 'run'
RANDOM_KEY = 'random_states'
BEST_KEY = 'best_metric_results'
GUARD_KEY = 'guard'

# Options of `datasets: train` that decide what a batch holds; paths may differ between machines.
DATA_OPTIONS = (
    'type', 'gt_sizes', 'mini_batch_sizes', 'iters', 'gt_size', 'batch_size_per_gpu',
    'geometric_augs', 'crops_per_image', 'use_hflip', 'use_rot', 'dataset_enlarge_ratio',
)  # fmt: skip
MUST_BE_EQUAL = ('network_g', 'train: stage', 'train: optim_g: type', 'train: scheduler: type')
"""A state of another network, stage, optimiser or schedule has nothing to go on with."""
TAKEN_FROM_STATE = ('train: optim_g', 'train: scheduler', 'manual_seed')
"""Loaded with the state, so that a change in the option file has no effect."""
FREE_TO_CHANGE = (
    'train: total_iter', 'train: checkpoint', 'train: max_bad_iterations', 'train: keep_last',
)  # fmt: skip
"""Options that change no number of the iterations that are left."""
SAME_SCHEDULERS = {'MultiStepRestartLR': 'MultiStepLR'}
"""Two names of BasicSR's for one schedule."""

FindConstructor = Callable[[str], Callable[..., Any] | None]


class ResumeError(OptionError):
    """A training state cannot be resumed with these options; the text says what differs."""


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's generators in this process, in plain types."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        'python': random.getstate(),
        'numpy': (
            kind,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            cached,
        ),
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put every generator of this process back into the state that `random_states` returned."""
    version, internal, gauss = states['python']
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = states['numpy']
    np.random.set_state(  # noqa: NPY002
        (kind, keys.numpy().astype(np.uint32), position, has_gauss, cached)
    )
    torch.set_rng_state(states['torch'].cpu())
    if states['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


def with_fusion_of(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state of an optimiser, for one that may be fused where the one that saved it was not."""
    groups = [
        group | {name: own[name] for name in ('fused', 'foreach') if name in own}
        for group, own in zip(state['param_groups'], optimizer.param_groups, strict=True)
    ]
    return {**state, 'param_groups': groups}


def check_ranks(found: Sequence[str]) -> None:
    """Raise ResumeError unless every rank found the same training state to go on from."""
    if len(set(found)) > 1:
        listed = ', '.join(f'rank {rank} {state}' for rank, state in enumerate(found))
        raise ResumeError(
            f'--auto_resume: the ranks found different training states ({listed}). '
            'experiments/ must be one folder that all machines share.'
        )


def describe_run(opt: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide what a training computes, in plain types, from BasicSR's options."""
    data = opt.get('datasets', {}).get('train', {})
    return _plain(
        {
            'network_g': opt.get('network_g', {}),
            'train': opt.get('train', {}),
            'diffusion': opt.get('diffusion') or {},
            'datasets: train': {name: data[name] for name in DATA_OPTIONS if name in data},
            'manual_seed': opt.get('manual_seed'),
            'world_size': opt.get('world_size', 1),
            'num_gpu': opt.get('num_gpu', 0),
        }
    )


def check_same_run(
    saved: Mapping[str, Any],
    given: Mapping[str, Any],
    find_architecture: FindConstructor = lambda name: None,
) -> list[str]:
    """What differs between the run that wrote a state and the one that resumes it, one text each.

    A default that is written out is no difference; those of networks are known for the types of
    which `find_architecture` gives the constructor.

    Raises ResumeError for another network, stage, optimiser or schedule.
    """
    fatal, notes = [], []
    before, now = (with_defaults(run, find_architecture) for run in (saved, given))
    for path, old, new in differences(before, now):
        text = f'{path}: {_shown(old)} when the state was written, {_shown(new)} now'
        if _is_under(path, MUST_BE_EQUAL):
            fatal.append(text)
        elif _is_under(path, TAKEN_FROM_STATE):
            notes.append(f'{text}; the one of the state is used')
        elif not _is_under(path, FREE_TO_CHANGE):
            notes.append(f'{text}; the new one is used')
    if fatal:
        raise ResumeError(
            f'path: resume_state: the training state is of another run: {"; ".join(fatal)}. '
            'Resume with the options that it was written with, or start a new run (another name) '
            'with path: pretrain_network_g.'
        )
    return notes


def with_defaults(run: Mapping[str, Any], find_architecture: FindConstructor) -> dict[str, Any]:
    """A run's description with every key that its options leave out, as far as it is known."""
    train = _filled(TrainOptions, run['train'])
    train['optim_g'] = built_arguments(
        train.get('optim_g', {}), lambda name: getattr(torch.optim, name, None)
    )
    scheduler = dict(train.get('scheduler', {}))
    scheduler['type'] = SAME_SCHEDULERS.get(scheduler.get('type', ''), scheduler.get('type'))
    diffusion = _filled(DiffusionOptions, run['diffusion'])
    if diffusion['process'] == 'ir_sde':
        diffusion['ir_sde'] = _filled(IRSDEOptions, diffusion['ir_sde'] or {})
    data = run['datasets: train']
    if data.get('type') == DATASET_TYPE:
        data = {k: v for k, v in _filled(DatasetOptions, data).items() if k in DATA_OPTIONS}
    return {
        **run,
        'network_g': built_arguments(run['network_g'], find_architecture),
        'train': {**train, 'scheduler': scheduler},
        'diffusion': diffusion,
        'datasets: train': data,
    }


def built_arguments(section: Mapping[str, Any], find: FindConstructor) -> dict[str, Any]:
    """A section with `type` and the arguments of what is built, defaults of the signature included.

    So are those of sections inside it. Of a type that `find` does not know, what is given.
    """
    constructor = find(str(section.get('type')))
    parameters = options_of(constructor) if constructor else {}
    defaults = {
        name: _plain(parameter.default)
        for name, parameter in parameters.items()
        if parameter.default is not parameter.empty
    }
    given = {
        name: built_arguments(value, find) if isinstance(value, Mapping) else value
        for name, value in section.items()
    }
    return {**defaults, **given}


def _filled(cls: type, section: Mapping[str, Any]) -> dict[str, Any]:
    """A section of the option file with the defaults of the dataclass that it is parsed into."""
    filled: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.default_factory is not dataclasses.MISSING:
            filled[field.name] = _plain(dataclasses.asdict(field.default_factory()))
        elif field.default is not dataclasses.MISSING:
            filled[field.name] = _plain(field.default)
    for name, value in section.items():
        if isinstance(value, Mapping) and isinstance(filled.get(name), Mapping):
            filled[name] = {**filled[name], **value}
        elif value is not None:
            filled[name] = value
    return filled


def _shown(value: Any) -> str:
    return 'not given' if value is None else str(value)


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any, Any]]:
    """Every (path, old value, new value) that differs; a missing key reads as None."""
    for name in dict.fromkeys((*old, *new)):
        a, b = old.get(name), new.get(name)
        path = f'{prefix}: {name}' if prefix else str(name)
        if isinstance(a, Mapping) or isinstance(b, Mapping):
            yield from differences(a or {}, b or {}, path)
        elif a != b:
            yield path, a, b


def _is_under(path: str, sections: Sequence[str]) -> bool:
    return any(path == section or path.startswith(f'{section}: ') for section in sections)


def _plain(value: Any) -> Any:
    """The same value of dicts, lists, numbers and texts, which `weights_only` loading allows."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)

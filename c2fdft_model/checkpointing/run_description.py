"""The options that decide what a training computes, and how those of a resumed run differ."""

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from c2fdft_arch.common import distributed
from c2fdft_arch.common.option_parsing import OptionError, Section, parse_section
from c2fdft_arch.common.registry_lookup import constructor_in
from c2fdft_model.checkpointing.checkpoint_files import read_training_state
from c2fdft_model.checkpointing.overrides import is_overridden
from c2fdft_model.data.dataset_options import DatasetOptions
from c2fdft_model.data.patch_cycle import DATASET_TYPE
from c2fdft_model.data.training_clock import training_clock
from c2fdft_model.diffusion.options import DiffusionOptions, IRSDEOptions
from c2fdft_model.restoring.checkpoint import WeightsError
from c2fdft_model.restoring.description import (
    FindConstructor,
    built_arguments,
    describe,
    differences,
    plain,
)
from c2fdft_model.restoring.weights import load_into
from c2fdft_model.training.options import TrainOptions

logger = logging.getLogger('basicsr')
RUN_KEY = 'run'
# Options of `datasets: train` that decide what a batch holds; paths may differ between machines.
DATA_OPTIONS = (
    'type', 'gt_sizes', 'mini_batch_sizes', 'iters', 'gt_size', 'batch_size_per_gpu',
    'geometric_augs', 'crops_per_image', 'use_hflip', 'use_rot', 'dataset_enlarge_ratio',
)  # fmt: skip
MUST_BE_EQUAL = (
    'network_g', 'diffusion: prediction', 'train: stage', 'train: optim_g: type',
    'train: scheduler: type',
)  # fmt: skip
"""A state of another network, target, stage, optimiser or schedule cannot be resumed."""
TAKEN_FROM_STATE = ('train: optim_g', 'train: scheduler', 'manual_seed')
"""Loaded with the state; a change has no effect but by `train: override_on_resume`."""
FREE_TO_CHANGE = (
    'train: total_iter', 'train: checkpoint', 'train: max_bad_iterations', 'train: keep_last',
    'train: override_on_resume',
)  # fmt: skip
"""Options that do not change what the remaining iterations compute."""
SAME_SCHEDULERS = {'MultiStepRestartLR': 'MultiStepLR'}
"""BasicSR has two names for one schedule."""


class ResumeError(OptionError):
    """A training state cannot be resumed with these options; the text says what differs."""


class RunDescription:
    """The options of a training, to be saved with it and compared with those of a saved one.

    Built before BasicSR takes the options apart. `architectures` is BasicSR's registry of networks.
    Raises ResumeError if the ranks resume different states.
    """

    def __init__(self, opt: dict[str, Any], architectures: Iterable[tuple[str, Any]]) -> None:
        # Without manual_seed BasicSR draws another seed in every rank.
        opt['manual_seed'] = distributed.broadcast_object(opt['manual_seed'])
        state = str(opt['path'].get('resume_state') or 'none').rpartition('/')[2]
        check_ranks(distributed.gather_objects(state))
        self.opt = opt
        self.options = describe_run(opt)
        self._find_architecture = functools.partial(constructor_in, architectures)
        diffusion = parse_section(DiffusionOptions, opt.get('diffusion'), 'diffusion')
        self.description = describe(opt, diffusion, self._find_architecture)
        """What its checkpoints say of themselves, before the first iteration."""

    def load_network(
        self,
        network: nn.Module,
        path: str,
        param_key: str,
        strict: bool,
        log: Callable[[str], object],
    ) -> None:
        """Load the network that was saved with the training state to resume.

        Raises ResumeError, naming the options that differ, for a state of another network, and for
        a network of another iteration than the state's.
        """
        advice = (
            'Resume with the network_g that the state was written with, or start a new run '
            '(another name).'
        )
        try:
            checkpoint = load_into(network, path, param_key, strict, log, advice)
        except WeightsError as error:
            # BasicSR loads the network before it hands out the state, which says more.
            saved = read_training_state(self.opt['path']['resume_state']).get(RUN_KEY)
            if saved is not None:
                self._compare(saved)
            raise ResumeError(f'path: resume_state: {error}') from error
        state = Path(self.opt['path']['resume_state'])
        saved_at = checkpoint.description.iteration if checkpoint.description else None
        if saved_at is not None and state.stem.isdigit() and int(state.stem) != saved_at:
            raise ResumeError(
                f'path: resume_state: {state} is of iteration {int(state.stem):,}, the network '
                f'{path} of iteration {saved_at:,}: resume with the network saved beside the state.'
            )

    def resume(self, saved: Mapping[str, Any] | None) -> None:
        """Warn of the options that differ from those of a saved run, and take over its seed.

        Raises ResumeError for another network, stage, optimiser or schedule.
        """
        if saved is None:
            logger.warning(
                'The training state is not one of this model: whether it was trained with these '
                'options cannot be told.'
            )
            return
        for note in self._compare(saved):
            logger.warning(f'The resumed run was started with other options. {note}.')
        keys = self.options['train'].get('override_on_resume') or ()
        for name in ('optim_g', 'scheduler'):  # of which later states of this run tell
            self.options['train'][name] = _in_effect(name, saved, self.options, keys)
        # Without manual_seed, BasicSR draws a new seed at every start.
        self.opt['manual_seed'] = self.options['manual_seed'] = saved['manual_seed']
        training_clock.start(self.opt)

    def _compare(self, saved: Mapping[str, Any]) -> list[str]:
        return check_same_run(saved, self.options, self._find_architecture)


def check_ranks(found: Sequence[str]) -> None:
    """Raise ResumeError unless every rank found the same training state to resume."""
    if len(set(found)) > 1:
        listed = ', '.join(f'rank {rank} {state}' for rank, state in enumerate(found))
        raise ResumeError(
            f'--auto_resume: the ranks found different training states ({listed}). '
            'experiments/ must be one folder that all machines share.'
        )


def describe_run(opt: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide what a training computes, in plain types, from BasicSR's options."""
    data = opt.get('datasets', {}).get('train', {})
    return plain(
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
    overrides = given['train'].get('override_on_resume') or ()
    before, now = (with_defaults(run, find_architecture) for run in (saved, given))
    for path, old, new in differences(before, now):
        values = ('not given' if value is None else value for value in (old, new))
        text = '{}: {} when the state was written, {} now'.format(path, *values)
        key = path.removeprefix('train: ').replace(': ', '.')
        if is_overridden(key, overrides) and key != 'optim_g.type':
            notes.append(f'{text}; the new one is used, as train: override_on_resume says')
        elif _is_under(path, MUST_BE_EQUAL):
            fatal.append(text)
        elif _is_under(path, TAKEN_FROM_STATE):
            key = 'scheduler' if key.startswith('scheduler') else key
            way = f' (to use the new one, set train: override_on_resume: [{key}])'
            notes.append(
                f'{text}; the one of the state is used{way if path != "manual_seed" else ""}'
            )
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
    """A run's description, parsed: with every key that its options leave out, if it is known."""
    train = _parsed(TrainOptions, run['train'], 'train')
    train['optim_g'] = built_arguments(
        train['optim_g'], lambda name: getattr(torch.optim, name, None)
    )
    kind = train['scheduler'].get('type')
    train['scheduler']['type'] = SAME_SCHEDULERS.get(kind, kind)
    diffusion = _parsed(DiffusionOptions, run['diffusion'], 'diffusion')
    if diffusion['process'] == 'ir_sde':
        diffusion['ir_sde'] = diffusion['ir_sde'] or _parsed(IRSDEOptions, {}, 'ir_sde')
    data = run['datasets: train']
    if data.get('type') == DATASET_TYPE:  # without its folders, which may differ
        filled = DatasetOptions.model_construct(**data)
        data = plain(filled.model_dump(include=set(DATA_OPTIONS), warnings=False))
    return {
        **run,
        'network_g': built_arguments(run['network_g'], find_architecture),
        'train': train,
        'diffusion': diffusion,
        'datasets: train': data,
    }


def _parsed(cls: type[Section], section: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The values of a parsed section, without keys that only another version knows."""
    known = {name: value for name, value in section.items() if name in cls.model_fields}
    return plain(parse_section(cls, known, path).model_dump())


def _in_effect(
    name: str, saved: Mapping[str, Any], given: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """The optimiser's or schedule's options that a resumed run trains with."""
    old, new = saved['train'].get(name, {}), given['train'].get(name, {})
    if is_overridden(name, overrides):
        return new
    changed = {k: v for k, v in new.items() if is_overridden(f'{name}.{k}', overrides)}
    return {**old, **changed}


def _is_under(path: str, sections: Sequence[str]) -> bool:
    return any(path == section or path.startswith(f'{section}: ') for section in sections)

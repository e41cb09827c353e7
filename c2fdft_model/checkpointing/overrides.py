"""What a resumed training takes from the options in place of the state: `override_on_resume`."""

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

OPTIMIZER, SCHEDULER = 'optim_g', 'scheduler'


def override_state(
    state: dict[str, Any],
    optimizers: Sequence[torch.optim.Optimizer],
    schedulers: Sequence[LRScheduler],
    keys: Collection[str],
) -> None:
    """Replace in a training state what `keys` name: optim_g, optim_g.lr, scheduler and so on.

    `optimizers` and `schedulers` are those of the options, before a state is loaded. A learning
    rate that follows from the new ones is the one of the iteration that was saved.
    """
    for saved, optimizer in zip(state['optimizers'], optimizers, strict=True):
        for group, own in zip(saved['param_groups'], optimizer.param_groups, strict=True):
            for name in own.keys() - {'params', 'lr', 'initial_lr'}:
                if is_overridden(f'{OPTIMIZER}.{name}', keys):
                    group[name] = own[name]
            if is_overridden(f'{OPTIMIZER}.lr', keys):
                group['initial_lr'] = own['initial_lr']
    if not is_overridden(SCHEDULER, keys) and not is_overridden(f'{OPTIMIZER}.lr', keys):
        return
    for number, scheduler in enumerate(schedulers):
        groups = state['optimizers'][number]['param_groups']
        old = state['schedulers'][number]
        own = {} if is_overridden(SCHEDULER, keys) else old
        state['schedulers'][number] = replayed(scheduler, own, groups, old)


def is_overridden(key: str, keys: Collection[str]) -> bool:
    """Whether a key such as `optim_g.lr`, or what it is in, is among those to override."""
    return any(key == each or key.startswith(f'{each}.') for each in keys)


def replayed(
    scheduler: LRScheduler, own: dict[str, Any], groups: list[dict[str, Any]], old: dict[str, Any]
) -> dict[str, Any]:
    """The state of a schedule that has stepped from the start to where the state `old` was saved.

    `own` are attributes to take over. The learning rates of `groups`, those of an optimiser's
    state, follow from their `initial_lr`. Schedules may work from rate to rate, so each step of
    them is taken.
    """
    again = copy.copy(scheduler)
    again.__dict__.update(own)
    again.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    again.optimizer.param_groups = groups
    again.base_lrs = [group['initial_lr'] for group in groups]
    for group in groups:
        group['lr'] = group['initial_lr']
    for iteration in range(old['last_epoch'] + 1):
        again.last_epoch = iteration
        for group, rate in zip(groups, again.get_lr(), strict=True):
            group['lr'] = rate
    again._last_lr = [group['lr'] for group in groups]
    again._step_count = old.get('_step_count', old['last_epoch'] + 1)
    return again.state_dict()

"""The learning-rate schedule of an option file against the length of the training."""

from collections.abc import Mapping
from typing import Any

import torch

from c2fdft_arch.common.messages import one_line
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.options.components import OPTIMIZERS, build

ITERATIONS = ('periods', 'milestones', 'restarts')
"""Arguments of schedules that count iterations."""
PATH = 'train: scheduler'


def whole_iterations(section: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule's section with whole numbers of iterations: 5.0 is 5.

    Raises OptionError for a number that is not whole, which no iteration ever equals.
    """
    result = dict(section)
    for key in ITERATIONS:
        values = section.get(key, ())
        if not isinstance(values, list | tuple):
            raise OptionError(f'{PATH}: {key}: {values!r} must be a list.')
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
                raise OptionError(f'{PATH}: {key}: {value!r} must be a whole number of iterations.')
        if key in section:
            result[key] = [int(value) for value in values]
    return result


def check_schedule(
    train: Mapping[str, Any], cls: type, section: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The schedule's section as it is meant, and warnings of what it does to a training so long.

    Raises OptionError for arguments that the schedule or the optimiser refuses, and for a schedule
    that has no learning rate for all iterations.
    """
    section, total = whole_iterations(section), int(train['total_iter'])
    optimizer_class = dict(OPTIMIZERS)[train['optim_g']['type']]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = build(optimizer_class, train['optim_g'], 'train: optim_g', [parameter])
    scheduler = build(cls, section, PATH, optimizer)
    length = sum(section.get('periods', ()))
    scheduler.last_epoch = total - 1  # what BasicSR has stepped to in the last iteration
    try:
        scheduler.get_lr()
    except (TypeError, LookupError) as error:
        reason = f'{section["type"]} has no learning rate after iteration {length:,}'
        raise OptionError(
            f'train: total_iter: {total:,} is longer than scheduler: periods {section["periods"]}: '
            f'{reason}. Lengthen the last period.'
            if length
            else f'{PATH}: no learning rate for iteration {total:,}: {one_line(error)}'
        ) from error
    if length and total > length:
        return section, [_beyond(section, total, length)]
    never = [value for value in section.get('milestones', ()) if value >= total]
    return section, [
        f'{PATH}: milestones: {value:,} is never reached: train: total_iter is {total:,}.'
        for value in never
    ]


def _beyond(section: Mapping[str, Any], total: int, length: int) -> str:
    """What happens to the learning rate after the last period."""
    rises = section.get('after_periods') == 'continue'
    what = (
        'the learning rate rises again along the cosine of the last period (after_periods: '
        'continue)'
        if rises
        else 'the learning rate stays at the minimum of the last period. To train on at a higher '
        'one, add a period with its restart_weights and eta_mins, or set after_periods: continue, '
        'with which it rises again along the cosine'
    )
    return (
        f'train: total_iter: {total:,} is longer than scheduler: periods, {length:,} iterations '
        f'together: from iteration {length + 1:,} on {what}.'
    )

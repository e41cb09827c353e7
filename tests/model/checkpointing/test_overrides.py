"""Taking learning rate and schedule from the options on resuming."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from basicsr.models.lr_scheduler import MultiStepRestartLR

from c2fdft_model.checkpointing.overrides import override_state
from c2fdft_model.training.lr_scheduler import CosineAnnealingRestartCyclicLR

COSINE = {'periods': [4, 12], 'restart_weights': [1, 1], 'eta_mins': [1e-3, 1e-5]}
STEPS = {'milestones': [3, 6, 9], 'gamma': 0.5}
SCHEDULES = [(CosineAnnealingRestartCyclicLR, COSINE), (MultiStepRestartLR, STEPS)]


def training(scheduler_class, arguments, lr=1e-3, weight_decay=0.01):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr, (0.9, 0.99))
    optimizer.param_groups[0]['weight_decay'] = weight_decay
    return optimizer, scheduler_class(optimizer, **arguments)


def rates(optimizer, scheduler, count: int) -> list[float]:
    """The learning rates of so many iterations."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for _ in range(count):
            found.append(optimizer.param_groups[0]['lr'])
            scheduler.step()
    return found


def resumed(before, now, keys) -> list[float]:
    """The rates of 8 iterations after 7 of `before`, which `now` resumes with overrides."""
    rates(*before, 7)
    state = {
        'optimizers': [copy.deepcopy(before[0].state_dict())],
        'schedulers': [copy.deepcopy(before[1].state_dict())],
    }
    override_state(state, [now[0]], [now[1]], keys)
    now[0].load_state_dict(state['optimizers'][0])
    now[1].load_state_dict(state['schedulers'][0])
    return rates(*now, 8)


@pytest.mark.parametrize(
    'schedule', [(CosineAnnealingRestartCyclicLR, COSINE), (MultiStepRestartLR, STEPS)]
)
def test_without_overrides_everything_is_the_states(schedule):
    expected = rates(*training(*schedule), 15)[7:]
    now = training(*schedule, lr=5.0, weight_decay=0.5)
    assert resumed(training(*schedule), now, []) == pytest.approx(expected, rel=1e-12)
    assert now[0].param_groups[0]['weight_decay'] == 0.01


@pytest.mark.parametrize('key', ['optim_g', 'optim_g.lr'])
@pytest.mark.parametrize(
    'schedule', [(CosineAnnealingRestartCyclicLR, COSINE), (MultiStepRestartLR, STEPS)]
)
def test_another_rate_goes_on_as_if_it_had_been_trained_with_from_the_start(schedule, key):
    expected = rates(*training(*schedule, lr=1e-4), 15)[7:]
    now = training(*schedule, lr=1e-4, weight_decay=0.5)
    assert resumed(training(*schedule), now, [key]) == pytest.approx(expected, rel=1e-12)
    assert now[0].param_groups[0]['weight_decay'] == (0.5 if key == 'optim_g' else 0.01)


def test_another_schedule_keeps_the_states_rate():
    expected = rates(*training(MultiStepRestartLR, STEPS), 15)[7:]
    before = training(CosineAnnealingRestartCyclicLR, COSINE)
    now = training(MultiStepRestartLR, STEPS, lr=5.0)
    assert resumed(before, now, ['scheduler']) == pytest.approx(expected, rel=1e-12)


def test_another_schedule_and_rate_together():
    longer = {**COSINE, 'periods': [4, 40]}
    expected = rates(*training(CosineAnnealingRestartCyclicLR, longer, lr=2e-3), 15)[7:]
    before = training(CosineAnnealingRestartCyclicLR, COSINE)
    now = training(CosineAnnealingRestartCyclicLR, longer, lr=2e-3)
    assert resumed(before, now, ['scheduler', 'optim_g.lr']) == pytest.approx(expected, rel=1e-12)


def test_a_single_argument_is_replaced_alone():
    schedule = (MultiStepRestartLR, STEPS)
    now = training(*schedule, lr=5.0, weight_decay=0.5)
    expected = rates(*training(*schedule), 15)[7:]
    assert resumed(training(*schedule), now, ['optim_g.weight_decay']) == pytest.approx(expected)
    assert now[0].param_groups[0]['weight_decay'] == 0.5

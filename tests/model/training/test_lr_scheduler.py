"""The cyclic cosine learning rate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from c2fdft_model.training.lr_scheduler import CosineAnnealingRestartCyclicLR

DATA = Path(__file__).resolve().parents[2] / 'data'
REFERENCE = json.loads((DATA / 'lr_schedule.json').read_text())


def scheduler_for(lr, periods, restart_weights, eta_mins):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    return CosineAnnealingRestartCyclicLR(optimizer, periods, restart_weights, eta_mins)


@pytest.mark.parametrize('name', REFERENCE)
def test_learning_rates_equal_those_of_the_released_option_files(name):
    case = REFERENCE[name]
    scheduler = scheduler_for(
        case['lr'], case['periods'], case['restart_weights'], case['eta_mins']
    )
    for iteration, expected in case['lr_at_iteration'].items():
        # BasicSR steps the schedule from the second iteration on.
        scheduler.last_epoch = int(iteration) - 1
        assert scheduler.get_lr() == pytest.approx([expected], rel=1e-12)


def test_stepping_walks_through_the_periods():
    scheduler = scheduler_for(1.0, [2, 4], [1, 0.5], [0.0, 0.2])
    rates = []
    for _ in range(7):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    cosine = [0.2 + 0.25 * 0.8 * (1 + c) for c in (0.5**0.5, 0, -(0.5**0.5), -1)]
    assert rates == pytest.approx([1, 0.5, 0, *cosine], abs=1e-12)


def test_state_survives_saving():
    scheduler = scheduler_for(1.0, [3, 3], [1, 1], [0.1, 0.0])
    scheduler.optimizer.step()
    scheduler.step()
    resumed = scheduler_for(1.0, [3, 3], [1, 1], [0.1, 0.0])
    resumed.load_state_dict(scheduler.state_dict())
    assert resumed.get_lr() == scheduler.get_lr()


@pytest.mark.parametrize(
    ('periods', 'weights', 'eta_mins'), [([5, 5], [1], [0, 0]), ([5], [1], [0, 0]), ([], [], [])]
)
def test_lists_of_unequal_length_are_refused(periods, weights, eta_mins):
    with pytest.raises(ValueError, match='one value per period'):
        scheduler_for(1.0, periods, weights, eta_mins)


def test_periods_must_be_positive():
    with pytest.raises(ValueError, match='periods'):
        scheduler_for(1.0, [5, 0], [1, 1], [0, 0])

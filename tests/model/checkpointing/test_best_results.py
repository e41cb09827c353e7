"""The best results so far, and the validations that an interrupted run missed."""

from __future__ import annotations

from typing import Any

import pytest

from c2fdft_model.checkpointing.best_results import missed_data_sets, record_of_best, results_at

BEST = {
    'first': {
        'psnr': {'better': 'higher', 'val': 31.0, 'iter': 20},
        'lpips': {'better': 'lower', 'val': 0.1, 'iter': 10},
    },
    'second': {'psnr': {'better': 'higher', 'val': 40.0, 'iter': 30}},
}


def best_record(metric: str | None = None, **validated: int) -> dict[str, Any]:
    return record_of_best(BEST, metric, validated)


@pytest.mark.parametrize(
    ('metric', 'name', 'iteration'), [(None, 'psnr', 20), ('lpips', 'lpips', 10)]
)
def test_the_first_data_set_and_the_chosen_metric_decide_what_is_best(metric, name, iteration):
    record = best_record(metric)
    assert (record['dataset'], record['metric'], record['iteration']) == ('first', name, iteration)


@pytest.mark.parametrize(('iteration', 'expected'), [(30, BEST), (29, {})])
def test_a_record_of_a_later_validation_does_not_count_on_resuming(iteration, expected):
    assert results_at(iteration, {}, best_record(first=30, second=20)) == expected


VALIDATED_TWICE = {
    'datasets': {'train': {}, 'val': {'name': 'first'}, 'val_2': {'name': 'second'}},
    'val': {'val_freq': 10, 'metrics': {'psnr': {}}},
}


@pytest.mark.parametrize(
    ('iteration', 'validated', 'missed'),
    [
        (30, {'first': 30, 'second': 30}, []),
        (30, {'first': 30, 'second': 20}, ['val_2']),
        (30, {'first': 20, 'second': 20}, ['val', 'val_2']),
        (30, {'first': 40, 'second': 40}, ['val', 'val_2']),
        (35, {'first': 30, 'second': 30}, []),
    ],
)
def test_a_validation_that_was_due_and_did_not_end_is_missed(iteration, validated, missed):
    assert missed_data_sets(VALIDATED_TWICE, iteration, best_record(**validated)) == missed

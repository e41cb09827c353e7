"""Epochs are as long as BasicSR's training loop needs them."""

from __future__ import annotations

import math

import pytest

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.data.epoch_length import check_reach, epoch_samples


def iterations_of_train_py(total_iter, batch, world_size, ratio, replicas):
    """Iterations that BasicSR's `train.py` runs before its epochs are over, by its arithmetic."""
    samples = epoch_samples(batch, world_size, ratio)
    per_epoch = math.ceil(samples * ratio / (batch * world_size))
    total_epochs = math.ceil(total_iter / per_epoch)
    sampler_length = math.ceil(samples * ratio / world_size)
    return (total_epochs + 1) * (sampler_length // (batch * replicas))


@pytest.mark.parametrize('total_iter', [1, 999, 1000, 1001, 270_000])
@pytest.mark.parametrize(
    ('batch', 'world_size', 'ratio'),
    [(1, 1, 1), (360, 1, 1), (360, 8, 1), (24, 3, 7), (5, 2, 5000)],
)
def test_epochs_add_up_to_total_iter(total_iter, batch, world_size, ratio):
    assert iterations_of_train_py(total_iter, batch, world_size, ratio, 1) >= total_iter
    check_reach(total_iter, batch, world_size, ratio)


@pytest.mark.parametrize('total_iter', [500, 1000, 1001, 5000, 270_000])
@pytest.mark.parametrize('replicas', [2, 3, 8])
def test_data_parallel_is_refused_where_train_py_would_stop_early(total_iter, replicas):
    reached = iterations_of_train_py(total_iter, 24, 1, 1, replicas)
    if reached >= total_iter:
        check_reach(total_iter, 24, replicas=replicas)
    else:
        with pytest.raises(OptionError, match=f'after iteration {reached} of {total_iter}.*torchr'):
            check_reach(total_iter, 24, replicas=replicas)


def test_resume_that_cannot_reach_total_iter_says_so():
    with pytest.raises(OptionError, match='after iteration 5000 of 270000.*epoch 400'):
        check_reach(270_000, 24, start_iteration=5000, start_epoch=400)


def test_epoch_does_not_outgrow_the_sampler():
    assert epoch_samples(360, 64) <= 2**21

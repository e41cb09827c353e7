"""The states of random generators, saved and restored."""

from __future__ import annotations

import io
import random

import numpy as np
import torch

from c2fdft_model.checkpointing.random_states import random_states, restore_random_states


def draws() -> list:
    return [random.random(), np.random.rand(), torch.rand(3)]  # noqa: NPY002


def test_restored_generators_draw_the_same_numbers_again():
    np.random.standard_normal()  # noqa: NPY002  (leaves a second number waiting)
    states = random_states()
    first = [*draws(), np.random.standard_normal()]  # noqa: NPY002
    restore_random_states(states)
    second = [*draws(), np.random.standard_normal()]  # noqa: NPY002
    assert first[:2] == second[:2] and first[3] == second[3]
    assert torch.equal(first[2], second[2])


def test_random_states_can_be_read_without_running_code():
    buffer = io.BytesIO()
    torch.save(random_states(), buffer)
    buffer.seek(0)
    restore_random_states(torch.load(buffer, weights_only=True))

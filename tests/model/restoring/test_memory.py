from __future__ import annotations

import pytest
import torch
from torch import nn

from c2fdft_arch.common import free_memory
from c2fdft_model.restoring import memory
from c2fdft_model.restoring.memory import available_memory_mb, needed_memory_mb

CPU = torch.device('cpu')


class Telling(nn.Module):
    size_multiple = 8

    def inference_memory_mb(self, batch, height, width):
        return batch * height * width / 1000


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 3 GiB free in a group that may use 2 GiB and uses half of one."""
    limit, used = tmp_path / 'max', tmp_path / 'current'
    limit.write_text(f'{2 * 2**30}\n')
    used.write_text(f'{2**29}\n')
    monkeypatch.setattr(free_memory, 'CGROUP_LIMITS', ((str(limit), str(used)),))
    monkeypatch.setattr(free_memory, '_free_of_machine', lambda: 3 * 2**30)
    return limit


def test_the_tighter_limit_counts(machine):
    assert available_memory_mb(CPU) == 1536


def test_a_group_without_limit_leaves_the_machine(machine):
    machine.write_text('max\n')
    assert available_memory_mb(CPU) == 3072


def test_nothing_is_known_where_nothing_tells(machine, monkeypatch):
    machine.unlink()
    monkeypatch.setattr(free_memory, '_free_of_machine', lambda: None)
    assert available_memory_mb(CPU) is None


def test_the_network_sees_whole_padded_images():
    maps = 8 * 16 * memory.BYTES_PER_PIXEL / 2**20
    assert needed_memory_mb(Telling(), 5, 13) == pytest.approx(8 * 16 / 1000 + maps)


def test_the_network_sees_no_more_than_a_tile():
    maps = 4000 * 3000 * memory.BYTES_PER_PIXEL / 2**20
    assert needed_memory_mb(Telling(), 4000, 3000, 512) == pytest.approx(512 * 512 / 1000 + maps)


def test_a_network_that_does_not_tell_is_estimated_from_its_channels():
    network = nn.Identity()
    network.dim = 48
    per_pixel = memory.BYTES_PER_PIXEL + 48 * memory.BYTES_PER_PIXEL_AND_CHANNEL
    assert needed_memory_mb(network, 1024, 1024) == pytest.approx(per_pixel)


def test_a_network_of_unknown_kind_is_not_asked():
    assert needed_memory_mb(nn.Identity(), 8, 8) is None

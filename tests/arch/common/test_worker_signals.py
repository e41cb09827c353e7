"""Signals to a loader's workers, sent from outside and from the process that trains."""

from __future__ import annotations

import os
import signal
import time

import pytest
from torch.utils.data import DataLoader, Dataset

from c2fdft_arch.common import worker_signals
from c2fdft_arch.common.worker_signals import shield_worker

pytestmark = pytest.mark.skipif(
    not hasattr(signal, 'sigwaitinfo'), reason='the system does not say who sent a signal'
)


class Pids(Dataset):
    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> int:
        shield_worker()
        time.sleep(0.01)
        return os.getpid()


def signal_from_outside(pid: int, number: int) -> None:
    child = os.fork()
    if child == 0:
        os.kill(pid, number)
        os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_worker_outlives_a_signal_from_outside(number):
    batches = iter(DataLoader(Pids(), batch_size=1, num_workers=1))
    worker = int(next(batches))
    signal_from_outside(worker, number)
    assert [int(pid) for pid in batches] == [worker] * 49


def test_the_training_can_still_end_its_worker():
    batches = iter(DataLoader(Pids(), batch_size=1, num_workers=1, prefetch_factor=2))
    worker = int(next(batches))
    os.kill(worker, signal.SIGTERM)
    deadline = time.monotonic() + 120
    (process,) = batches._workers
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.exitcode == 0


def test_nothing_is_done_outside_of_a_worker():
    shield_worker()
    assert not worker_signals._shielded
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, set())

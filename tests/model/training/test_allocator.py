"""Training keeps freed memory: measured in processes of their own, by page faults and size."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from c2fdft_model.training import allocator

CODE = """
import resource, sys, torch
from c2fdft_model.training.allocator import give_back_freed_memory, disable_malloc_trim

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_mb():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

def iterate():
    return len([torch.ones(2**20 * size) for size in (5, 10, 40)])

kept = sys.argv[1] == 'keep' and disable_malloc_trim()
for _ in range(4):
    iterate()
before = faults()
iterate()
again = faults() - before
held = resident_mb()
give_back_freed_memory()
print(kept, again, held - resident_mb())
"""

glibc_only = pytest.mark.skipif(
    allocator._function_of_glibc('malloc_trim') is None or sys.platform != 'linux',
    reason='not glibc',
)


def measure(environment, *, keep):
    command = [sys.executable, '-c', CODE, 'keep' if keep else 'leave']
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kept, faults, given_back = run.stdout.split()
    return kept == 'True', int(faults), float(given_back)


@glibc_only
@pytest.mark.subprocess
def test_freed_memory_is_kept_and_given_back_when_asked(clean_environment):
    environment = {k: v for k, v in clean_environment.items() if not k.startswith('MALLOC_')}
    environment.pop('GLIBC_TUNABLES', None)
    left, _, rest = measure(environment, keep=False)
    kept, _, given_back = measure(environment, keep=True)
    assert kept and not left
    # MiB that the process still holds after the last iteration, of the 220 that one takes.
    assert given_back > 150 > rest


@glibc_only
@pytest.mark.subprocess
@pytest.mark.parametrize(
    'setting', [{'MALLOC_ARENA_MAX': '2'}, {'GLIBC_TUNABLES': 'glibc.malloc.check=0'}]
)
def test_an_allocator_that_the_user_set_up_is_left_alone(setting, clean_environment):
    kept, faults, _ = measure({**clean_environment, **setting}, keep=True)
    assert not kept and faults > 1000


def test_other_c_libraries_are_left_alone(monkeypatch):
    def without_symbols(name):
        assert name is None
        return object()

    monkeypatch.setattr(allocator.ctypes, 'CDLL', without_symbols)
    assert not allocator.disable_malloc_trim()
    allocator.give_back_freed_memory()
    assert torch.ones(3).sum() == 3

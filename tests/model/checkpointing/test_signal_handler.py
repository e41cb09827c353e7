"""Signals that come at awkward moments, in a process of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PATIENCE = 240
"""Seconds, of a machine that is busy; a process that misses its signal waits longer."""
CODE = """
import os, signal, sys, time
from c2fdft_model.checkpointing.signal_handler import SignalHandler

saved = []

def leave():
    saved.append(1)
    raise SystemExit(handler.exit_code)

def receive():
    signal.raise_signal(signal.SIGTERM)
    time.sleep(0)

class Destroyed:
    def __del__(self):
        receive()

handler = SignalHandler(leave, leave_at_once=True)
handler.install()
%s
time.sleep(600)
"""
MOMENTS = {
    'waiting': 'receive()',
    'in a destructor': 'Destroyed()',
    'after a fork': 'os.register_at_fork(after_in_parent=receive); os.fork() or os._exit(0)',
    'a worker has died of it': (
        "handler.block(); receive(); handler.end_of_step(); raise RuntimeError('DataLoader worker')"
    ),
    'blocked': 'handler.block(); receive(); handler.unblock()',
}


@pytest.mark.subprocess
@pytest.mark.parametrize('moment', MOMENTS)
def test_a_process_leaves_with_the_signals_code(moment, clean_environment):
    command = [sys.executable, '-c', CODE % MOMENTS[moment]]
    run = subprocess.run(command, env=clean_environment, capture_output=True, timeout=PATIENCE)
    assert run.returncode == 143, run.stderr.decode()


@pytest.mark.subprocess
def test_an_error_in_the_middle_of_an_iteration_is_not_saved(clean_environment):
    code = CODE % "handler.block(); receive(); raise RuntimeError('in the iteration')"
    run = subprocess.run(
        [sys.executable, '-c', code], env=clean_environment, capture_output=True, timeout=PATIENCE
    )
    assert run.returncode == 1 and b'in the iteration' in run.stderr

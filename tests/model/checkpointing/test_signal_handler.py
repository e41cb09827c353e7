"""Signals that come at awkward moments, in a process of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import os, signal, sys, time
from c2fdft_model.checkpointing.signal_handler import SignalHandler

saved = []

def leave():
    saved.append(1)
    raise SystemExit(handler.exit_code)

class Destroyed:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)

handler = SignalHandler(leave, leave_at_once=True)
handler.install()
%s
time.sleep(20)
"""
MOMENTS = {
    'waiting': 'signal.raise_signal(signal.SIGTERM)',
    'in a destructor': 'Destroyed()',
    'blocked': 'handler.block(); signal.raise_signal(signal.SIGTERM); handler.unblock()',
}


@pytest.mark.subprocess
@pytest.mark.parametrize('moment', MOMENTS)
def test_a_process_leaves_with_the_signals_code(moment, clean_environment):
    command = [sys.executable, '-c', CODE % MOMENTS[moment]]
    run = subprocess.run(command, env=clean_environment, capture_output=True, timeout=15)
    assert run.returncode == 143, run.stderr.decode()

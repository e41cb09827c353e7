"""Runs scripts, above all BasicSR's `train.py`, in processes forked from one that has loaded all.

A training of a tiny network takes a second, loading PyTorch and BasicSR several; tests that start
dozens of trainings use this. Run as a script it is the server, which reads one JSON job a line.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.training_runs import environment


class TrainServer:
    """Starts trainings as processes that can be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(PYTHONPATH=str(Path(__file__).resolve().parents[1])),
        )

    def _ask(self, **job: Any) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + '\n')
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(
        self,
        arguments: Sequence[str],
        log: Path,
        *,
        cwd: Path,
        env: dict[str, str] | None = None,
        values: dict[str, Any] | None = None,
        die_at: tuple[str, int] | None = None,
    ) -> Training:
        """Start a script with its arguments; what it prints goes to `log`.

        `values` replaces attributes (`package.module.NAME`). `die_at` (name, n) makes the process
        kill itself when it calls `os.<name>` for the n-th time.
        """
        pid = self._ask(
            arguments=list(arguments),
            log=str(log),
            cwd=str(cwd),
            env=env or {},
            values=values or {},
            die_at=die_at,
        )
        return Training(self, pid, log)

    def wait(self, pid: int) -> int:
        return self._ask(wait=pid)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=240)


class Training:
    """A process that trains."""

    def __init__(self, server: TrainServer, pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log
        self._server = server
        self._code: int | None = None

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def kill_group(self, number: int) -> None:
        """Signal the training and its loader's workers, as Ctrl-C and Slurm do."""
        os.killpg(self.pid, number)

    def wait(self) -> int:
        """The exit code; minus the signal's number for one that a signal has ended."""
        if self._code is None:
            self._code = self._server.wait(self.pid)
        return self._code

    def printed(self) -> str:
        return self.log.read_text(errors='replace') if self.log.exists() else ''


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    return {
        'RANK': str(rank),
        'LOCAL_RANK': str(rank),
        'WORLD_SIZE': str(world_size),
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(port),
    }


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(('127.0.0.1', 0))
        return listening.getsockname()[1]


def serve() -> None:
    import basicsr.train  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        if 'wait' in job:
            _, status = os.waitpid(job['wait'], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                os._exit(run(job))
        print(answer, flush=True)


def run(job: dict[str, Any]) -> int:
    output = os.open(job['log'], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.setpgid(0, 0)
    os.chdir(job['cwd'])
    os.environ.update(job['env'])
    for path, value in job['values'].items():
        module, name = path.rsplit('.', 1)
        setattr(importlib.import_module(module), name, value)
    if job['die_at']:
        die_at(*job['die_at'])
    sys.argv = job['arguments']
    sys.path[0] = str(Path(job['arguments'][0]).parent)
    code = 0
    try:
        runpy.run_path(job['arguments'][0], run_name='__main__')
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def die_at(name: str, count: int) -> None:
    """Kill this process in the `count`-th call of `os.<name>`."""
    original = getattr(os, name)
    calls = 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(os, name, dying)


if __name__ == '__main__':
    serve()

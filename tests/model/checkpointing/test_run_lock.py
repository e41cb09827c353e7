"""Two processes in one folder: the second is refused, and told which the first is."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

from c2fdft_model.checkpointing import run_lock
from c2fdft_model.checkpointing.run_lock import RunInProgress, lock_folder

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='locks of POSIX')

HOLD = """
import os, sys, time
from c2fdft_model.checkpointing.run_lock import lock_folder
assert lock_folder(sys.argv[1])
{}
print('locked', flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path, clean_environment):
    """Starts a process that claims the folder and does what it is told."""
    started = []

    def start(and_then: str = '') -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, '-c', HOLD.format(and_then), str(tmp_path / 'run')],
            env=clean_environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == 'locked\n'
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path, holder):
    process = holder()
    with pytest.raises(RunInProgress, match=f'{process.pid} on {socket.gethostname()}') as error:
        lock_folder(tmp_path / 'run')
    assert 'another name' in str(error.value) and '\n' not in str(error.value)


def test_the_folder_may_be_renamed_meanwhile(tmp_path, holder):
    (tmp_path / 'run').mkdir()
    holder()
    (tmp_path / 'run').rename(tmp_path / 'run_archived')
    with pytest.raises(RunInProgress):
        lock_folder(tmp_path / 'run')


def test_a_killed_process_leaves_no_lock_even_if_its_children_live(tmp_path, holder):
    process = holder('if os.fork() == 0: time.sleep(20); os._exit(0)')
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert lock_folder(tmp_path / 'run')


def test_a_process_may_claim_a_folder_twice_and_others_of_other_names(tmp_path, holder):
    holder()
    assert lock_folder(tmp_path / 'other')
    assert lock_folder(tmp_path / 'other')


@pytest.mark.parametrize('code', [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_keeps_no_run_from_starting(tmp_path, monkeypatch, code):
    import fcntl

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, 'lockf', fail)
    monkeypatch.setattr(run_lock, '_held', {})
    assert lock_folder(tmp_path / 'run')


def test_a_link_in_the_place_of_the_lock_is_not_written_through(tmp_path):
    (tmp_path / 'precious').write_text('content')
    (tmp_path / '.run.lock').symlink_to(tmp_path / 'precious')
    assert not lock_folder(tmp_path / 'run')
    assert (tmp_path / 'precious').read_text() == 'content'

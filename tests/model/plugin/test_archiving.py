"""A start that fails late, after BasicSR has renamed the earlier run's folder, gives it back."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import basicsr.utils.logger
import pytest
import yaml
from basicsr.models.base_model import BaseModel

from c2fdft_model.commands import test, train
from c2fdft_model.plugin.patches import archiving
from helpers.training_runs import environment, options, validation_set

EARLIER = Path('models', 'net_g_latest.pth')


@pytest.fixture(autouse=True)
def start(monkeypatch) -> archiving.Start:
    """What this process has archived: nothing, and it is not undone at its end."""
    fresh = archiving.Start()
    monkeypatch.setattr(archiving, 'start', fresh)
    monkeypatch.setattr(archiving, 'call_at_exit', lambda *_: None)
    before = signal.getsignal(signal.SIGTERM)
    yield fresh
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def log_files(monkeypatch) -> None:
    """BasicSR opens a log file, as it does for the first run of a process."""
    monkeypatch.setattr(basicsr.utils.logger, 'initialized_logger', {})
    monkeypatch.setattr(logging.getLogger('basicsr'), 'handlers', [])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command in a folder with an earlier run; the exit code."""
    monkeypatch.chdir(tmp_path)
    for folder in ('experiments/run', 'results/run', 'tb_logger/run'):
        earlier = tmp_path / folder / EARLIER
        earlier.parent.mkdir(parents=True)
        earlier.write_bytes(b'earlier')

    def call(opt: dict, command=train.main) -> int:
        Path('run.yml').write_text(yaml.safe_dump(opt))
        return command(['-opt', 'run.yml'])

    return call


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith('.'))


def test_weights_that_are_none_leave_the_earlier_run_with_the_log_of_the_start(
    run, start, tmp_path, capsys, log_files
):
    Path('w.pth').write_text('no weights')
    opt = options(tmp_path, path={'pretrain_network_g': 'w.pth'}, logger={'use_tb_logger': True})
    assert run(opt) == 2
    assert len(names('experiments')) == len(names('tb_logger')) == 2
    start.undo(os.getpid())
    assert names('experiments') == names('tb_logger') == ['run']
    assert Path('experiments/run', EARLIER).read_bytes() == b'earlier'
    assert Path('tb_logger/run', EARLIER).read_bytes() == b'earlier'
    assert 'w.pth' in next(Path('experiments/run').glob('train_run_*.log')).read_text()
    assert f'{tmp_path}/experiments/run is again what it was' in capsys.readouterr().err


def test_a_test_whose_first_image_fails_leaves_the_earlier_results(
    run, start, tmp_path, monkeypatch
):
    opt = options(tmp_path)
    opt['datasets'] = {'test': validation_set(tmp_path)}
    opt['val'] = {'save_img': True}
    del opt['train']

    def fail(*_):
        raise RuntimeError('CUDA out of memory')

    monkeypatch.setattr('c2fdft_model.validation.validation.Validator.run', fail)
    with pytest.raises(RuntimeError, match='out of memory'):
        run(opt, test.main)
    start.undo(os.getpid())
    assert names('results') == ['run']
    assert Path('results/run', EARLIER).exists()


def test_a_test_of_which_some_images_failed_has_begun(run, start, tmp_path, monkeypatch):
    opt = options(tmp_path)
    opt['datasets'] = {'test': validation_set(tmp_path)}
    opt['val'] = {'save_img': False}
    del opt['train']
    first = tmp_path / 'validation' / 'lq' / '000.png'
    first.write_bytes(first.read_bytes()[:-60])
    assert run(opt, test.main) == 1
    start.undo(os.getpid())
    assert len(names('results')) == 2


def test_the_first_iteration_belongs_to_the_start(run, start, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError('CUDA out of memory')

    opt = options(tmp_path)
    monkeypatch.setattr('c2fdft_model.training.step.accumulate_gradients', fail)
    with pytest.raises(RuntimeError, match='out of memory'):
        run(opt)
    start.undo(os.getpid())
    assert names('experiments') == ['run']


@pytest.mark.parametrize('total', [1, 2])
def test_a_run_that_has_begun_keeps_its_name(run, start, tmp_path, total):
    opt = options(tmp_path, train={'total_iter': total})
    assert run(opt) == 0
    start.undo(os.getpid())
    assert len(names('experiments')) == 2
    assert Path('experiments/run', EARLIER).read_bytes() != b'earlier'


def test_a_folder_with_results_of_this_run_stays(start, tmp_path):
    folder, archive = tmp_path / 'run', tmp_path / 'run_archived_1'
    archive.mkdir()
    (folder / 'visualization').mkdir(parents=True)
    (folder / 'visualization' / '1.png').touch()
    start.archived(folder, archive)
    start.undo(os.getpid())
    assert names(str(tmp_path)) == ['run', 'run_archived_1']


def test_a_process_that_was_forked_undoes_nothing(start, tmp_path):
    folder, archive = tmp_path / 'run', tmp_path / 'run_archived_1'
    for path in (folder, archive):
        path.mkdir()
    start.archived(folder, archive)
    start.undo(os.getpid() + 1)
    assert names(str(tmp_path)) == ['run', 'run_archived_1']


def test_what_cannot_be_given_back_is_named(start, tmp_path, capsys):
    (tmp_path / 'run').mkdir()
    start.archived(tmp_path / 'run', tmp_path / 'gone')
    start.undo(os.getpid())
    assert f'{tmp_path}/gone could not be given its name back: No such' in capsys.readouterr().err


def test_basicsr_tells_when_a_run_has_begun(start, tmp_path):
    model = BaseModel({'num_gpu': 0, 'is_train': False, 'dist': False})
    start.archived(tmp_path / 'a', tmp_path / 'b')
    model.update_learning_rate(7)
    assert start.folders and signal.getsignal(signal.SIGTERM) is archiving._end
    model.update_learning_rate(8)
    assert not start.folders and signal.getsignal(signal.SIGTERM) is not archiving._end


@pytest.mark.subprocess
def test_the_end_of_the_process_gives_back_even_if_a_scheduler_ends_it(tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'earlier').touch()
    program = (
        "import signal; from basicsr.utils import mkdir_and_rename; mkdir_and_rename('run'); "
        'signal.raise_signal(signal.SIGTERM)'
    )
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=tmp_path, env=environment(), capture_output=True
    )
    assert done.returncode == 143, done.stderr
    assert names(str(tmp_path)) == ['run'] and (tmp_path / 'run' / 'earlier').exists()

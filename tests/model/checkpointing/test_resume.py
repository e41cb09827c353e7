"""An interrupted and resumed training is the uninterrupted one, bit for bit.

Every training here is BasicSR's unmodified `train.py`, resumed with `--auto_resume`.
"""

from __future__ import annotations

import json
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from c2fdft_arch import __version__
from c2fdft_arch.dft import DFT
from c2fdft_model.restoring.checkpoint import read_checkpoint
from c2fdft_model.restoring.description import defaults
from helpers.train_server import Training, TrainServer
from helpers.training_runs import (
    assert_equal_weights,
    checkout,
    command,
    environment,
    loss_lines,
    options,
    validation_set,
    weights,
)

EPOCH = {'c2fdft_model.data.epoch_length.EPOCH_BATCHES': 6}
LAST = 14
PSNR = {'psnr': {'type': 'calculate_psnr', 'crop_border': 0, 'test_y_channel': False}}


@pytest.fixture(scope='module')
def server() -> Iterator[TrainServer]:
    running = TrainServer()
    yield running
    running.close()


class Run:
    """One experiment in a folder of its own, started as often as it takes."""

    def __init__(self, server: TrainServer, root: Path, stage: str, **changes: Any) -> None:
        self.root = checkout(root)
        self.server = server
        self.options = options(root, stage, **changes)
        self.lines: list[dict[int, str]] = []
        self.starts = 0

    @property
    def states(self) -> Path:
        return self.root / 'experiments' / 'run' / 'training_states'

    @property
    def models(self) -> Path:
        return self.root / 'experiments' / 'run' / 'models'

    def start(self, **how: Any) -> Training:
        self.starts += 1
        return self.server.start(
            command(self.root, self.options, '--auto_resume'),
            self.root / f'start_{self.starts}.log',
            cwd=self.root,
            values=EPOCH,
            **how,
        )

    def start_and_signal(self, iteration: int, number: int) -> Training:
        """A training that got a signal at a random moment after an iteration, before its end."""
        for _ in range(10):
            training = self.start()
            wait_for(training, f'iter: {iteration:7,d},')
            time.sleep(random.uniform(0, 0.1))
            training.kill(number)
            if training.wait() != 0:
                break
            shutil.rmtree(self.root / 'experiments')  # it was done first: once more
        return training

    def end(self, training: Training, expect: int) -> str:
        code = training.wait()
        printed = training.printed()
        assert code == expect, printed[-5000:]
        self.lines.append(loss_lines(printed))
        return printed

    def finish(self) -> str:
        return self.end(self.start(), expect=0)

    def assert_equals(self, whole: Run) -> None:
        """Same weights, same averaged weights, and no logged line that the whole run lacks."""
        assert_equal_weights(weights(self.root, 'latest'), weights(whole.root, 'latest'))
        (expected,) = whole.lines
        seen: dict[int, str] = {}
        for lines in self.lines:
            assert lines == {i: expected[i] for i in lines}
            seen.update(lines)
        assert seen == expected


@pytest.fixture(scope='module', params=['coarse', 'fine'])
def whole(request, server, tmp_path_factory) -> Run:
    """The uninterrupted run of a stage: 14 iterations, phases of 3 and 2, epochs of 6."""
    run = Run(server, tmp_path_factory.mktemp(request.param), request.param)
    run.finish()
    assert sorted(run.lines[0]) == list(range(1, LAST + 1))
    return run


@pytest.fixture
def interrupted(whole, server, tmp_path) -> Run:
    return Run(server, tmp_path, whole.options['train']['stage'])


def wait_for(training: Training, text: str) -> None:
    deadline = time.monotonic() + 1200
    while text not in training.printed():
        assert time.monotonic() < deadline, training.printed()[-3000:]
        time.sleep(0.005)


@pytest.mark.parametrize('moment', ['4: after a save, in a phase', '9: in the second epoch'])
def test_killed_at_a_random_moment_it_goes_on_exactly(whole, interrupted, moment):
    training = interrupted.start_and_signal(int(moment.split(':')[0]), signal.SIGKILL)
    interrupted.end(training, expect=-signal.SIGKILL)
    interrupted.finish()
    interrupted.assert_equals(whole)


def test_killed_again_and_again_it_still_ends_at_the_same_weights(whole, interrupted):
    for _ in range(4):
        # BasicSR archives a folder without a state under a name that changes every second.
        time.sleep(1)
        training = interrupted.start()
        wait_for(training, 'Start training from')
        time.sleep(random.uniform(0, 0.6))
        training.kill(signal.SIGKILL)
        code = training.wait()
        interrupted.lines.append(loss_lines(training.printed()))
        if code == 0:
            break
    interrupted.finish()
    interrupted.assert_equals(whole)


@pytest.mark.parametrize(
    ('call', 'count', 'left'),
    [
        ('fsync', 5, {'4.state'}),  # the second network is a temporary file
        ('replace', 4, {'4.state'}),  # the second state is a temporary file
    ],
)
def test_killed_while_saving_it_goes_on_from_the_save_before(whole, interrupted, call, count, left):
    training = interrupted.start(die_at=(call, count))
    interrupted.end(training, expect=-signal.SIGKILL)
    assert {path.name for path in interrupted.states.glob('[!.]*')} == left
    printed = interrupted.finish()
    assert 'iter: 4.' in printed
    folders = (interrupted.states, interrupted.models)
    assert not [path for folder in folders for path in folder.glob('.*')]
    interrupted.assert_equals(whole)


@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=['SIGTERM', 'SIGINT']
)
def test_a_signal_saves_and_leaves(whole, interrupted, number, code):
    training = interrupted.start_and_signal(6, number)
    printed = interrupted.end(training, expect=code)
    last = max(loss_lines(printed))
    assert (interrupted.states / f'{last}.state').exists()
    assert 'Interrupted after iteration' in printed
    interrupted.finish()
    interrupted.assert_equals(whole)


@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=['SIGTERM', 'SIGINT']
)
def test_a_signal_to_the_loaders_workers_too_saves_and_leaves(server, tmp_path, number, code):
    run = Run(server, tmp_path, 'coarse')
    run.options['datasets']['train']['num_worker_per_gpu'] = 2
    # Nothing is logged while the signal comes, so that it may meet any part of an iteration.
    run.options['logger']['print_freq'] = 100
    run.options['train']['total_iter'] = 2000
    training = run.start()
    wait_for(training, 'Saving models')
    time.sleep(random.uniform(0, 0.1))
    training.kill_group(number)
    printed = run.end(training, expect=code)
    (last,) = re.findall(r'Interrupted after iteration ([\d,]+)', printed)
    assert (run.states / f'{last.replace(",", "")}.state').exists()


def test_a_signal_while_iterations_are_skipped_saves_them_and_the_resumed_run_counts_on(
    server, tmp_path
):
    run = Run(server, tmp_path, 'coarse')
    run.options['logger']['save_checkpoint_freq'] = 1
    run.options['train'].update(keep_last=1, total_iter=5000, max_bad_iterations=5000)
    scheduler = {'type': 'MultiStepLR', 'milestones': [5], 'gamma': 1e33}
    run.options['train']['scheduler'] = scheduler
    training = run.start()
    wait_for(training, 'Iteration 9 skipped')
    training.kill(signal.SIGTERM)
    printed = run.end(training, expect=143)
    last = max(loss_lines(printed))
    assert {path.name for path in run.states.iterdir()} == {'5.state', f'{last}.state'}
    run.options['train']['max_bad_iterations'] = last - 6 + 2
    printed = run.end(run.start(), expect=1)
    assert f'TrainingDiverged: {last - 4} iterations in a row, up to {last + 2},' in printed
    assert re.search(r'Last good checkpoint: \S+net_g_5\.pth', printed)
    assert f'skipped_iterations: {last - 5} ' in loss_lines(printed)[last + 1] + ' '


def test_a_truncated_newest_state_is_passed_over_with_a_warning(server, tmp_path):
    run = Run(server, tmp_path, 'coarse')
    run.finish()
    before = weights(run.root, 'latest')
    newest = run.states / '12.state'
    newest.write_bytes(newest.read_bytes()[:-1000])
    printed = run.finish()
    assert '12.state cannot be read' in printed
    assert 'iter: 8.' in printed
    assert_equal_weights(weights(run.root, 'latest'), before)


def test_a_state_without_its_network_is_passed_over(server, tmp_path):
    run = Run(server, tmp_path, 'coarse')
    run.finish()
    (run.models / 'net_g_12.pth').unlink()
    printed = run.finish()
    assert 'net_g_12.pth is missing' in printed
    assert 'iter: 8.' in printed


def test_rate_schedule_and_seed_are_those_of_the_state_as_the_warnings_say(whole, interrupted):
    options = interrupted.options
    options['train']['total_iter'] = 4
    interrupted.finish()
    options['train']['total_iter'] = LAST
    options['train']['optim_g'].update(lr=5e-2, betas=[0.5, 0.9])
    options['train']['scheduler'].update(periods=[2, 30], eta_mins=[1e-4, 1e-4])
    options['manual_seed'] = 8
    printed = interrupted.finish()
    for key in ('optim_g: lr: 0.001', 'scheduler: periods: [6, 20]', 'manual_seed: 7'):
        note = rf'{re.escape(key)} when the state was written, .* now; the one of the state is used'
        assert re.search(note, printed)
    interrupted.assert_equals(whole)


def test_another_type_of_schedule_is_refused(server, tmp_path):
    run = Run(server, tmp_path, 'coarse')
    run.options['train']['total_iter'] = 4
    run.finish()
    run.options['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [6]}
    printed = run.end(run.start(), expect=1)
    assert (
        'train: scheduler: type: CosineAnnealingRestartCyclicLR when the state was written, '
        'MultiStepLR now'
    ) in printed


def test_another_size_of_the_network_is_refused_by_the_option_that_differs(server, tmp_path):
    run = Run(server, tmp_path, 'coarse')
    run.options['train']['total_iter'] = 4
    run.finish()
    run.options['network_g'] = {**run.options['network_g'], 'dim': 16}
    printed = run.end(run.start(), expect=1)
    assert 'ResumeError: path: resume_state: ' in printed
    assert 'network_g: dim: 8 when the state was written, 16 now' in printed
    assert 'strict_load_g: false' not in printed


@pytest.mark.parametrize('total', [4, 2], ids=['as many', 'fewer'])
def test_a_total_that_the_state_has_reached_is_said(server, tmp_path, total):
    run = Run(server, tmp_path, 'coarse')
    run.options['train']['total_iter'] = 4
    run.finish()
    run.options['train']['total_iter'] = total
    printed = run.finish()
    assert (
        f'Nothing is left to train: train: total_iter is {total} and the training state is of '
        'iteration 4'
    ) in printed
    assert loss_lines(printed) == {}


@pytest.mark.parametrize('content', [None, b'no checkpoint'], ids=['missing', 'foreign'])
def test_a_start_that_cannot_be_loaded_names_the_option_and_the_file(server, tmp_path, content):
    run = Run(server, tmp_path, 'fine')
    file = tmp_path / 'coarse.pth'
    if content is not None:
        file.write_bytes(content)
    run.options['path']['pretrain_network_g'] = str(file)
    printed = run.end(run.start(), expect=1)
    kind = (
        'OptionError: path: pretrain_network_g: there is no file'
        if content is None
        else ('WeightsError: path: pretrain_network_g:')
    )
    assert f'{kind} {file}' in printed


def test_a_default_of_the_network_that_is_written_out_is_the_same_run(whole, interrupted):
    interrupted.options['train']['total_iter'] = 4
    interrupted.finish()
    interrupted.options['train'].update(total_iter=LAST, accumulate=1)
    interrupted.options['network_g'] = {**interrupted.options['network_g'], 'bias': False}
    assert 'started with other options' not in interrupted.finish()
    interrupted.assert_equals(whole)


def validated_run(server: TrainServer, root: Path) -> Run:
    """Validates after every save, with three images."""
    root.mkdir(exist_ok=True)
    run = Run(server, root, 'coarse', train={'keep_last': 2})
    run.options['val'] = {'val_freq': 4, 'save_img': False, 'metrics': PSNR}
    run.options['datasets']['val'] = validation_set(root)
    return run


def test_the_newest_and_the_best_checkpoints_are_kept(server, tmp_path):
    run = validated_run(server, tmp_path)
    run.finish()
    assert {path.name for path in run.states.iterdir()} == {'8.state', '12.state'}
    kept = {path.name for path in run.models.iterdir()}
    assert kept == {
        'net_g_8.pth', 'net_g_12.pth', 'net_g_latest.pth', 'net_g_best.pth', 'net_g_best.json',
    }  # fmt: skip
    record = json.loads((run.models / 'net_g_best.json').read_text())
    best = read_checkpoint(run.models / 'net_g_best.pth').description
    assert best.iteration == record['iteration']


def validations(printed: str) -> list[str]:
    return re.findall(r'# psnr: .*', printed)


def test_a_validation_that_is_made_up_for_reaches_tensorboard(server, tmp_path):
    run = validated_run(server, tmp_path)
    run.options['logger']['use_tb_logger'] = True
    run.end(run.start(die_at=('fsync', 5)), expect=-signal.SIGKILL)
    run.finish()
    events = EventAccumulator(str(run.root / 'tb_logger' / 'run'))
    events.Reload()
    for shown in (events.Scalars('metrics/held_out/psnr'), events.Images('strips/held_out/000')):
        assert sorted(event.step for event in shown) == [4, 8, 12, 14]


def test_a_validation_that_was_interrupted_is_made_up_for(server, tmp_path):
    whole = validated_run(server, tmp_path / 'whole')
    expected = whole.finish()
    # A file and its folder are synced for the network, for the state, and then for the best.
    run = validated_run(server, tmp_path / 'interrupted')
    first = run.end(run.start(die_at=('fsync', 5)), expect=-signal.SIGKILL)
    second = run.finish()
    assert 'after iteration 4 was interrupted and is made up for' in second
    assert validations(first) + validations(second) == validations(expected)
    assert_equal_weights(weights(run.root, 'best'), weights(whole.root, 'best'))
    record = 'net_g_best.json'
    assert (run.models / record).read_text() == (whole.models / record).read_text()


def test_every_network_says_what_it_was_trained_with(whole):
    stage = whole.options['train']['stage']
    for label, iteration in ((4, 4), ('latest', LAST)):
        found = read_checkpoint(whole.models / f'net_g_{label}.pth').description
        assert (found.stage, found.iteration, found.data) == (stage, iteration, ('pairs',))
        assert found.version == __version__
        assert found.diffusion.sampling_timesteps == 2
        assert found.network_g == {**defaults(DFT), **whole.options['network_g']}


def test_a_network_of_another_iteration_is_not_resumed(interrupted, whole):
    shutil.copytree(whole.root / 'experiments', interrupted.root / 'experiments')
    folder = interrupted.models
    shutil.copyfile(folder / 'net_g_4.pth', folder / 'net_g_12.pth')
    printed = interrupted.finish()
    assert 'net_g_12.pth is not the network that was saved with the training state' in printed
    assert min(interrupted.lines[0]) == 9


@pytest.mark.subprocess
def test_a_last_network_that_cannot_be_written_shows_in_the_exit_code(tmp_path):
    # A limit on the size of files stands for a full disk: writing fails in the same way.
    opt = options(checkout(tmp_path), train={'total_iter': 2}, logger={'save_checkpoint_freq': 9})
    run = subprocess.run(
        [sys.executable, *command(tmp_path, opt)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (99_000, 99_000)),
    )
    assert run.returncode == 1
    assert 'not everything could be written (net_g_latest.pth: ' in run.stderr.splitlines()[-1]

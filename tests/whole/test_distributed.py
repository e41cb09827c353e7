"""Several processes train and validate as one does; gloo on the CPU."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from c2fdft_model.data.patch_cycle import PatchCycle
from c2fdft_model.data.sample_stream import SampleStream
from helpers import stage_gradients
from helpers.stage_gradients import assert_same_gradients, gradients
from helpers.train_server import Training, TrainServer, free_port, rank_environment
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

METRICS = {
    'psnr': {'type': 'calculate_psnr', 'crop_border': 0, 'test_y_channel': False},
    'ssim': {'type': 'calculate_ssim', 'crop_border': 0, 'test_y_channel': False},
}


@pytest.fixture(scope='module')
def server() -> Iterator[TrainServer]:
    running = TrainServer()
    yield running
    running.close()


def start_ranks(
    server: TrainServer, arguments: list[str], folder: Path, label: str, **how: Any
) -> list[Training]:
    port = free_port()
    return [
        server.start(
            arguments,
            folder / f'{label}_rank_{rank}.log',
            cwd=folder,
            env=rank_environment(rank, 2, port),
            **how,
        )
        for rank in range(2)
    ]


def wait_for_ranks(ranks: list[Training], expect: int = 0) -> list[str]:
    codes = [training.wait() for training in ranks]
    printed = [training.printed() for training in ranks]
    assert codes == [expect] * len(ranks), '\n'.join(text[-3000:] for text in printed)
    return printed


@pytest.mark.parametrize(
    ('kind', 'settings'),
    [
        ('coarse', {}),
        ('coarse', {'parts': 2}),
        ('fine', {}),
        ('fine', {'parts': 2, 'checkpoint': True}),
        ('fine', {'grad_steps': 1, 'blocks': True}),
    ],
)
def test_two_processes_of_half_the_batch_have_the_gradients_of_one(
    server, tmp_path, kind, settings
):
    script = str(Path(stage_gradients.__file__))
    file = tmp_path / 'gradients.pth'
    arguments = [script, json.dumps({'kind': kind, **settings}), str(file)]
    wait_for_ranks(start_ranks(server, arguments, tmp_path, 'gradients'))
    together = torch.load(file, weights_only=True)
    assert_same_gradients(together, gradients(kind, **{**settings, 'parts': 1}))


class TwoRanks:
    """A training by two processes, in a folder of its own."""

    def __init__(self, server: TrainServer, root: Path, **changes: Any) -> None:
        self.root = checkout(root)
        self.server = server
        self.options = options(root, 'coarse', **changes)
        self.options['datasets']['val'] = validation_set(root)
        self.options['val'] = {'val_freq': 7, 'save_img': True, 'metrics': METRICS, 'pbar': False}
        self.starts = 0

    def start(self) -> list[Training]:
        self.starts += 1
        arguments = command(self.root, self.options, '--launcher', 'pytorch', '--auto_resume')
        return start_ranks(self.server, arguments, self.root, f'start_{self.starts}')

    def start_and_signal(
        self, iteration: int, signals: dict[int, int], last: int
    ) -> list[Training]:
        """Ranks of which some got a signal after `iteration`, and before the end of `last`."""
        for _ in range(10):
            ranks = self.start()
            wait_for(ranks[0], f'iter: {iteration:7,d},')
            for rank, number in signals.items():
                ranks[rank].kill(number)
            for rank in ranks:
                rank.wait()
            if max(loss_lines(ranks[0].printed())) <= last:
                break
            shutil.rmtree(self.root / 'experiments')  # they were further already: once more
        return ranks

    def finish(self) -> str:
        return wait_for_ranks(self.start())[0]


@pytest.fixture(scope='module')
def whole(server, tmp_path_factory) -> tuple[TwoRanks, str]:
    """The uninterrupted run of two ranks, and what rank 0 printed."""
    run = TwoRanks(server, tmp_path_factory.mktemp('whole'))
    return run, run.finish()


def wait_for(training: Training, text: str) -> None:
    deadline = time.monotonic() + 1200
    while text not in training.printed():
        assert time.monotonic() < deadline, training.printed()[-3000:]
        time.sleep(0.005)


def test_two_ranks_train_to_the_end_and_say_the_effective_batch(whole):
    _, printed = whole
    assert sorted(loss_lines(printed)) == list(range(1, 15))
    assert 'effective batch 8 = 4 x 2 processes' in printed


def test_validation_by_two_ranks_writes_every_image(whole):
    run, _ = whole
    folder = run.root / 'experiments' / 'run' / 'visualization'
    assert len(list(folder.glob('*/*_14.png'))) == 3


def validation_lines(printed: str) -> list[str]:
    return re.findall(r'# (\w+: [\d.]+)', printed)


@pytest.mark.parametrize('label', ['4', 'latest'])
def test_the_metric_of_two_ranks_is_that_of_one(whole, server, tmp_path, label):
    run, _ = whole
    (tmp_path / 'basicsr').mkdir()
    import basicsr.test

    script = tmp_path / 'basicsr' / 'test.py'
    shutil.copyfile(basicsr.test.__file__, script)
    opt = {
        **run.options,
        'name': 'testing',
        'datasets': {'test': run.options['datasets']['val']},
        'path': {
            'pretrain_network_g': str(
                run.root / 'experiments' / 'run' / 'models' / f'net_g_{label}.pth'
            ),
            'param_key_g': 'params_ema',
        },
    }
    file = tmp_path / 'testing.yml'
    file.write_text(yaml.safe_dump(opt))
    arguments = [str(script), '-opt', str(file)]
    alone = server.start(arguments, tmp_path / 'alone.log', cwd=tmp_path)
    (printed,) = wait_for_ranks([alone])
    shutil.rmtree(tmp_path / 'results')
    ranks = start_ranks(server, [*arguments, '--launcher', 'pytorch'], tmp_path, 'together')
    together = wait_for_ranks(ranks)
    assert validation_lines(printed) == validation_lines(together[0])
    assert len(validation_lines(printed)) == 2
    assert len(list((tmp_path / 'results').rglob('*_testing.png'))) == 3


@pytest.mark.parametrize('victim', [0, 1])
def test_after_one_rank_is_killed_both_go_on_exactly(whole, server, tmp_path, victim):
    run, expected = TwoRanks(server, tmp_path), loss_lines(whole[1])
    # torchrun ends the others when one is gone.
    signals = {victim: signal.SIGKILL, 1 - victim: signal.SIGTERM}
    ranks = run.start_and_signal(9, signals, last=11)
    assert ranks[victim].wait() == -signal.SIGKILL
    assert ranks[1 - victim].wait() != 0
    assert not (tmp_path / 'experiments/run/training_states/9.state').exists()
    printed = run.finish()
    lines = loss_lines(printed)
    assert min(lines) == 9
    assert lines == {i: expected[i] for i in lines}
    assert_equal_weights(weights(tmp_path, 'latest'), weights(whole[0].root, 'latest'))


@pytest.mark.parametrize('told', [(0,), (1,), (0, 1)], ids=['rank 0', 'rank 1', 'both'])
def test_a_signal_to_any_rank_lets_all_save_and_leave_after_the_same_iteration(
    whole, server, tmp_path, told
):
    run, expected = TwoRanks(server, tmp_path), loss_lines(whole[1])
    ranks = run.start_and_signal(5, dict.fromkeys(told, signal.SIGTERM), last=13)
    printed = wait_for_ranks(ranks, expect=143)
    last = max(loss_lines(printed[0]))
    assert (tmp_path / f'experiments/run/training_states/{last}.state').exists()
    lines = loss_lines(run.finish())
    assert min(lines) == last + 1
    assert lines == {i: expected[i] for i in lines}
    assert_equal_weights(weights(tmp_path, 'latest'), weights(whole[0].root, 'latest'))


def test_another_world_size_is_said_on_resuming(whole, server, tmp_path):
    run = TwoRanks(server, tmp_path)
    shutil.copytree(whole[0].root / 'experiments', tmp_path / 'experiments')
    training = server.start(
        command(tmp_path, run.options, '--auto_resume'), tmp_path / 'alone.log', cwd=tmp_path
    )
    (printed,) = wait_for_ranks([training])
    assert 'world_size: 2 when the state was written, 1 now; the new one is used' in printed


def test_a_loss_that_is_not_finite_in_one_rank_names_its_images_and_stops_all(server, tmp_path):
    run = TwoRanks(server, tmp_path, train={'max_bad_iterations': 2})
    arguments = ('--launcher', 'pytorch')
    sound = command(tmp_path, run.options, *arguments)
    broken = copy.deepcopy(run.options)
    broken['train']['pixel_opt']['loss_weight'] = float('nan')
    file = tmp_path / 'broken.yml'
    file.write_text(yaml.safe_dump(broken))
    printed = end_with_two_files(
        server, tmp_path, sound, file, {'c2fdft_model.options.ranks.MAY_DIFFER': ['path', 'train']}
    )
    lines = [line for line in printed[0].splitlines() if 'skipped, ' in line]
    assert [re.findall(r'Iteration (\d) skipped, (.*?): ', line) for line in lines] == [
        [(str(i), 'l_noise, grad_norm not finite in rank 1')] for i in (1, 2)
    ]
    stream = SampleStream(8, PatchCycle((16, 24), (4, 2), (3, 2)), run.options['manual_seed'], 2)
    drawn = ', '.join(f'{draw.image:03d}' for draw in stream.batch(1, rank=1).draws)
    assert lines[0].endswith(f'images: {drawn}.')
    assert all('TrainingDiverged: 2 iterations in a row' in text for text in printed)
    assert 'skipped, ' not in printed[1]


def end_with_two_files(
    server, folder: Path, command_line: list[str], second: Path, values: dict | None = None
) -> list[str]:
    """Start two ranks, the second with another option file; what each printed until it failed."""
    port = free_port()
    script, _, _, *arguments = command_line
    ranks = [
        server.start(
            given,
            folder / f'rank_{rank}.log',
            cwd=folder,
            env=rank_environment(rank, 2, port),
            values=values,
        )
        for rank, given in enumerate([command_line, [script, '-opt', str(second), *arguments]])
    ]
    return wait_for_ranks(ranks, expect=1)


@pytest.mark.subprocess
def test_ranks_with_other_options_are_refused_before_anything_is_written(server, tmp_path):
    run = TwoRanks(server, tmp_path)
    sound = command(tmp_path, run.options, '--launcher', 'pytorch')
    other = copy.deepcopy(run.options)
    other['train']['optim_g']['lr'] = '1e-4'
    other['diffusion']['num_diffusion_timesteps'] = 500
    file = tmp_path / 'other.yml'
    file.write_text(yaml.safe_dump(other))
    for printed in end_with_two_files(server, tmp_path, sound, file):
        for text in (
            r'train: optim_g: lr is 0\.001 in rank 0 \(.*\) and 0\.0001 in rank 1',
            r'num_diffusion_timesteps is None in rank 0 \(.*\) and 500 in rank 1',
        ):
            assert re.search(text, printed)
    assert not (tmp_path / 'experiments').exists()


@pytest.mark.subprocess
def test_torchrun_restarts_a_killed_worker_and_the_run_ends_the_same(whole, server, tmp_path):
    run = TwoRanks(server, tmp_path)
    script, *arguments = command(tmp_path, run.options, '--launcher', 'pytorch', '--auto_resume')
    log = tmp_path / 'torchrun.log'
    with log.open('w') as stream:
        launcher = subprocess.Popen(
            [
                *(sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2'),
                *('--max-restarts=2', f'--master_port={free_port()}', script, *arguments),
            ],
            cwd=tmp_path,
            env=environment(),
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        wait_for(Training(server, launcher.pid, log), 'iter:       9,')
        workers = subprocess.run(
            ['pgrep', '-P', str(launcher.pid), '-f', 'train.py'],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
        try:
            assert launcher.wait(timeout=1200) == 0, log.read_text()[-4000:]
        finally:
            launcher.kill()
    assert log.read_text().count('Resuming training from') == 1
    assert_equal_weights(weights(tmp_path, 'latest'), weights(whole[0].root, 'latest'))

"""What the console, TensorBoard and the first lines of the log say of a training."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from c2fdft_model.training import training_log
from c2fdft_model.training.training_log import LogValue, Throughput, TrainingLog
from helpers.paired_data import dataset_opt, training_opt
from helpers.train_server import TrainServer
from helpers.training_runs import checkout, command, loss_lines, options, validation_set, weights


def opt_of_a_cycle(**changes: Any) -> dict[str, Any]:
    """Phases of 2, 3 and 2 iterations: batches of 6, 4 and 2, patches of 8, 16 and 32."""
    return training_opt(dataset_opt({'dataroot_lq': 'lq', 'dataroot_gt': 'gt'}), **changes)


def test_a_log_value_prints_its_text_and_is_a_number():
    value = LogValue(2, '2/3')
    assert f'{value:.4e}' == '2/3'
    assert value + 1 == 3


@pytest.mark.parametrize(('value', 'text'), [(64, '64'), (0.5, '0.5')])
def test_a_log_value_without_text_is_not_in_scientific_notation(value, text):
    assert f'{LogValue(value):.4e}' == text


def test_images_per_second_leave_out_validation(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, 'perf_counter', lambda: now[0])
    throughput = Throughput()
    throughput.add(6)
    now[0] = 1.0
    with throughput.paused():
        now[0] = 101.0
    throughput.add(6)
    now[0] = 103.0
    assert throughput.read() == 12 / 3
    throughput.add(8)
    now[0] = 107.0
    assert throughput.read() == 8 / 4


def line(opt: dict[str, Any], iteration: int, skipped: int = 0) -> dict[str, float]:
    losses = {'l_noise': 0.5, 'grad_norm': 1.5}
    return TrainingLog(opt).line(losses, iteration, (4, 3, 16, 16), 3e-4, skipped)


def test_a_line_names_the_phase_and_has_numbers_only():
    values = line(opt_of_a_cycle(), 4)
    assert f'{values["phase"]:.4e}' == '2/3 (16 x 16, batch 4)'
    assert all(isinstance(value, (int, float)) for value in values.values())


def test_a_line_has_what_people_look_at():
    values = line(opt_of_a_cycle(), 4)
    names = {'l_noise', 'grad_norm', 'images_per_second', 'patch_size', 'batch_size', 'lr'}
    assert names <= values.keys()
    assert (values['patch_size'], values['batch_size'], values['lr']) == (16, 4, 3e-4)


@pytest.mark.parametrize(('skipped', 'shown'), [(0, False), (2, True)])
def test_skipped_iterations_are_counted_once_there_are_any(skipped, shown):
    assert ('skipped_iterations' in line(opt_of_a_cycle(), 4, skipped=skipped)) is shown


def test_epochs_are_counted_as_if_a_run_had_not_been_interrupted(monkeypatch):
    monkeypatch.setattr('c2fdft_model.data.epoch_length.EPOCH_BATCHES', 5)
    log = TrainingLog(opt_of_a_cycle())
    assert [log.epoch_of(i) for i in (1, 5, 6, 10, 11)] == [0, 0, 1, 1, 2]


def test_another_data_set_has_one_phase_and_basicsrs_epochs():
    opt = opt_of_a_cycle()
    opt['datasets']['train'] = {'type': 'PairedImageDataset', 'gt_size': 16}
    values = line(opt, 4)
    assert f'{values["phase"]}'.startswith('1/1')
    assert 'epoch' not in values


@pytest.mark.parametrize(
    ('changes', 'accumulate', 'expected'),
    [
        ({}, 1, 'effective batch 6 = 6 x 1 process'),
        ({'dist': True, 'world_size': 2}, 1, 'effective batch 12 = 6 x 2 processes'),
        ({'num_gpu': 2}, 1, 'effective batch 12 = 6 x 2 processes'),
        ({}, 4, 'effective batch 6 = 6 x 1 process, each computed in 4 parts of up to 2'),
    ],
)
def test_the_schedule_says_the_effective_batch_of_each_phase(changes, accumulate, expected):
    lines = TrainingLog(opt_of_a_cycle(**changes)).schedule_lines(accumulate)
    assert lines[1] == f'  phase 1: 2 iterations of 8 x 8, {expected}'
    assert len(lines) == 4


def test_the_data_sets_section_is_parsed_once(monkeypatch):
    parsed = []
    original = training_log.parse_cycle
    monkeypatch.setattr(training_log, 'parse_cycle', lambda s: parsed.append(s) or original(s))
    log = TrainingLog(opt_of_a_cycle())
    log.schedule_lines(1)
    for iteration in (1, 2, 3):
        log.line({}, iteration, (4, 3, 16, 16), 3e-4, 0)
    assert len(parsed) == 1


@pytest.fixture(scope='module')
def server() -> Iterator[TrainServer]:
    running = TrainServer()
    yield running
    running.close()


def run(server: TrainServer, root: Path, opt: dict[str, Any], expect: int = 0) -> str:
    training = server.start(command(root, opt), root / f'{opt["name"]}.log', cwd=root)
    code = training.wait()
    assert code == expect, training.printed()[-4000:]
    return training.printed()


@pytest.fixture(scope='module')
def board(server, tmp_path_factory) -> tuple[EventAccumulator, str]:
    """TensorBoard's file of a coarse training with validation, and what was printed."""
    root = checkout(tmp_path_factory.mktemp('board'))
    opt = options(root, 'coarse', logger={'use_tb_logger': True})
    opt['train']['total_iter'] = 5
    opt['datasets']['val'] = validation_set(root)
    metric = {'type': 'calculate_psnr', 'crop_border': 0, 'test_y_channel': False}
    opt['val'] = {'val_freq': 5, 'save_img': False, 'strips': 2, 'metrics': {'psnr': metric}}
    printed = run(server, root, opt)
    events = EventAccumulator(str(root / 'tb_logger' / 'run'))
    events.Reload()
    return events, printed


def test_tensorboard_gets_every_value_by_name(board):
    expected = {
        'losses/l_noise', 'lr', 'patch_size', 'batch_size', 'grad_norm', 'images_per_second',
        'metrics/held_out/psnr', 'phase',
    }  # fmt: skip
    assert expected <= set(board[0].Tags()['scalars'])


def test_tensorboard_gets_previews_of_the_first_validation_images(board):
    assert board[0].Tags()['images'] == ['strips/held_out/000', 'strips/held_out/001']


def test_the_console_line_says_the_phase(board):
    lines = loss_lines(board[1])
    assert 'phase: 1/2 (16 x 16, batch 4)' in lines[3]
    assert 'phase: 2/2 (24 x 24, batch 2)' in lines[4]


def test_the_first_lines_say_schedule_and_start(board):
    for text in (
        'Schedule of 2 phases',
        'phase 2: 2 iterations of 24 x 24, effective batch 2 = 2 x 1 process',
        'No weights loaded',
    ):
        assert text in board[1]


def test_a_fine_run_says_which_weights_it_started_from_and_logs_both_losses(server, tmp_path):
    root = checkout(tmp_path)
    coarse = options(root, 'coarse')
    coarse['name'], coarse['train']['total_iter'] = 'coarse', 1
    run(server, root, coarse)
    fine = options(root, 'fine')
    fine['train']['total_iter'] = 1
    network = root / 'experiments' / 'coarse' / 'models' / 'net_g_latest.pth'
    fine['path'] = {'pretrain_network_g': str(network), 'param_key_g': 'params_ema'}
    printed = run(server, root, fine)
    assert f'from {network}, key params_ema.' in printed
    assert 'l_pix: ' in loss_lines(printed)[1] and 'l_ssim: ' in loss_lines(printed)[1]


def test_gradients_are_clipped_as_the_options_say(server, tmp_path):
    moved, norms = {}, {}
    for name, clipping in {
        'free': {},
        'loose': {'use_grad_clip': True, 'grad_clip': 1e6},
        'off': {'grad_clip': 1e-12},
        'tight': {'use_grad_clip': True, 'grad_clip': 1e-12},
    }.items():
        root = checkout(tmp_path / name)
        opt = options(root, 'coarse')
        opt['train'].update(total_iter=1, **clipping)
        opt['train']['optim_g']['weight_decay'] = 0
        norms[name] = re.search(r'grad_norm: (\S+)', loss_lines(run(server, root, opt))[1])[1]
        saved = weights(root, 'latest')
        moved[name] = max(
            float((value - saved[f'params_ema.{key.removeprefix("params.")}']).abs().max())
            for key, value in saved.items()
            if key.startswith('params.')
        )
    assert len(set(norms.values())) == 1
    assert moved['free'] == moved['off'] == pytest.approx(moved['loose'], rel=1e-3)
    # AdamW divides by the gradient's size, but by no less than its eps of 1e-8.
    assert moved['free'] > 5e-4 and moved['tight'] < 1e-6


WANDB = """
import json
import types
from torch.utils.tensorboard import writer

util = types.SimpleNamespace()


def init(**given):
    assert given['sync_tensorboard']
    original = writer.FileWriter.add_summary

    def add_summary(self, summary, global_step=None, walltime=None):
        with open('sent_to_wandb', 'a') as stream:
            for value in summary.value:
                stream.write(json.dumps([value.tag, global_step]) + '\\n')
        return original(self, summary, global_step, walltime)

    writer.FileWriter.add_summary = add_summary
"""


def test_wandb_gets_the_scalars_that_tensorboard_gets(server, tmp_path):
    root = checkout(tmp_path)
    # Where train.py lies is the first place that it imports from.
    (root / 'basicsr' / 'wandb.py').write_text(WANDB)
    opt = options(root, 'coarse', logger={'use_tb_logger': True, 'wandb': {'project': 'p'}})
    opt['train']['total_iter'] = 2
    printed = run(server, root, opt)
    assert 'Use wandb logger with id=' in printed
    sent = [json.loads(line) for line in (root / 'sent_to_wandb').read_text().splitlines()]
    for tag in ('losses/l_noise', 'grad_norm', 'lr', 'images_per_second'):
        assert [step for name, step in sent if name == tag] == [1, 2]


def test_a_training_that_diverges_at_once_names_no_checkpoint(server, tmp_path):
    root = checkout(tmp_path)
    opt = options(root, 'coarse', logger={'save_checkpoint_freq': 1})
    opt['train']['optim_g']['lr'] = 1e30
    opt['train']['scheduler']['eta_mins'] = [1e30, 1e30]
    opt['train']['max_bad_iterations'] = 3
    printed = run(server, root, opt, expect=1)
    assert 'Iteration 2 skipped' in printed and 'images: 00' in printed
    assert 'TrainingDiverged: 3 iterations in a row, up to 4,' in printed
    assert 'Last good checkpoint: none' in printed
    assert states(root) == {'1.state'}


def states(root: Path) -> set[str]:
    return {path.name for path in (root / 'experiments/run/training_states').iterdir()}


def diverging(root: Path) -> dict[str, Any]:
    """Options of a training whose step after iteration 6 ruins the weights; saves every one."""
    opt = options(root, 'coarse', logger={'save_checkpoint_freq': 1})
    opt['train'].update(keep_last=1, max_bad_iterations=3)
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [5], 'gamma': 1e33}
    return opt


def test_a_diverged_training_keeps_and_names_the_checkpoint_before_the_ruinous_step(
    server, tmp_path
):
    root = checkout(tmp_path)
    opt = diverging(root)
    printed = run(server, root, opt, expect=1)
    assert 'TrainingDiverged: 3 iterations in a row, up to 9,' in printed
    (named,) = set(re.findall(r'Last good checkpoint: (\S+net_g_\d+\.pth)', printed))
    assert named.endswith('net_g_5.pth')
    assert 'No checkpoint is written after iteration 7' in printed
    assert states(root) == {'5.state', '6.state'}
    opt['path']['resume_state'] = named.replace('models/net_g_5.pth', 'training_states/5.state')
    opt['train']['total_iter'] = 6
    printed = run(server, root, opt)
    assert 'nan' not in loss_lines(printed)[6] and 'skipped' not in loss_lines(printed)[6]
    assert 'training states of later iterations (6)' in printed


def test_a_training_that_ends_while_iterations_are_skipped_says_so(server, tmp_path):
    root = checkout(tmp_path)
    opt = diverging(root)
    opt['train']['total_iter'] = 8
    printed = run(server, root, opt)
    assert 'net_g_latest.pth has the weights of before, which may be damaged' in printed
    assert states(root) == {'5.state', '6.state'}


def test_at_the_end_of_a_sound_training_the_newest_checkpoints_alone_are_kept(server, tmp_path):
    root = checkout(tmp_path)
    opt = options(root, 'coarse', logger={'save_checkpoint_freq': 1})
    opt['train'].update(keep_last=1, total_iter=3)
    run(server, root, opt)
    assert states(root) == {'3.state'}

"""The replication: data, budget, verdicts, resuming and the report, with tiny trainings."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import replicate
from common.degradations import DEGRADATIONS, motion_kernel
from replication import (
    claims,
    data,
    experiments,
    figures,
    report,
    runner,
    tables,
    targets,
    training,
)
from replication.claims import FAILS, HOLDS, UNDECIDED


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photographs')
    rng = np.random.default_rng(0)
    for i in range(5):
        smooth = cv2.GaussianBlur(rng.uniform(0, 255, (72, 80, 3)), (0, 0), 3)
        image = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        assert cv2.imwrite(str(folder / f'{i}.png'), image)
    return folder


@pytest.fixture
def tiny(monkeypatch):
    """Networks and tests that take milliseconds."""
    network = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1], 'ffn_factor': 1.0}
    monkeypatch.setattr(experiments, 'NETWORK', network)
    monkeypatch.setattr(experiments, 'SWEEP_STEPS', (1, 2, 4, 50))
    monkeypatch.setattr(experiments, 'PATCHES', (16,))
    monkeypatch.setattr(experiments, 'COARSE_BATCHES', (4,))
    monkeypatch.setattr(experiments, 'TARGET_STEPS', (1, 4))
    monkeypatch.setattr(experiments, 'FIXED_PATCH', 16)
    monkeypatch.setattr(data, 'CROP', 24)
    monkeypatch.setattr(data, 'CROPS_PER_PHOTO', 1)
    monkeypatch.setattr(replicate, 'lpips_problem', lambda: 'no weights')
    monkeypatch.setattr(replicate.os, 'cpu_count', lambda: 1)  # more threads only wait here
    runner._pairs.cache_clear()
    runner._images.cache_clear()
    yield
    runner._pairs.cache_clear()
    runner._images.cache_clear()


def run(photographs, output, *options) -> int:
    arguments = ['--photos', photographs, '--output', output, '--device', 'cpu', '--jobs', '1']
    return replicate.main([*map(str, arguments), *options])


@pytest.mark.parametrize('task', DEGRADATIONS)
def test_a_degradation_depends_on_its_generator_alone(task):
    image = np.full((40, 50, 3), 120, np.uint8)
    one, two, other = (DEGRADATIONS[task](image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.dtype == np.uint8
    assert one.shape == image.shape
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    assert (one != image).any()


def test_a_motion_kernel_keeps_the_brightness_and_has_a_centre():
    kernel = motion_kernel(15, np.random.default_rng(0))
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    assert (kernel >= 0).all()


def test_a_folders_photographs_are_split_without_overlap(photographs, tmp_path):
    train, held_out = data.find_photographs(photographs)
    assert [p.name for p in held_out] == ['1.png']
    assert [p.name for p in train] == ['0.png', '2.png', '3.png', '4.png']
    with pytest.raises(ValueError, match='has 0 photographs: two or more'):
        data.find_photographs(tmp_path)


def test_a_batch_depends_on_seed_and_iteration_and_crops_both_images_alike(
    photographs, monkeypatch
):
    monkeypatch.setitem(DEGRADATIONS, 'rain', lambda image, rng: 255 - image)
    pairs = data.TrainingPairs('rain', data.find_photographs(photographs)[0], 16)
    phase = experiments.COARSE.cycle(27).phase_at(1)
    lq, gt = pairs.batch(0, 5, phase)
    assert lq.shape == (phase.batch_size, 3, phase.patch_size, phase.patch_size)
    torch.testing.assert_close(lq, 1 - gt)
    assert torch.equal(pairs.batch(0, 5, phase)[0], lq)
    assert not torch.equal(pairs.batch(0, 6, phase)[0], lq)
    assert not torch.equal(pairs.batch(1, 5, phase)[0], lq)


def test_a_photograph_smaller_than_a_patch_is_named(photographs):
    with pytest.raises(ValueError, match='0.png is smaller than a patch of 96'):
        data.TrainingPairs('rain', data.find_photographs(photographs)[0], 96)


def test_every_iteration_of_every_training_costs_the_same_number_of_pixels():
    costs = set()
    for plan in experiments.TRAININGS.values():
        calls = plan.steps if plan.stage == 'fine' else 1
        cycle = plan.cycle(27)
        for iteration in range(1, 10):
            phase = cycle.phase_at(iteration)
            costs.add(phase.batch_size * phase.patch_size**2 * calls)
    assert len(costs) == 1


def test_coarse_and_fine_together_are_as_long_as_the_longer_coarse_training():
    both = experiments.COARSE.iterations(810) + experiments.FINE.iterations(810)
    assert experiments.LONGER.iterations(810) == both == 1080


def test_the_core_of_one_task_fits_the_minutes():
    iterations = runner.affordable_iterations(90, jobs=2, seconds_per_iteration=0.5, seeds=3)
    assert iterations % experiments.PHASES_PER_COARSE == 0
    # 3 seeds of 1 + 1/3 + 4/3 + 1 lengths, two at a time
    seconds = iterations * (3 * 11 / 3) * 0.5 / 2
    assert 0.7 * 90 * 60 < seconds < 0.8 * 90 * 60


def test_more_processes_than_chains_do_not_make_the_trainings_longer():
    def iterations(jobs):
        return runner.affordable_iterations(90, jobs, seconds_per_iteration=0.5, seeds=3)

    assert iterations(9) == iterations(64) > iterations(2)


def test_the_core_of_the_first_task_comes_first():
    plan = runner.Plan(27, 2, ('noise', 'rain'), None)
    jobs = runner.jobs_in_order(plan, Path('x'), 'cpu', 0, 1, list(experiments.ROWS))
    assert [(j.task, j.seed, j.chain) for j in jobs[:4]] == [
        ('noise', 0, ('coarse', 'fine')),
        ('noise', 1, ('coarse', 'fine')),
        ('noise', 0, ('coarse_longer',)),
        ('noise', 0, ('no_time_embedding',)),
    ]
    done = [(j.task, j.seed, name) for j in jobs for name in j.chain]
    every = {(t, s, name) for t in plan.tasks for s in (0, 1) for name in experiments.TRAININGS}
    assert set(done) == every
    assert len(done) == len(every)


def test_only_the_rows_that_are_asked_for_are_trained():
    plan = runner.Plan(27, 1, ('rain',), None)
    jobs = runner.jobs_in_order(plan, Path('x'), 'cpu', 0, 1, ['targets'])
    names = {name for job in jobs for name in job.chain}
    assert names == {*targets.COARSE_OF.values(), *targets.FINE_OF.values()}


@pytest.mark.parametrize('target', targets.COARSE_OF)
def test_networks_and_processes_are_those_of_the_target(target):
    chain = [experiments.TRAININGS[targets.COARSE_OF[target]]]
    chain += [experiments.TRAININGS[targets.FINE_OF[target, steps]] for steps in (4, 2, 1)]
    for one, steps in zip(chain, (None, 4, 2, 1), strict=True):
        assert one.target == target
        assert one.new_network().skip == {'noise': 'noisy', 'clean': 'degraded'}.get(target, 'none')
        assert one.process(3).prediction == target
        assert one.stage == 'coarse' or one.steps == steps == len(one.process(steps).timesteps)
        assert one.stage == 'coarse' or one.base == chain[0].name


def test_the_losses_differ_in_nothing_else():
    for fine, with_psnr in experiments.LOSSES:
        same = replace(with_psnr, name=fine.name, title=fine.title, psnr_weight=0, ssim_weight=0.84)
        assert same == fine
        stages = [training._stage(t, t.new_network()) for t in (fine, with_psnr)]
        assert [type(s.signed_losses['l_pix']).__name__ for s in stages] == ['L1Loss', 'PSNRLoss']
    plan = runner.Plan(27, 1, ('rain',), None)
    jobs = runner.jobs_in_order(plan, Path('x'), 'cpu', 0, 1, ['losses'])
    names = [name for job in jobs for name in job.chain]
    for pair in experiments.LOSSES:
        for one in pair:
            assert names.index(one.base) < names.index(one.name)


def curve(*psnrs: float) -> list[dict[str, float]]:
    return [
        {'iteration': 10 * (k + 1), 'seconds': 5.0 * (k + 1), 'psnr': psnr}
        for k, psnr in enumerate(psnrs)
    ]


def test_the_time_to_quality_is_that_of_the_first_point_above_the_papers_end():
    metrics = {
        'coarse': {0: {'curve': curve(10, 20, 25)}},
        'fine': {0: {'curve': curve(24, 28)}},
        'clean_coarse': {0: {'curve': curve(20, 30, 31)}},
        'clean_fine_4': {0: {'curve': curve(31, 32)}},
        'velocity_coarse': {0: {'curve': curve(10, 20, 26)}},
        'velocity_fine_4': {0: {'curve': curve(27, 27.9)}},
    }
    clean = targets.time_to_quality(metrics, 'clean', 4, 0)
    assert (clean['iteration'], clean['seconds'], clean['ratio']) == (20, 10.0, 2.5)
    noise = targets.time_to_quality(metrics, 'noise', 4, 0)
    assert (noise['iteration'], noise['seconds'], noise['ratio']) == (50, 25.0, 1.0)
    assert targets.time_to_quality(metrics, 'velocity', 4, 0) == {'reached': False}
    assert targets.time_to_quality(metrics, 'clean', 1, 0) is None
    lines = tables.table(tables.TIMES, figures._times('rain', metrics))
    assert '| clean | 4 | 1 of 1 | 20 | 10 s | 2.5 | 2.5 |' in lines
    assert '| velocity | 4 | 0 of 1 | – | – | – | – |' in lines


@pytest.mark.parametrize(
    ('differences', 'says'),
    [
        ([0.5, 0.6, 0.4], HOLDS),
        ([-0.5, -0.6, -0.4], FAILS),
        ([0.5, -0.1, 0.6], UNDECIDED),
        ([0.01, 0.9, 0.02], UNDECIDED),  # one seed alone makes the mean
        ([0.5], UNDECIDED),
        ([0.0, 0.0], UNDECIDED),
    ],
)
def test_a_verdict_needs_every_seed_and_twice_the_standard_error(differences, says):
    assert claims.verdict(differences) == says


def test_differences_are_paired_by_seed():
    metrics = {
        'fine': {0: {'psnr': 22.0}, 2: {'psnr': 25.0}},
        'coarse': {0: {'psnr': 21.0}, 1: {'psnr': 9.0}, 2: {'psnr': 23.0}},
    }
    claim = claims.Claim('7', '', '', claims.FINE, claims.COARSE)
    assert claims.paired_differences(claim, metrics) == [1.0, 2.0]


def test_a_whole_replication_gives_every_row_and_verdict(tiny, photographs, tmp_path, capsys):
    code = run(
        photographs, tmp_path / 'out', '--iterations', '2', '--seeds', '1', '--tasks', 'rain'
    )
    assert code == 0
    text = (tmp_path / 'out' / 'report.md').read_text()
    for name in {name for names in report.TABLES.values() for name in names}:
        assert f'| {experiments.TRAININGS[name].title} | 1 |' in text
    for target, steps in targets.FINE_OF:
        assert f'| {target} | fine | {steps} | 1 |' in text
        assert f'| {target} | coarse | 4 | 1 |' in text
    assert '| noise | 4 | 1 of 1 | ' in text
    for claim in (*claims.CLAIMS, *claims.OUR_CLAIMS):
        assert f'| {claim.table} | {claim.sentence} | {claim.paper} |' in text
    assert 'not measured (LPIPS is not there)' in text
    assert '| 4 | ' in text.split('Table 4, sampling steps')[1]
    printed = capsys.readouterr().out
    assert 'are left' not in printed
    assert printed.count('LPIPS is left out of 24 trainings: no weights\n') == 1
    assert json.loads((tmp_path / 'out' / 'report.json').read_text())['cases']


def test_the_fine_training_starts_from_the_coarse_weights_of_its_seed(tiny, photographs, tmp_path):
    run(photographs, tmp_path, '--iterations', '3', '--seeds', '1', '--tasks', 'noise')
    folder = tmp_path / 'runs' / 'noise' / 'seed0'
    coarse, fine, raw = (
        training.load_state(folder / f'{name}.pth') for name in ('coarse', 'fine', 'fine_from_raw')
    )
    rate = experiments.LEARNING_RATE
    # AdamW moves a weight by about the learning rate in its first step
    for state, key in ((fine, 'params_ema'), (raw, 'params')):
        moved = [(state['params'][n] - coarse[key][n]).abs().max().item() for n in coarse['params']]
        assert 0 < max(moved) < 1.1 * rate
    assert json.loads((folder / 'fine.json').read_text())['iterations'] == 1


def test_a_curve_has_the_seconds_of_training_not_of_an_image(tiny, photographs):
    pairs = data.TrainingPairs('blur', data.find_photographs(photographs)[0], 16)
    trainer = training.Trainer(experiments.COARSE, 0, 2, pairs, torch.device('cpu'))
    assert trainer.run(lambda: False, lambda state: None, lambda net: {'psnr': 9, 'seconds': 1e6})
    assert [point['iteration'] for point in trainer.curve] == [1, 2]
    first, last = (point['seconds'] for point in trainer.curve)
    assert 0 < first < last == trainer.seconds
    assert trainer.curve[0]['psnr'] == 9


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tiny, photographs):
    pairs = data.TrainingPairs('blur', data.find_photographs(photographs)[0], 16)

    def trainer():
        return training.Trainer(experiments.COARSE, 0, 6, pairs, torch.device('cpu'))

    whole, first, second, states = trainer(), trainer(), trainer(), []
    assert whole.run(lambda: False, states.append)
    assert not first.run(lambda: first.done == 2, states.append)
    second.resume(states[-1])
    assert second.run(lambda: False, states.append)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], value)


def test_time_that_is_up_leaves_the_rest_for_the_same_command(tiny, photographs, tmp_path, capsys):
    options = ['--iterations', '2', '--seeds', '1', '--tasks', 'rain']
    assert run(photographs, tmp_path, *options, '--minutes', '0') == 0
    assert '0 of 24 trainings are done and tested' in capsys.readouterr().out
    assert 'Nothing is done yet' in (tmp_path / 'report.md').read_text()
    assert run(photographs, tmp_path, *options) == 0
    assert 'are left' not in capsys.readouterr().out
    before = (tmp_path / 'runs' / 'rain' / 'seed0' / 'fine.json').stat().st_mtime_ns
    run(photographs, tmp_path, *options)
    assert (tmp_path / 'runs' / 'rain' / 'seed0' / 'fine.json').stat().st_mtime_ns == before


def test_lpips_is_measured_where_its_weights_are(tiny, photographs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(replicate, 'lpips_problem', lambda: '')
    monkeypatch.setattr('replication.evaluation.lpips_distance', lambda *_: 0.125)
    options = ['--iterations', '2', '--seeds', '1', '--tasks', 'rain', '--rows', 'tables']
    assert run(photographs, tmp_path, *options) == 0
    assert 'LPIPS is left out' not in capsys.readouterr().out
    assert '| coarse | 1 | ' in (text := (tmp_path / 'report.md').read_text())
    assert ' | 0.1250 | ' in text


def test_other_settings_are_not_mixed_into_a_folder(tiny, photographs, tmp_path, capsys):
    options = ['--iterations', '2', '--tasks', 'rain', '--minutes', '0']
    run(photographs, tmp_path, *options)
    assert run(photographs, tmp_path, *options, '--seeds', '5') == 2
    assert 'was begun with (2, 3,' in capsys.readouterr().err
    assert run(photographs, tmp_path, *options, '--seeds', '5', '--fresh') == 0


def test_the_machine_is_measured_when_no_iterations_are_given(tiny, photographs, tmp_path, capsys):
    run(photographs, tmp_path, '--tasks', 'rain', '--minutes', '0')
    assert 's per coarse iteration' in capsys.readouterr().out
    assert runner.Plan.read(tmp_path).coarse_iterations == experiments.PHASES_PER_COARSE


def test_two_processes_share_the_jobs(photographs, tmp_path, monkeypatch):
    calls = []
    plan = runner.Plan(2, 1, ('rain',), str(photographs))
    # the deadline has passed, so that the processes have nothing to train
    jobs = runner.jobs_in_order(plan, tmp_path, 'cpu', time.time() - 1, 1, ['targets'])
    assert list(runner._in_processes(jobs, 2)) == []
    assert not runner.perform(jobs, 2, calls.append)


def test_a_mean_has_a_spread_only_for_several_seeds():
    assert tables.mean_spread(figures.spread([1.0, 3.0]), 2, ' dB') == '2.00 ± 1.41 dB'
    assert tables.mean_spread(figures.spread([1.0, 3.0]), 2, ' dB', '+') == '+2.00 ± 1.41 dB'
    assert tables.mean_spread(figures.spread([1.0]), 2, '') == '1.00'


def test_what_was_not_measured_is_a_dash():
    done = {'psnr': 1.0, 'iterations': 3, 'training_seconds': 2.0}
    (entry,) = figures._trainings('rain', {'coarse': {0: done}})
    row = tables.table(tables.TRAINING, [entry])[-1]
    assert row == '| coarse | 1 | 1.00 dB | – | – | 3 | 2 s |'

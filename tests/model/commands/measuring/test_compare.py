"""The comparison: equal budgets, the same data, what is measured, and one from end to end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_arch.dft import DFT
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_model.commands.measuring import compare
from c2fdft_model.experiments import budget, measuring, report
from c2fdft_model.experiments.costs import count_flops
from c2fdft_model.experiments.pictures import LABEL_HEIGHT
from c2fdft_model.experiments.systems import (
    ComparisonError,
    read_system,
    read_systems,
    seeded,
    trained_on,
    validation_folders,
    with_budget,
)
from helpers.checkpoints import OTHER_SETTINGS, restored_otherwise, save_trained_otherwise

ROOT = Path(__file__).resolve().parents[4]
DEMO = 'options/demo_coarse.yml', 'options/demo_fine.yml'
BASELINES = sorted(
    path
    for path in (ROOT / 'options' / 'baselines').glob('*.yml')
    if not path.stem.endswith('_test') and not path.stem.startswith('demo_')
)


def demo(*specifications: str):
    return read_systems([s.replace('options', str(ROOT / 'options')) for s in specifications], ROOT)


def test_a_system_may_have_a_label_and_stages():
    (system,) = demo(f'Ours={DEMO[0]}+{DEMO[1]}')
    assert system.label == 'Ours'
    assert [stage['train']['stage'] for stage in system.stages] == ['coarse', 'fine']
    assert system.total_iters == [stage['train']['total_iter'] for stage in system.stages]


def test_without_a_label_a_system_has_the_name_of_its_last_stage():
    (system,) = demo(DEMO[0])
    assert system.label == 'demo_coarse'


def test_data_paths_are_absolute():
    (system,) = demo(DEMO[0])
    data = system.stages[0]['datasets']['train']
    assert data['dataroot_lq'] == str(ROOT / 'datasets' / 'demo' / 'train' / 'input.lmdb')


@pytest.mark.parametrize(
    ('specifications', 'word'),
    [
        (['options/nowhere.yml'], 'nowhere.yml'),
        (['options/demo_test.yml'], 'no option file of a training'),
    ],
)
def test_what_is_no_training_is_refused(specifications, word):
    with pytest.raises(OptionError, match=word):
        demo(*specifications)


@pytest.mark.parametrize(
    ('specifications', 'words'),
    [
        ([DEMO[0], DEMO[0]], ['demo_coarse is there twice', '-opt A=']),
        ([DEMO[0], 'options/derain_coarse.yml'], ['dataroot_lq', 'same images']),
    ],
)
def test_what_cannot_be_compared_is_refused(specifications, words):
    with pytest.raises(ComparisonError) as error:
        demo(*specifications)
    for word in words:
        assert word in str(error.value)


def test_iterations_are_shared_in_the_files_proportion_and_sum_to_the_budget():
    assert budget.iterations_for([600, 400], 100) == [60, 40]
    assert budget.iterations_for([270_000, 90_000], 10) == [8, 2]
    assert sum(budget.iterations_for([1, 1, 1], 100)) == 100


def test_equal_minutes_give_slow_stages_fewer_iterations():
    counts = budget.iterations_in([600, 400], [0.1, 0.5], 52)
    assert counts == [120, 80]
    assert sum(n * s for n, s in zip(counts, [0.1, 0.5], strict=True)) == pytest.approx(52)


def test_seconds_per_iteration_leave_out_the_first_and_weigh_the_phases():
    times = {'32': [9.0, 1.0, 1.0], '64': [9.0, 3.0]}
    assert budget.mean_seconds(times, [50, 50]) == 2.0
    assert budget.mean_seconds(times, [30, 10]) == 1.5


def test_a_budget_scales_the_schedule_and_leaves_validation_out():
    (system,) = demo(DEMO[0])
    original = system.stages[0]
    options = with_budget(original, original['train']['total_iter'] // 10)
    train = options['train']
    assert train['total_iter'] * 10 == original['train']['total_iter']
    assert sum(train['scheduler']['periods']) == train['total_iter']
    assert list(options['datasets']) == ['train']
    assert 'val' not in options
    assert original['train']['total_iter'] != train['total_iter']
    assert 1 - train['ema_decay'] == pytest.approx(10 * (1 - original['train']['ema_decay']))
    assert with_budget(original, 1)['train']['ema_decay'] == 0.5


@pytest.mark.parametrize('path', BASELINES, ids=lambda path: path.stem)
def test_every_system_trains_beside_ours_on_the_same_images(path):
    task = path.stem.partition('_')[0]
    ours = f'C2F-DFT={ROOT}/options/{task}_coarse.yml+{ROOT}/options/{task}_fine.yml'
    _, theirs = read_systems([ours, str(path)], ROOT)
    assert len(theirs.stages) == 1
    short = with_budget(theirs.stages[0], 30)['train']
    assert short['total_iter'] == 30
    schedule = short['scheduler']
    changes = schedule.get('milestones') or schedule.get('periods') or []
    assert all(0 <= iteration <= 30 for iteration in changes), schedule


def test_a_short_training_sees_every_patch_size():
    options = {
        'datasets': {'train': {'gt_sizes': [32, 64, 128], 'iters': [10_000]}},
        'train': {'total_iter': 300_000, 'scheduler': {'milestones': [100_000, 200_000]}},
    }
    short = with_budget(options, 30)
    assert short['datasets']['train']['iters'] == [10, 10, 10]
    assert short['train']['scheduler']['milestones'] == [10, 20]


def test_the_test_images_default_to_the_validation_set_on_disk():
    (system,) = demo('options/derain_coarse.yml')
    lq, gt = validation_folders([system], ROOT)
    assert (lq.name, gt.name) == ('input', 'target')
    assert validation_folders(demo(DEMO[0]), ROOT) is None


def test_another_seed_is_that_of_every_stage_and_of_the_digest():
    (system,) = demo('+'.join(DEMO))
    first, other = seeded(system, 0), seeded(system, 2)
    assert first is system
    assert [stage['manual_seed'] for stage in system.stages] == [0, 0]
    assert [stage['manual_seed'] for stage in other.stages] == [2, 2]
    assert other.fingerprint(iters=3) != system.fingerprint(iters=3)


def test_other_training_images_take_the_place_of_those_of_every_stage(tmp_path):
    (system,) = demo('+'.join(DEMO))
    folders = tmp_path / 'blurred', tmp_path / 'sharp'
    with pytest.raises(ComparisonError, match='blurred: no such folder of training images'):
        trained_on(system, *folders)
    with pytest.raises(ComparisonError, match='give both folders'):
        trained_on(system, folders[0], None)
    for folder in folders:
        folder.mkdir()
    other = trained_on(system, *folders)
    for stage in other.stages:
        data = stage['datasets']['train']
        assert (data['dataroot_lq'], data['dataroot_gt']) == tuple(map(str, folders))
        assert data['io_backend'] == {'type': 'disk'}
        assert data['gt_sizes']
    assert other.fingerprint() != system.fingerprint()
    assert system.stages[0]['datasets']['train']['io_backend'] == {'type': 'lmdb'}


def test_files_of_other_data_train_together_on_the_images_that_are_given(tmp_path):
    paths = [str(ROOT / DEMO[0]), str(ROOT / 'options' / 'baselines' / 'derain_prenet.yml')]
    with pytest.raises(ComparisonError, match='same images'):
        read_systems(paths, ROOT)
    systems = read_systems(paths, ROOT, tmp_path, tmp_path)
    data = [system.stages[0]['datasets']['train'] for system in systems]
    assert {each['dataroot_lq'] for each in data} == {str(tmp_path)}


def test_the_row_of_several_seeds_has_their_mean_and_spread():
    costs = {'parameters': 2e6, 'gflop': 3.0, 'peak_mib': 10.0}
    results = [
        {**costs, 'iterations': n, 'seconds': 60.0, 'seconds_per_image': [s, s]}
        for n, s in ((10, 1.0), (20, 3.0))
    ]
    scores = [{'x': {'input': {'psnr': 10.0}, 'A': {'psnr': psnr}}} for psnr in (20.0, 22.0)]
    row = compare.row_of('A', results, scores)
    assert (row['psnr'], row['iterations'], row['seconds_per_image']) == (21.0, 15, 2.0)
    assert row['psnr_std'] == pytest.approx(2**0.5)
    degraded = compare.row_of('input', None, scores)
    assert (degraded['psnr'], degraded['psnr_std'], degraded['gflop']) == (10.0, None, None)
    assert list(degraded) == list(row)
    assert '| PSNR (dB) | ± |' in report.markdown([degraded, row])
    assert 'psnr_std' not in compare.row_of('A', results[:1], scores[:1])


def test_flops_of_a_convolution_are_two_per_multiplication_and_addition():
    convolution = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    counted = count_flops(convolution, (torch.zeros(1, 3, 8, 10),))
    assert counted == 2 * 8 * 10 * 3 * 5 * 9


def test_flops_of_a_network_that_works_in_row_bands_are_those_of_the_plain_form():
    settings = {'dim': 8, 'num_blocks': (1, 1, 1, 1), 'heads': (1, 1, 1, 1)}
    inputs = torch.zeros(1, 6, 16, 24), torch.zeros(1)
    row_bands, plain = (count_flops(cls(**settings), inputs) for cls in (DFT, PlainDFT))
    assert row_bands == plain > 0


def rows() -> list[report.Row]:
    values = ('EDSR', 1.5, 1000, 12.34, 1234.5, 0.456, 321.4, 30.126, 0.91234)
    row = dict(zip([*report.COLUMNS, 'ssim'], values, strict=True))
    return [dict.fromkeys(row) | {'system': 'input', 'psnr': 20.0, 'ssim': 0.5}, row]


def test_markdown_table_has_a_line_per_system_and_no_number_without_a_meaning():
    lines = report.markdown(rows()).splitlines()
    assert lines[0].startswith('| system | parameters (M) | iterations |')
    assert lines[2] == '| input |  |  |  |  |  |  | 20.00 | 0.5000 |'
    assert lines[3] == '| EDSR | 1.50 | 1,000 | 12.3 | 1,234.5 | 0.46 | 321 | 30.13 | 0.9123 |'


def test_csv_and_json_hold_the_unrounded_numbers(tmp_path):
    report.write_table(tmp_path, rows(), 'how', 'c2fdft compare')
    (first, second) = csv.DictReader((tmp_path / 'table.csv').open())
    assert float(second['psnr']) == 30.126
    assert first['gflop'] == ''
    content = json.loads((tmp_path / 'table.json').read_text())
    assert (content['command'], content['note']) == ('c2fdft compare', 'how')
    assert content['machine']['cpu']
    assert content['rows'][1]['ssim'] == 0.91234


def test_the_detail_is_where_input_and_ground_truth_differ_most():
    gt = np.zeros((40, 60, 3), np.uint8)
    degraded = gt.copy()
    degraded[20:28, 33:41] = 255
    assert report.worst_square(degraded, gt, 8) == (20, 33)


def test_the_grid_has_a_row_per_image_and_a_column_per_system(tmp_path):
    picture = np.full((30, 50, 3), 128, np.uint8)
    columns = {'input': picture, 'EDSR': picture, 'ground truth': picture}
    images = {'a': columns, 'b': columns}
    scores = {'a': {'input': {'psnr': 20.0}}, 'b': {}}
    report.write_grid(tmp_path / 'grid.png', images, scores, 16)
    grid = cv2.imread(str(tmp_path / 'grid.png'))
    assert grid.shape == (2 * (report.CELL + LABEL_HEIGHT), 3 * report.CELL, 3)


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """Images and three tiny option files in an empty folder: EDSR, and both stages of DFT."""
    rng = np.random.default_rng(0)
    for part in ('train', 'test'):
        for side in ('input', 'target'):
            folder = tmp_path / part / side
            folder.mkdir(parents=True)
            for number in range(2):
                image = rng.integers(0, 256, (33, 40 + number, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f'{number}.png'), image)
    for name, network, train in (
        ('edsr', TINY_EDSR, {}),
        ('coarse', TINY_DFT, {'stage': 'coarse'}),
        ('fine', TINY_DFT, {'stage': 'fine'}),
    ):
        options = tiny_options(name, network, train)
        (tmp_path / f'{name}.yml').write_text(yaml.safe_dump(options, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    return tmp_path


TINY_EDSR = {
    'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 1,
}  # fmt: skip
TINY_DFT = {'type': 'DFT', 'dim': 8, 'num_blocks': [1] * 4, 'heads': [1] * 4}


def tiny_options(name: str, network: dict, train: dict) -> dict:
    return {
        'name': name,
        'model_type': 'C2FDFTModel' if train else 'SRModel',
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': 0,
        'datasets': {
            'train': {
                'name': 'train',
                'type': 'PatchCyclePairedDataset',
                'dataroot_lq': 'train/input',
                'dataroot_gt': 'train/target',
                'io_backend': {'type': 'disk'},
                'gt_sizes': [16, 24],
                'mini_batch_sizes': [2, 1],
                'iters': [10],
                'batch_size_per_gpu': 2,
                'num_worker_per_gpu': 0,
            }
        },
        'network_g': network,
        'path': {'pretrain_network_g': 'nowhere.pth' if train.get('stage') == 'fine' else None},
        'train': {
            **train,
            'ema_decay': 0.9,
            'optim_g': {'type': 'Adam', 'lr': 1e-3},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [50]},
            'total_iter': 100,
            'warmup_iter': -1,
            'pixel_opt': {'type': 'L1Loss'},
        },
        'logger': {'print_freq': 10, 'save_checkpoint_freq': 100, 'use_tb_logger': False},
        'dist_params': {'backend': 'nccl', 'port': 29500},
    }


FOLDERS = ['--input', 'test/input', '--target', 'test/target']


@pytest.mark.subprocess
def test_a_small_comparison_writes_table_and_picture(workplace, capsys):
    arguments = [*FOLDERS, '--iters', '4', '-opt', 'EDSR=edsr.yml', 'DFT=coarse.yml+fine.yml']
    assert compare.main(arguments) == 0
    out = workplace / 'results' / 'compare'
    lines = {row['system']: row for row in csv.DictReader((out / 'table.csv').open())}
    assert list(lines) == ['input', 'EDSR', 'DFT']
    assert int(lines['EDSR']['iterations']) == int(lines['DFT']['iterations']) == 4
    network = DFT(**{key: value for key, value in TINY_DFT.items() if key != 'type'})
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert float(lines['DFT']['parameters_m']) == pytest.approx(millions)
    # 33 x 40 is padded to 40 x 40, and four network calls restore an image
    one_call = count_flops(network, (torch.zeros(1, 6, 40, 40), torch.zeros(1)))
    assert float(lines['DFT']['gflop']) == pytest.approx(4 * one_call / 1e9)
    for name in ('EDSR', 'DFT'):
        assert float(lines[name]['seconds_per_image']) > 0
        assert float(lines[name]['peak_mib']) > 0
        assert 0 < float(lines[name]['psnr']) < 60
    assert cv2.imread(str(out / 'grid.png')) is not None

    assert compare.main(arguments) == 0
    assert capsys.readouterr().out.count('measured before') == 2
    assert compare.main([*arguments, '--measure', '--detail', '8']) == 0
    printed = capsys.readouterr().out
    assert printed.count('trained before') == 2 and 'measured before' not in printed


@pytest.mark.parametrize('settings', OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
def test_the_test_images_are_restored_as_the_weights_were_trained(workplace, settings):
    weights = save_trained_otherwise(workplace / 'net.pth', settings)
    options = yaml.safe_load((workplace / 'coarse.yml').read_text())
    options['network_g'] = {'type': 'DFT'}
    path = workplace / 'test' / 'input' / '0.png'
    measuring.measure(options, str(weights), [path], workplace / 'results')
    written, degraded = (
        cv2.imread(str(file))[..., ::-1] for file in (workplace / 'results' / '0.png', path)
    )
    image = torch.from_numpy(degraded.copy()).permute(2, 0, 1) / 255
    expected = (restored_otherwise(weights, settings, image, '0') * 255).round()
    np.testing.assert_array_equal(written, expected.permute(1, 2, 0).numpy())


@pytest.mark.subprocess
def test_minutes_are_calibrated_into_iterations(workplace, capsys):
    arguments = [*FOLDERS, '--minutes', '0.02', '-opt', 'edsr.yml']
    assert compare.main(arguments) == 0
    (line,) = [
        row
        for row in csv.DictReader((workplace / 'results/compare/table.csv').open())
        if row['system'] == 'edsr'
    ]
    assert int(line['iterations']) > 1
    assert 'trained in' in capsys.readouterr().out


@pytest.mark.subprocess
def test_iterations_are_timed_once_and_the_trainings_go_by_that(workplace, capsys):
    arguments = [*FOLDERS, '--minutes', '0.05', '--seeds', '2', '-opt', 'edsr.yml']
    assert compare.main([*arguments, '--calibrate']) == 0
    results = workplace / 'results/compare'
    assert [path.name for path in results.iterdir()] == ['calibrated']
    (path,) = (results / 'calibrated').iterdir()
    timed = json.loads(path.read_text())
    assert 0 < timed['result'][0] < 60
    path.write_text(json.dumps({**timed, 'result': [0.5]}))
    assert compare.main(arguments) == 0
    assert capsys.readouterr().out.count('edsr: 6 iterations') == 2

    for again in ('--fresh', '--calibrate'):
        path.write_text(json.dumps({**timed, 'result': [0.5]}))
        assert compare.main([*arguments, again]) == 0
        assert json.loads(path.read_text())['result'] != [0.5]


@pytest.mark.subprocess
def test_a_training_that_fails_is_shown_with_the_end_of_its_log(workplace, capsys):
    options = tiny_options('edsr', {**TINY_EDSR, 'num_in_ch': 4}, {})
    (workplace / 'edsr.yml').write_text(yaml.safe_dump(options))
    assert compare.main([*FOLDERS, '--iters', '2', '-opt', 'edsr.yml']) == 2
    message = capsys.readouterr().err
    assert 'training.log' in message
    assert 'channels' in message


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--iters', '2'], '--input DIR'),
        (['--iters', '2', '--input', 'nowhere', '--target', 'test/target'], 'nowhere'),
        (['--iters', '2', '--input', 'empty', '--target', 'test/target'], 'empty'),
    ],
)
def test_missing_test_images_are_said_before_anything_is_trained(
    arguments, words, workplace, capsys
):
    (workplace / 'empty').mkdir()
    assert compare.main([*arguments, '-opt', 'edsr.yml']) == 2
    assert words in capsys.readouterr().err
    assert not (workplace / 'results').exists()


def test_the_help_names_an_example_that_exists():
    text = compare.__doc__
    for word in text.split():
        for path in word.rpartition('=')[2].split('+'):
            if path.startswith('options/'):
                assert (ROOT / path).is_file()


def test_read_system_keeps_the_order_of_the_stages():
    files = [str(ROOT / name) for name in DEMO]
    assert [str(path) for path in read_system('+'.join(files), ROOT).files] == files

"""The demo: rain, data, reuse of finished stages, report."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from c2fdft_model.experiments.pictures import LABEL_HEIGHT
from common.photographs import photo_folder, read_photo
from common.rain import (
    RainLayer,
    RainRange,
    add_rain,
    draw_layers,
    render_layer,
    streak_kernel,
)
from demo import __main__ as demo_main
from demo import data, report, stages
from demo.data import (
    HELD_OUT_PHOTOS,
    TRAIN_PHOTOS,
    DataSettings,
    prepare,
    tile_corners,
    training_pairs,
)

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'
LAYER = RainLayer(density=0.002, length=20, width=1.5, angle=30, brightness=0.7)


def grey(value: int = 100, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.full((*shape, 3), value, np.uint8)


def test_equal_seeds_give_equal_rain():
    first, second = (add_rain(grey(), np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_other_seeds_give_other_rain():
    first, second = (add_rain(grey(), np.random.default_rng(seed)) for seed in (3, 4))
    assert (first != second).any()


def test_rain_only_brightens():
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    assert (add_rain(image, np.random.default_rng(1)) >= image).all()


def test_rain_is_the_same_in_every_channel():
    rainy = add_rain(grey(), np.random.default_rng(1))
    np.testing.assert_array_equal(rainy[..., 0], rainy[..., 2])


def test_rain_leaves_most_of_the_image_as_it_was():
    light = RainRange(layers=(1, 1), density=(0.0005, 0.0005), length=(10, 10), width=(1, 1))
    rainy = add_rain(grey(), np.random.default_rng(1), light)
    assert 0.5 < (rainy == grey()).mean() < 0.99


def test_layers_are_drawn_within_their_ranges():
    ranges = RainRange(angle=(10.0, 20.0), angle_spread=2.0)
    rng = np.random.default_rng(0)
    layers = [layer for _ in range(200) for layer in draw_layers(rng, ranges)]
    for name in ('density', 'length', 'width', 'brightness'):
        low, high = getattr(ranges, name)
        assert all(low <= getattr(layer, name) <= high for layer in layers)
    assert all(8 <= layer.angle <= 22 for layer in layers)


def test_the_number_of_layers_takes_both_ends_of_its_range():
    rng = np.random.default_rng(0)
    counts = {len(draw_layers(rng, RainRange(layers=(1, 3)))) for _ in range(100)}
    assert counts == {1, 2, 3}


def test_a_vertical_streak_is_as_long_and_wide_as_it_says():
    kernel = streak_kernel(length=21, width=3, angle=0)
    middle = kernel.shape[0] // 2
    assert (kernel[:, middle] >= 0.5).sum() == 21
    assert (kernel[middle] >= 0.5).sum() == 3


@pytest.mark.parametrize('angle', [-40, 0, 25, 90])
def test_a_streak_leans_by_its_angle(angle):
    kernel = streak_kernel(length=30, width=1.5, angle=angle).astype(np.float64)
    radius = kernel.shape[0] // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    lean = 0.5 * np.arctan2(2 * (kernel * x * y).sum(), (kernel * (y**2 - x**2)).sum())
    assert np.rad2deg(lean) == pytest.approx(angle, abs=0.5)


def test_a_streak_has_a_peak_of_one_and_nothing_at_the_rim():
    kernel = streak_kernel(length=12, width=2, angle=-17)
    assert kernel.max() == 1
    assert max(kernel[0].max(), kernel[:, 0].max()) < 1e-3


def test_a_layer_is_no_brighter_than_it_says():
    dense = replace(LAYER, density=0.2)
    layer = render_layer((60, 50), dense, np.random.default_rng(0))
    assert layer.shape == (60, 50)
    assert layer.max() == pytest.approx(dense.brightness)


def test_a_layer_without_streaks_is_dark():
    assert not render_layer((60, 50), replace(LAYER, density=0), np.random.default_rng(0)).any()


def test_a_denser_layer_is_brighter_in_proportion():
    sparse, dense = (
        render_layer((400, 400), replace(LAYER, density=density), np.random.default_rng(0)).mean()
        for density in (0.0005, 0.001)
    )
    assert dense / sparse == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize('name', [*TRAIN_PHOTOS, *HELD_OUT_PHOTOS])
def test_the_photographs_come_with_scikit_image(name):
    image = read_photo(photo_folder() / name)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert min(image.shape[:2]) >= 256


def test_a_missing_photograph_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.png is missing or no readable image'):
        read_photo(tmp_path / 'nowhere.png')


def test_no_held_out_photograph_is_trained_on():
    assert not set(TRAIN_PHOTOS) & set(HELD_OUT_PHOTOS)


@pytest.mark.parametrize('shape', [(300, 451), (128, 128), (129, 640)])
def test_tiles_cover_the_image_and_stay_inside(shape):
    covered = np.zeros(shape, bool)
    for top, left in tile_corners(shape, 128):
        assert top + 128 <= shape[0]
        assert left + 128 <= shape[1]
        covered[top : top + 128, left : left + 128] = True
    assert covered.all()


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / 'photos'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ('first.png', 'second.png', 'held.png'):
        cv2.imwrite(str(folder / name), rng.integers(0, 200, (48, 64, 3), dtype=np.uint8))
    return folder


SMALL = DataSettings(
    train_photos=('first.png', 'second.png'), held_out_photos=('held.png',), renderings=2, tile=32
)


def test_every_photograph_is_cut_under_every_rendering(photos):
    names = [name for name, _, _ in training_pairs(SMALL, photos)]
    assert len(names) == len(set(names)) == 2 * 2 * 4


def test_renderings_differ_and_clean_images_differ_in_the_order_of_channels_only(photos):
    pairs = {name: (rainy, clean) for name, rainy, clean in training_pairs(SMALL, photos)}
    first, second = pairs['first_rain0_y0_x0'], pairs['first_rain1_y0_x0']
    streaks = [(rainy.astype(int) - clean).max(axis=-1) for rainy, clean in (first, second)]
    assert (streaks[0] != streaks[1]).any()
    np.testing.assert_array_equal(first[1][..., [0, 2, 1]], second[1])


def test_the_first_rendering_has_the_photographs_own_colours(photos):
    clean = read_photo(photos / 'first.png')
    tiles = {name: tile for name, _, tile in training_pairs(SMALL, photos)}
    np.testing.assert_array_equal(tiles['first_rain0_y0_x0'], clean[:32, :32])


@pytest.mark.parametrize('degradation', ['noise', 'blur'])
def test_another_degradation_has_the_same_clean_images(degradation, photos):
    rainy, other = (
        list(training_pairs(replace(SMALL, degradation=name), photos))
        for name in ('rain', degradation)
    )
    for (name, one, clean), (other_name, another, same) in zip(rainy, other, strict=True):
        assert other_name == name.replace('rain', degradation)
        np.testing.assert_array_equal(clean, same)
        assert (one != another).any()


def test_prepare_writes_paired_folders_and_lmdbs_once(photos, tmp_path, monkeypatch):
    root = tmp_path / 'data'
    made: list[str] = []

    def make_lmdb(folder: Path, lmdb: Path) -> None:
        made.append(lmdb.relative_to(root).as_posix())

    monkeypatch.setattr(data, 'make_lmdb', make_lmdb)
    assert prepare(root, SMALL, photos)
    assert not prepare(root, SMALL, photos)
    names = [{path.name for path in root.glob(f'train/{side}/*')} for side in ('input', 'target')]
    assert names[0] == names[1]
    assert len(names[0]) == 16
    assert made == [
        f'{phase}/{side}.lmdb' for phase in ('test', 'train') for side in ('input', 'target')
    ]


def test_data_of_other_settings_is_replaced(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(data, 'make_lmdb', lambda *_: None)
    root = tmp_path / 'data'
    prepare(root, SMALL, photos)
    other = replace(SMALL, renderings=1)
    assert prepare(root, other, photos)
    assert len(list(root.glob('train/input/*.png'))) == 8


def test_data_of_an_interrupted_run_is_replaced(photos, tmp_path, monkeypatch):
    root = tmp_path / 'data'

    def interrupted(folder: Path, lmdb: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(data, 'make_lmdb', interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(root, SMALL, photos)
    monkeypatch.setattr(data, 'make_lmdb', lambda *_: None)
    assert prepare(root, SMALL, photos)


def test_lmdbs_are_basicsrs(photos, tmp_path):
    from basicsr.data.data_util import paired_paths_from_lmdb

    root = tmp_path / 'data'
    prepare(root, replace(SMALL, renderings=1), photos)
    folders = [str(root / 'train' / f'{side}.lmdb') for side in ('input', 'target')]
    assert len(paired_paths_from_lmdb(folders, ['lq', 'gt'])) == 8


# Stages: a script stands in for BasicSR's training; it fails while `broken` exists.

TRAIN_SCRIPT = """
import pathlib, sys
root = pathlib.Path({root!r})
with open(root / 'runs.txt', 'a') as runs:
    print(*sys.argv[1:], file=runs)
(root / 'experiment/training_states').mkdir(parents=True, exist_ok=True)
(root / 'experiment/training_states/1.state').touch()
print('network layers')
print('2026-01-01 00:00:00,000 INFO: [demo_..][epoch:  0, iter:       1, lr:(1.000e-03,)] '
      '[eta: 0:01:05, time (data): 0.748 (0.154)] l_noise: 5.0e-01 ')
sys.stdout.flush()
if (root / 'slow').exists():
    import time
    time.sleep(600)
if (root / 'broken').exists():
    raise SystemExit('no space left on device')
(root / 'experiment/product').touch()
"""


@pytest.fixture
def stage(tmp_path) -> stages.Stage:
    script = tmp_path / 'train.py'
    script.write_text(TRAIN_SCRIPT.format(root=str(tmp_path)))
    options = tmp_path / 'options.yml'
    options.write_text('train: {total_iter: 7}\n')
    return stages.Stage(
        key='coarse',
        title='coarse training',
        script=str(script),
        options=options,
        experiment=tmp_path / 'experiment',
        product=tmp_path / 'experiment' / 'product',
        inputs='data',
    )


@pytest.fixture
def perform(stage, tmp_path):
    """Perform the stage as a new process of the demo would."""

    def run(changed: stages.Stage = stage) -> float:
        return stages.perform(changed, tmp_path / 'record.json', tmp_path / 'coarse.log')

    return run


def runs(tmp_path: Path) -> list[str]:
    return (tmp_path / 'runs.txt').read_text().splitlines()


def test_a_finished_stage_is_reused_with_its_time(perform, tmp_path):
    seconds = perform()
    assert perform() == seconds > 0
    assert len(runs(tmp_path)) == 1


def test_a_finished_stage_runs_again_when_its_options_change(perform, stage, tmp_path):
    perform()
    stage.options.write_text('train: {total_iter: 8}\n')
    perform()
    assert len(runs(tmp_path)) == 2
    assert '--auto_resume' not in runs(tmp_path)[1]


def test_a_finished_stage_runs_again_when_its_inputs_change(perform, stage, tmp_path):
    perform()
    perform(replace(stage, inputs='other data'))
    assert len(runs(tmp_path)) == 2


def test_a_finished_stage_runs_again_when_its_product_is_gone(perform, stage, tmp_path):
    perform()
    stage.product.unlink()
    perform()
    assert len(runs(tmp_path)) == 2


def test_a_failed_stage_says_why_and_where_its_log_is(perform, tmp_path):
    (tmp_path / 'broken').touch()
    with pytest.raises(stages.StageFailed, match=r'coarse\.log(.|\n)*no space left on device'):
        perform()


def test_an_interrupted_stage_is_resumed_and_its_times_add_up(perform, tmp_path):
    (tmp_path / 'broken').touch()
    with pytest.raises(stages.StageFailed):
        perform()
    first = json.loads((tmp_path / 'record.json').read_text())['coarse']['seconds']
    (tmp_path / 'broken').unlink()
    assert perform() > first > 0
    assert '--auto_resume' in runs(tmp_path)[1]


def test_an_interrupted_stage_starts_over_when_its_options_change(perform, stage, tmp_path):
    (tmp_path / 'broken').touch()
    with pytest.raises(stages.StageFailed):
        perform()
    (tmp_path / 'broken').unlink()
    stage.options.write_text('train: {total_iter: 8}\n')
    perform()
    assert '--auto_resume' not in runs(tmp_path)[1]


def test_the_screen_shows_progress_and_the_log_everything(perform, tmp_path, capsys):
    perform()
    screen, log = capsys.readouterr().out, (tmp_path / 'coarse.log').read_text()
    assert 'iteration 1/7' in screen
    assert 'network layers' not in screen
    assert 'network layers' in log


LINE = (
    '2026-01-01 00:00:00,000 INFO: [demo_..][epoch:  0, iter:   1,020, lr:(1.000e-03,)] '
    '[eta: {eta}, time (data): 0.748 (0.154)] {values}'
)


def test_a_progress_line_says_what_is_left_the_phase_and_the_losses():
    values = 'phase: 1/2 (32 x 32, batch 16) l_pix: 4.63e-02 l_ssim: 6.3e-01 grad_norm: 1.1e+00 '
    shown = stages.progress(LINE.format(eta='0:01:05', values=values), 2000)
    assert shown == (
        'iteration 1020/2000  left 0:01:05  phase 1/2 (32 x 32, batch 16)  '
        'l_pix 0.0463  l_ssim 0.6300  lr 1.000e-03'
    )


def test_nothing_is_left_at_the_end():
    shown = stages.progress(LINE.format(eta='-1 day, 23:59:59', values='l_noise: 1e-1 '), 1020)
    assert shown == 'iteration 1020/1020  left 0:00:00  l_noise 0.1000  lr 1.000e-03'


def test_days_are_shown():
    shown = stages.progress(LINE.format(eta='1 day, 2:03:04', values='l_noise: 1e-1 '), 9999)
    assert 'left 1 day, 2:03:04' in shown


def test_warnings_are_shown():
    line = '2026-01-01 00:00:00,000 WARNING: the loss is not finite\n'
    assert 'the loss is not finite' in stages.progress(line, 10)


def test_the_users_own_thread_settings_win(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '7')
    monkeypatch.delenv('OMP_WAIT_POLICY', raising=False)
    environment = stages.environment()
    assert (environment['OMP_NUM_THREADS'], environment['OMP_WAIT_POLICY']) == ('7', 'PASSIVE')


def test_a_broken_record_counts_as_none(perform, tmp_path):
    perform()
    (tmp_path / 'record.json').write_text('{"coarse": ')
    perform()
    assert len(runs(tmp_path)) == 2


def test_a_stage_ends_with_the_demo(perform, stage, tmp_path):
    (tmp_path / 'slow').touch()
    program = (
        'import signal, sys; from pathlib import Path; from demo import stages\n'
        'signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n'
        f'stages.follow([sys.executable, {stage.script!r}], Path({str(tmp_path / "log")!r}))\n'
    )
    demo = subprocess.Popen([sys.executable, '-c', program], cwd=SCRIPTS, stdout=subprocess.PIPE)
    assert b'iter' in demo.stdout.readline()
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(timeout=240) == 143
    demo.stdout.close()
    assert not stage.product.exists()


@pytest.mark.parametrize(
    ('seconds', 'text'), [(7.4, '7 s'), (60, '1 min 00 s'), (185.2, '3 min 05 s')]
)
def test_durations_are_readable(seconds, text):
    assert stages.readable(seconds) == text


@pytest.fixture
def images() -> dict[str, dict[str, np.ndarray]]:
    """Two photographs; coarse is off by 8 and fine by 4 levels everywhere."""
    rng = np.random.default_rng(0)
    photos = {}
    for name, shape in {'rocket': (40, 60, 3), 'motorcycle': (50, 48, 3)}.items():
        target = rng.integers(50, 180, shape, dtype=np.uint8)
        off_by = {'input': 32, 'coarse': 8, 'fine': 4, 'target': 0}
        photos[name] = {version: target + np.uint8(off) for version, off in off_by.items()}
    return photos


def test_scores_are_those_of_the_y_channel(images):
    scores = report.score(images)
    # Y spans 219 levels for 255 of each channel: an offset of 4 is 4 * 219 / 255 on Y.
    expected = 20 * np.log10(255 / (4 * 219 / 255))
    assert scores['rocket']['fine']['psnr'] == pytest.approx(expected, abs=1e-3)


def test_halving_the_error_is_six_decibels(images):
    mean = report.mean_scores(report.score(images))
    assert mean['fine']['psnr'] - mean['coarse']['psnr'] == pytest.approx(
        20 * np.log10(2), abs=1e-3
    )


SCORES = {
    'rocket': {
        'input': {'psnr': 14.0, 'ssim': 0.25},
        'coarse': {'psnr': 18.0, 'ssim': 0.5},
        'fine': {'psnr': 22.0, 'ssim': 0.75},
    },
    'motorcycle': {
        'input': {'psnr': 16.0, 'ssim': 0.35},
        'coarse': {'psnr': 19.0, 'ssim': 0.6},
        'fine': {'psnr': 21.0, 'ssim': 0.65},
    },
}


def test_the_table_has_a_line_per_photograph_and_the_mean():
    lines = report.table(SCORES).splitlines()
    assert lines[-3].split() == ['rocket', '14.00', '0.250', '18.00', '0.500', '22.00', '0.750']
    assert lines[-2].split() == ['motorcycle', '16.00', '0.350', '19.00', '0.600', '21.00', '0.650']
    assert lines[-1].split() == ['mean', '15.00', '0.300', '18.50', '0.550', '21.50', '0.700']


def test_the_gains_are_differences_of_means():
    text = report.gains(SCORES)
    assert '+6.50 dB from the rainy input' in text
    assert '+3.00 dB from coarse' in text


def test_the_summary_has_the_agreed_form(tmp_path):
    seconds = {'coarse': 100.0, 'fine': 200.0, 'test': 10.0}
    report.write_summary(
        tmp_path / 'demo' / 'summary.json', SCORES, seconds, 'bash scripts/demo.sh'
    )
    summary = json.loads((tmp_path / 'demo' / 'summary.json').read_text())
    assert summary['photos'] == SCORES
    assert summary['mean']['fine'] == {'psnr': 21.5, 'ssim': 0.7}
    assert summary['seconds'] == seconds
    assert summary['command'] == 'bash scripts/demo.sh' and summary['machine']['cpu']


def test_the_picture_shows_four_columns_and_two_rows_per_photograph(images, tmp_path):
    report.write_comparison(tmp_path / 'comparison.png', images, report.score(images))
    picture = cv2.imread(str(tmp_path / 'comparison.png'))
    width, height = report.CELL
    assert picture.shape == (2 * (LABEL_HEIGHT + 2 * height), 4 * width, 3)


def test_each_column_of_the_picture_shows_its_version(tmp_path):
    values = {'input': 10, 'coarse': 60, 'fine': 110, 'target': 160}
    images = {'flat': {version: grey(value, (40, 60)) for version, value in values.items()}}
    report.write_comparison(tmp_path / 'comparison.png', images, report.score(images))
    picture = cv2.imread(str(tmp_path / 'comparison.png'))
    width, height = report.CELL
    middle = LABEL_HEIGHT + height // 2
    assert [int(picture[middle, width // 2 + k * width, 0]) for k in range(4)] == [10, 60, 110, 160]


def test_results_are_read_by_name(images, tmp_path):
    endings = {'input': '.png', 'coarse': '_coarse.png', 'fine': '_fine.png', 'target': '.png'}
    for name, by_version in images.items():
        for version, image in by_version.items():
            (tmp_path / version).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / version / f'{name}{endings[version]}'), image)
    found = report.read_results({v: (tmp_path / v, ending) for v, ending in endings.items()})
    assert sorted(found) == ['motorcycle', 'rocket']
    np.testing.assert_array_equal(found['rocket']['coarse'], images['rocket']['coarse'])


def test_a_missing_result_is_named(images, tmp_path):
    for version in ('input', 'target'):
        (tmp_path / version).mkdir()
        cv2.imwrite(str(tmp_path / version / 'rocket.png'), images['rocket'][version])
    folders = {version: (tmp_path / version, '.png') for version in ('input', 'target')}
    with pytest.raises(FileNotFoundError, match=r'rocket_fine\.png is missing'):
        report.read_results({**folders, 'fine': (tmp_path / 'fine', '_fine.png')})


def test_fresh_removes_the_demos_folders_and_no_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = [
        'datasets/demo', 'results/demo', 'results/demo_test', 'experiments/demo_fine',
        'results/demo_paper', 'experiments/demo_paper_fine',
    ]  # fmt: skip
    others = ['datasets/train', 'results/derain_test', 'experiments/derain_fine']
    for folder in mine + others:
        (tmp_path / folder).mkdir(parents=True)
    demo_main.remove_everything()
    assert not any((tmp_path / folder).exists() for folder in mine)
    assert all((tmp_path / folder).exists() for folder in others)


def test_the_fine_stage_depends_on_the_coarse_one(monkeypatch):
    monkeypatch.chdir(SCRIPTS.parent)
    fingerprints = {
        demo_main.training_stage(
            'demo', 'fine', demo_main.training_stage('demo', 'coarse', data).fingerprint()
        ).fingerprint()
        for data in ('one', 'other')
    }
    assert len(fingerprints) == 2


@pytest.fixture(params=['demo', 'demo_paper'])
def demo(request) -> str:
    return request.param


@pytest.fixture
def tiny_demo(tmp_path, monkeypatch, demo) -> Path:
    """A folder with the demo's scripts and its options, shrunk, as the current folder."""
    (tmp_path / 'scripts').symlink_to(SCRIPTS)
    (tmp_path / 'options').mkdir()
    for name in (f'{demo}_coarse', f'{demo}_fine', f'{demo}_test'):
        opt = yaml.safe_load((SCRIPTS.parent / 'options' / f'{name}.yml').read_text())
        opt['network_g'].update(dim=8, num_blocks=[1, 1, 1, 1], heads=[1, 1, 1, 1])
        if 'train' in opt:
            opt['train']['total_iter'] = 2
            opt['train']['scheduler']['periods'] = [1, 1]
            opt['logger']['print_freq'] = 1
            opt['datasets']['train'].update(
                gt_sizes=[16, 24], mini_batch_sizes=[2, 1], iters=[1], batch_size_per_gpu=2
            )
        (tmp_path / 'options' / f'{name}.yml').write_text(yaml.safe_dump(opt, sort_keys=False))
    settings = replace(DataSettings(), train_photos=('chelsea.png',), renderings=1)
    monkeypatch.setattr(demo_main, 'DataSettings', lambda: settings)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.subprocess
def test_the_demo_ends_with_table_picture_and_figures_and_reuses_them(tiny_demo, demo, capfd):
    demo_main.run(demo)
    first = capfd.readouterr().out
    summary = json.loads((tiny_demo / 'results' / demo / 'summary.json').read_text())
    assert set(summary['photos']) == {'rocket', 'motorcycle_right'}
    assert set(summary['mean']) == {'input', 'coarse', 'fine'}
    assert all(summary['seconds'][stage] > 0 for stage in ('coarse', 'fine', 'test'))
    assert 'iteration 2/2' in first
    assert str(tiny_demo / 'results' / demo / 'comparison.png') in first
    assert cv2.imread(str(tiny_demo / 'results' / demo / 'comparison.png')) is not None

    demo_main.run(demo)
    second = capfd.readouterr().out
    assert second.count('reused') == 5
    assert second.split('Held-out')[1] == first.split('Held-out')[1]

"""The evaluate command: what it pairs, prints and counts, and what its exit code says."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from c2fdft_model.commands.measuring import evaluate
from c2fdft_model.data import mat_files
from c2fdft_model.restoring.results_record import append_record
from helpers import matlab


@pytest.fixture
def run(capsys):
    def call(*arguments, workers=1):
        code = evaluate.main([str(a) for a in arguments] + ['--workers', str(workers)])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def grey(value: int, size=(16, 20)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Three pairs whose errors are exactly 1, 5 and 10 grey values."""
    for name, error in (('a', 1), ('b', 5), ('c', 10)):
        save(tmp_path / 'gt' / f'{name}.png', grey(100))
        save(tmp_path / 'results' / f'{name}.png', grey(100 + error))
    return tmp_path / 'results', tmp_path / 'gt'


MEAN_PSNR = sum(20 * math.log10(255 / error) for error in (1, 5, 10)) / 3


def test_the_mean_is_printed_with_the_protocols_name_and_description(run, folders):
    code, out, _ = run('gopro_rgb', *folders)
    assert code == 0
    assert 'gopro_rgb: uint8 RGB, no crop' in out
    assert f'gopro_rgb  psnr      {MEAN_PSNR:.4f} dB  (mean of 3)' in out
    assert 'problems: 0' in out


def test_two_processes_give_the_same_output(run, folders):
    assert run('gopro_rgb', *folders, workers=2) == run('gopro_rgb', *folders)


def test_the_csv_has_every_image_and_the_mean(run, folders, tmp_path):
    table = tmp_path / 'new' / 'numbers.csv'
    run('rain_y', *folders, '--csv', table)
    with open(table, newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['image'] for row in rows] == ['a', 'b', 'c', 'mean']
    assert {row['protocol'] for row in rows} == {'rain_y'}
    psnrs = [float(row['psnr']) for row in rows]
    assert psnrs[3] == pytest.approx(sum(psnrs[:3]) / 3)


def test_results_named_by_basicsr_find_their_ground_truth(run, tmp_path):
    for name in ('1', '1_2', 'GOPR0384_11_00-000001'):
        save(tmp_path / 'gt' / f'{name}.jpg', grey(100))
        save(tmp_path / 'results' / f'{name}_derain_test.png', grey(101))
    code, out, _ = run('gopro_rgb', tmp_path / 'results', tmp_path / 'gt')
    assert (code, '(mean of 3)' in out) == (0, True)


def test_a_suffix_chooses_between_two_runs(run, folders):
    results, gt = folders
    for name in 'abc':
        (results / f'{name}.png').rename(results / f'{name}_old.png')
        save(results / f'{name}_new.png', grey(100))
    code, out, _ = run('gopro_rgb', results, gt)
    assert code == 2
    assert 'several results fit (a_new.png, a_old.png): choose by --suffix' in out
    code, out, _ = run('gopro_rgb', results, gt, '--suffix', 'old')
    assert code == 0
    assert f'{MEAN_PSNR:.4f} dB' in out


def test_unpaired_files_are_named_and_counted_and_the_rest_goes_on(run, folders):
    results, gt = folders
    (results / 'a.png').unlink()
    save(results / 'stranger.png', grey(3))
    code, out, _ = run('gopro_rgb', results, gt)
    assert code == 1
    assert '(mean of 2)' in out
    assert 'problems: 2 (2 unpaired)' in out
    assert 'unpaired: a: no result for a.png' in out
    assert 'unpaired: stranger: no ground truth for stranger.png' in out


def test_two_files_of_one_name_are_named(run, folders):
    results, gt = folders
    save(results / 'a.jpg', grey(3))
    code, out, _ = run('gopro_rgb', results, gt)
    assert code == 1
    assert 'has it twice: a.jpg, a.png' in out


def test_different_sizes_are_named_and_counted_and_the_rest_goes_on(run, folders):
    results, gt = folders
    save(results / 'b.png', grey(3, (12, 30)))
    code, out, _ = run('rain_y', results, gt)
    assert code == 1
    assert '(mean of 2)' in out
    assert 'problems: 1 (1 different sizes)' in out
    assert 'different sizes: b: b.png is 30 x 12, b.png is 20 x 16' in out


def test_a_broken_image_is_named_and_the_rest_goes_on(run, folders):
    results, gt = folders
    (results / 'b.png').write_bytes(b'not a picture')
    (results / 'c.png').write_bytes(b'')
    code, out, _ = run('rain_y', results, gt)
    assert code == 1
    assert 'problems: 2 (2 unreadable)' in out
    assert 'unreadable: b: ' in out
    assert 'c.png: the file is empty' in out


def test_images_too_small_for_the_window_are_named(run, tmp_path):
    for folder in ('results', 'gt'):
        save(tmp_path / folder / 'tiny.png', grey(9, (8, 20)))
    code, out, _ = run('gopro_rgb', tmp_path / 'results', tmp_path / 'gt')
    assert code == 2
    assert 'unusable: tiny: SSIM needs sides of 11 pixels or more: this is 20 x 8' in out


def test_equal_images_are_noted_because_they_make_the_mean_infinite(run, folders):
    results, gt = folders
    save(results / 'c.png', grey(100))
    code, out, _ = run('gopro_rgb', results, gt)
    psnr = sum(20 * math.log10(255 / error) for error in (1, 5)) / 2
    assert code == 0
    assert '1 results equal their ground truth' in out
    assert f'psnr of the others {psnr:.4f} dB' in out


@pytest.mark.parametrize('workers', [1, 2])
def test_an_alignment_that_fails_is_named_and_the_rest_goes_on(run, tmp_path, workers):
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.uniform(0, 255, (64, 64, 3)), (0, 0), 2)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    for name in ('good', 'flat'):
        save(tmp_path / 'gt' / f'{name}.png', picture)
    save(tmp_path / 'results' / 'good.png', (picture * 0.9).astype(np.uint8))
    save(tmp_path / 'results' / 'flat.png', grey(90, (64, 64)))
    code, out, _ = run('realblur_aligned', tmp_path / 'results', tmp_path / 'gt', workers=workers)
    assert code == 1
    assert '(mean of 1)' in out
    assert 'problems: 1 (1 not aligned)' in out
    assert 'not aligned: flat: the alignment did not converge' in out


@pytest.mark.parametrize(
    ('protocol', 'message'),
    [
        ('rain_z', 'did you mean "rain_y"?'),
        ('gopro_rgb', 'none: there is no such folder'),
        ('dnd', 'nothing: there is no info.mat in it or below'),
    ],
)
def test_what_cannot_start_ends_with_2_and_says_why(run, tmp_path, protocol, message):
    code, _, err = run(protocol, tmp_path / 'none', tmp_path / 'nothing')
    assert code == 2
    assert message in err


def test_an_empty_folder_is_named(run, folders, tmp_path):
    (tmp_path / 'empty').mkdir()
    code, _, err = run('rain_y', tmp_path / 'empty', folders[1])
    assert code == 2
    assert 'empty has no images' in err


@pytest.fixture
def sidd(tmp_path):
    gt = np.random.default_rng(0).integers(40, 200, (2, 2, 16, 16, 3), np.uint8)
    matlab.save_classic(tmp_path / 'ValidationGtBlocksSrgb.mat', ValidationGtBlocksSrgb=gt)
    return gt


@pytest.mark.parametrize('save_mat', [matlab.save_classic, matlab.save_v73])
def test_sidd_val_reads_both_formats_and_does_not_round(run, sidd, tmp_path, save_mat):
    denoised = (sidd / 255 + 0.01).astype(np.float32)
    save_mat(tmp_path / 'Idenoised.mat', Idenoised=denoised)
    code, out, _ = run('sidd_val', tmp_path, tmp_path)
    assert code == 0
    assert 'sidd_val  psnr      40.0000 dB  (mean of 4)' in out
    assert '2 x 2 x 16 x 16 x 3 is not the whole validation set of SIDD' in out


def test_sidd_val_takes_uint8_blocks(run, sidd, tmp_path):
    path = matlab.save_classic(tmp_path / 'x.mat', DenoisedBlocksSrgb=sidd + np.uint8(1))
    code, out, _ = run('sidd_val', path, tmp_path)
    assert code == 0
    assert f'{20 * math.log10(255):.4f} dB' in out


def test_a_block_that_is_not_finite_is_named_and_the_rest_goes_on(run, sidd, tmp_path):
    denoised = (sidd / 255 + 0.01).astype(np.float32)
    denoised[1, 0, 3, 3, 1] = np.nan
    matlab.save_classic(tmp_path / 'Idenoised.mat', Idenoised=denoised)
    code, out, _ = run('sidd_val', tmp_path, tmp_path)
    assert code == 1
    assert '(mean of 3)' in out
    assert 'unusable: 0002_01: the result has values that are not finite' in out


def test_a_missing_mat_variable_is_named(run, sidd, tmp_path):
    path = matlab.save_classic(tmp_path / 'x.mat', Other=sidd)
    code, _, err = run('sidd_val', path, tmp_path)
    assert code == 2
    assert 'no variable `Idenoised` or `DenoisedBlocksSrgb`; it has `Other`' in err


def test_a_wrong_array_shape_is_named(run, sidd, tmp_path):
    path = matlab.save_classic(tmp_path / 'x.mat', Idenoised=sidd[0])
    code, _, err = run('sidd_val', path, tmp_path)
    assert code == 2
    assert '`Idenoised` has the shape 2 x 16 x 16 x 3' in err


def test_arrays_of_different_sizes_are_named(run, sidd, tmp_path):
    path = matlab.save_classic(tmp_path / 'x.mat', Idenoised=sidd[:, :1])
    code, _, err = run('sidd_val', path, tmp_path)
    assert code == 2
    assert 'the results are 2 x 1 x 16 x 16 x 3, the ground truth is 2 x 2 x 16 x 16 x 3' in err


@pytest.fixture
def dnd(tmp_path):
    """A submission of two images with two boxes each."""
    boxes = [np.array([[1, 1, 8, 6], [3, 5, 10, 10]])] * 2
    matlab.save_dnd_info_v73(tmp_path / 'info.mat', boxes)
    for name in ('0001', '0002'):
        mat_files.write_dnd_image(tmp_path / f'{name}.mat', [np.zeros((8, 6, 3))] * 2)
    (tmp_path / 'bundle').mkdir()
    for name in ('0001', '0002'):
        (tmp_path / f'{name}.mat').rename(tmp_path / 'bundle' / f'{name}.mat')
    return tmp_path / 'bundle', tmp_path / 'info.mat'


def test_a_good_dnd_submission_passes(run, dnd):
    code, out, _ = run('dnd', *dnd)
    assert code == 0
    assert 'dnd  2 items checked, no fault found' in out
    assert '2 images are not the 50 of DND' in out


@pytest.mark.parametrize(
    ('patches', 'message'),
    [
        ([np.zeros((8, 6, 3))], '`Idenoised` has 1 cells for 2 boxes'),
        ([np.zeros((8, 6, 3)), np.zeros((6, 8, 3))], r'box 2 has the shape (6, 8, 3), (8, 6, 3)'),
        ([np.zeros((8, 6, 3)), np.full((8, 6, 3), 9.0)], 'box 2 has values outside [0, 1]'),
        ([np.zeros((8, 6, 3)), np.full((8, 6, 3), np.nan)], 'box 2 has values outside [0, 1]'),
    ],
)
def test_a_faulty_dnd_image_is_named_and_the_rest_goes_on(run, dnd, patches, message):
    mat_files.write_dnd_image(dnd[0] / '0002.mat', patches)
    code, out, _ = run('dnd', *dnd)
    assert code == 1
    assert 'dnd  1 items checked' in out
    assert message in out


def test_missing_and_surplus_dnd_images_are_named(run, dnd):
    (dnd[0] / '0001.mat').rename(dnd[0] / '1.mat')
    code, out, _ = run('dnd', *dnd)
    assert code == 1
    assert '0001.mat is missing' in out
    assert 'unpaired: 1.mat: not an image of DND' in out


@pytest.fixture
def sidd_bundle(tmp_path):
    blocks = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), np.uint8)
    noisy = matlab.save_classic(tmp_path / 'noisy.mat', BenchmarkNoisyBlocksSrgb=blocks)
    mat_files.write_sidd_submission(tmp_path / 'bundle', blocks, 1, 'x')
    return tmp_path / 'bundle', noisy, blocks


def test_a_good_sidd_submission_passes(run, sidd_bundle):
    code, out, _ = run('sidd', *sidd_bundle[:2])
    assert code == 0
    assert 'sidd  4 items checked, no fault found' in out


def test_a_sidd_csv_that_differs_from_the_mat_is_named(run, sidd_bundle, tmp_path):
    folder, noisy, blocks = sidd_bundle
    other = blocks.copy()
    other[1, 0, 0, 0, 0] += 1
    mat_files.write_sidd_submission(tmp_path / 'other', other, 1, 'x')
    (tmp_path / 'other' / 'SubmitSrgb.csv').replace(folder / 'SubmitSrgb.csv')
    code, out, _ = run('sidd', folder, noisy)
    assert code == 1
    assert 'unusable: block 2: SubmitSrgb.csv holds another block' in out


def test_what_made_the_results_is_said_beside_their_metrics(run, folders):
    results, gt = folders
    settings = {'weights': 'ab' * 32, 'diffusion': {'sampling_timesteps': 4}}
    append_record(results, 'a.png', settings)
    _, out, _ = run('gopro_rgb', results, gt)
    assert 'note: results made with weights sha256 abababababab…, sampling_timesteps 4' in out


def test_a_table_that_cannot_be_written_is_named_after_the_means(run, folders):
    code, out, err = run('gopro_rgb', *folders, '--csv', '/dev/null/table.csv')
    assert code == 1 and 'gopro_rgb  psnr' in out
    assert 'error: --csv /dev/null/table.csv: ' in err


def test_processes_are_fewer_where_memory_is_short_and_it_is_said(run, folders, monkeypatch):
    monkeypatch.setattr(evaluate, 'available_memory_mb', lambda device: 500.0)
    code, out, _ = run('gopro_rgb', *folders, workers=2)
    assert code == 0 and 'note: 1 of 2 processes, for want of memory' in out

"""Denoising the MATLAB files of the benchmarks: what is written reads back and evaluates."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from c2fdft_arch.dft import DFT
from c2fdft_model.commands.measuring import denoise_mat
from c2fdft_model.data import mat_files
from c2fdft_model.evaluation.evaluation_set import Measurements, measure_all
from c2fdft_model.evaluation.protocols import find_evaluation_set, get_protocol
from c2fdft_model.restoring import mat_denoising
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.restoring.weights import load_network
from helpers import matlab
from helpers.checkpoints import OTHER_SETTINGS, restored_otherwise, save_trained_otherwise

SAVERS = [matlab.save_classic, matlab.save_v73]
BOXES = [np.array([[1, 1, 16, 12], [3, 5, 18, 20]]), np.array([[2, 1, 17, 12], [1, 2, 12, 18]])]


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = DFT(dim=8, num_blocks=(1, 1, 1, 1), heads=(1, 1, 1, 1), ffn_factor=1)
    path = tmp_path_factory.mktemp('weights') / 'net_g.pth'
    torch.save({'params_ema': network.state_dict()}, path)
    return path


@pytest.fixture
def run(weights, tmp_path, capsys):
    def call(benchmark, given, *options, weights=weights, steps=('--steps', '2')):
        arguments = ['--input', given, '--output', tmp_path / 'out', '--weights', weights]
        code = denoise_mat.main(
            [
                *(benchmark, *map(str, arguments), *steps, '--device', 'cpu'),
                *('--precision', 'fp32', *options),
            ]
        )
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


@pytest.fixture
def blocks():
    return np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), np.uint8)


def restored(weights, image: np.ndarray, name: str) -> np.ndarray:
    tensor = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)
    result = restore(load_network(weights), tensor, timesteps=2, noise_name=name, precision='fp32')
    return result.permute(1, 2, 0).numpy()


def evaluated(name: str, results, gt) -> Measurements:
    protocol = get_protocol(name)
    return measure_all(protocol.measure, find_evaluation_set(protocol, results, gt))


@pytest.mark.parametrize('save', SAVERS)
def test_validation_blocks_are_denoised_as_floats_and_evaluate(
    run, weights, blocks, tmp_path, save
):
    path = save(tmp_path / 'noisy.mat', ValidationNoisyBlocksSrgb=blocks)
    code, _, _ = run('sidd', path)
    assert code == 0
    written = mat_files.read_array(tmp_path / 'out' / 'Idenoised.mat', 'Idenoised', blocks.shape)
    assert written.dtype == np.float32
    np.testing.assert_allclose(written[1, 0], restored(weights, blocks[1, 0], '0002_01'), atol=1e-5)
    gt = save(tmp_path / 'gt.mat', ValidationGtBlocksSrgb=blocks)
    measured = evaluated('sidd_val', tmp_path / 'out', gt)
    assert (len(measured.metrics), measured.problems) == (4, [])


@pytest.mark.parametrize('settings', OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
def test_blocks_are_denoised_as_the_weights_were_trained(run, blocks, tmp_path, settings):
    path = matlab.save_classic(tmp_path / 'noisy.mat', ValidationNoisyBlocksSrgb=blocks[:1])
    weights = save_trained_otherwise(tmp_path / 'net.pth', settings)
    code, _, _ = run('sidd', path, weights=weights, steps=())
    assert code == 0
    written = mat_files.read_array(tmp_path / 'out' / 'Idenoised.mat', 'Idenoised')
    image = torch.from_numpy(blocks[0, 1].astype(np.float32) / 255).permute(2, 0, 1)
    expected = restored_otherwise(weights, settings, image, '0001_02', precision='fp32')
    np.testing.assert_allclose(written[0, 1], expected.permute(1, 2, 0).numpy(), atol=1e-5)


def test_the_result_does_not_depend_on_the_batch(run, blocks, tmp_path):
    path = matlab.save_classic(tmp_path / 'noisy.mat', ValidationNoisyBlocksSrgb=blocks)
    run('sidd', path)
    (tmp_path / 'out').rename(tmp_path / 'alone')
    run('sidd', path, '--batch', '2')
    one, two = (
        mat_files.read_array(tmp_path / f / 'Idenoised.mat', 'Idenoised') for f in ('alone', 'out')
    )
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_benchmark_blocks_become_a_submission_that_passes_its_check(run, weights, blocks, tmp_path):
    matlab.save_classic(tmp_path / 'BenchmarkNoisyBlocksSrgb.mat', BenchmarkNoisyBlocksSrgb=blocks)
    code, out, _ = run('sidd', tmp_path, '--save-images')
    assert code == 0
    assert 'SubmitSrgb.mat, SubmitSrgb.csv (2 scenes)' in out
    measured = evaluated('sidd', tmp_path / 'out', tmp_path)
    assert (len(measured.metrics), measured.problems) == (4, [])
    written = mat_files.read_array(tmp_path / 'out' / 'SubmitSrgb.mat', 'DenoisedBlocksSrgb')
    expected = restored(weights, blocks[0, 1], '0001_02') * 255
    assert np.abs(written[0, 1] - expected).max() < 0.51
    png = cv2.imread(str(tmp_path / 'out' / 'png' / '0001_02.png'))[..., ::-1]
    np.testing.assert_array_equal(png, written[0, 1])


@pytest.mark.parametrize(
    'damage', [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-99])]
)
def test_an_interrupted_run_goes_on_without_doing_a_whole_scene_again(
    run, blocks, tmp_path, monkeypatch, damage
):
    path = matlab.save_classic(tmp_path / 'noisy.mat', ValidationNoisyBlocksSrgb=blocks)
    run('sidd', path)
    result = (tmp_path / 'out' / 'Idenoised.mat').read_bytes()[128:]
    parts = tmp_path / 'out' / 'ValidationNoisyBlocksSrgb.parts'
    damage(parts / '0002.npz')
    calls = []

    def watched(*args, **settings):
        calls.append(settings['noise_name'])
        return restore(*args, **settings)

    monkeypatch.setattr(mat_denoising, 'restore', watched)
    run('sidd', path)
    assert calls == [['0002_01'], ['0002_02']]
    assert (tmp_path / 'out' / 'Idenoised.mat').read_bytes()[128:] == result


def test_other_settings_do_not_mix_into_the_same_folder(run, blocks, tmp_path):
    path = matlab.save_classic(tmp_path / 'noisy.mat', ValidationNoisyBlocksSrgb=blocks)
    run('sidd', path)
    code, _, err = run('sidd', path, '--seed', '1')
    assert code == 2
    assert 'holds results with other seed' in err


@pytest.mark.parametrize(
    ('save', 'save_info'),
    [
        (matlab.save_classic, matlab.save_dnd_info_classic),
        (matlab.save_v73, matlab.save_dnd_info_v73),
    ],
)
def test_dnd_becomes_a_submission_that_passes_its_check(run, weights, tmp_path, save, save_info):
    images = dnd_folder(tmp_path, save, save_info)
    code, _, _ = run('dnd', tmp_path / 'dnd')
    assert code == 0
    measured = evaluated('dnd', tmp_path / 'out', tmp_path / 'dnd')
    assert (len(measured.metrics), measured.problems) == (2, [])
    patches = mat_files.read_dnd_image(tmp_path / 'out' / '0002.mat')
    cut = images[1][1 - 1 : 12, 2 - 1 : 18] * 255
    np.testing.assert_allclose(patches[1], restored(weights, cut, '0002_02'), atol=1e-5)


def dnd_folder(tmp_path, save=matlab.save_v73, save_info=matlab.save_dnd_info_v73):
    folder = tmp_path / 'dnd' / 'images_srgb'
    folder.mkdir(parents=True)
    save_info(tmp_path / 'dnd' / 'info.mat', BOXES)
    images = np.random.default_rng(0).uniform(0, 1, (2, 20, 24, 3)).astype(np.float32)
    for i, image in enumerate(images):
        save(folder / f'{i + 1:04d}.mat', InoisySRGB=image)
    return images


def test_faulty_dnd_images_are_named_and_counted_and_the_rest_goes_on(run, tmp_path):
    dnd_folder(tmp_path)
    (tmp_path / 'dnd' / 'images_srgb' / '0001.mat').unlink()
    code, out, err = run('dnd', tmp_path / 'dnd')
    assert code == 1
    assert 'problems: 1' in out
    assert '0001: ' in err
    assert (tmp_path / 'out' / '0002.mat').is_file()


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ({'Inoisy': np.zeros((20, 24, 3))}, 'no variable `InoisySRGB`; it has `Inoisy`'),
        ({'InoisySRGB': np.zeros((20, 24))}, 'has the shape 20 x 24; any x any x 3 is wanted'),
        (
            {'InoisySRGB': np.zeros((17, 24, 3))},
            'box 2 of info.mat (3, 5, 18, 20) leaves',
        ),
        ({'InoisySRGB': np.full((20, 24, 3), 200.0)}, 'values up to 200'),
    ],
)
def test_a_dnd_image_with_wrong_content_is_named(run, tmp_path, arrays, message):
    dnd_folder(tmp_path)
    matlab.save_v73(tmp_path / 'dnd' / 'images_srgb' / '0001.mat', **arrays)
    code, out, err = run('dnd', tmp_path / 'dnd')
    assert code == 1
    assert message in err


def test_what_cannot_start_ends_with_2_and_says_why(run, blocks, tmp_path):
    other = matlab.save_classic(tmp_path / 'other.mat', Blocks=blocks)
    for benchmark, given, message in (
        ('sidd', other, 'no variable `ValidationNoisyBlocksSrgb` or `BenchmarkNoisyBlocksSrgb`'),
        ('sidd', tmp_path, 'there is no ValidationNoisyBlocksSrgb.mat and no Benchmark'),
        ('dnd', tmp_path, 'info.mat'),
    ):
        code, _, err = run(benchmark, given)
        assert code == 2
        assert message in err
    code, _, err = run('sidd', other, weights=tmp_path / 'absent.pth')
    assert code == 2
    assert 'absent.pth' in err

"""Making the models that ship: the camera, the pairs, figures and files."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest
import torch

from c2fdft_arch.dft import DFT
from c2fdft_model.restoring.checkpoint import read_checkpoint
from c2fdft_model.restoring.weights import load_network
from zoo import bm3d, camera, data, measuring, packing
from zoo import photographs as listed


def smooth_image(height=48, width=64, seed=0):
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.uniform(0, 255, (height, width, 3)), (0, 0), 4)
    return cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def test_srgb_and_linear_light_are_inverse():
    values = np.linspace(0, 1, 500, dtype=np.float32)
    np.testing.assert_allclose(camera.to_srgb(camera.to_linear(values)), values, atol=1e-6)
    assert camera.to_linear(np.float32([0.5]))[0] == pytest.approx(0.2140, abs=1e-4)


def test_demosaicking_gives_a_smooth_image_back():
    light = smooth_image().astype(np.float32) / 255
    seen = camera.demosaic(camera.bayer_mosaic(light))
    inside = np.s_[4:-4, 4:-4]
    assert np.abs(seen - light)[inside].mean() < 0.01


def test_a_bayer_mosaic_has_blue_green_green_red():
    light = np.empty((4, 4, 3), np.float32)
    light[:] = 0.1, 0.2, 0.3
    np.testing.assert_allclose(camera.bayer_mosaic(light)[:2, :2], [[0.1, 0.2], [0.2, 0.3]])


def test_camera_noise_is_correlated_between_neighbours_and_of_many_levels():
    grey = np.full((64, 64, 3), 120, np.uint8)
    deviations, correlations = [], []
    for seed in range(12):
        noisy, clean = camera.camera_pair(grey, np.random.default_rng(seed))
        noise = noisy.astype(float) - clean
        deviations.append(noise.std())
        correlations.append(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1])
    assert min(deviations) < 4 < 12 < max(deviations)
    assert np.mean(correlations) > 0.15


@pytest.mark.parametrize('task', data.TASKS)
def test_a_pair_is_a_function_of_its_generator_and_is_degraded(task):
    pairs = [data.TASKS[task](smooth_image(), np.random.default_rng(3)) for _ in range(2)]
    for one, two in zip(*pairs, strict=True):
        np.testing.assert_array_equal(one, two)
    degraded, clean = pairs[0]
    assert degraded.shape == clean.shape and degraded.dtype == clean.dtype == np.uint8
    assert (degraded != clean).any()


def test_no_held_out_photograph_is_trained_on():
    held_out = {p.file for p in listed.HELD_OUT}
    assert not held_out & {p.file for p in listed.TRAINING}
    assert {'rocket.jpg', 'chelsea.png', 'camera.png'} <= held_out
    assert not {'motorcycle_left.png', 'motorcycle_right.png'} & {p.file for p in listed.TRAINING}
    assert all(p.author and p.licence for p in (*listed.TRAINING, *listed.HELD_OUT))


def test_a_missing_package_is_named_with_how_to_get_it(tmp_path):
    photograph = next(p for p in listed.TRAINING if p.source == listed.MATE)
    with pytest.raises(FileNotFoundError, match='apt-get download mate-backgrounds'):
        photograph.read(tmp_path)


def test_richardson_lucy_is_told_the_kernel_of_the_photograph():
    name = listed.HELD_OUT[1].name
    clean = smooth_image(96, 96)
    degraded, _ = data.blur_pair(clean, data.held_out_rng('deblur', 1))
    found = measuring.best(measuring.richardson_lucy(degraded, name), clean)
    assert found['psnr'] > measuring.metrics(degraded, clean)['psnr'] + 1


@pytest.mark.parametrize('task', ['denoise', 'derain'])
def test_rivals_and_model_are_measured(task, tmp_path):
    network = DFT(dim=4, num_blocks=(1, 1, 1, 1), skip='degraded')
    torch.nn.init.zeros_(network.output.weight)
    weights = tmp_path / 'w.pth'
    torch.save({'params_ema': network.state_dict()}, weights)
    path = packing.pack(task, weights, tmp_path)
    clean = smooth_image()
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 12, clean.shape), 0, 255)
    for side, image in (('input', noisy.astype(np.uint8)), ('target', clean)):
        (tmp_path / 'test' / side).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'test' / side / 'a.png'), image)
    scores = measuring.measure(task, tmp_path / 'test', path, tmp_path / 'out.json')
    rivals = [name for name in measuring.RIVALS[task] if name not in measuring.left_out(task)]
    assert list(scores['a']) == ['degraded', 'model', *rivals]
    # the network adds nothing, so that the model returns what it was given
    assert scores['a']['model']['psnr'] == pytest.approx(scores['a']['degraded']['psnr'], abs=0.01)
    assert all(scores['a'][r]['psnr'] > scores['a']['model']['psnr'] for r in rivals)
    content = json.loads((tmp_path / 'out.json').read_text())
    assert content['command'] == f'python -m zoo measure {task} {path}'
    assert content['photographs'] == scores
    assert 'mean' in measuring.table(scores)


def test_methods_that_are_left_out_are_named_with_what_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, 'vapoursynth', None)
    monkeypatch.setattr(measuring, 'find_spec', lambda name: None)
    assert measuring.left_out('denoise') == {
        measuring.BM3D: bm3d.INSTALL,
        measuring.WAVELETS: 'pip install PyWavelets',
    }
    assert measuring.left_out('derain') == {}


def test_bm3d_takes_noise_from_the_colours_of_an_image():
    pytest.importorskip('vapoursynth')
    clean = smooth_image()
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 15, clean.shape), 0, 255)
    restored = 255 * bm3d.bm3d(noisy.astype(np.uint8), 15)
    assert restored.shape == clean.shape
    errors = (np.square(image - clean).mean(axis=(0, 1)) for image in (restored, noisy))
    assert (next(errors) < 0.2 * next(errors)).all()


def test_a_packed_model_is_in_half_precision_and_says_what_it_is(tmp_path):
    network = DFT(dim=4, num_blocks=(1, 1, 1, 1))
    torch.save({'params': network.state_dict(), 'params_ema': network.state_dict()}, tmp_path / 'w')
    path = packing.pack('derain', tmp_path / 'w', tmp_path)
    stored = torch.load(path, weights_only=True)
    assert set(stored) == {'params_ema', 'description'}
    assert all(value.dtype == torch.float16 for value in stored['params_ema'].values())
    said = read_checkpoint(path).description
    assert (said.stage, said.diffusion.prediction, said.data) == ('fine', 'clean', ('zoo_derain',))
    assert load_network(path).skip == 'degraded'

"""Metrics of images of any size: by row bands, in bounded memory, with the result of the whole."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from c2fdft_model.evaluation import aligned_metrics, image_metrics
from c2fdft_model.evaluation.evaluation_set import WORKER_MB, EvaluationSet
from c2fdft_model.evaluation.image_protocols import IMAGE_PROTOCOLS
from c2fdft_model.evaluation.problems import ItemError

PROTOCOLS = ('rain_y', 'rain_y_float', 'gopro_rgb')


def pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (height, width, 3), np.uint8)
    noise = rng.integers(-20, 20, gt.shape)
    return (gt + noise).clip(0, 255).astype(np.uint8), gt


@pytest.mark.parametrize('name', PROTOCOLS)
@pytest.mark.parametrize('rows', [1, 7, 16])
@pytest.mark.parametrize('height', [11, 37])
def test_row_bands_give_the_metrics_of_the_whole_image(monkeypatch, name, rows, height):
    images = pair(height, 23)
    measure = IMAGE_PROTOCOLS[name].measure
    whole = measure(*images)
    monkeypatch.setattr(image_metrics, 'BAND_ELEMENTS', rows * 23 * 3)
    assert measure(*images) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize('name', PROTOCOLS)
def test_memory_does_not_grow_with_the_image(monkeypatch, name):
    monkeypatch.setattr(image_metrics, 'BAND_ELEMENTS', 2**13)
    peaks = []
    for height in (128, 2048):
        images = pair(height, 64)
        tracemalloc.start()
        IMAGE_PROTOCOLS[name].measure(*images)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_row_bands_give_the_aligned_metrics_of_the_whole_image(monkeypatch):
    gt = cv2.GaussianBlur(pair(60, 80)[1], (0, 0), 3)
    result = np.roll(gt, 1, axis=1)
    measure = IMAGE_PROTOCOLS['realblur_aligned'].measure
    whole = measure(result, gt)
    monkeypatch.setattr(image_metrics, 'BAND_ELEMENTS', 7 * 80 * 3)
    assert measure(result, gt) == pytest.approx(whole, rel=1e-7)


def test_what_there_is_no_memory_to_align_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(aligned_metrics, 'free_memory', lambda: 2**20)
    with pytest.raises(ItemError, match=r'80 x 120 takes 0\.0 GiB of memory, and 0\.0 GiB are'):
        IMAGE_PROTOCOLS['realblur_aligned'].measure(*pair(120, 80))


@pytest.mark.parametrize(
    ('free_mb', 'pixels', 'expected'),
    [(None, 0, 8), (10 * WORKER_MB, 0, 8), (3.5 * WORKER_MB, 0, 3), (1, 0, 1)]
    + [(4 * WORKER_MB, WORKER_MB * 2**20 // 16, 2)],
)
def test_processes_are_as_many_as_memory_suffices_for(free_mb, pixels, expected):
    found = EvaluationSet([], largest_image=pixels)
    assert found.affordable_workers(8, free_mb, pixel_bytes=16) == expected


@pytest.mark.parametrize('data_range', [255, 1])
def test_psnr_is_that_of_scikit_image(data_range):
    gt, other = np.random.default_rng(0).random((2, 70, 41, 3)) * data_range
    image = 0.9 * gt + 0.1 * other
    expected = peak_signal_noise_ratio(gt, image, data_range=data_range)
    assert image_metrics.psnr(image, gt, data_range) == pytest.approx(expected, abs=1e-6)

"""The protocols against closed forms, BasicSR's metrics, direct sums and known alignments."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_psnr, calculate_ssim

from c2fdft_model.evaluation.aligned_metrics import (
    AlignmentError,
    align,
    masked_psnr,
    masked_ssim,
)
from c2fdft_model.evaluation.image_metrics import luma, matlab_luma, psnr, ssim, ssim_3d
from c2fdft_model.evaluation.image_protocols import IMAGE_PROTOCOLS
from c2fdft_model.evaluation.protocols import PROTOCOLS, get_protocol


def picture(size, blur) -> np.ndarray:
    """A textured RGB picture that does not repeat, uint8 (H, W, 3)."""
    noise = np.random.default_rng(0).uniform(0, 1, (*size, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.round(30 + 190 * smooth).astype(np.uint8)


@pytest.fixture(scope='module')
def photo() -> np.ndarray:
    return picture((120, 160), blur=4)


@pytest.fixture(scope='module')
def noisy(photo) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.clip(photo + rng.normal(0, 12, photo.shape), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ('rgb', 'y'),
    [
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 81),  # 16 + 65.481
        ((0, 255, 0), 145),  # 16 + 128.553
        ((0, 0, 255), 41),  # 16 + 24.966
        ((128, 128, 128), 126),  # 16 + 109.93
    ],
)
def test_luma_has_the_values_of_rgb2ycbcr(rgb, y):
    assert matlab_luma(np.array([[rgb]], np.uint8))[0, 0] == y


@pytest.mark.parametrize('offset', [1, 5, 16])
def test_psnr_of_a_constant_offset_is_closed_form(photo, offset):
    shifted = photo + np.uint8(offset)
    measured = get_protocol('gopro_rgb').measure(shifted, photo)
    assert measured['psnr'] == pytest.approx(20 * np.log10(255 / offset), abs=1e-9)


def test_rain_y_of_a_grey_offset_is_closed_form():
    gt, result = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 151, np.uint8)
    # Y rises by 219 / 255 of the grey value: 101.88 -> 102 and 145.68 -> 146
    assert get_protocol('rain_y').measure(result, gt)['psnr'] == pytest.approx(
        20 * np.log10(255 / (146 - 102))
    )


def test_ssim_of_two_constants_is_the_luminance_term():
    a, b = np.full((20, 20), 0.25), np.full((20, 20), 0.75)
    expected = (2 * 0.25 * 0.75 + 0.01**2) / (0.25**2 + 0.75**2 + 0.01**2)
    assert ssim(a, b, 1) == pytest.approx(expected, abs=1e-12)
    assert ssim_3d(np.dstack([a] * 3), np.dstack([b] * 3), 1) == pytest.approx(expected, abs=1e-12)


def test_equal_images_have_infinite_psnr_and_ssim_one(photo):
    for name in ('rain_y', 'gopro_rgb'):
        measured = get_protocol(name).measure(photo, photo)
        assert measured['psnr'] == np.inf
        assert measured['ssim'] == pytest.approx(1, abs=1e-12)


def test_gopro_rgb_equals_basicsr_on_rgb(photo, noisy):
    measured = get_protocol('gopro_rgb').measure(noisy, photo)
    assert measured['psnr'] == pytest.approx(calculate_psnr(noisy, photo, 0), abs=1e-9)
    assert measured['ssim'] == pytest.approx(calculate_ssim(noisy, photo, 0), abs=1e-9)


def test_rain_y_float_equals_basicsr_on_y(photo, noisy):
    measured = get_protocol('rain_y_float').measure(noisy, photo)
    bgr = (noisy[..., ::-1], photo[..., ::-1])
    # BasicSR goes through float32
    assert measured['psnr'] == pytest.approx(calculate_psnr(*bgr, 0, test_y_channel=True), abs=1e-4)
    assert measured['ssim'] == pytest.approx(calculate_ssim(*bgr, 0, test_y_channel=True), abs=1e-5)


def test_rain_y_differs_from_rain_y_float_by_the_rounding_alone(photo, noisy):
    rounded = get_protocol('rain_y').measure(noisy, photo)
    exact = get_protocol('rain_y_float').measure(noisy, photo)
    assert 0 < abs(rounded['psnr'] - exact['psnr']) < 0.05
    assert np.abs(matlab_luma(photo) - luma(photo)).max() <= 0.5


def test_ssim_is_the_windowed_sum_at_one_position():
    rng = np.random.default_rng(2)
    a, b = rng.uniform(0, 1, (2, 11, 11))
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
    cov = (window * a * b).sum() - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    assert ssim(a, b, 1) == pytest.approx(expected, abs=1e-12)


def test_ssim_3d_is_the_sum_over_a_padded_volume(photo, noisy):
    a, b = photo[40:43, 50:54].astype(float), noisy[40:43, 50:54].astype(float)
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = line[:, None, None] * line[:, None] * line
    window /= window.sum()

    def smooth(x):
        padded = np.pad(x, 5, mode='edge')
        windows = np.lib.stride_tricks.sliding_window_view(padded, (11, 11, 11))
        return (windows * window).sum(axis=(3, 4, 5))

    mean_a, mean_b = smooth(a), smooth(b)
    var = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
    cov = smooth(a * b) - mean_a * mean_b
    c1, c2 = 2.55**2, 7.65**2
    values = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    values /= (mean_a**2 + mean_b**2 + c1) * (var + c2)
    assert ssim_3d(a, b, 255) == pytest.approx(values.mean(), abs=1e-10)


def test_sidd_val_does_not_round(photo):
    gt = photo[:32, :32].astype(np.float32) / 255
    measured = get_protocol('sidd_val').measure(gt + np.float32(0.001), gt)
    assert measured['psnr'] == pytest.approx(60, abs=1e-3)


def test_ssim_refuses_an_image_smaller_than_its_window(photo):
    with pytest.raises(ValueError, match='11 pixels or more: this is 160 x 10'):
        ssim(photo[:10], photo[:10], 255)


def _unit(image) -> np.ndarray:
    return image.astype(np.float32) / 255


def _warped(image, homography) -> np.ndarray:
    size = (image.shape[1], image.shape[0])
    return cv2.warpPerspective(
        image, homography, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


@pytest.mark.parametrize(
    'homography',
    [
        np.array([[1, 0, 2.5], [0, 1, -1.5], [0, 0, 1]]),
        np.array([[1.01, 0.008, -1.2], [-0.006, 0.99, 1.7], [3e-5, -2e-5, 1]]),
    ],
    ids=['shift', 'homography'],
)
def test_alignment_recovers_a_known_warp(photo, homography):
    whole = _unit(picture((160, 200), blur=2))
    margin = np.array([[1, 0, 20], [0, 1, 20], [0, 0, 1.0]])
    # cut after warping: a border made up by the warp would pull the alignment
    moved = _warped(whole, margin @ homography @ np.linalg.inv(margin))[20:-20, 20:-20]
    aligned = align(moved, np.ascontiguousarray(whole[20:-20, 20:-20]))
    corners = np.array([[[0, 0], [159, 0], [0, 119], [159, 119]]], np.float64)
    found = cv2.perspectiveTransform(corners, aligned.homography.astype(np.float64))
    expected = cv2.perspectiveTransform(corners, homography)
    assert np.abs(found - expected).max() < 0.1


def test_alignment_recovers_a_known_gain(photo):
    gt = _unit(photo)
    assert align(0.8 * gt, gt).gain == pytest.approx(1.25, rel=1e-5)


def test_a_warped_darker_copy_scores_as_almost_equal(photo):
    gt = _unit(photo)
    shift = np.array([[1, 0, 2.0], [0, 1, -1.0], [0, 0, 1]])
    moved = (0.8 * _warped(gt, shift) * 255).round().astype(np.uint8)
    measured = get_protocol('realblur_aligned').measure(moved, photo)
    assert measured['psnr'] > 38
    assert measured['ssim'] > 0.98
    assert get_protocol('gopro_rgb').measure(moved, photo)['psnr'] < 25


def test_masked_metrics_ignore_what_lies_outside_the_mask(photo, noisy):
    gt, result = _unit(photo), _unit(noisy)
    aligned = align(result, gt)
    aligned.mask[:, :60] = 0
    before = masked_psnr(aligned, gt), masked_ssim(aligned, gt)
    aligned.result[:, :60] = 7
    assert (masked_psnr(aligned, gt), masked_ssim(aligned, gt)) == before


def test_masked_psnr_without_a_warp_is_the_plain_psnr(photo, noisy):
    gt, result = _unit(photo), _unit(noisy)
    aligned = align(result, gt)
    object.__setattr__(aligned, 'result', result)
    aligned.mask[:] = 1
    assert masked_psnr(aligned, gt) == pytest.approx(psnr(result, gt, 1), abs=1e-4)


def test_unrelated_images_do_not_align():
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0, 1, (2, 64, 64, 3)).astype(np.float32)
    with pytest.raises(AlignmentError, match='alignment'):
        align(a, 1 - b)


@pytest.mark.parametrize('value', [0.0, 0.5])
def test_a_constant_result_does_not_align(photo, value):
    with pytest.raises(AlignmentError):
        align(np.full(photo.shape, value, np.float32), _unit(photo))


def test_every_protocol_says_what_it_is():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert len(protocol.description) > 30


def test_protocols_of_mat_files_are_not_among_those_of_image_files():
    assert set(PROTOCOLS) - set(IMAGE_PROTOCOLS) == {'sidd_val', 'dnd', 'sidd'}


def test_an_unknown_protocol_names_the_nearest():
    with pytest.raises(ValueError, match=r'did you mean "rain_y"\?\): there are rain_y, '):
        get_protocol('rainy')

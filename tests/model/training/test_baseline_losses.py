"""The losses of the baselines: closed-form values, outputs of networks, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from basicsr.losses import build_loss

import c2fdft_model.baseline_losses  # noqa: F401
from c2fdft_model.training.noise_losses import local_noise_variance, negative_evidence_bound


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_losses_and_images_of_several_scales_are_summed():
    gt = torch.full((1, 3, 8, 8), 0.5)
    outputs = [gt + 0.1, gt[..., ::2, ::2] + 0.2, gt[..., ::4, ::4]]
    losses = [{'type': 'L1Loss'}, {'type': 'MSELoss', 'loss_weight': 2.0}]
    loss = build_loss({'type': 'MultiOutputLoss', 'losses': losses, 'weights': [1, 10, 100]})
    expected = (0.1 + 2 * 0.01) + 10 * (0.2 + 2 * 0.04)
    assert float(loss(outputs, gt)) == pytest.approx(expected, rel=1e-5)


def test_the_ground_truth_of_a_smaller_image_is_the_mean_or_the_upper_left_of_its_pixels():
    gt = images(1, 3, 8, 8)
    smaller = {'bilinear': torch.nn.functional.avg_pool2d(gt, 2), 'nearest': gt[..., ::2, ::2]}
    for resize, expected in smaller.items():
        options = {'type': 'MultiOutputLoss', 'losses': [{'type': 'L1Loss'}], 'resize': resize}
        assert float(build_loss(options)([gt, expected], gt)) == pytest.approx(0, abs=1e-6)


def test_another_way_to_resize_is_refused():
    options = {'type': 'MultiOutputLoss', 'losses': [{'type': 'L1Loss'}], 'resize': 'bicubic'}
    with pytest.raises(ValueError, match='resize: bicubic is not allowed: bilinear or nearest'):
        build_loss(options)


def test_a_single_image_gets_the_sum_of_the_losses():
    gt = images(1, 3, 8, 8)
    loss = build_loss({'type': 'MultiOutputLoss', 'losses': [{'type': 'L1Loss'}] * 2})
    assert float(loss(gt + 0.1, gt)) == pytest.approx(0.2, rel=1e-5)


def test_the_psnr_loss_is_the_negative_psnr():
    gt = images(2, 3, 8, 8)
    loss = build_loss({'type': 'PSNRLoss', 'loss_weight': 0.5})
    assert float(loss(gt + 0.1, gt)) == pytest.approx(-10.0, rel=1e-4)


def test_the_smooth_l1_loss_is_squared_below_one():
    gt = images(1, 3, 4, 4)
    loss = build_loss({'type': 'SmoothL1Loss', 'loss_weight': 2.0})
    assert float(loss(gt + 0.1, gt)) == pytest.approx(2 * 0.005, rel=1e-4)
    assert float(loss(gt + 3.0, gt)) == pytest.approx(2 * 2.5, rel=1e-4)


def test_the_laplacian_loss_sees_edges_alone():
    gt = images(1, 3, 8, 8)
    loss = build_loss({'type': 'LaplacianLoss', 'loss_weight': 2.0, 'epsilon': 0.0})
    inside = torch.zeros(1, 3, 8, 8)
    inside[..., 4, 4] = 0.5
    # 8 times the point, and once each of its 8 neighbours, of 64 pixels.
    assert float(loss(gt + inside, gt)) == pytest.approx(2 * 0.5 * 16 / 64, rel=1e-4)


def test_the_frequency_loss_of_a_constant_difference_is_in_one_frequency():
    gt = images(1, 3, 4, 6)
    loss = build_loss({'type': 'FrequencyLoss', 'loss_weight': 0.1})
    # 24 pixels of 0.5 add up at frequency 0, whose real part is one of 2 x 24 numbers.
    assert float(loss(gt + 0.5, gt)) == pytest.approx(0.1 * (24 * 0.5) / 48, rel=1e-4)


def test_the_noise_map_loss_weighs_low_estimates_more():
    clean = torch.full((1, 3, 16, 16), 0.5)
    noisy = clean + 0.2
    loss = build_loss({'type': 'NoiseMapLoss', 'tv_weight': 0.0, 'asymmetric_weight': 1.0})
    low, high = (torch.full_like(clean, level) for level in (0.1, 0.3))
    assert float(loss((clean, low, noisy), clean)) == pytest.approx(0.7 * 0.01, rel=1e-3)
    assert float(loss((clean, high, noisy), clean)) == pytest.approx(0.3 * 0.01, rel=1e-3)


def test_the_noise_map_loss_wants_a_smooth_map():
    clean = torch.zeros(1, 1, 8, 8)
    slope = torch.arange(8.0).expand(1, 1, 8, 8)
    loss = build_loss({'type': 'NoiseMapLoss', 'tv_weight': 0.05, 'asymmetric_weight': 0})
    assert float(loss((clean, slope, clean), clean)) == pytest.approx(0.05)


def test_the_local_variance_of_a_point_is_the_gaussian_window():
    clean = torch.zeros(1, 1, 15, 15)
    noisy = clean.clone()
    noisy[..., 7, 7] = 2.0
    variance = local_noise_variance(noisy, clean, radius=3)
    window = torch.tensor([math.exp(-(k**2) / 18) for k in range(-3, 4)])
    window = window / window.sum()
    assert torch.allclose(variance[0, 0, 4:11, 4:11], 4 * window.outer(window), atol=1e-6)
    assert float(variance[0, 0, 0, 0]) == pytest.approx(1e-10)


def test_the_evidence_bound_is_least_at_the_actual_noise():
    actual = torch.full((1, 1, 4, 4), 0.1)
    variance = torch.full_like(actual, 0.01)
    # The mode of the prior of 49 pixels: alpha 23.5 = 49 / 2 - 1, beta 24.5 times the variance.
    logarithms = [torch.full_like(actual, math.log(v)) for v in (1e-6, 23.5, 0.245)]

    def bound(noise: torch.Tensor) -> float:
        return float(negative_evidence_bound(noise, *logarithms, actual, variance, 1e-6, 3))

    assert bound(actual) < min(bound(actual - 0.001), bound(actual + 0.001))
    # The divergences vanish there, and the likelihood alone is left.
    precision = 23.5 / 0.245
    digamma = float(torch.digamma(torch.tensor(23.5)))
    likelihood = math.log(2 * math.pi) + math.log(0.245) - digamma + (0.01 + 1e-6) * precision
    assert bound(actual) == pytest.approx(0.5 * likelihood, abs=1e-4)


def test_the_variational_loss_is_that_of_the_public_code():
    clean = torch.full((1, 3, 12, 12), 0.4)
    noisy = clean + 0.1
    outputs = (clean + 0.01, *(torch.full_like(clean, v) for v in (-8.0, 2.0, -2.0)), noisy)
    loss = build_loss({'type': 'VariationalDenoisingLoss', 'prior_variance': 5e-5})
    assert float(loss(outputs, clean)) == pytest.approx(5.733940, rel=1e-5)


@pytest.mark.parametrize(
    ('options', 'outputs', 'words'),
    [
        ({'type': 'MultiOutputLoss', 'losses': [{'type': 'L1Loss'}], 'weights': [1, 1]}, 1,
         'weights: 2 given, but the network returns 1 images; network_g: all_outputs: true'),
        ({'type': 'MultiOutputLoss', 'losses': [{'type': 'L1Loss'}], 'weights': [1]}, 2,
         'weights: 1 given, but the network returns 2 images'),
        ({'type': 'NoiseMapLoss'}, 1, 'needs 3 outputs of the network and got 1; network_g'),
        ({'type': 'VariationalDenoisingLoss'}, 3, 'needs 5 outputs of the network and got 3'),
    ],
)  # fmt: skip
def test_a_network_with_another_number_of_outputs_is_refused(options, outputs, words):
    gt = images(1, 3, 8, 8)
    with pytest.raises(ValueError, match=words):
        build_loss(options)(gt if outputs == 1 else [gt] * outputs, gt)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'type': 'MultiOutputLoss', 'losses': []}, 'give at least one'),
        ({'type': 'NoiseMapLoss', 'criterion': 'l3'}, 'criterion: l3 is not allowed: l1 or l2'),
        ({'type': 'NoiseMapLoss', 'alpha': 0.5}, 'alpha: 0.5 must be between 0 and 0.5'),
        ({'type': 'VariationalDenoisingLoss', 'prior_variance': 0}, 'must be above 0'),
    ],
)
def test_impossible_settings_of_a_loss_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        build_loss(options)


def test_images_smaller_than_the_noise_window_are_refused():
    tiny = torch.zeros(1, 3, 3, 8)
    with pytest.raises(ValueError, match='3 x 8 cannot be smoothed with radius 3'):
        local_noise_variance(tiny, tiny, radius=3)

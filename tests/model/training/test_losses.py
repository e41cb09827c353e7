"""The SSIM loss against closed forms and scikit-image."""

from __future__ import annotations

import pytest
import torch
from skimage.data import astronaut, chelsea
from skimage.metrics import structural_similarity

from c2fdft_model.losses import SSIMLoss


def photograph(image, size=64):
    return (
        torch.from_numpy(image()[100 : 100 + size, 200 : 200 + size] / 255.0)
        .permute(2, 0, 1)[None]
        .float()
    )


def test_equal_images_cost_nothing():
    image = photograph(astronaut)
    assert SSIMLoss()(image, image).item() == pytest.approx(0, abs=1e-6)


def test_constant_images_have_the_luminance_term_alone():
    a, b = torch.full((1, 3, 32, 32), 0.2), torch.full((1, 3, 32, 32), 0.6)
    similarity = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert SSIMLoss()(a, b).item() == pytest.approx(1 - similarity, abs=1e-5)


def test_agrees_with_scikit_image():
    a, b = photograph(astronaut), photograph(chelsea)
    # scikit-image averages over the same valid windows once its border is cut off.
    _, similarity_map = structural_similarity(
        a[0].numpy().astype('float64'),
        b[0].numpy().astype('float64'),
        channel_axis=0,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        truncate=3.5,
        use_sample_covariance=False,
        full=True,
    )
    expected = similarity_map[:, 5:-5, 5:-5].mean()
    assert 1 - SSIMLoss()(a, b).item() == pytest.approx(expected, abs=1e-4)


def test_loss_weight_scales_the_loss():
    a, b = photograph(astronaut), photograph(chelsea)
    assert SSIMLoss(loss_weight=0.84)(a, b).item() == pytest.approx(0.84 * SSIMLoss()(a, b).item())


def test_a_data_range_far_above_the_images_makes_the_term_vanish():
    clean = photograph(astronaut)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    acting, vanishing = SSIMLoss(), SSIMLoss(data_range=127.5)
    assert acting(clean + 0.2 * noise, clean) > 0.3
    assert vanishing(clean + 0.2 * noise, clean) < 0.005


def test_images_smaller_than_the_window_are_compared():
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    loss = SSIMLoss()
    assert loss(image, image).item() == pytest.approx(0, abs=1e-6)
    assert loss(image, 1 - image) > 0.5


def test_gradient_reaches_the_image():
    image = photograph(astronaut).requires_grad_()
    SSIMLoss()(image, photograph(chelsea)).backward()
    assert image.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [({'window_size': 10}, 'window_size'), ({'data_range': 0}, 'data_range')],
)
def test_impossible_settings_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        SSIMLoss(**arguments)


def test_is_registered_with_basicsr():
    from basicsr.utils.registry import LOSS_REGISTRY

    assert LOSS_REGISTRY.get('SSIMLoss') is SSIMLoss

"""Losses of denoisers that estimate the noise as well, from the noisy and the clean image."""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

LOG_VARIANCE_RANGE = math.log(1e-8), math.log(1e4)
SMALLEST_VARIANCE = 1e-10


def local_noise_variance(noisy: Tensor, clean: Tensor, radius: int = 3) -> Tensor:
    """The variance of the noise at every pixel (B, C, H, W): its square, smoothed by a Gaussian.

    The window has 2 `radius` + 1 pixels and standard deviation `radius` (Yue et al., 2019).
    Raises ValueError for images with a side of `radius` pixels or less.
    """
    if min(noisy.shape[-2:]) <= radius:
        raise ValueError(
            f'the noise of images of {noisy.shape[-2]} x {noisy.shape[-1]} cannot be smoothed with '
            f'radius {radius}; sides must be above it.'
        )
    place = torch.arange(-radius, radius + 1, dtype=noisy.dtype, device=noisy.device)
    window = torch.exp(-(place**2) / (2 * radius**2))
    window = window / window.sum()
    channels = noisy.shape[1]
    smoothed = pad((noisy - clean) ** 2, (radius,) * 4, mode='reflect')
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        kernel = window.reshape(shape).expand(channels, 1, *window.reshape(shape).shape[2:])
        smoothed = conv2d(smoothed, kernel, groups=channels)
    return smoothed.clamp(min=SMALLEST_VARIANCE)


def asymmetric_error(estimate: Tensor, actual: Tensor, alpha: float) -> Tensor:
    """Mean squared error that weighs estimates below by 1 - alpha, above by alpha.

    Guo et al., "Toward Convolutional Blind Denoising of Real Photographs" (2019).
    """
    weight = (alpha - (estimate < actual).to(estimate.dtype)).abs()
    return (weight * (estimate - actual) ** 2).mean()


def total_variation(image: Tensor) -> Tensor:
    """Mean squared difference of neighbours in rows plus that in columns (Guo et al., 2019)."""
    rows, columns = image.diff(dim=-2), image.diff(dim=-1)
    return (rows**2).mean() + (columns**2).mean()


def negative_evidence_bound(
    noise: Tensor,
    log_variance: Tensor,
    log_alpha: Tensor,
    log_beta: Tensor,
    actual_noise: Tensor,
    actual_variance: Tensor,
    prior_variance: float,
    radius: int,
) -> Tensor:
    """The negative evidence lower bound per pixel (Yue et al., 2019), a scalar.

    The predicted `noise` is the noisy image minus the mean of the clean one, whose variance is
    exp(`log_variance`); the noise variance has an inverse gamma distribution of shape
    exp(`log_alpha`) and scale exp(`log_beta`). The priors: a clean image that deviates from the
    given one with `prior_variance`, and a noise variance around `actual_variance`, as sure as
    (2 `radius` + 1)^2 pixels make it. All of the same shape.
    """
    log_variance, log_alpha, log_beta = (
        value.clamp(*LOG_VARIANCE_RANGE) for value in (log_variance, log_alpha, log_beta)
    )
    variance, alpha = log_variance.exp(), log_alpha.exp()
    precision = (log_alpha - log_beta).exp()
    likelihood = 0.5 * math.log(2 * math.pi) + 0.5 * (
        log_beta - torch.digamma(alpha) + (noise**2 + variance) * precision
    )
    ratio = variance / prior_variance
    image_divergence = 0.5 * (
        (noise - actual_noise) ** 2 / prior_variance + ratio - 1 - ratio.log()
    )
    pixels = (2 * radius + 1) ** 2
    prior_alpha = torch.full_like(alpha, pixels / 2 - 1)
    prior_beta = actual_variance * pixels / 2
    variance_divergence = (
        (alpha - prior_alpha) * torch.digamma(alpha)
        + torch.lgamma(prior_alpha)
        - torch.lgamma(alpha)
        + prior_alpha * (log_beta - prior_beta.log())
        + prior_beta * precision
        - alpha
    )
    return (likelihood + image_divergence + variance_divergence).mean()

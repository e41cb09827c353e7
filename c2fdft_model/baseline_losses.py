"""The losses of the systems that the paper compares with, registered with BasicSR.

`all_outputs: true` in `network_g` makes these networks return, in training, all that the losses
here need.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from basicsr.losses import build_loss
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, l1_loss, mse_loss, smooth_l1_loss

from c2fdft_model.training.noise_losses import (
    asymmetric_error,
    local_noise_variance,
    negative_evidence_bound,
    total_variation,
)

Outputs: TypeAlias = Tensor | Sequence[Tensor]
RESIZING = ('bilinear', 'nearest')


@LOSS_REGISTRY.register()
class MultiOutputLoss(nn.Module):
    """The sum of several losses, over all images that the network returns.

    `losses` are sections of an option file, `{type: L1Loss, loss_weight: 1.0}`. `weights` are those
    of the images, the restored one first; all 1 if not given. An image alone gets the sum of the
    losses. The ground truth is resized to images of another scale: `resize: bilinear` averages
    pixels, `nearest` takes the upper left one, as TensorFlow 1 does at a half and a quarter.

    Raises ValueError if the network returns another number of images than there are weights.
    """

    def __init__(
        self,
        losses: Sequence[Mapping[str, Any]],
        weights: Sequence[float] | None = None,
        resize: str = 'bilinear',
    ) -> None:
        super().__init__()
        if not losses:
            raise ValueError('MultiOutputLoss: losses: [] has none; give at least one.')
        if resize not in RESIZING:
            raise ValueError(
                f'MultiOutputLoss: resize: {resize} is not allowed: {" or ".join(RESIZING)}.'
            )
        self.losses = nn.ModuleList(build_loss(dict(options)) for options in losses)
        self.weights = weights
        self.resize = resize

    def forward(self, pred: Outputs, target: Tensor, **kwargs: Any) -> Tensor:
        """The loss of images (B, C, H, W) against `target`, a scalar."""
        images = [pred] if isinstance(pred, Tensor) else pred
        weights = [1.0] * len(images) if self.weights is None else self.weights
        if len(weights) != len(images):
            raise ValueError(
                f'MultiOutputLoss: weights: {len(weights)} given, but the network returns '
                f'{len(images)} images{_HINT if len(images) == 1 else ""}.'
            )
        total = target.new_zeros(())
        for image, weight in zip(images, weights, strict=True):
            gt = _resized(target, image.shape[-2:], self.resize)
            total = total + weight * sum(loss(image, gt) for loss in self.losses)
        return total


@LOSS_REGISTRY.register()
class PSNRLoss(nn.Module):
    """`loss_weight` times the negative PSNR (dB) of images in [0, 1], averaged over the batch.

    Chen et al., "HINet" (2021). `epsilon` keeps the PSNR of equal images finite.
    """

    def __init__(self, loss_weight: float = 1.0, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.epsilon = epsilon

    def forward(self, pred: Tensor, target: Tensor, **kwargs: Any) -> Tensor:
        """The loss of (B, C, H, W) against `target`, a scalar."""
        errors = ((pred - target) ** 2).mean(dim=(1, 2, 3))
        return self.loss_weight * 10 * torch.log10(errors + self.epsilon).mean()


@LOSS_REGISTRY.register()
class SmoothL1Loss(nn.Module):
    """`loss_weight` times the L1 distance, squared (and halved) below 1: that of TransWeather."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, **kwargs: Any) -> Tensor:
        """The loss of (B, C, H, W) against `target`, a scalar."""
        return self.loss_weight * smooth_l1_loss(pred, target)


@LOSS_REGISTRY.register()
class FrequencyLoss(nn.Module):
    """`loss_weight` times the L1 distance of real and imaginary parts of the Fourier transforms.

    Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring" (2021); transforms
    without normalisation. Computed in float32.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, **kwargs: Any) -> Tensor:
        """The loss of (B, C, H, W) against `target`, a scalar."""
        # The transform is linear, so that one of the difference is enough.
        spectrum = torch.fft.fft2(pred.float() - target.float())
        return self.loss_weight * torch.view_as_real(spectrum).abs().mean()


@LOSS_REGISTRY.register()
class LaplacianLoss(nn.Module):
    """`loss_weight` times the Charbonnier distance of the images' edges, as in MSPFN's loss.

    Edges are what a 3x3 Laplacian (8 in its middle, -1 around) gives of each channel. Jiang et al.,
    "Multi-Scale Progressive Fusion Network" (2020).
    """

    def __init__(self, loss_weight: float = 1.0, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.epsilon = epsilon

    def forward(self, pred: Tensor, target: Tensor, **kwargs: Any) -> Tensor:
        """The loss of (B, C, H, W) against `target`, a scalar."""
        difference = pred - target
        # Nine times a pixel, less the sum of it and its neighbours: zero beyond the border.
        edges = 9 * difference - 9 * avg_pool2d(difference, 3, stride=1, padding=1)
        return self.loss_weight * torch.sqrt(edges**2 + self.epsilon**2).mean()


@LOSS_REGISTRY.register()
class NoiseMapLoss(nn.Module):
    """CBDNet's loss: of the image, of the estimated noise, and of the noise map's smoothness.

    For networks that return (image, noise map, noisy image). `criterion` of the image is `l2`
    (CBDNet) or `l1` (AINDNet). `asymmetric_weight` counts the error
    of the noise map, low estimates (1 - `alpha`) / `alpha` times as much as high ones; it is 0 for
    photographs, whose noise is known less well than that of images to which it was added. The
    noise is known from the pair: the standard deviation in a window of `radius`.

    Guo et al., "Toward Convolutional Blind Denoising of Real Photographs" (2019).
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        asymmetric_weight: float = 0.5,
        tv_weight: float = 0.05,
        alpha: float = 0.3,
        radius: int = 3,
        criterion: str = 'l2',
    ) -> None:
        super().__init__()
        if criterion not in ('l1', 'l2'):
            raise ValueError(f'NoiseMapLoss: criterion: {criterion} is not allowed: l1 or l2.')
        if not 0 < alpha < 0.5:
            raise ValueError(f'NoiseMapLoss: alpha: {alpha} must be between 0 and 0.5.')
        self.loss_weight = loss_weight
        self.asymmetric_weight = asymmetric_weight
        self.tv_weight = tv_weight
        self.alpha = alpha
        self.criterion = l1_loss if criterion == 'l1' else mse_loss
        self.radius = radius

    def forward(self, pred: Outputs, target: Tensor, **kwargs: Any) -> Tensor:
        """The loss of the three outputs against the clean image, a scalar."""
        image, noise_map, noisy = _outputs(pred, 3, 'NoiseMapLoss')
        loss = self.criterion(image, target) + self.tv_weight * total_variation(noise_map)
        if self.asymmetric_weight:
            actual = local_noise_variance(noisy, target, self.radius).sqrt()
            loss = loss + self.asymmetric_weight * asymmetric_error(noise_map, actual, self.alpha)
        return self.loss_weight * loss


@LOSS_REGISTRY.register()
class VariationalDenoisingLoss(nn.Module):
    """VDN's loss: the negative evidence lower bound of clean image and noise variance.

    For networks that return (image, log variance of the image, log alpha, log beta, noisy image).
    `prior_variance` says how far the true image may be from the given one, `radius` in which window
    the noise variance is taken. Yue et al., "Variational Denoising Network" (2019).
    """

    def __init__(
        self, loss_weight: float = 1.0, prior_variance: float = 1e-6, radius: int = 3
    ) -> None:
        super().__init__()
        if prior_variance <= 0:
            raise ValueError(
                f'VariationalDenoisingLoss: prior_variance: {prior_variance} must be above 0.'
            )
        self.loss_weight = loss_weight
        self.prior_variance = prior_variance
        self.radius = radius

    def forward(self, pred: Outputs, target: Tensor, **kwargs: Any) -> Tensor:
        """The loss of the five outputs against the clean image, a scalar."""
        outputs = _outputs(pred, 5, 'VariationalDenoisingLoss')
        image, log_variance, log_alpha, log_beta, noisy = (x.float() for x in outputs)
        bound = negative_evidence_bound(
            noise=noisy - image,
            log_variance=log_variance,
            log_alpha=log_alpha,
            log_beta=log_beta,
            actual_noise=noisy - target,
            actual_variance=local_noise_variance(noisy, target, self.radius),
            prior_variance=self.prior_variance,
            radius=self.radius,
        )
        return self.loss_weight * bound


_HINT = '; network_g: all_outputs: true makes it return all'


def _outputs(pred: Outputs, count: int, loss: str) -> Sequence[Tensor]:
    """`pred`, if it has as many outputs as the loss needs; else ValueError."""
    found = 1 if isinstance(pred, Tensor) else len(pred)
    if found != count:
        raise ValueError(
            f'{loss} needs {count} outputs of the network and got {found}'
            f'{_HINT if found == 1 else ""}.'
        )
    return pred  # type: ignore[return-value]


def _resized(target: Tensor, size: torch.Size, mode: str) -> Tensor:
    if target.shape[-2:] == size:
        return target
    return interpolate(target, size=tuple(size), mode=mode)

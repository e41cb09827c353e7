"""Normalisation by the statistics of what is being restored, in evaluation as in training."""

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, instance_norm

# Published checkpoints hold running statistics, which these layers keep and do not use: their
# networks were trained and tested with the images' own.


class InstanceNorm(nn.InstanceNorm2d):
    """Normalises each image and channel, without learned parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), normalised; H times W above 1."""
        return instance_norm(x, eps=self.eps)


class BatchNorm(nn.BatchNorm2d):
    """Normalises each channel over the batch, with learned scale and shift."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), normalised."""
        none: Tensor | None = None
        return batch_norm(x, none, none, self.weight, self.bias, training=True, eps=self.eps)


def to_signed(image: Tensor) -> Tensor:
    """An image in [0, 1] as one in [-1, 1]."""
    return 2 * image - 1


def to_unsigned(image: Tensor) -> Tensor:
    """An image in [-1, 1] as one in [0, 1]; values outside are clamped."""
    return (torch.clamp(image, -1, 1) + 1) / 2

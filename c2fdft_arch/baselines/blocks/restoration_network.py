"""What every system does alike: RGB images of any size in and out, one output or all of them."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_arch.common.padding import pad_to_multiple

RGB = 3


class RestorationNetwork(nn.Module):
    """Restores RGB images (B, 3, H, W) in [0, 1] of any size; a subclass says how in `restore`.

    Sides that the network cannot take are extended by reflection, and the outputs are cropped.

    With `all_outputs`, a network in training mode returns a tuple of all that its loss needs
    (images of earlier stages or smaller scales, noise maps), the restored image first. In
    evaluation mode it is always the restored image alone.
    """

    size_multiple = 1
    """`restore` gets sides that are multiples of it,"""
    smallest_side = 1
    """and, where an image has a side below this, multiples of this."""

    def __init__(self, all_outputs: bool = False) -> None:
        super().__init__()
        self.all_outputs = all_outputs

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The restored image of `image`, of its size, not clamped; or all outputs.

        Raises ValueError for anything but RGB images.
        """
        if image.dim() != 4 or image.shape[1] != RGB:
            raise ValueError(
                f'{type(self).__name__} takes RGB images (B, {RGB}, H, W); '
                f'got {tuple(image.shape)}.'
            )
        height, width = image.shape[-2:]
        small = min(height, width) < self.smallest_side
        padded = pad_to_multiple(image, self.smallest_side if small else self.size_multiple)
        shares = height / padded.shape[-2], width / padded.shape[-1]
        outputs = [_first_share(output, shares) for output in self.restore(padded)]
        return tuple(outputs) if self.returns_all else outputs[0]

    @property
    def returns_all(self) -> bool:
        """Whether the outputs besides the restored image are wanted now."""
        return self.all_outputs and self.training

    def restore(self, image: Tensor) -> Sequence[Tensor]:
        """All outputs for an image of legal size, the restored image first."""
        raise NotImplementedError


def _first_share(output: Tensor, shares: tuple[float, float]) -> Tensor:
    """The upper left part of an output of any scale, of these shares of its height and width."""
    height, width = (
        math.ceil(side * share - 1e-3)  # a share is rounded: 24 of 32 may be a little above 0.75
        for side, share in zip(output.shape[-2:], shares, strict=True)
    )
    return output[..., :height, :width]


def check_at_least(name: str, least: int, **values: int) -> None:
    """Raise OptionError for the first of a network's options that is below `least`."""
    for key, value in values.items():
        if value < least:
            raise OptionError(f'network_g: {name}: {key}: {value} must be {least} or more.')

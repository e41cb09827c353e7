"""The SSIM term of the fine stage, registered with BasicSR."""

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from pytorch_msssim import ssim
from torch import Tensor, nn


@LOSS_REGISTRY.register()
class SSIMLoss(nn.Module):
    """`loss_weight` (1 - SSIM), averaged over channels and images (Wang et al., Eq. 9).

    Images are (B, C, H, W) in [0, `data_range`], by default [0, 1]; values outside are allowed and
    not clamped. Gaussian window of `window_size` pixels and standard deviation `sigma`, without
    padding; an image smaller than the window gets the largest odd window that fits. Computed in
    float32. SSIM after Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity" (2004), with K1 = 0.01 and K2 = 0.03.

    A `data_range` far above the images' own makes both constants dominate, and the term vanish:
    127.5 has the effect of the released implementation (constants of range 255 on [-1, 1] images).

    Raises ValueError for an even window or a `data_range` that is not positive.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        data_range: float = 1.0,
        window_size: int = 11,
        sigma: float = 1.5,
    ) -> None:
        super().__init__()
        if window_size < 1 or window_size % 2 == 0:
            raise ValueError(f'SSIMLoss: window_size: {window_size} must be odd and positive.')
        if data_range <= 0:
            raise ValueError(f'SSIMLoss: data_range: {data_range} must be positive.')
        self.loss_weight = loss_weight
        self.data_range = data_range
        self.window_size = window_size
        self.sigma = sigma
        self._windows: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, pred: Tensor, target: Tensor, **kwargs) -> Tensor:
        """The loss of `pred` against `target`, a scalar."""
        smallest_side = min(pred.shape[-2:])
        window_size = min(self.window_size, smallest_side - 1 + smallest_side % 2)
        window = self._window(window_size, pred.shape[1], pred.device)
        similarity = ssim(pred.float(), target.float(), data_range=self.data_range, win=window)
        return self.loss_weight * (1 - similarity)

    def _window(self, size: int, channels: int, device: torch.device) -> Tensor:
        """The one-dimensional Gaussian (channels, 1, 1, size), copied to the device once."""
        key = (size, channels, device)
        if key not in self._windows:
            place = torch.arange(size, dtype=torch.float32) - size // 2
            window = torch.exp(-(place**2) / (2 * self.sigma**2))
            window = (window / window.sum()).repeat(channels, 1, 1, 1)
            self._windows[key] = window.to(device)
        return self._windows[key]

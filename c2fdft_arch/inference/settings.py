"""How the network evaluates an image when no gradient is wanted: precision, memory, strips."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import torch

from c2fdft_arch.common.hardware import has_fast_bf16

PRECISIONS = ('fp32', 'bf16', 'auto')
AUTO_FLOAT32_FROM = 900


@dataclass(frozen=True)
class InferenceSettings:
    """Settings of `DFT` for evaluation without gradients; results do not depend on the strips.

    Raises ValueError for a value that is not allowed.
    """

    precision: str = 'fp32'
    """`fp32`; `bf16`: matrix products and convolutions in bfloat16, everything else in float32;
    `auto`: `bf16` where the hardware multiplies it faster, with `float32_from` 900, else `fp32`."""
    memory_budget_mb: float | None = None
    """Most memory beside weights, input and result, in MiB; None: strips that suit the caches."""
    band_pixels: int | None = None
    """Pixels evaluated at a time; None: chosen from the budget and the caches."""
    float32_from: int | None = None
    """Timestep from which on (0-based) an image is evaluated in float32 whatever the precision.

    What the prediction is wrong by is multiplied by 1 / sqrt(alpha_bar) when the clean image is
    computed from it: 157 times at the first call, t = 999, 9 times at the second of four."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            close = difflib.get_close_matches(str(self.precision).lower(), PRECISIONS, n=1)
            hint = f'; did you mean {close[0]}?' if close else ''
            raise ValueError(
                f'precision: {self.precision!r} given; it is {", ".join(PRECISIONS)}{hint}'
            )
        for name in ('memory_budget_mb', 'band_pixels'):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f'{name}: {value} given; it must be positive (or None)')

    def dtype(self, device: torch.device, timestep: float = 0) -> torch.dtype:
        """The number format of matrix products and convolutions on `device` at a timestep."""
        float32_from = self.float32_from
        if self.precision == 'auto':
            if not has_fast_bf16(device.type):
                return torch.float32
            float32_from = AUTO_FLOAT32_FROM if float32_from is None else float32_from
        if self.precision == 'fp32' or (float32_from is not None and timestep >= float32_from):
            return torch.float32
        return torch.bfloat16

"""How the network evaluates an image without gradients: precision, memory, row bands."""

from dataclasses import dataclass

import torch

from c2fdft_arch.common import hardware
from c2fdft_arch.common.messages import nearest

PRECISIONS = ('fp32', 'bf16', 'auto')
AUTO_FLOAT32_FROM = 900


@dataclass(frozen=True)
class InferenceSettings:
    """Settings of `DFT` for evaluation without gradients; results do not depend on the bands.

    Raises ValueError for a value that is not allowed.
    """

    precision: str = 'fp32'
    """`fp32`; `bf16`: matrix products and convolutions in bfloat16, everything else in float32 (on
    a CPU that does not multiply bfloat16 in hardware everything is in float32); `auto`: `bf16`
    where the hardware multiplies it faster, with `float32_from` 900, else `fp32`."""
    memory_budget_mb: float | None = None
    """Most memory beside weights, input and result, in MiB; None: bands that suit the caches."""
    band_pixels: int | None = None
    """Pixels of a row band; None: chosen from the budget and the caches."""
    float32_from: float | None = None
    """Timestep from which on (0-based) an image is evaluated in float32 whatever the precision.

    The clean image computed from a prediction has its error times 1 / sqrt(alpha_bar): 157 times
    at the first call, t = 999, and 9 times at the second of four. Only where noise is predicted:
    infinity, which no timestep reaches, suits the other targets."""

    kernels: str = 'auto'
    """What computes the blocks: `auto`, `torch`, `triton` or `compile`; see `chosen_kernels`."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f'precision: {self.precision!r} given; it is {", ".join(PRECISIONS)}'
                f'{nearest(str(self.precision), PRECISIONS)}'
            )
        for name in ('memory_budget_mb', 'band_pixels'):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f'{name}: {value} given; it must be positive (or None)')

    def dtype(self, device: torch.device, timestep: float = 0) -> torch.dtype:
        """The dtype of matrix products and convolutions on `device` at a timestep."""
        float32_from = self.float32_from
        if self.precision == 'auto' and float32_from is None:
            float32_from = AUTO_FLOAT32_FROM
        if self.precision == 'fp32' or (float32_from is not None and timestep >= float32_from):
            return torch.float32
        if self.precision == 'auto' and not hardware.has_fast_bf16(device.type):
            return torch.float32
        return hardware.matmul_dtype(torch.bfloat16, device.type)

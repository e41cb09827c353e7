"""The section `val` of an option file: each key, its default and its bounds."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator

from c2fdft_arch.common.option_parsing import NotNegativeInt, PositiveInt, Section, check_names


class BasicSRValidationOptions(Section):
    """`val` of one of BasicSR's models."""

    val_freq: PositiveInt | None = None
    """Iterations between validations."""
    save_img: bool = False
    """Write the restored images."""
    suffix: str | None = None
    """End of the written files' names."""
    metrics: Mapping[str, Any] | None = None
    """BasicSR's metrics."""
    pbar: bool = True
    """Show a progress bar."""


class ValidationOptions(BasicSRValidationOptions):
    """`val`: BasicSR's keys and how validation and test sample."""

    noise_seed: int = 0
    """Seed of the noise, together with each image's name."""
    samples: PositiveInt = 1
    """Average this many samplings."""
    precision: Literal['auto', 'fp32', 'bf16'] = 'auto'
    """Precision of matrix products and convolutions in the network."""
    kernels: Literal['auto', 'torch', 'triton', 'compile'] = 'auto'
    """What computes the network, as in `train: kernels`."""
    memory_budget_mb: PositiveInt | None = None
    """Memory that the network may use beside the image, in MiB; a default by size if not given."""
    strips: NotNegativeInt = 3
    """Images of each data set that TensorBoard shows: degraded | restored | clean."""
    best_metric: str | None = None
    """The metric, on the first data set, that chooses `net_g_best.pth`; the first by default."""

    @model_validator(mode='after')
    def _fits_together(self) -> 'ValidationOptions':
        if self.best_metric is not None:
            check_names([self.best_metric], self.metrics or {}, 'val: best_metric')
        return self

"""The exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ModelEMA:
    """Keeps `average` = decay * `average` + (1 - decay) * `network`, parameter by parameter.

    Both networks have the same parameters. All of them are updated by a few grouped operations.
    """

    def __init__(self, average: nn.Module, network: nn.Module, decay: float) -> None:
        current = dict(network.named_parameters())
        self.decay = decay
        self.averages: list[Tensor] = []
        self.parameters: list[Tensor] = []
        for name, parameter in average.named_parameters():
            self.averages.append(parameter.data)
            self.parameters.append(current[name].data)

    @torch.no_grad()
    def update(self, skipped: Tensor) -> None:
        """Take one step, unless `skipped` (a scalar, 0 or 1) is 1."""
        if skipped.device.type != 'cpu':
            self._update_on_device(skipped)
        elif not skipped:
            torch._foreach_lerp_(self.averages, self.parameters, 1 - self.decay)

    def _update_on_device(self, skipped: Tensor) -> None:
        """The same without asking the device for `skipped`, which would make the host wait."""
        steps = torch._foreach_sub(self.parameters, self.averages)
        torch._foreach_mul_(steps, (1 - self.decay) * (1 - skipped))
        torch._foreach_add_(self.averages, steps)

"""The exponential moving average of a network's weights."""

import torch
from torch import Tensor, nn


class ModelEMA:
    """Keeps `average` = decay * `average` + (1 - decay) * `network`, parameter by parameter.

    Both networks have the same parameters. All of them are updated by a few grouped operations.
    """

    def __init__(self, average: nn.Module, network: nn.Module, decay: float) -> None:
        current = dict(network.named_parameters())
        self.decay = decay
        self.averages = [parameter.data for parameter in average.parameters()]
        self.parameters = [current[name].data for name, _ in average.named_parameters()]

    @torch.no_grad()
    def update(self, found_inf: Tensor) -> None:
        """Take one step, unless `found_inf` (a scalar, 0 or 1) is 1."""
        if found_inf.device.type != 'cpu':
            self._update_on_device(found_inf)
        elif not found_inf:
            torch._foreach_lerp_(self.averages, self.parameters, 1 - self.decay)

    def _update_on_device(self, found_inf: Tensor) -> None:
        """The same without reading `found_inf`, which would make the host wait for the device."""
        steps = torch._foreach_sub(self.parameters, self.averages)
        torch._foreach_mul_(steps, (1 - self.decay) * (1 - found_inf))
        torch._foreach_add_(self.averages, steps)

"""The exponential moving average of a network's weights."""

import torch
from torch import Tensor, nn


class ModelEMA:
    """Keeps `average` = decay * `average` + (1 - decay) * `network`, parameter by parameter.

    Both networks have the same parameters. All of them are updated by a few grouped operations.
    With `warmup` the decay of iteration n is at most (1 + n) / (10 + n), as TensorFlow's average
    has it, so that the weights of the start do not outlive a short training. Unlike that of
    `torch.optim.swa_utils` it leaves a step out by a flag that may be on the device.
    """

    def __init__(
        self, average: nn.Module, network: nn.Module, decay: float, warmup: bool = False
    ) -> None:
        current = dict(network.named_parameters())
        self.decay = decay
        self.warmup = warmup
        self.averages = [parameter.data for parameter in average.parameters()]
        self.parameters = [current[name].data for name, _ in average.named_parameters()]

    @torch.no_grad()
    def update(self, found_inf: Tensor, iteration: int) -> None:
        """Take the step of an iteration, 1 and up, unless `found_inf` (a scalar, 0 or 1) is 1."""
        share = 1 - self.decay_in(iteration)
        if found_inf.device.type != 'cpu':
            self._update_on_device(found_inf, share)
        elif not found_inf:
            torch._foreach_lerp_(self.averages, self.parameters, share)

    def decay_in(self, iteration: int) -> float:
        """The decay of an iteration, 1 and up."""
        return min(self.decay, (1 + iteration) / (10 + iteration)) if self.warmup else self.decay

    def _update_on_device(self, found_inf: Tensor, share: float) -> None:
        """The same without reading `found_inf`, which would make the host wait for the device."""
        steps = torch._foreach_sub(self.parameters, self.averages)
        torch._foreach_mul_(steps, share * (1 - found_inf))
        torch._foreach_add_(self.averages, steps)

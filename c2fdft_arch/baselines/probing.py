"""What a network takes and returns, found out by looking at it and by trial."""

import copy
import inspect

import torch
from torch import Tensor, nn

POWERS_OF_TWO = (1, 2, 4, 8, 16, 32, 64, 128)
SMALLEST_PROBE = 33


def takes_time(network: nn.Module | type[nn.Module]) -> bool:
    """Whether the network's `forward` takes a second argument that it cannot do without."""
    parameters = inspect.signature(network.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(needed) == (3 if inspect.isclass(network) else 2)  # a class's has `self` as well


def run_copy(network: nn.Module, x: Tensor) -> Tensor:
    """The output of a copy on the device of `x`: some networks keep tensors of their input."""
    network = copy.deepcopy(network).to(x.device)
    arguments = (x, torch.zeros(1, device=x.device)) if takes_time(network) else (x,)
    return final_image(network(*arguments))


def size_multiples(network: nn.Module) -> list[int]:
    """Multiples to try, rising: powers of two, and those of the network's window size."""
    windows = {getattr(module, 'window_size', None) for module in network.modules()}
    multiples = {w * p for w in windows if isinstance(w, int) and w > 0 for p in (1, 2, 4, 8)}
    return sorted(multiples.union(POWERS_OF_TWO))


def probe_size(multiple: int) -> tuple[int, int]:
    """Two different sides that are odd multiples of `multiple`, and so of nothing larger."""
    factor = -(-SMALLEST_PROBE // multiple) | 1
    return multiple * factor, multiple * (factor + 2)


def final_image(output: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """The final image of a network that also returns those of its earlier stages."""
    return output[0] if isinstance(output, (list, tuple)) else output

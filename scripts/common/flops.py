"""The floating-point operations of a network."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_flops(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Operations of one call's matrix products and convolutions, two per multiply-add.

    Counted on the meta device: that computes nothing, and counts a network that works in row bands
    like the same network in one piece.
    """
    meta = copy.deepcopy(network).to('meta')
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        meta(*(x.to('meta') for x in inputs))
    return counter.get_total_flops()

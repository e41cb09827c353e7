"""The sinusoidal embedding of the diffusion timestep."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_PERIOD = 10000.0


def embed_timesteps(t: Tensor, channels: int) -> Tensor:
    """Embed timesteps t (B,) as SiLU(sin | cos) of geometric frequencies, (B, channels) float32.

    The frequencies are exp(-ln(10000) i / (channels / 2 - 1)), i = 0 .. channels / 2 - 1
    (Vaswani et al. 2017, as used by Wang et al., Eqs. 6 and 7). Nothing is learned.
    """
    half = channels // 2
    # In float32 and in this order of operations: at t = 999 the phase has a rounding error of 3e-5
    # in any order, and the released weights were trained with this one.
    step = math.log(MAX_PERIOD) / (half - 1)
    index = torch.arange(half, dtype=torch.float32, device=t.device)
    phase = t.to(torch.float32)[:, None] * torch.exp(index * -step)[None, :]
    return F.silu(torch.cat([phase.sin(), phase.cos()], dim=1))

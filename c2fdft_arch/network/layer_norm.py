"""The layer norm of a pixel's channels, with T added, and its gradient."""

import torch
from torch import Tensor

from c2fdft_arch.network.plain_dft import LAYER_NORM_EPS


def layer_norm(
    x: Tensor, time_embedding: Tensor | None, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """LN(x) + T for x (B, ..., C) and the time embedding T (B, C), (1, C) or None.

    Also gives the mean and the reciprocal standard deviation of each pixel, for the backward pass.
    Without a bias it is the `BiasFree` norm, which divides by the deviation but keeps the mean.
    """
    if bias is not None:
        if time_embedding is not None and len(time_embedding) == 1:
            # One addition for the image, not one per pixel.
            bias, time_embedding = bias + time_embedding[0], None
        y, mean, rstd = torch.native_layer_norm(x, weight.shape, weight, bias, LAYER_NORM_EPS)
    else:
        # A layer norm gives the deviation several times faster than torch.var does over so few
        # channels; its other result is overwritten.
        y, mean, rstd = torch.native_layer_norm(x, weight.shape, weight, weight, LAYER_NORM_EPS)
        torch.mul(x, rstd, out=y).mul_(weight)
    if time_embedding is not None:
        y += time_embedding.view(len(time_embedding), *(1,) * (x.dim() - 2), -1)
    return y, mean, rstd


def layer_norm_backward(
    d_y: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x, weight and bias of `layer_norm`, given that of its result."""
    if bias is not None:
        return torch.ops.aten.native_layer_norm_backward(
            d_y, x, weight.shape, mean, rstd, weight, bias, [True, True, True]
        )
    scaled = x * rstd
    d_weight = (d_y * scaled).flatten(0, -2).sum(0)
    d_scaled = d_y * weight
    along = (d_scaled * scaled).mean(-1, keepdim=True)
    return (d_scaled - (x - mean) * rstd * along) * rstd, d_weight, None

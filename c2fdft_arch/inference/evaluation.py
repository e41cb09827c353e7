"""Evaluation of the network without gradients: which images together, and by what."""

from __future__ import annotations

import torch
from torch import Tensor

from c2fdft_arch.inference.memory_plan import MemoryPlan
from c2fdft_arch.inference.native_network import NativeEvaluation
from c2fdft_arch.inference.row_band_network import RowBandEvaluation
from c2fdft_arch.inference.row_bands import Workspace
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.native.bindings import kernels
from c2fdft_arch.network.plain_dft import PlainDFT


def evaluate(
    network: PlainDFT, x: Tensor, t: Tensor, settings: InferenceSettings, workspace: Workspace
) -> Tensor:
    """Predict the noise (B, 3, H, W) in x (B, 6, H, W) for timesteps t (B,), in float32.

    Raises MemoryBudgetError if the settings' budget does not suffice.
    """
    b, _, height, width = x.shape
    result = torch.empty(b, network.out_channels, height, width, device=x.device)
    for timestep in t.unique():
        dtype = settings.dtype(x.device, float(timestep))
        plan = MemoryPlan(network.dim, network.ffn_factor, height, width, settings, x.device, dtype)
        evaluation = _evaluation(network, timestep[None], plan, workspace)
        for images in (t == timestep).nonzero().flatten().split(plan.chunk_size):
            result[images] = evaluation(x if len(images) == b else x[images])
    return result


def _evaluation(
    network: PlainDFT, t: Tensor, plan: MemoryPlan, workspace: Workspace
) -> RowBandEvaluation:
    """By the kernels in C++ where there are any, unless strips of a certain size are asked for."""
    if plan.settings.band_pixels is None:
        of_products = kernels(plan.dtype, plan.device)
        exact = kernels(torch.float32, plan.device)
        if of_products is not None and exact is not None:
            return NativeEvaluation(network, t, plan, workspace, of_products, exact)
    return RowBandEvaluation(network, t, plan, workspace)

"""Chooses how the network is evaluated without gradients.

That is: in which dtype, how many images at a time, and whether by kernels in C++ or by PyTorch's
operations.
"""

import torch
from torch import Tensor

from c2fdft_arch.inference.memory_plan import MemoryPlan
from c2fdft_arch.inference.native_network import NativeEvaluation
from c2fdft_arch.inference.row_band_network import RowBandEvaluation
from c2fdft_arch.inference.row_bands import Workspace
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.network.plain_dft import PlainDFT


def evaluate(
    network: PlainDFT, x: Tensor, t: Tensor, settings: InferenceSettings, workspace: Workspace
) -> Tensor:
    """Predict the noise (B, 3, H, W) in x (B, 6, H, W) for timesteps t (B,), in float32.

    Images that share a timestep are evaluated together, as many as the plan allows. Raises
    MemoryBudgetError if the settings' budget does not suffice.
    """
    b, _, height, width = x.shape
    result = torch.empty(b, network.out_channels, height, width, device=x.device)
    for timestep in t.unique():
        plan = MemoryPlan(
            network.dim, network.ffn_factor, height, width, settings, x.device, float(timestep)
        )
        found = plan.native_kernels()
        if found is None:
            evaluation = RowBandEvaluation(network, timestep[None], plan, workspace)
        else:
            evaluation = NativeEvaluation(network, timestep[None], plan, workspace, *found)
        for images in (t == timestep).nonzero().flatten().split(plan.chunk_size):
            result[images] = evaluation(x if len(images) == b else x[images])
    return result

"""Chooses how the network is evaluated without gradients.

That is: in which dtype, how many images at a time, and whether by kernels in C++ or in Triton, by
PyTorch's operations, or compiled.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from c2fdft_arch.common.kernel_choice import chosen_kernels
from c2fdft_arch.inference.cuda_graphs import GraphedEvaluation
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
        evaluation = evaluation_of(network, timestep[None], plan, workspace)
        for images in (t == timestep).nonzero().flatten().split(plan.chunk_size):
            result[images] = evaluation(x if len(images) == b else x[images])
    return result


def evaluation_of(
    network: PlainDFT, t: Tensor, plan: MemoryPlan, workspace: Workspace
) -> Callable[[Tensor], Tensor]:
    """The evaluation that a plan chooses, for images that share their timestep t (1,)."""
    kernels = chosen_kernels(plan.settings.kernels, plan.device, 'inference')
    if kernels == 'triton':
        # Triton may be missing.
        from c2fdft_arch.inference.triton_network import TritonEvaluation

        return GraphedEvaluation.of(TritonEvaluation, network, t, plan, workspace)
    if kernels == 'compile':
        return compiled(network, t, plan.dtype, workspace)
    found = plan.native_kernels() if plan.settings.kernels == 'auto' else None
    if found is None:
        return GraphedEvaluation.of(RowBandEvaluation, network, t, plan, workspace)
    return NativeEvaluation(network, t, plan, workspace, *found)


def compiled(
    network: PlainDFT, t: Tensor, dtype: torch.dtype, workspace: Workspace
) -> Callable[[Tensor], Tensor]:
    """The plain network, compiled for each size that occurs, for images that share t (1,)."""
    programs = {} if workspace.graphs is None else workspace.graphs
    key = 'compiled', network
    if key not in programs:
        forward = functools.partial(PlainDFT.forward, network)
        programs[key] = torch.compile(forward, dynamic=False)

    def evaluate(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            return programs[key](x, t.expand(len(x))).float()

    return evaluate

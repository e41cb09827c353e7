"""Chooses how the network is evaluated without gradients.

That is: in which dtype, how many images at a time, and whether by kernels in C++ or in Triton, by
PyTorch's operations, or compiled.
"""

import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from c2fdft_arch.common.kernel_choice import chosen_kernels
from c2fdft_arch.inference.cuda_graphs import GraphedEvaluation
from c2fdft_arch.inference.device_memory import empty_cache, fitted, is_out_of_memory
from c2fdft_arch.inference.memory_plan import MIB, MemoryPlan
from c2fdft_arch.inference.native_network import NativeEvaluation
from c2fdft_arch.inference.row_band_network import RowBandEvaluation
from c2fdft_arch.inference.row_bands import Workspace
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.network.plain_dft import PlainDFT


def evaluate(
    network: PlainDFT, x: Tensor, t: Tensor, settings: InferenceSettings, workspace: Workspace
) -> Tensor:
    """Predict the noise (B, 3, H, W) in x (B, 6, H, W) for timesteps t (B,), in float32.

    Images that share a timestep are evaluated together, as many as the plan allows. On a GPU that
    runs out of memory the workspace's plans are halved, once, with a warning. Raises
    MemoryBudgetError if the settings' budget does not suffice, RuntimeError if the memory does not.
    """
    try:
        return evaluate_as_planned(network, x, t, settings, workspace)
    except RuntimeError as error:
        if workspace.most_bytes is not None or not is_out_of_memory(error):
            raise
    # Not in the handler: the error's traceback keeps the memory of the evaluation that failed.
    halve_plans(network, x, t, settings, workspace)
    return evaluate_as_planned(network, x, t, settings, workspace)


def halve_plans(
    network: PlainDFT, x: Tensor, t: Tensor, settings: InferenceSettings, workspace: Workspace
) -> None:
    """Leave a workspace half the memory of the plan for a batch x, and say so in a warning."""

    def planned_bytes() -> int:
        plans = [plan_of(network, x, timestep, settings, workspace) for timestep in t.unique()]
        return max(plan.total_bytes(len(x)) for plan in plans)

    workspace.clear()
    empty_cache(x.device)
    taken = planned_bytes()
    workspace.most_bytes = taken // 2
    workspace.limits.clear()
    logging.getLogger(__name__).warning(
        '%s: out of memory with a plan of %d MiB for %d x %d pixels (batch of %d); trying once '
        'more with %d MiB, in smaller row bands',
        x.device, taken // MIB, x.shape[3], x.shape[2], len(x), planned_bytes() // MIB,
    )  # fmt: skip


def evaluate_as_planned(
    network: PlainDFT, x: Tensor, t: Tensor, settings: InferenceSettings, workspace: Workspace
) -> Tensor:
    """As `evaluate`, without another try."""
    b, _, height, width = x.shape
    result = torch.empty(b, network.out_channels, height, width, device=x.device)
    for timestep in t.unique():
        plan = plan_of(network, x, timestep, settings, workspace)
        evaluation = evaluation_of(network, timestep[None], plan, workspace)
        for images in (t == timestep).nonzero().flatten().split(plan.chunk_size):
            result[images] = evaluation(x if len(images) == b else x[images])
    return result


def plan_of(
    network: PlainDFT,
    x: Tensor,
    timestep: Tensor,
    settings: InferenceSettings,
    workspace: Workspace,
) -> MemoryPlan:
    """The plan for a batch x (B, 6, H, W) at a timestep, within what the device has free."""
    height, width = x.shape[2:]
    plan = MemoryPlan(
        network.dim, network.ffn_factor, height, width, settings, x.device, float(timestep)
    )
    return fitted(plan, len(x), workspace)


def evaluation_of(
    network: PlainDFT, t: Tensor, plan: MemoryPlan, workspace: Workspace
) -> Callable[[Tensor], Tensor]:
    """The evaluation that a plan chooses, for images that share their timestep t (1,)."""
    kernels = chosen_kernels(plan.settings.kernels, plan.device, 'inference')
    if kernels == 'triton':
        # Triton may be missing.
        from c2fdft_arch.inference.triton_network import TritonEvaluation

        return GraphedEvaluation.of(TritonEvaluation, network, t, plan, workspace)
    if kernels == 'compile' and plan.limit is None:  # it keeps whole feature maps
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

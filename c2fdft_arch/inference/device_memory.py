"""The memory of a GPU: how much is free, the plan that keeps to it, and what says it is too little.

Only a plan whose usual row bands would not fit is made smaller. Results do not depend on bands.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from c2fdft_arch.inference.memory_plan import MemoryPlan
from c2fdft_arch.inference.row_bands import Workspace

USABLE = 0.9
"""Share of the free memory that a plan may take: libraries keep some, and gaps stay between."""
OUT_OF_MEMORY = ('out of memory', 'ALLOC_FAILED', 'previous error during capture')
"""What the RuntimeError of PyTorch says on CUDA, XPU and MPS; what that of cuBLAS says; and that of
a recording which could not get its memory (the same call has just been evaluated twice)."""


def free_device_memory(device: torch.device, empty: bool = False) -> int | None:
    """Bytes that are free on a CUDA device; None for others, which do not tell.

    What PyTorch's allocator holds unused is free only with `empty`, which gives it back. Else it
    may lie in the pools of recorded calls, or in pieces too small to be used.
    """
    if device.type != 'cuda':
        return None
    if empty:
        empty_cache(device)
    return torch.cuda.mem_get_info(device)[0]


def empty_cache(device: torch.device) -> None:
    """Give back what PyTorch's allocator holds unused, where the device has one."""
    backend = getattr(torch, device.type)
    if hasattr(backend, 'empty_cache'):
        backend.empty_cache()


def fitted(plan: MemoryPlan, images: int, workspace: Workspace) -> MemoryPlan:
    """The plan for so many images, with a limit where the device has too little for the usual one.

    It is decided once for each size and dtype in a workspace: otherwise what is free a moment later
    would change how many images are evaluated together, and recorded calls with it.
    """
    key = plan.height, plan.width, images, plan.dtype
    if key not in workspace.limits:
        found = workspace.most_bytes, _limit(plan, images, workspace)
        workspace.limits[key] = min((most for most in found if most is not None), default=None)
    return replace(plan, limit=workspace.limits[key])


def _limit(plan: MemoryPlan, images: int, workspace: Workspace) -> int | None:
    """What may be taken of the device's memory; None if that does not matter, or is not known."""
    usable = 0
    for empty in (False, True):
        free = free_device_memory(plan.device, empty)
        if free is None:
            return None
        usable = int(USABLE * (free + workspace.held_bytes(plan.device)))
        if plan.total_bytes(images) <= usable:
            return None
    return usable


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a device has too little memory.

    What came before the error counts: where that ends a recording, another one follows.
    """
    while error is not None:
        if isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY):
            return True
        error = error.__context__
    return False

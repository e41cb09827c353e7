"""What the ranks of a distributed training tell each other; with one process, nothing happens."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


def is_distributed() -> bool:
    """Whether this process belongs to a process group."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if is_distributed() else 1


def gather_objects(value: Any) -> list[Any]:
    """Every rank's value, in the order of the ranks, on all ranks."""
    if not is_distributed():
        return [value]
    values = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def broadcast_object(value: Any) -> Any:
    """Rank 0's value, on all ranks."""
    if not is_distributed():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def barrier() -> None:
    """Return when every rank has come here."""
    if is_distributed():
        distributed.barrier()


def all_reduce_max(values: Tensor) -> Tensor:
    """The maximum of each element over the ranks, in place and without waiting for the device."""
    if is_distributed():
        distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
    return values


def wrap(stage: nn.Module, device: torch.device, num_gpu: int, **kwargs: Any) -> nn.Module:
    """Distribute a stage: over the processes if there are several, else over the GPUs of this one.

    `kwargs` are those of DistributedDataParallel.
    """
    if is_distributed():
        device_ids = [torch.cuda.current_device()] if device.type == 'cuda' else None
        return DistributedDataParallel(
            stage, device_ids=device_ids, gradient_as_bucket_view=True, **kwargs
        )
    return DataParallel(stage) if num_gpu > 1 else stage


def no_sync(stage: nn.Module, last_part: bool) -> contextlib.AbstractContextManager:
    """Keep gradients in this process, except in the last part of a batch."""
    if isinstance(stage, DistributedDataParallel) and not last_part:
        return stage.no_sync()
    return contextlib.nullcontext()


def shard(items: Sequence[int]) -> list[int]:
    """The items that fall to this rank: every `world_size`-th, so that shares differ by one."""
    return list(items[rank() :: world_size()])

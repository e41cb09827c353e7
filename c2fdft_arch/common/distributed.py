"""Collective operations that also work in a single process, where they do nothing."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

Item = TypeVar('Item')


def is_distributed() -> bool:
    """Whether this process belongs to a process group."""
    return distributed.is_available() and distributed.is_initialized()


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """The process group of processes that torchrun has started; nothing where there is one only."""
    if int(os.environ.get('WORLD_SIZE', '1')) < 2 or is_distributed():
        yield
        return
    distributed.init_process_group('gloo')
    try:
        yield
    finally:
        distributed.destroy_process_group()


def local_rank() -> int:
    """Number of this process on its machine, from 0."""
    return int(os.environ.get('LOCAL_RANK', '0'))


def shard(items: Sequence[Item]) -> Sequence[Item]:
    """This rank's share: every n-th."""
    return items[rank() :: world_size()]


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
    """Wait until every rank is here."""
    if is_distributed():
        distributed.barrier()


def all_reduce_max(values: Tensor) -> Tensor:
    """The maximum of each element over the ranks, in place and without waiting for the device."""
    if is_distributed():
        distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
    return values


def wrap(
    stage: nn.Module, device: torch.device, num_gpu: int, find_unused_parameters: bool = False
) -> nn.Module:
    """A stage distributed over the processes if there are several, else over this one's GPUs."""
    if is_distributed():
        return DistributedDataParallel(
            stage,
            device_ids=[torch.cuda.current_device()] if device.type == 'cuda' else None,
            find_unused_parameters=find_unused_parameters,
            gradient_as_bucket_view=True,
        )
    return DataParallel(stage) if num_gpu > 1 else stage


def no_sync(stage: nn.Module, last_part: bool) -> contextlib.AbstractContextManager:
    """Reduce gradients over the processes with the last part of a batch only."""
    if isinstance(stage, DistributedDataParallel) and not last_part:
        return stage.no_sync()
    return contextlib.nullcontext()

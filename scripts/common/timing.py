"""How long a call takes."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Result = TypeVar('Result')


def timed(call: Callable[..., Result], *arguments: Any, **settings: Any) -> tuple[Result, float]:
    """What a call returns and the seconds that it took, its work on a GPU included."""
    wait_for_gpu()
    began = time.perf_counter()
    result = call(*arguments, **settings)
    wait_for_gpu()
    return result, time.perf_counter() - began


def wait_for_gpu() -> None:
    """Wait until the GPU, if this process uses one, has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()

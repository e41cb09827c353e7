"""Training calls recorded as CUDA graphs: a forward and a backward pass are one launch each.

Launching the several thousand kernels of an iteration takes a host several times as long as a
large GPU needs to run them. A call is recorded when its shape first occurs, and replayed from then
on: the patch cycle has a few shapes. The fine stage calls the network several times before it goes
back, so each call of an iteration has a recording, and memory, of its own; the phases share that
memory.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor, Tensor], Tensor]
MOST_SHAPES = 12
"""Shapes beyond this many are not recorded: recordings keep memory."""


class GraphedTraining:
    """A network's recorded calls.

    Those that are pending at the same time, between their forward and their backward passes, must
    not share memory; all others do.
    """

    def __init__(self) -> None:
        self._recordings: dict[tuple[Any, ...], list[Recording]] = {}
        self._pools: list[Any] = []

    def __call__(
        self, network: nn.Module, forward: Forward, x: Tensor, t: Tensor, key: tuple[Any, ...]
    ) -> Tensor:
        """forward(x, t), by a recording for x (B, ..., H, W) and t (B,).

        `key` holds all else that decides what is computed.
        """
        parameters = [p for p in network.parameters() if p.requires_grad]
        places = hash(tuple(parameter.data_ptr() for parameter in parameters))
        key = (*key, x.shape, x.device, x.requires_grad, places)
        if key not in self._recordings and len(self._recordings) >= MOST_SHAPES:
            return forward(x, t)
        recordings = self._recordings.setdefault(key, [])
        taken = {r.number for of_key in self._recordings.values() for r in of_key if r.is_pending}
        recording = next((r for r in recordings if r.number not in taken), None)
        if recording is None:
            number = next(n for n in itertools.count() if n not in taken)
            recording = Recording(network, forward, x, t, number, self._pool(number))
            recordings.append(recording)
        return _Replay.apply(x, t, recording, *parameters)

    def _pool(self, number: int) -> Any:
        while len(self._pools) <= number:
            self._pools.append(torch.cuda.graph_pool_handle())
        return self._pools[number]


class Recording:
    """A forward and a backward pass of one shape."""

    def __init__(
        self, network: nn.Module, forward: Forward, x: Tensor, t: Tensor, number: int, pool: Any
    ) -> None:
        self.number = number  # of its memory, `pool`
        self.holder: object | None = None  # the call between its forward and its backward pass
        self.x = x.detach().clone().requires_grad_(x.requires_grad)
        self.t = t.detach().clone()
        # Aliases: a parameter's own gradient node may stand in another call's graph, on the stream
        # of that, which a recording must not wait for.
        weights = {
            f'network.{name}': parameter.detach().requires_grad_(parameter.requires_grad)
            for name, parameter in network.named_parameters()
        }
        inputs = [weight for weight in weights.values() if weight.requires_grad]
        inputs = [self.x, *inputs] if x.requires_grad else inputs
        call = _Call(network, forward)

        def evaluate() -> Tensor:
            return torch.func.functional_call(call, weights, (self.x, self.t))

        def backward(result: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
            return torch.autograd.grad(result, inputs, grad, allow_unused=True)

        stream = torch.cuda.Stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream), torch.enable_grad():
            for _ in range(2):  # compiles kernels, and lets libraries choose theirs
                result = evaluate()
                backward(result, torch.ones_like(result))
                del result
        torch.cuda.current_stream(x.device).wait_stream(stream)
        self.forward_graph, self.backward_graph = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.enable_grad(), torch.cuda.graph(self.forward_graph, pool=pool):
            result = evaluate()
        self.grad = torch.empty_like(result)
        with torch.cuda.graph(self.backward_graph, pool=pool):
            gradients = backward(result, self.grad)
        self.result = result.detach()
        self.gradients = gradients if x.requires_grad else (None, *gradients)

    @property
    def is_pending(self) -> bool:
        """Whether it stands between a forward and a backward pass."""
        return self.holder is not None

    def release(self, holder: object) -> None:
        """Free the recording for other calls, if this one still holds it."""
        if self.holder is holder:
            self.holder = None


class _Call(nn.Module):
    """A network's call as a module, in which other weights can be put."""

    def __init__(self, network: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.network = network
        self.call = forward

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.call(x, t)


class _Replay(torch.autograd.Function):
    """A recorded call; what it returns belongs to the caller."""

    @staticmethod
    def forward(ctx, x, t, recording, *parameters):
        recording.x.data.copy_(x)
        recording.t.copy_(t)
        recording.forward_graph.replay()
        ctx.recording, ctx.holder = recording, object()
        recording.holder = ctx.holder
        # A call that never goes back frees its recording when its node is dropped.
        weakref.finalize(ctx, recording.release, ctx.holder)
        return recording.result.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        recording = ctx.recording
        recording.grad.copy_(grad)
        recording.backward_graph.replay()
        d_x, *gradients = (None if g is None else g.clone() for g in recording.gradients)
        recording.release(ctx.holder)
        return d_x, None, None, *gradients


_networks: weakref.WeakKeyDictionary[nn.Module, GraphedTraining] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def graphed_training(network: nn.Module) -> GraphedTraining:
    """The recordings of a network, which end with it."""
    with _lock:
        return _networks.setdefault(network, GraphedTraining())

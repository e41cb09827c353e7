"""Which recording a training call replays; recordings themselves need a GPU."""

import pytest
import torch
from torch import nn

from c2fdft_arch.training import cuda_graphs
from c2fdft_arch.training.cuda_graphs import MOST_SHAPES, GraphedTraining


class FakeGraph:
    def __init__(self, replay):
        self.replay = replay


class FakeRecording(cuda_graphs.Recording):
    """A recording whose replays compute; `result = weight * x`."""

    made: list = []

    def __init__(self, network, forward, x, t, number, pool):
        self.number, self.holder, self.pool = number, None, pool
        self.x, self.t = x.detach().clone(), t.detach().clone()
        self.weight, self.with_x = network.weight, x.requires_grad
        self.result, self.grad = torch.empty_like(self.x), torch.empty_like(self.x)
        self.forward_graph, self.backward_graph = FakeGraph(self.run), FakeGraph(self.run_back)
        self.made.append(self)

    def run(self):
        self.result.copy_(self.x * self.weight.detach())

    def run_back(self):
        d_x = self.grad * self.weight.detach() if self.with_x else None
        self.gradients = d_x, (self.grad * self.x).sum()


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))


@pytest.fixture
def graphed(monkeypatch):
    monkeypatch.setattr(cuda_graphs, 'Recording', FakeRecording)
    monkeypatch.setattr(torch.cuda, 'graph_pool_handle', object)
    monkeypatch.setattr(FakeRecording, 'made', [])
    network, recordings = Scale(), GraphedTraining()

    def call(x, t=torch.zeros(1)):  # noqa: B008
        return recordings(network, lambda x, t: network.weight * x, x, t, ())

    call.network = network
    return call


def test_calls_of_one_shape_replay_one_recording(graphed):
    for _ in range(3):
        graphed(torch.ones(2)).sum().backward()
    assert len(FakeRecording.made) == 1
    assert graphed.network.weight.grad == 6


def test_pending_calls_share_no_memory(graphed):
    x = torch.tensor([2.0])
    first = graphed(x)  # x needs no gradient, what follows does
    third = graphed(graphed(first))
    third.backward()
    assert [r.number for r in FakeRecording.made] == [0, 1, 2]
    assert len({id(r.pool) for r in FakeRecording.made}) == 3
    assert graphed.network.weight.grad == 3 * 9 * 2  # d(w^3 x) / dw
    graphed(graphed(graphed(x))).backward()
    assert len(FakeRecording.made) == 3


def test_shapes_that_are_not_pending_together_share_memory(graphed):
    for size in (2, 3, 4):
        graphed(torch.ones(size)).sum().backward()
    assert len({id(r.pool) for r in FakeRecording.made}) == 1


def test_a_call_that_never_goes_back_frees_its_recording(graphed):
    graphed(torch.ones(2))
    graphed(torch.ones(2)).sum().backward()
    assert len(FakeRecording.made) == 1


def test_shapes_beyond_the_limit_are_computed_without_recording(graphed):
    for size in range(1, MOST_SHAPES + 3):
        graphed(torch.ones(size)).sum().backward()
    assert len(FakeRecording.made) == MOST_SHAPES


def test_weights_elsewhere_are_recorded_anew(graphed):
    graphed(torch.ones(2)).sum().backward()
    graphed.network.weight.data = torch.tensor(5.0)
    graphed(torch.ones(2)).sum().backward()
    assert len(FakeRecording.made) == 2

"""Evaluations recorded as CUDA graphs: one launch instead of several hundred."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from c2fdft_arch.inference.memory_plan import MemoryPlan
from c2fdft_arch.inference.row_band_network import RowBandEvaluation
from c2fdft_arch.inference.row_bands import Workspace
from c2fdft_arch.network.plain_dft import PlainDFT

GRAPH_PIXELS = 1024 * 1024
"""Of larger batches the kernels take so long that launching them costs nothing."""
MOST_GRAPHS = 8
"""How many sizes a workspace keeps; the one not used for longest is given up."""

NewEvaluation = Callable[[PlainDFT, Tensor, MemoryPlan, Workspace], RowBandEvaluation]


class GraphedEvaluation:
    """One size's evaluation as a graph, for timesteps t (1,) and images (B, 6, H, W).

    The graph reads the weights where they are, so it stays valid when they change in place.
    """

    def __init__(self, evaluation: NewEvaluation, network: PlainDFT, x: Tensor, plan: MemoryPlan):
        self.x, self.t = torch.zeros_like(x), torch.zeros(1, device=x.device)
        self.workspace = Workspace()  # of its own: the graph goes on using it

        def evaluate() -> Tensor:
            return evaluation(network, self.t, plan, self.workspace)(self.x)

        stream = torch.cuda.Stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            for _ in range(2):  # compiles the kernels, and lets libraries choose theirs
                evaluate()
        torch.cuda.current_stream(x.device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # A recording that fails may leave its stream the current one.
        with torch.cuda.stream(torch.cuda.current_stream(x.device)), torch.cuda.graph(self.graph):
            self.result = evaluate()

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict the noise in x (B, 6, H, W); the result is overwritten by the next call."""
        self.x.copy_(x)
        self.t.copy_(t)
        self.graph.replay()
        return self.result

    @staticmethod
    def of(
        evaluation: NewEvaluation, network: PlainDFT, t: Tensor, plan: MemoryPlan,
        workspace: Workspace,
    ) -> Callable[[Tensor], Tensor]:  # fmt: skip
        """An evaluation by graphs where they pay and there is a workspace that keeps them.

        None is recorded where memory is scarce: graphs keep theirs.
        """
        graphs = workspace.graphs if plan.limit is None else None

        def evaluate(x: Tensor) -> Tensor:
            if graphs is None or not x.is_cuda or x[:, 0].numel() > GRAPH_PIXELS:
                return evaluation(network, t, plan, workspace)(x)
            weights = next(network.parameters())
            key = x.shape, plan.dtype, weights.device, weights.data_ptr()
            graph = graphs.pop(key, None) or GraphedEvaluation(evaluation, network, x, plan)
            graphs[key] = graph  # the newest is last
            while len(graphs) > MOST_GRAPHS:
                graphs.pop(next(iter(graphs)))
            return graph(x, t)

        return evaluate

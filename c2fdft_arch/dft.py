"""The network that is trained and that restores images: `PlainDFT`, evaluated faster."""

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from c2fdft_arch.common import pretrained
from c2fdft_arch.inference.device_memory import free_device_memory
from c2fdft_arch.inference.evaluation import evaluate
from c2fdft_arch.inference.memory_plan import MIB, MemoryPlan
from c2fdft_arch.inference.row_bands import Workspace
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.native.bindings import release_scratch
from c2fdft_arch.network.network_options import check_input
from c2fdft_arch.network.plain_dft import PlainDFT

_DEFAULT: tuple[InferenceSettings, Workspace | None] = InferenceSettings(), None
# Of the networks that have settings of their own in this context: a thread's, or a task's.
_settings: ContextVar[Mapping[nn.Module, tuple[InferenceSettings, Workspace]]] = ContextVar(
    'inference settings', default=MappingProxyType({})
)


class DFT(PlainDFT):
    """The diffusion Transformer: predicts the noise in x_t from (y, x_t) and the timestep t.

    Options, parameters, inputs and results are those of `PlainDFT`; only how they are computed
    differs. Without gradients images are evaluated by row bands, in bounded memory; with
    gradients, by fused blocks that honour autocast. Compilers and exporters see `PlainDFT`.
    """

    checkpoint_blocks = False
    """True: keep only the blocks' inputs for the backward pass, and compute the rest again."""

    kernels = 'auto'
    """What computes training steps: `auto`, `torch` or `triton`; see `chosen_kernels`."""

    cuda_graphs = True
    """Whether training calls on a GPU are recorded and replayed; see `training.cuda_graphs`."""

    @property
    def options(self) -> dict[str, Any]:
        """What it was built with, by the names of the constructor."""
        levels = self.encoder_level1, self.encoder_level2, self.encoder_level3, self.latent
        first: Any = self.encoder_level1[0]
        return {
            'inp_channels': self.inp_channels,
            'out_channels': self.out_channels,
            'dim': self.dim,
            'num_blocks': [len(level) for level in levels],
            'heads': [level[0].attn.heads for level in levels],
            'ffn_factor': self.ffn_factor,
            'bias': self.output.bias is not None,
            'LayerNorm_type': 'BiasFree' if first.norm1.body.bias is None else 'WithBias',
            'dual_pixel_task': self.dual_pixel_task,
            'time_embedding': self.time_embedding,
            'skip': self.skip,
        }

    @classmethod
    def from_pretrained(cls, source: str | Path, **settings: Any) -> 'DFT':
        """Load it from a folder or a hub, as huggingface_hub's PyTorchModelHubMixin does.

        Raises HubMissing (an ImportError) without huggingface_hub, and what that raises.
        """
        return pretrained.from_pretrained(cls, source, **settings)

    def save_pretrained(self, folder: str | Path, **settings: Any) -> Any:
        """Write it into a folder, as huggingface_hub's PyTorchModelHubMixin does.

        With `push_to_hub=True` and a `repo_id` also to a hub. Raises HubMissing (an ImportError).
        """
        return pretrained.save_pretrained(self, self.options, folder, **settings)

    @property
    def inference(self) -> InferenceSettings:
        """How images are evaluated here without gradients; see `inference_settings`."""
        return _settings.get().get(self, _DEFAULT)[0]

    @contextlib.contextmanager
    def inference_settings(
        self,
        precision: str = 'fp32',
        memory_budget_mb: float | None = None,
        band_pixels: int | None = None,
        float32_from: float | None = None,
        kernels: str = 'auto',
    ) -> Iterator[None]:
        """Evaluate with these settings inside a `with` block; see `InferenceSettings`.

        They hold for the calls of this block alone: other threads have their own. The memory that
        evaluations need is kept until the end of the block, for the next ones. Raises ValueError
        for a value that is not allowed.
        """
        settings = InferenceSettings(
            precision, memory_budget_mb, band_pixels, float32_from, kernels
        )
        token = _settings.set({**_settings.get(), self: (settings, Workspace(keep_graphs=True))})
        try:
            yield
        finally:
            _settings.reset(token)
            release_scratch()

    def inference_memory_mb(self, batch: int, height: int, width: int) -> float:
        """Memory in MiB of an evaluation of (B, 6, H, W) with the present settings.

        It is what comes on top of weights, input and result, at the timestep that needs most; on a
        GPU, where bands follow from what is free, the least that suffices. Raises MemoryBudgetError
        where a memory budget does not suffice.
        """
        device = self.output.weight.device
        limit = None if free_device_memory(device) is None else 0
        plan = MemoryPlan(
            self.dim, self.ffn_factor, height, width, self.inference, device, limit=limit
        )
        return max(of_dtype.total_bytes(batch) for of_dtype in plan.of_all_timesteps()) / MIB

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict the noise (B, 3, H, W) in x_t; see `PlainDFT.forward`.

        Raises MemoryBudgetError (a ValueError) where a memory budget does not suffice.
        """
        if self._is_traced(x) or not self._is_float32(x):
            return super().forward(x, t)
        check_input(x, t, self.inp_channels)
        dtype = autocast_dtype(x.device)
        with torch.autocast(x.device.type, enabled=False):
            if self._needs_gradients(x):
                # Whoever restores images needs none of that room.
                from c2fdft_arch.training.network import training_forward

                return training_forward(self, x, t, dtype)
            with torch.no_grad():
                if self._workspace is not None:
                    return evaluate(self, x, t, self.inference, self._workspace)
                try:
                    return evaluate(self, x, t, self.inference, Workspace())
                finally:
                    release_scratch()

    @property
    def _workspace(self) -> Workspace | None:
        return _settings.get().get(self, _DEFAULT)[1]

    def _needs_gradients(self, x: Tensor) -> bool:
        return torch.is_grad_enabled() and (
            x.requires_grad or any(p.requires_grad for p in self.parameters())
        )

    def _is_float32(self, x: Tensor) -> bool:
        return x.dtype == torch.float32 == self.output.weight.dtype

    @staticmethod
    def _is_traced(x: Tensor) -> bool:
        """Whether operations are only recorded, by a compiler, or only shapes computed (meta)."""
        return torch.compiler.is_compiling() or torch.jit.is_tracing() or x.is_meta


def autocast_dtype(device: torch.device) -> torch.dtype:
    """The dtype in which autocast has matrix products computed; float32 where it is off."""
    probe = torch.ones(1, 1, device=device)
    return torch.mm(probe, probe).dtype

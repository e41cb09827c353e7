"""Diffusion processes: what the coarse stage learns and what the fine stage and the tests sample.

A process is described by four things, all on images in [-1, 1] of shape (B, C, H, W):
the forward process x_t, the start of sampling x_T, the pair that the coarse stage compares, and
the sampler. Models and stages use nothing else, so that the option `diffusion: process` can
exchange processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from c2fdft_model.diffusion.noise_schedule import NoiseSchedule
from c2fdft_model.diffusion.sampling import Denoiser, ddim_sample, sampling_timesteps


class DiffusionProcess(Protocol):
    """What training stages and restoration need of a diffusion process."""

    @property
    def num_timesteps(self) -> int:
        """T; training timesteps are 0 .. T-1."""
        ...

    @property
    def timesteps(self) -> list[int]:
        """The timestep of each network call in sampling, falling."""
        ...

    def q_sample(self, x_0: Tensor, y: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The forward process: clean `x_0` at timesteps `t` (B,) with noise `eps`."""
        ...

    def initial_sample(self, y: Tensor, eps: Tensor) -> Tensor:
        """Where sampling starts, for the degraded image `y` and standard normal noise `eps`."""
        ...

    def objective(
        self, prediction: Tensor, x_t: Tensor, x_0: Tensor, y: Tensor, eps: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The pair (estimate, target) whose distance the coarse stage lowers."""
        ...

    def sample(
        self,
        denoise: Denoiser,
        x_T: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
        grad_steps: int | None = None,
        checkpoint: bool = False,
    ) -> Tensor:
        """The sampled image, not clamped; differentiable (see `sampling.ddim_sample`)."""
        ...


class DDPMProcess:
    """The paper's process: noise is added to the clean image and removed by DDIM.

    The degraded image conditions the network and does not enter the process itself.

    `sampling_steps`: number of network calls S, or an explicit list of timesteps. `eta` scales
    the noise that the sampler adds; 0 is deterministic.
    """

    def __init__(
        self,
        schedule: NoiseSchedule | None = None,
        sampling_steps: int | Sequence[int] = 4,
        eta: float = 0.0,
    ) -> None:
        self.schedule = schedule or NoiseSchedule()
        self.timesteps = sampling_timesteps(sampling_steps, self.schedule.num_timesteps)
        self.eta = eta

    @property
    def num_timesteps(self) -> int:
        """T of the noise schedule."""
        return self.schedule.num_timesteps

    def q_sample(self, x_0: Tensor, y: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Wang et al., Eq. 2."""
        return self.schedule.add_noise(x_0, eps, t)

    def initial_sample(self, y: Tensor, eps: Tensor) -> Tensor:
        """Pure noise."""
        return eps

    def objective(
        self, prediction: Tensor, x_t: Tensor, x_0: Tensor, y: Tensor, eps: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predicted and true noise (Wang et al., Eq. 8)."""
        return prediction, eps

    def sample(
        self,
        denoise: Denoiser,
        x_T: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
        grad_steps: int | None = None,
        checkpoint: bool = False,
    ) -> Tensor:
        """DDIM (Wang et al., Algorithm 1)."""
        return ddim_sample(
            denoise,
            x_T,
            self.schedule,
            self.timesteps,
            eta=self.eta,
            generator=generator,
            grad_steps=grad_steps,
            checkpoint=checkpoint,
        )

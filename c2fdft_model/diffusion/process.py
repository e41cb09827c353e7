"""Diffusion processes: what the coarse stage learns and what the fine stage and the tests sample.

A process is described by four things, all on images in [-1, 1] of shape (B, C, H, W): the forward
process x_t, the start of sampling x_T, the pair that the coarse stage compares, and the step back
from x_t. Models and stages use nothing else, so that the option `diffusion: process` can exchange
processes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as checkpointed

from c2fdft_model.diffusion.noise_schedule import NoiseSchedule
from c2fdft_model.diffusion.prediction import Prediction, clean_and_noise, prediction_target
from c2fdft_model.diffusion.sampling import Denoiser, ddim_step, sampling_timesteps

NEGLIGIBLE_SIGNAL = 0.05
"""Share of the clean image that the start of sampling may lack without a warning."""


class DiffusionProcess(ABC):
    """What training stages and restoration need of a diffusion process.

    `sampling_steps`: number of network calls S, or an explicit list of timesteps. `eta` scales the
    noise that the sampler adds; 0 is deterministic. `prediction` is what the network returns.
    """

    def __init__(
        self,
        num_timesteps: int,
        sampling_steps: int | Sequence[int],
        eta: float,
        prediction: Prediction = 'noise',
    ) -> None:
        self.num_timesteps = num_timesteps
        """T; training timesteps are 0 .. T-1."""
        self.timesteps = sampling_timesteps(sampling_steps, num_timesteps)
        """The timestep of each network call in sampling, falling."""
        self.eta = eta
        self.prediction = prediction

    @property
    def amplifies_errors(self) -> bool:
        """Whether the first calls' clean image has the prediction's error many times over."""
        return self.prediction == 'noise'

    def start_warning(self) -> str:
        """Why sampling from the first of `timesteps` cannot work well; empty if it can."""
        first, last, signal = self.timesteps[0], self.num_timesteps - 1, self.signal_at_start()
        if first == last or signal < NEGLIGIBLE_SIGNAL:
            return ''
        return (
            f'sampling starts at timestep {first} without anything of the clean image, of which '
            f'the network expects {signal:.0%} there: begin the timesteps with {last}.'
        )

    @abstractmethod
    def q_sample(self, x_0: Tensor, y: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The forward process: clean `x_0` at timesteps `t` (B,) with noise `eps`."""

    @abstractmethod
    def initial_sample(self, y: Tensor, eps: Tensor) -> Tensor:
        """Where sampling starts, for the degraded image `y` and standard normal noise `eps`."""

    @abstractmethod
    def signal_at_start(self) -> float:
        """The share of the clean image in x_t at the first of `timesteps`."""

    @abstractmethod
    def objective(
        self, output: Tensor, x_t: Tensor, x_0: Tensor, y: Tensor, eps: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The pair (estimate, target) whose distance the coarse stage lowers, from the network's
        `output` for x_t."""

    @abstractmethod
    def reverse_step(
        self, k: int, x_t: Tensor, y: Tensor, output: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """From the k-th of `timesteps` to the one after it, or from the last to the clean image.

        `output` is the network's for x_t; `generator` draws fresh noise where `eta` asks for it.
        """

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
        """The image sampled from `x_T` (B, C, H, W), in [-1, 1], not clamped.

        At each timestep a network call, then a step back (Wang et al., Algorithm 1).

        Differentiable: with `grad_steps` K only the last K steps are (the state that enters them is
        a constant); with `checkpoint` each network call keeps its input only and is evaluated again
        during back-propagation.
        """
        first_grad_step = 0 if grad_steps is None else max(len(self.timesteps) - grad_steps, 0)
        x_t = x_T
        for k, t in enumerate(self.timesteps):
            with torch.set_grad_enabled(torch.is_grad_enabled() and k >= first_grad_step):
                t_batch = torch.full((x_t.shape[0],), t, device=x_t.device)
                if checkpoint and torch.is_grad_enabled():
                    output = checkpointed(denoise, x_t, t_batch, use_reentrant=False)
                else:
                    output = denoise(x_t, t_batch)
                x_t = self.reverse_step(k, x_t, y, output, generator)
        return x_t


class DDPMProcess(DiffusionProcess):
    """The paper's process: noise is added to the clean image and removed by DDIM.

    The degraded image conditions the network and does not enter the process itself.

    Raises ValueError where noise is to be predicted from a state without any signal: nothing of the
    clean image could be computed from it.
    """

    def __init__(
        self,
        schedule: NoiseSchedule | None = None,
        sampling_steps: int | Sequence[int] = 4,
        eta: float = 0.0,
        prediction: Prediction = 'noise',
    ) -> None:
        self.schedule = schedule or NoiseSchedule()
        super().__init__(self.schedule.num_timesteps, sampling_steps, eta, prediction)
        self._alpha_bars = [*map(self.schedule.alpha_bar_at, self.timesteps), 1.0]
        if prediction == 'noise' and self._alpha_bars[0] == 0:
            raise ValueError(
                f'prediction: noise is not possible at timestep {self.timesteps[0]}, where this '
                'schedule leaves nothing of the clean image (alpha_bar 0); allowed here are clean '
                'and velocity, or sampling_timesteps as a list without it.'
            )

    def q_sample(self, x_0: Tensor, y: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Wang et al., Eq. 2."""
        return self.schedule.add_noise(x_0, eps, t)

    def initial_sample(self, y: Tensor, eps: Tensor) -> Tensor:
        """Pure noise."""
        return eps

    def signal_at_start(self) -> float:
        """sqrt(alpha_bar)."""
        return self._alpha_bars[0] ** 0.5

    def objective(
        self, output: Tensor, x_t: Tensor, x_0: Tensor, y: Tensor, eps: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predicted and true noise (Wang et al., Eq. 8), clean image or velocity."""
        return output, prediction_target(
            self.prediction, x_0, eps, *self.schedule.levels(t, x_0.dtype)
        )

    def reverse_step(
        self, k: int, x_t: Tensor, y: Tensor, output: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """A DDIM step (Wang et al., Algorithm 1)."""
        alpha_bar, alpha_bar_next = self._alpha_bars[k : k + 2]
        signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        x_0, eps = clean_and_noise(self.prediction, output, x_t, signal, noise)
        return ddim_step(x_0, eps, alpha_bar, alpha_bar_next, self.eta, generator)

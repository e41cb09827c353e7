"""The forward diffusion process: noise schedules and the closed form of x_t.

Source: Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models" (2020); Wang et al.,
"Learning A Coarse-to-Fine Diffusion Transformer for Image Restoration", Eq. 1 and 2.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def _linear(start: float, end: float, steps: int) -> Tensor:
    return torch.linspace(start, end, steps, dtype=torch.float64)


BETA_SCHEDULES: dict[str, Callable[[float, float, int], Tensor]] = {
    'linear': _linear,
    'quad': lambda start, end, steps: _linear(start**0.5, end**0.5, steps) ** 2,
    'const': lambda _, end, steps: torch.full((steps,), end, dtype=torch.float64),
    'jsd': lambda _, __, steps: 1 / torch.arange(steps, 0, -1, dtype=torch.float64),
    'sigmoid': lambda start, end, steps: start + (end - start) * _linear(-6, 6, steps).sigmoid(),
}
"""beta_0 .. beta_{T-1} from `beta_start`, `beta_end` and T."""


def make_betas(
    schedule: str = 'linear',
    beta_start: float = 1e-4,
    beta_end: float = 2e-2,
    num_timesteps: int = 1000,
) -> Tensor:
    """Variances beta_0 .. beta_{T-1} of the forward process, float64, shape (T,).

    `linear` is the paper's; `quad` is linear in the standard deviation, `const` is `beta_end`
    everywhere, `jsd` is 1/T, 1/(T-1), .., 1 and `sigmoid` an S-shaped ramp (the last two as in
    Ho et al.'s experiments).

    Raises ValueError for an unknown schedule and for variances outside (0, 1].
    """
    if schedule not in BETA_SCHEDULES:
        raise ValueError(
            f'beta_schedule: {schedule!r} is not a noise schedule; allowed are '
            f'{", ".join(BETA_SCHEDULES)}.'
        )
    if num_timesteps < 1:
        raise ValueError(f'num_diffusion_timesteps: {num_timesteps} must be at least 1.')
    betas = BETA_SCHEDULES[schedule](beta_start, beta_end, num_timesteps)
    if not (betas.min() > 0 and betas.max() <= 1):
        raise ValueError(
            f'beta_start: {beta_start}, beta_end: {beta_end} give variances from '
            f'{float(betas.min()):g} to {float(betas.max()):g}; they must lie in (0, 1].'
        )
    return betas


class NoiseSchedule:
    """The variances of a diffusion process and what follows from them, in float64.

    `betas` and `alpha_bar` have shape (T,); timesteps are 0-based, and alpha_bar "before step 0"
    (timestep -1) is 1: an image without noise.
    """

    def __init__(self, betas: Tensor | None = None) -> None:
        self.betas = make_betas() if betas is None else betas.to(torch.float64)
        self.num_timesteps = len(self.betas)
        self.alpha_bar = torch.cumprod(1 - self.betas, dim=0)

    def alpha_bar_at(self, timestep: int) -> float:
        """The product of (1 - beta) up to and including `timestep`; 1 for timestep -1."""
        if not -1 <= timestep < self.num_timesteps:
            raise ValueError(f'timestep: {timestep} is not in -1 .. {self.num_timesteps - 1}.')
        return 1.0 if timestep == -1 else float(self.alpha_bar[timestep])

    def add_noise(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (Wang et al., Eq. 2).

        `x_0`, `eps`: (B, C, H, W), images in [-1, 1]; `t`: (B,) integer timesteps in 0 .. T-1.
        The coefficients are computed in float64 and applied in the images' precision.
        """
        signal, noise = self.levels(t, x_0.dtype)
        return signal * x_0 + noise * eps

    def levels(self, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), (B, 1, 1, 1), for timesteps t (B,)."""
        # Not every device has float64: converted on the CPU.
        signal, noise = self.alpha_bar.sqrt().to(dtype), (1 - self.alpha_bar).sqrt().to(dtype)
        signal, noise = (v.to(t.device, non_blocking=True)[t] for v in (signal, noise))
        return signal.view(-1, 1, 1, 1), noise.view(-1, 1, 1, 1)


def antithetic_timesteps(
    batch_size: int, num_timesteps: int, generator: torch.Generator | None = None
) -> Tensor:
    """Training timesteps, shape (batch_size,), int64: half drawn uniformly, half T-1-t.

    The pairs (t, T-1-t) spread every batch over the whole process, which lowers the variance of
    the loss. `generator` is a CPU generator; the result lies on the CPU.
    """
    half = torch.randint(num_timesteps, (batch_size // 2 + 1,), generator=generator)
    return torch.cat([half, num_timesteps - 1 - half])[:batch_size]

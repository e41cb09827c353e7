"""The reverse process: deterministic (DDIM) and stochastic sampling in a few steps.

Source: Song, Meng and Ermon, "Denoising Diffusion Implicit Models" (2021), Eq. 12 and 16;
Wang et al., Algorithm 1.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""A network for one degraded image: (x_t (B, C, H, W), t (B,)) -> its prediction, like x_t.

What it predicts, the noise or something else, is the process's `prediction`."""


def sampling_timesteps(steps: int | Sequence[int], num_timesteps: int = 1000) -> list[int]:
    """The 0-based timesteps of the network calls, in sampling order (falling).

    A number S gives S values evenly spaced over 0 .. T-1, rounded, both ends included:
    4 -> [999, 666, 333, 0]; S = 1 is [T-1]. An explicit list is checked and sorted.

    Raises ValueError for S outside 1 .. T, and for a list that is empty, repeats a timestep or
    leaves 0 .. T-1.
    """
    last = num_timesteps - 1
    if isinstance(steps, int):
        if not 1 <= steps <= num_timesteps:
            raise ValueError(
                f'sampling_timesteps: {steps} steps are not possible; 1 .. {num_timesteps} are.'
            )
        if steps == 1:
            return [last]
        return [round(last * j / (steps - 1)) for j in reversed(range(steps))]
    timesteps = sorted((int(t) for t in steps), reverse=True)
    if not timesteps or len(set(timesteps)) < len(timesteps):
        raise ValueError(f'sampling_timesteps: {list(steps)} must be a list of distinct timesteps.')
    if timesteps[0] >= num_timesteps or timesteps[-1] < 0:
        raise ValueError(
            f'sampling_timesteps: {list(steps)} must lie in 0 .. {num_timesteps - 1} '
            '(num_diffusion_timesteps - 1).'
        )
    return timesteps


def ddim_step(
    x_0: Tensor,
    eps: Tensor,
    alpha_bar_t: float,
    alpha_bar_next: float,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One step from timestep t to the next, less noisy one (Song et al., Eq. 12 and 16).

    Song et al. number the timesteps of sampling and call alpha what others call alpha_bar:

    ================  ==========================================================================
    here              there
    ================  ==========================================================================
    `x_0`             "predicted x_0"
    `eps`             epsilon_theta(x_t), the predicted noise
    `alpha_bar_t`     alpha_t
    `alpha_bar_next`  alpha_{t-1}; 1 for the last step, whose result is `x_0`
    `eta`             eta, which scales the fresh noise: 0 is deterministic, 1 has DDPM's variance
    `sigma`           sigma_t
    ================  ==========================================================================
    """
    # 1. The standard deviation of the fresh noise, Eq. 16. Rounding may leave less than zero.
    variance = (1 - alpha_bar_next) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_next)
    sigma = eta * max(variance, 0.0) ** 0.5
    # 2. "Direction pointing to x_t" of Eq. 12: the noise that stays, so that the variance is kept.
    direction = max(1 - alpha_bar_next - sigma**2, 0.0) ** 0.5 * eps
    # 3. The sum of Eq. 12, with "random noise" as its last term.
    x_next = alpha_bar_next**0.5 * x_0 + direction
    if sigma > 0:
        x_next = x_next + sigma * noise_like(x_0, generator)
    return x_next


def noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise of the shape, type and device of `x`, drawn where `generator` lives."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)

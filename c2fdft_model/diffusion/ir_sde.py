"""IR-SDE: diffusion from the clean image towards the degraded one, and back.

Source: Luo, Gustafsson, Zhao, Sjölund and Schön, "Image Restoration with Mean-Reverting Stochastic
Differential Equations" (2023). With mu the degraded image y, the forward process is
dx = theta_t (mu - x) dt + sigma_t dw with sigma_t^2 = 2 lambda^2 theta_t, so that the image becomes
y with noise of standard deviation lambda. The paper counts steps i = 1 .. T; timestep t = i - 1.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from c2fdft_model.diffusion.prediction import Prediction, clean_and_noise, prediction_target
from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.diffusion.sampling import noise_like


def _cosine(i: Tensor, num_timesteps: int, offset: float = 0.008) -> Tensor:
    def f(i: Tensor) -> Tensor:
        return torch.cos((i / num_timesteps + offset) / (1 + offset) * math.pi / 2) ** 2

    return 1 - f(i) / f(torch.zeros(1, dtype=torch.float64))


THETA_SCHEDULES: dict[str, Callable[[Tensor, int], Tensor]] = {
    'cosine': _cosine,
    'linear': lambda i, num_timesteps: i / num_timesteps,
    'constant': lambda i, _: torch.ones_like(i),
}
"""The speed of mean reversion over i = 1 .. T, up to the factor that `delta` fixes."""


class MeanReversion:
    """The closed form of the forward process, in float64.

    `theta_bar` (T + 1,) is the integral of theta up to each timestep, from "before step 0" (0) to
    T-1, where exp(-theta_bar) is `delta`: what is left of x_0 - mu in x_T. `noise_level` is lambda
    in grey levels of 0 .. 255; images are in [-1, 1].

    `theta_schedule`: `cosine` is the paper's, the noise schedule of Nichol and Dhariwal flipped.

    Raises ValueError for an unknown schedule and for impossible values.
    """

    def __init__(
        self,
        num_timesteps: int = 100,
        theta_schedule: str = 'cosine',
        noise_level: float = 10.0,
        delta: float = 0.005,
    ) -> None:
        if theta_schedule not in THETA_SCHEDULES:
            raise ValueError(
                f'theta_schedule: {theta_schedule!r} is not known; allowed are '
                f'{", ".join(THETA_SCHEDULES)}.'
            )
        if num_timesteps < 1:
            raise ValueError(f'num_diffusion_timesteps: {num_timesteps} must be at least 1.')
        if noise_level <= 0:
            raise ValueError(f'noise_level: {noise_level} must be above 0.')
        if not 0 < delta < 1:
            raise ValueError(f'delta: {delta} must lie between 0 and 1.')
        self.num_timesteps = num_timesteps
        i = torch.arange(1, num_timesteps + 1, dtype=torch.float64)
        theta = THETA_SCHEDULES[theta_schedule](i, num_timesteps)
        theta_dt = theta * (-math.log(delta) / theta.sum())
        self.theta_bar = torch.cat([torch.zeros(1, dtype=torch.float64), theta_dt.cumsum(0)])
        self.stationary_std = 2 * noise_level / 255

    def decay(self, t: Tensor) -> Tensor:
        """exp(-theta_bar_t): what is left of x_0 - mu in the mean of x_t; 1 for t = -1."""
        return torch.exp(-self.theta_bar[t.cpu() + 1])

    def std(self, t: Tensor) -> Tensor:
        """Standard deviation of x_t, the square root of v_t; 0 for t = -1."""
        return self.stationary_std * (-torch.expm1(-2 * self.theta_bar[t.cpu() + 1])).sqrt()

    def elapsed(self, t: Tensor, s: Tensor) -> Tensor:
        """The integral of theta from the earlier timestep `s` to `t` (theta' of the paper)."""
        return self.theta_bar[t.cpu() + 1] - self.theta_bar[s.cpu() + 1]


class IRSDEProcess(DiffusionProcess):
    """The mean-reverting process.

    `prediction`: `noise` or `clean`; a velocity is defined where signal and noise have a variance
    of 1 together, which they have not here.
    `objective`: `noise` compares the prediction with what it should be; `maximum_likelihood`
    compares the state that the prediction leads to, one step back, with the most likely one.
    `sampler`: `posterior` draws from q(x_s | x_t, x_0) with the predicted clean image, which is
    exact for steps of any length; `sde` takes Euler steps of the reverse-time equation, which needs
    all T of them. `eta` scales the noise of both: 1 is the paper's sampling, 0 is deterministic
    (for `sde` the probability-flow equation).

    Raises ValueError for `prediction: velocity`.
    """

    def __init__(
        self,
        reversion: MeanReversion | None = None,
        sampling_steps: int | Sequence[int] = 100,
        eta: float = 1.0,
        objective: str = 'noise',
        sampler: str = 'posterior',
        prediction: Prediction = 'noise',
    ) -> None:
        if prediction == 'velocity':
            raise ValueError(
                'prediction: velocity belongs to process: ddpm; allowed with process: ir_sde are '
                'noise and clean.'
            )
        self.reversion = reversion or MeanReversion()
        super().__init__(self.reversion.num_timesteps, sampling_steps, eta, prediction)
        self._objective = objective
        self._step = {'posterior': self._posterior_step, 'sde': self._euler_step}[sampler]

    def q_sample(self, x_0: Tensor, y: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """m_t + sqrt(v_t) eps, with m_t = mu + (x_0 - mu) exp(-theta_bar_t)."""
        decay = _per_image(self.reversion.decay(t), x_0)
        return y + decay * (x_0 - y) + _per_image(self.reversion.std(t), x_0) * eps

    def initial_sample(self, y: Tensor, eps: Tensor) -> Tensor:
        """The degraded image with noise of the stationary standard deviation."""
        return y + self.reversion.stationary_std * eps

    def signal_at_start(self) -> float:
        """exp(-theta_bar_t), the share of the deviation from the degraded image."""
        return float(self.reversion.decay(torch.tensor(self.timesteps[0])))

    def objective(
        self, output: Tensor, x_t: Tensor, x_0: Tensor, y: Tensor, eps: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predicted and true noise or clean image, or estimated and most likely state before."""
        if self._objective == 'noise':
            return output, prediction_target(self.prediction, x_0, eps, 0.0, 0.0)
        predicted = self._clean_and_noise(output, x_t, y, t)
        estimate, _ = self._euler_step(x_t, y, *predicted, t, t - 1, eta=1.0)
        most_likely, _ = self._posterior(x_t, x_0, y, t, t - 1)  # the paper's x*_{i-1}
        return estimate, most_likely

    def reverse_step(
        self, k: int, x_t: Tensor, y: Tensor, output: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """A step of the chosen sampler; the last one adds no noise."""
        t, s = (torch.tensor([timestep]) for timestep in [*self.timesteps, -1][k : k + 2])
        mean, std = self._step(x_t, y, *self._clean_and_noise(output, x_t, y, t), t, s)
        if self.eta == 0 or s < 0:
            return mean
        return mean + _per_image(std, x_t) * noise_like(x_t, generator)

    def _clean_and_noise(
        self, output: Tensor, x_t: Tensor, y: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x_0 and eps: the forward process of the deviations from the degraded image, solved."""
        decay, std = (
            _per_image(level(t), x_t) for level in (self.reversion.decay, self.reversion.std)
        )
        deviation = output - y if self.prediction == 'clean' else output
        residual, eps = clean_and_noise(self.prediction, deviation, x_t - y, decay, std)
        return y + residual, eps

    def _posterior_step(
        self, x_t: Tensor, y: Tensor, x_0: Tensor, eps: Tensor, t: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x_s given x_t and the predicted x_0."""
        return self._posterior(x_t, x_0, y, t, s, self.eta)

    def _posterior(
        self, x_t: Tensor, x_0: Tensor, y: Tensor, t: Tensor, s: Tensor, eta: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x_s given x_t and x_0, both Gaussian.

        With eta below 1 the noise of x_t replaces part of the fresh noise, as in DDIM (Song et al.,
        2021), so that x_s keeps the variance v_s.
        """
        r = self.reversion
        v_t, v_s = r.std(t) ** 2, r.std(s) ** 2
        v_step = -torch.expm1(-2 * r.elapsed(t, s)) * r.stationary_std**2  # added from s to t
        std = eta * (v_s * v_step / v_t).sqrt()
        noise_scale = ((v_s - std**2).clamp(min=0) / v_t).sqrt()
        m_t = y + _per_image(r.decay(t), x_t) * (x_0 - y)
        m_s = y + _per_image(r.decay(s), x_t) * (x_0 - y)
        return m_s + _per_image(noise_scale, x_t) * (x_t - m_t), std

    def _euler_step(
        self, x_t: Tensor, y: Tensor, x_0: Tensor, eps: Tensor, t: Tensor, s: Tensor,
        eta: float | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Mean and standard deviation of an Euler step of the reverse-time equation."""
        r, eta = self.reversion, self.eta if eta is None else eta
        elapsed = r.elapsed(t, s)
        # The score is -eps / sqrt(v_t); sigma^2 dt is 2 lambda^2 theta dt.
        score_scale = (1 + eta**2) * r.stationary_std**2 * elapsed / r.std(t)
        drift = _per_image(elapsed, x_t) * (x_t - y) - _per_image(score_scale, x_t) * eps
        return x_t + drift, eta * r.stationary_std * (2 * elapsed).sqrt()


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    """float64 values (B,) or (1,) as factors of the images (B, C, H, W) `like`."""
    # Converted first: not every device has float64.
    return values.view(-1, 1, 1, 1).to(like.dtype).to(like.device)

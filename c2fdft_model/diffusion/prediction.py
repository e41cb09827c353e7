"""What the output of the network means: the noise, the clean image, or the velocity.

With x_t = a x_0 + b eps, where a and b are the signal and noise levels of a timestep
(sqrt(alpha_bar) and sqrt(1 - alpha_bar)), each of the three gives the other two:

    noise     eps                 Ho et al. 2020; Wang et al., Eq. 8
    clean     x_0                 its error is not multiplied: the noise's is by b / a, which is 157
                                  at the first call (T = 1000)
    velocity  v = a eps - b x_0   Salimans and Ho, "Progressive Distillation" (2022)
"""

from typing import Literal, TypeAlias

from torch import Tensor

Prediction = Literal['noise', 'clean', 'velocity']
Level: TypeAlias = Tensor | float
"""Of a timestep: a number, or one for each image, (B, 1, 1, 1)."""


def prediction_target(
    prediction: Prediction, x_0: Tensor, eps: Tensor, signal: Level, noise: Level
) -> Tensor:
    """What a perfect network returns for x_t = signal x_0 + noise eps."""
    if prediction == 'noise':
        return eps
    if prediction == 'clean':
        return x_0
    return signal * eps - noise * x_0


def clean_and_noise(
    prediction: Prediction, output: Tensor, x_t: Tensor, signal: Level, noise: Level
) -> tuple[Tensor, Tensor]:
    """x_0 and eps from the network's `output` for x_t; `velocity` needs signal^2 + noise^2 = 1."""
    if prediction == 'noise':
        return (x_t - noise * output) / signal, output
    if prediction == 'clean':
        return output, (x_t - signal * output) / noise
    return signal * x_t - noise * output, noise * x_t + signal * output

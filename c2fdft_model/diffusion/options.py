"""The section `diffusion` of an option file: each key, its default and its bounds."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from c2fdft_arch.common.option_parsing import OptionError, PositiveInt, Section
from c2fdft_model.diffusion.ir_sde import IRSDEProcess, MeanReversion
from c2fdft_model.diffusion.noise_schedule import NoiseSchedule, make_betas
from c2fdft_model.diffusion.prediction import Prediction
from c2fdft_model.diffusion.process import DDPMProcess, DiffusionProcess


class IRSDEOptions(Section):
    """`diffusion: ir_sde`: what only the mean-reverting process has."""

    theta_schedule: Literal['cosine', 'linear', 'constant'] = 'cosine'
    """How the speed of mean reversion grows over the timesteps."""
    noise_level: float = 10.0
    """Standard deviation of the noise on the degraded image at the end, in grey levels of 255."""
    delta: float = 0.005
    """What is left of the clean image at the end."""
    objective: Literal['noise', 'maximum_likelihood'] = 'noise'
    """Coarse stage: compare noises (with `prediction: clean` clean images), or the states that they
    lead to one step back."""
    sampler: Literal['posterior', 'sde'] = 'posterior'
    """`posterior` allows a few steps; `sde` takes Euler steps and needs all timesteps."""


class DiffusionOptions(Section):
    """`diffusion`: the process and its sampler."""

    process: Literal['ddpm', 'ir_sde'] = 'ddpm'
    """`ddpm` is the paper's; `ir_sde` reverts to the degraded image (Luo et al., 2023)."""
    prediction: Prediction = 'noise'
    """What the network returns: the noise (the paper), the clean image, or the velocity
    sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0."""
    ir_sde: IRSDEOptions | None = None
    """Settings of `process: ir_sde`."""
    beta_schedule: Literal['linear', 'quad', 'const', 'jsd', 'sigmoid'] = 'linear'
    """How the variances run from `beta_start` to `beta_end`."""
    beta_start: float = 1e-4
    """First variance."""
    beta_end: float = 2e-2
    """Last variance."""
    num_diffusion_timesteps: PositiveInt = 1000
    """T."""
    sampling_timesteps: int | tuple[int, ...] = 4
    """Number of network calls S, or the list of their timesteps."""
    eta: Annotated[float, Field(ge=0)] = 0.0
    """Noise added while sampling: 0 is deterministic (DDIM), 1 has the process's own variance."""

    @model_validator(mode='after')
    def _fits_together(self) -> 'DiffusionOptions':
        if self.process == 'ddpm' and self.ir_sde is not None:
            raise OptionError(
                'diffusion: ir_sde belongs to process: ir_sde; process: ddpm was given.'
            )
        if self.process == 'ir_sde':
            self._check_ir_sde()
        return self

    def _check_ir_sde(self) -> None:
        for name in ('beta_schedule', 'beta_start', 'beta_end'):
            if getattr(self, name) != DiffusionOptions.model_fields[name].default:
                raise OptionError(
                    f'diffusion: {name} belongs to process: ddpm; process: ir_sde was given, '
                    'whose settings stand in the section ir_sde.'
                )
        if self.eta > 1:
            raise OptionError(f'diffusion: eta: {self.eta} must be in [0, 1] for process: ir_sde.')


def build_process(options: DiffusionOptions) -> DiffusionProcess:
    """The diffusion process that the options describe.

    Raises OptionError for impossible variances or timesteps.
    """
    steps, eta = options.sampling_timesteps, options.eta
    total = options.num_diffusion_timesteps
    try:
        if options.process == 'ir_sde':
            own = options.ir_sde or IRSDEOptions()
            reversion = MeanReversion(total, own.theta_schedule, own.noise_level, own.delta)
            return IRSDEProcess(
                reversion, steps, eta, own.objective, own.sampler, options.prediction
            )
        betas = make_betas(options.beta_schedule, options.beta_start, options.beta_end, total)
        return DDPMProcess(NoiseSchedule(betas), steps, eta, options.prediction)
    except ValueError as error:
        raise OptionError(f'diffusion: {error}') from error

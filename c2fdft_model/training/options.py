"""The plugin's sections of an option file: what each key means, its default and its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from c2fdft_arch.common.option_parsing import OptionError, check_names, positive
from c2fdft_model.diffusion.ir_sde import IRSDEProcess, MeanReversion
from c2fdft_model.diffusion.noise_schedule import NoiseSchedule, make_betas
from c2fdft_model.diffusion.process import DDPMProcess, DiffusionProcess


@dataclass(frozen=True)
class MixingOptions:
    """`train: mixing_augs`: mixup of the images of a batch (deblurring and denoising)."""

    mixup: bool = False
    """Blend each image with another of the batch, degraded and clean alike."""
    mixup_beta: float = 1.2
    """Both parameters of the Beta distribution that draws the blend."""
    use_identity: bool = False
    """Leave every second batch, drawn at random, unmixed."""


@dataclass(frozen=True)
class TrainOptions:
    """`train`: the stage, its losses and how it is optimised."""

    stage: Literal['coarse', 'fine']
    """`coarse` learns the noise (Eq. 8); `fine` the sampled image (Eq. 9)."""
    total_iter: int
    """Iterations in all."""
    optim_g: Mapping[str, Any]
    """Optimiser: `type`, `lr` and its own arguments."""
    scheduler: Mapping[str, Any]
    """Learning-rate schedule: `type` and its own arguments."""
    pixel_opt: Mapping[str, Any] | None = None
    """Coarse: loss of the noise. Fine: loss of the image in [-1, 1]."""
    ssim_opt: Mapping[str, Any] | None = None
    """Fine: structural loss of the image in [0, 1]."""
    perceptual_opt: Mapping[str, Any] | None = None
    """Fine: BasicSR's perceptual loss of the image in [0, 1]."""
    warmup_iter: int = -1
    """Iterations of linear warm-up; -1 for none."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, per update."""
    mixing_augs: MixingOptions = field(default_factory=MixingOptions)
    """Mixup."""
    use_grad_clip: bool = False
    """Clip the gradient's norm to `grad_clip`."""
    grad_clip: float = 0.01
    """Largest norm of the gradient with `use_grad_clip`."""
    checkpoint: Literal['none', 'steps', 'blocks'] = 'none'
    """Keep less for back-propagation: evaluate sampling steps or blocks again."""
    grad_steps: int | None = None
    """Fine: back-propagate through the last K sampling steps only; all by default."""
    accumulate: int = 1
    """Split each batch into N parts and add up their gradients."""
    amp: Literal['off', 'bf16'] = 'off'
    """Matrix products and convolutions in bfloat16."""
    compile: bool = False
    """Compile the network with torch.compile."""
    max_bad_iterations: int = 20
    """Stop after so many iterations in a row with a loss or gradient that is not finite."""
    keep_last: int | None = None
    """Keep the newest K checkpoints and training states; all by default."""

    def __post_init__(self) -> None:
        positive('train', self, 'total_iter', 'accumulate', 'grad_clip', 'grad_steps')
        positive('train', self, 'max_bad_iterations', 'keep_last')
        if not 0 <= self.ema_decay < 1:
            raise OptionError(f'train: ema_decay: {self.ema_decay} must be in [0, 1).')
        if self.compile and self.checkpoint == 'blocks':
            raise OptionError(
                'train: checkpoint: blocks cannot be combined with compile: true, which decides by '
                'itself what to evaluate again; allowed with it are none and, with stage: fine, '
                'steps.'
            )
        if self.stage == 'coarse':
            self._check_coarse()
        elif not (self.pixel_opt or self.ssim_opt or self.perceptual_opt):
            raise OptionError(
                'train: stage: fine needs at least one of pixel_opt, ssim_opt and perceptual_opt.'
            )

    def _check_coarse(self) -> None:
        if not self.pixel_opt:
            raise OptionError(
                'train: stage: coarse needs pixel_opt, the loss of the noise, e.g. '
                '{type: L1Loss, loss_weight: 1, reduction: mean}.'
            )
        for key in ('ssim_opt', 'perceptual_opt', 'grad_steps'):
            if getattr(self, key) is not None:
                raise OptionError(f'train: {key} belongs to stage: fine; stage: coarse was given.')
        if self.checkpoint == 'steps':
            raise OptionError(
                'train: checkpoint: steps belongs to stage: fine (coarse has a single step); '
                'allowed here are none and blocks.'
            )


@dataclass(frozen=True)
class IRSDEOptions:
    """`diffusion: ir_sde`: what only the mean-reverting process has."""

    theta_schedule: Literal['cosine', 'linear', 'constant'] = 'cosine'
    """How the speed of mean reversion grows over the timesteps."""
    noise_level: float = 10.0
    """Standard deviation of the noise on the degraded image at the end, in grey levels of 255."""
    delta: float = 0.005
    """What is left of the clean image at the end."""
    objective: Literal['noise', 'maximum_likelihood'] = 'noise'
    """Coarse stage: compare noises, or the states that they lead to one step back."""
    sampler: Literal['posterior', 'sde'] = 'posterior'
    """`posterior` allows a few steps; `sde` takes Euler steps and wants all timesteps."""


@dataclass(frozen=True)
class DiffusionOptions:
    """`diffusion`: the process and its sampler."""

    process: Literal['ddpm', 'ir_sde'] = 'ddpm'
    """`ddpm` is the paper's; `ir_sde` reverts to the degraded image (Luo et al., 2023)."""
    ir_sde: IRSDEOptions | None = None
    """Settings of `process: ir_sde`."""
    beta_schedule: Literal['linear', 'quad', 'const', 'jsd', 'sigmoid'] = 'linear'
    """How the variances run from `beta_start` to `beta_end`."""
    beta_start: float = 1e-4
    """First variance."""
    beta_end: float = 2e-2
    """Last variance."""
    num_diffusion_timesteps: int = 1000
    """T."""
    sampling_timesteps: int | tuple[int, ...] = 4
    """Number of network calls S, or the list of their timesteps."""
    eta: float = 0.0
    """Noise added while sampling: 0 is deterministic (DDIM), 1 has the process's own variance."""

    def __post_init__(self) -> None:
        if self.eta < 0:
            raise OptionError(f'diffusion: eta: {self.eta} must not be negative.')
        if self.process == 'ddpm' and self.ir_sde is not None:
            raise OptionError(
                'diffusion: ir_sde belongs to process: ir_sde; process: ddpm was given.'
            )
        if self.process == 'ir_sde':
            self._check_ir_sde()

    def _check_ir_sde(self) -> None:
        for name in ('beta_schedule', 'beta_start', 'beta_end'):
            if getattr(self, name) != getattr(DiffusionOptions, name):
                raise OptionError(
                    f'diffusion: {name} belongs to process: ddpm; process: ir_sde was given, '
                    'whose settings stand in the section ir_sde.'
                )
        if self.eta > 1:
            raise OptionError(f'diffusion: eta: {self.eta} must be in [0, 1] for process: ir_sde.')


@dataclass(frozen=True)
class ValidationOptions:
    """`val`: BasicSR's keys and how validation and test sample."""

    val_freq: int | None = None
    """Iterations between validations."""
    save_img: bool = False
    """Write the restored images."""
    suffix: str | None = None
    """End of the written files' names."""
    metrics: Mapping[str, Any] | None = None
    """BasicSR's metrics."""
    pbar: bool = True
    """Show a progress bar."""
    noise_seed: int = 0
    """Seed of the noise, together with each image's name."""
    samples: int = 1
    """Average this many samplings."""
    precision: Literal['auto', 'fp32', 'bf16'] = 'auto'
    """Precision of matrix products and convolutions in the network."""
    memory_budget_mb: int | None = None
    """Memory that the network may use beside the image, in MiB; a default by size if not given."""
    strips: int = 3
    """Images of each data set that TensorBoard shows: degraded | restored | truth."""
    best_metric: str | None = None
    """The metric, on the first data set, that chooses `net_g_best.pth`; the first by default."""

    def __post_init__(self) -> None:
        positive('val', self, 'val_freq', 'samples', 'memory_budget_mb')
        if self.best_metric is not None:
            check_names([self.best_metric], self.metrics or {}, 'val: best_metric')


def build_process(options: DiffusionOptions) -> DiffusionProcess:
    """The diffusion process that the options describe.

    Raises OptionError for variances or timesteps that cannot be.
    """
    try:
        return _PROCESSES[options.process](options)
    except ValueError as error:
        raise OptionError(f'diffusion: {error}') from error


def _ddpm(options: DiffusionOptions) -> DiffusionProcess:
    betas = make_betas(
        options.beta_schedule,
        options.beta_start,
        options.beta_end,
        options.num_diffusion_timesteps,
    )
    return DDPMProcess(NoiseSchedule(betas), options.sampling_timesteps, options.eta)


def _ir_sde(options: DiffusionOptions) -> DiffusionProcess:
    own = options.ir_sde or IRSDEOptions()
    reversion = MeanReversion(
        options.num_diffusion_timesteps, own.theta_schedule, own.noise_level, own.delta
    )
    return IRSDEProcess(
        reversion, options.sampling_timesteps, options.eta, own.objective, own.sampler
    )


_PROCESSES = {'ddpm': _ddpm, 'ir_sde': _ir_sde}

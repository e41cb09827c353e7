"""The section `train` of an option file: each key, its default and its bounds."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from c2fdft_arch.common.option_parsing import OptionError, PositiveInt, Section, check_names


class MixingOptions(Section):
    """`train: mixing_augs`: mixup of the images of a batch (deblurring and denoising)."""

    mixup: bool = False
    """Blend each image with another of the batch, degraded and clean alike."""
    mixup_beta: Annotated[float, Field(gt=0)] = 1.2
    """Both parameters of the Beta distribution that draws the blend."""
    use_identity: bool = False
    """Leave every second batch, drawn at random, unmixed."""


class TrainOptions(Section):
    """`train`: the stage, its losses and how it is optimised."""

    stage: Literal['coarse', 'fine']
    """`coarse` learns what `diffusion: prediction` says (the noise in Eq. 8); `fine` the sampled
    image (Eq. 9)."""
    total_iter: PositiveInt
    """Iterations in all."""
    optim_g: Mapping[str, Any]
    """Optimiser: `type`, `lr` and its own arguments."""
    scheduler: Mapping[str, Any]
    """Learning-rate schedule: `type` and its own arguments."""
    pixel_opt: Mapping[str, Any] | None = None
    """Coarse: loss of the prediction. Fine: loss of the image in [-1, 1]."""
    ssim_opt: Mapping[str, Any] | None = None
    """Fine: structural loss of the image in [0, 1], e.g. `{type: SSIMLoss, loss_weight: 0.84,
    data_range: 1.0}`."""
    perceptual_opt: Mapping[str, Any] | None = None
    """Fine: BasicSR's perceptual loss of the image in [0, 1]."""
    warmup_iter: int = -1
    """Iterations of linear warm-up; -1 for none."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged weights, with which validation and test sample; 0 for none."""
    ema_warmup: bool = False
    """Average over fewer iterations at the start: in iteration n the decay is at most (1 + n) / (10
    + n). For trainings shorter than some 5 / (1 - `ema_decay`) iterations."""
    zero_init: bool = False
    """Begin with the last convolution at zero: the untrained network returns what `network_g: skip`
    adds. For `skip: degraded` where little is to change (noise, blur). Loaded weights take its
    place."""
    mixing_augs: MixingOptions = MixingOptions()
    """Mixup."""
    use_grad_clip: bool = False
    """Clip the gradient's norm to `grad_clip`."""
    grad_clip: Annotated[float, Field(gt=0)] = 0.01
    """Largest norm of the gradient with `use_grad_clip`."""
    checkpoint: Literal['none', 'steps', 'blocks'] = 'none'
    """Keep less for back-propagation: evaluate sampling steps or blocks again."""
    grad_steps: PositiveInt | None = None
    """Fine: back-propagate through the last K sampling steps only; all by default."""
    accumulate: PositiveInt = 1
    """Split each batch into N parts and add up their gradients."""
    amp: Literal['off', 'bf16'] = 'off'
    """`bf16`: matrix products and convolutions in bfloat16; on a CPU without hardware for it,
    float32 and a warning."""
    compile: bool = False
    """Compile the network with torch.compile; not together with `checkpoint: blocks`."""
    kernels: Literal['auto', 'torch', 'triton', 'compile'] = 'auto'
    """What computes the network: PyTorch's operations, Triton's kernels on a GPU, torch.compile;
    `auto` takes what was measured to be fastest on the GPU, and on a CPU the kernels in C++."""
    cuda_graphs: Literal['auto', True, False] = 'auto'
    """Record the network's calls on a GPU and replay them, which spares the host; `auto`: in the
    coarse stage."""
    deterministic: bool = False
    """Deterministic algorithms on a GPU, so that a resumed training ends with the same bits."""
    max_bad_iterations: PositiveInt = 20
    """Stop after so many iterations in a row with a loss or gradient that is not finite."""
    keep_last: PositiveInt | None = None
    """Keep the newest K checkpoints, and the newest one that a finite iteration has followed; all
    by default."""

    override_on_resume: tuple[str, ...] = ()
    """What a resumed training takes from the options and not from its state: `optim_g`, single
    arguments such as `optim_g.lr`, `scheduler`."""

    @property
    def compiled(self) -> bool:
        """Whether torch.compile compiles the network."""
        return self.compile or self.kernels == 'compile'

    @property
    def records_calls(self) -> bool:
        """Whether calls on a GPU are recorded as CUDA graphs."""
        if self.cuda_graphs == 'auto':
            return self.stage == 'coarse'
        return self.cuda_graphs

    @model_validator(mode='after')
    def _fits_together(self) -> 'TrainOptions':
        known = ['scheduler', 'optim_g', *(f'optim_g.{k}' for k in self.optim_g if k != 'type')]
        check_names(self.override_on_resume, known, 'train: override_on_resume')
        if self.compiled and self.checkpoint == 'blocks':
            raise OptionError(
                'train: checkpoint: blocks cannot be combined with compile: true or kernels: '
                'compile, which decides by itself what to evaluate again; allowed with it are none '
                'and, with stage: fine, steps.'
            )
        if self.stage == 'fine':
            if not (self.pixel_opt or self.ssim_opt or self.perceptual_opt):
                raise OptionError(
                    'train: stage: fine needs at least one of pixel_opt, ssim_opt and '
                    'perceptual_opt.'
                )
            return self
        if not self.pixel_opt:
            raise OptionError(
                'train: stage: coarse needs pixel_opt, the loss of the prediction, e.g. '
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
        return self


def check_no_discriminator(opt: Mapping[str, Any]) -> None:
    """Raise OptionError for an option file with a discriminator, which our model has no use for."""
    if 'network_d' in opt:
        raise OptionError(
            'network_d: C2FDFTModel has no adversarial loss; remove network_d, or use one of the '
            'GAN models of BasicSR.'
        )

"""The sections of an option file that are BasicSR's own, and option files as a whole."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from c2fdft_arch.common.option_parsing import NotNegativeInt, OptionError, PositiveInt, Section
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.training.options import TrainOptions
from c2fdft_model.validation.options import BasicSRValidationOptions, ValidationOptions


class PathOptions(Section):
    """`path`: weights to start from, and the training state to continue."""

    pretrain_network_g: str | None = None
    """Weights to start from, or to test."""
    param_key_g: str | None = 'params'
    """`params` for the raw weights, `params_ema` for the averaged ones; `~` takes the averaged ones
    if there are any."""
    strict_load_g: bool = True
    """False: load what fits."""
    resume_state: str | None = None
    """A training state to continue from."""
    ignore_resume_networks: tuple[str, ...] = ()
    """Networks, e.g. `network_g`, that resuming loads from `pretrain_network_g` all the same."""


class WandbOptions(Section):
    """`logger: wandb`: Weights & Biases."""

    project: str | None = None
    """Name of the project; `~` switches it off."""
    resume_id: str | None = None
    """The run to continue."""


class LoggerOptions(Section):
    """`logger`: what is logged and saved, and how often."""

    print_freq: PositiveInt
    """Iterations between two lines of the log."""
    save_checkpoint_freq: PositiveInt
    """Iterations between two checkpoints."""
    use_tb_logger: bool = False
    """Log to TensorBoard as well."""
    wandb: WandbOptions = WandbOptions()
    """Weights & Biases; needs `use_tb_logger: true`."""


class DistOptions(Section):
    """`dist_params`: how processes find each other, with `--launcher slurm`."""

    backend: Literal['nccl', 'gloo', 'mpi'] = 'nccl'
    """Of `torch.distributed`; without a GPU it is gloo."""
    port: PositiveInt | None = None
    """Port of the first process; 29500 by default."""


class LoaderOptions(Section):
    """`datasets: train` of a data set that is not ours: what BasicSR's loader reads of it."""

    batch_size_per_gpu: PositiveInt
    """Batch size."""
    num_worker_per_gpu: NotNegativeInt
    """Worker processes that load images."""
    dataset_enlarge_ratio: PositiveInt = 1
    """Passes over the images that count as one epoch."""
    prefetch_mode: Literal['cpu', 'cuda'] | None = None
    """Load batches ahead."""
    num_prefetch_queue: PositiveInt = 1
    """Batches that `prefetch_mode: cpu` holds ready."""
    pin_memory: bool = False
    """Load into page-locked memory."""
    persistent_workers: bool = False
    """Keep the workers from one epoch to the next."""


class BasicSRTrainOptions(Section):
    """`train` of one of BasicSR's models, as far as all of them have it."""

    total_iter: PositiveInt
    """Iterations in all."""
    optim_g: Mapping[str, Any]
    """Optimiser: `type`, `lr` and its own arguments."""
    scheduler: Mapping[str, Any]
    """Learning-rate schedule: `type` and its own arguments."""
    warmup_iter: int = -1
    """Iterations of linear warm-up; -1 for none."""
    ema_decay: float = 0.0
    """Decay of the averaged weights."""


class FileOptions(Section):
    """The keys at the top of every option file."""

    name: str
    """Name of the experiment and of its folder."""
    model_type: str
    """`C2FDFTModel`, or one of BasicSR's models."""
    num_gpu: Literal['auto'] | NotNegativeInt
    """`auto` for all there are, 0 for the CPU."""
    datasets: Mapping[str, Any]
    """`train` and any number of `val…` for training; `test_1`, `test_2`, … for a test."""
    network_g: Mapping[str, Any]
    """The network: `type` and its own arguments."""
    path: PathOptions
    """Weights and training states."""
    scale: PositiveInt = 1
    """Size of a clean image in units of its degraded one."""
    manual_seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Seed of everything random; drawn anew at every start if it is not given."""
    dist_params: DistOptions = DistOptions()
    """Distributed training."""
    find_unused_parameters: bool = False
    """For distributed training of a network some of whose parameters get no gradient."""
    diffusion: DiffusionOptions = DiffusionOptions()
    """The diffusion process and its sampler."""

    @field_validator('name')
    @classmethod
    def _is_folder(cls, name: str) -> str:
        if not name or name.startswith('/') or '..' in name.split('/'):
            raise OptionError(f'name: {name!r} must be the name of a folder below experiments/.')
        return name


class TrainingFile(FileOptions):
    """An option file for training our model."""

    train: TrainOptions
    """Training."""
    logger: LoggerOptions
    """Log and checkpoints."""
    val: ValidationOptions | None = None
    """Validation."""


class UntrainedFile(FileOptions):
    """An option file for testing: sections of a training may stand in it."""

    train: Mapping[str, Any] | None = None
    """Not read."""
    logger: Mapping[str, Any] | None = None
    """Not read."""


class TestFile(UntrainedFile):
    """An option file for testing our model."""

    val: ValidationOptions
    """Test."""


class BasicSRTrainingFile(FileOptions):
    """An option file for training one of BasicSR's models."""

    train: BasicSRTrainOptions
    """Training."""
    logger: LoggerOptions
    """Log and checkpoints."""
    val: BasicSRValidationOptions | None = None
    """Validation."""


class BasicSRTestFile(UntrainedFile):
    """An option file for testing one of BasicSR's models."""

    val: BasicSRValidationOptions
    """Test."""

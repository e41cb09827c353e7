"""How long an epoch is, and whether BasicSR's epochs reach the last iteration."""

import math
from collections.abc import Mapping
from typing import Any

from c2fdft_arch.common.option_parsing import OptionError

# Loader batches in an epoch, and the samples that BasicSR's sampler may have to shuffle for one.
EPOCH_BATCHES = 1000
EPOCH_SAMPLES = 2**21


def epoch_samples(loader_batch: int, world_size: int = 1, enlarge_ratio: int = 1) -> int:
    """Length to give to a dataset so that an epoch is a whole number of loader batches.

    The longer an epoch, the rarer workers are started anew; the longer, too, the list that
    BasicSR's sampler shuffles in every rank.
    """
    per_batch = loader_batch * world_size
    batches = max(1, min(EPOCH_BATCHES, EPOCH_SAMPLES // per_batch))
    return per_batch * math.ceil(batches / enlarge_ratio)


def replicas(opt: Mapping[str, Any]) -> int:
    """GPUs that one process drives by itself (`DataParallel`), by BasicSR's options."""
    return 1 if opt.get('dist') else max(1, int(opt.get('num_gpu') or 0))


def check_reach(
    total_iter: int,
    loader_batch: int,
    world_size: int = 1,
    enlarge_ratio: int = 1,
    replicas: int = 1,
    start_iteration: int = 0,
    start_epoch: int = 0,
) -> None:
    """Raise OptionError if BasicSR's `train.py` would stop before `total_iter`.

    It counts its epochs as if a loader batch held `loader_batch` samples; without a launcher,
    several GPUs (`replicas`) make a loader batch that many times larger and epochs shorter.
    """
    samples = epoch_samples(loader_batch, world_size, enlarge_ratio) * enlarge_ratio
    counted = samples // (loader_batch * world_size)
    actual = counted // replicas
    last_epoch = math.ceil(total_iter / counted)
    reached = start_iteration + max(0, last_epoch + 1 - start_epoch) * actual
    if reached >= total_iter:
        return
    if replicas > 1:
        cure = (
            f'Start one process per GPU (torchrun --nproc_per_node={replicas} ... --launcher '
            'pytorch) or set num_gpu: 1.'
        )
    else:
        cure = (
            f'The training state is of epoch {start_epoch}, iteration {start_iteration}; resume '
            'with the batch_size_per_gpu, dataset_enlarge_ratio and number of GPUs it was saved '
            'with.'
        )
    raise OptionError(
        f'Training would end after iteration {reached} of {total_iter}: BasicSR would run epochs '
        f'{start_epoch} to {last_epoch} of {actual} iterations each. {cure}'
    )

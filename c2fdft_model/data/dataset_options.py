"""The section `datasets: train` (or val, test) of a `PatchCyclePairedDataset`."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import model_validator

from c2fdft_arch.common.messages import nearest
from c2fdft_arch.common.option_parsing import (
    NotNegativeInt,
    OptionError,
    PositiveInt,
    Section,
    check_names,
    parse_section,
)
from c2fdft_model.data.patch_cycle import DATASET_TYPE, PatchCycle

BACKENDS = ('lmdb', 'disk')
LMDB_ARGUMENTS = (
    'readonly', 'lock', 'readahead', 'meminit', 'subdir', 'map_size', 'max_readers', 'max_dbs',
    'max_spare_txns', 'create', 'mode', 'sync', 'metasync', 'map_async', 'writemap',
)  # fmt: skip
"""Of `lmdb.open`."""
MAX_UNREADABLE = 10
_PATH = 'datasets: train'


class DatasetOptions(Section):
    """`datasets: train`: where the pairs are and how the patch cycle runs over them."""

    dataroot_lq: str
    """Folder or LMDB of the degraded images."""
    dataroot_gt: str
    """Folder or LMDB of the clean images."""
    io_backend: Mapping[str, Any]
    """`type: lmdb`, with arguments of `lmdb.open` if any, or `type: disk`."""
    phase: str = 'train'
    """`train`, `val` or `test`; BasicSR sets it. Anything but `train` gives whole images."""
    name: str = ''
    """Name of the data set in the log."""
    type: str = DATASET_TYPE
    """This data set's name in BasicSR's registry."""
    scale: PositiveInt = 1
    """Size of a clean image in units of its degraded one; BasicSR sets it."""
    meta_info_file: str | None = None
    """Folders: a text file that lists the clean images to use, one a line."""
    filename_tmpl: str = '{}'
    """Folders: degraded images' names without suffix, `{}` standing for what pairs share."""
    filename_tmpl_gt: str = '{}'
    """Folders: the same for clean images, as `norain-{}` beside `rain-{}`."""
    gt_sizes: tuple[int, ...] = ()
    """Patch size of each phase; a multiple of 8."""
    mini_batch_sizes: tuple[int, ...] = ()
    """Batch size per GPU of each phase."""
    iters: int | tuple[int, ...] = (10000,)
    """Iterations of each phase; one value for all."""
    gt_size: int | None = None
    """Patch size without a cycle; beside `gt_sizes`, the largest of them."""
    geometric_augs: bool = True
    """Turn and mirror patches, eight ways."""
    crops_per_image: PositiveInt = 1
    """Patches taken from one decoded image."""
    check_images: bool | Literal['decode'] = True
    """Folders: read the headers of all files at the start; `decode`: decode all of them."""
    max_unreadable: NotNegativeInt = MAX_UNREADABLE
    """Training images that cannot be read, for which others stand in; one more ends it all."""
    batch_size_per_gpu: PositiveInt = 1
    """Batch size of BasicSR's loader: the largest of `mini_batch_sizes`."""
    num_worker_per_gpu: NotNegativeInt = 0
    """Worker processes that load images."""
    dataset_enlarge_ratio: PositiveInt = 1
    """BasicSR's; has no effect here, because the order of the images does not depend on epochs."""
    prefetch_mode: Literal['cpu', 'cuda'] | None = None
    """`~`, `cpu` or `cuda`; the last two need workers."""
    num_prefetch_queue: PositiveInt = 1
    """Batches that `prefetch_mode: cpu` holds ready."""
    pin_memory: bool = False
    """Load into page-locked memory."""
    persistent_workers: bool = False
    """Must be false."""
    use_shuffle: bool = True
    """Must be true."""

    @model_validator(mode='after')
    def _fits_together(self) -> 'DatasetOptions':
        self._check_backend()
        if self.phase == 'train':
            self._check_loader()
            self._check_batches()
        return self

    @property
    def is_lmdb(self) -> bool:
        """Whether the images are in LMDBs."""
        return self.io_backend['type'] == 'lmdb'

    @cached_property
    def cycle(self) -> PatchCycle:
        """The patch cycle; without `gt_sizes` a single phase of `gt_size`."""
        if not self.gt_sizes and self.gt_size is None:
            raise OptionError(f'{_PATH}: gt_sizes is missing: the patch size of each phase.')
        iters = (self.iters,) if isinstance(self.iters, int) else self.iters
        if not self.gt_sizes:
            batches = self.mini_batch_sizes or (self.batch_size_per_gpu,)
            return PatchCycle.build((self.gt_size or 0,), batches, iters[:1])
        return PatchCycle.build(self.gt_sizes, self.mini_batch_sizes, iters)

    def replicas_of(self, loaded: int) -> int:
        """For how many GPUs of one process a loader asks for `loaded` samples.

        Raises RuntimeError if that is no multiple of the batch size per GPU.
        """
        replicas, rest = divmod(loaded, self.batch_size_per_gpu)
        if rest or not replicas:
            raise RuntimeError(
                f"The data loader's batch of {loaded} is no multiple of {_PATH}: "
                f'batch_size_per_gpu: {self.batch_size_per_gpu}.'
            )
        return replicas

    def _check_backend(self) -> None:
        kind = self.io_backend.get('type')
        if kind not in BACKENDS:
            raise OptionError(
                f'datasets: io_backend: type: {kind} is not supported'
                f'{nearest(str(kind), BACKENDS)}. Allowed: {", ".join(BACKENDS)}.'
            )
        keys = ['type', *(LMDB_ARGUMENTS if kind == 'lmdb' else ())]
        check_names(self.io_backend, keys, f'datasets: {self.phase}: io_backend: {kind}')
        for key in ('dataroot_lq', 'dataroot_gt'):
            folder = getattr(self, key)
            if kind == 'lmdb' and not folder.rstrip('/').endswith('.lmdb'):
                raise OptionError(
                    f'datasets: {key}: {folder} does not end in .lmdb; for a folder of images set '
                    'io_backend: type: disk.'
                )

    def _check_loader(self) -> None:
        if self.persistent_workers:
            raise OptionError(
                f'{_PATH}: persistent_workers: true is not possible: a worker learns the '
                'iteration when it is started. Set persistent_workers: false.'
            )
        if self.prefetch_mode is not None and self.num_worker_per_gpu == 0:
            raise OptionError(
                f'{_PATH}: prefetch_mode: {self.prefetch_mode} with num_worker_per_gpu: 0 '
                'is not possible: batches would be loaded before their iteration is known. Set '
                'prefetch_mode: ~, or num_worker_per_gpu above 0.'
            )
        if not self.use_shuffle:
            raise OptionError(f'{_PATH}: use_shuffle: false is not possible; remove it.')

    def _check_batches(self) -> None:
        cycle = self.cycle
        largest_batch = max(cycle.batch_sizes)
        if largest_batch > self.batch_size_per_gpu:
            raise OptionError(
                f'{_PATH}: mini_batch_sizes: {largest_batch} is larger than batch_size_per_gpu: '
                f"{self.batch_size_per_gpu}, the loader's batch. Set batch_size_per_gpu: "
                f'{largest_batch}.'
            )
        largest = max(cycle.patch_sizes)
        if self.gt_size is not None and self.gt_size != largest:
            raise OptionError(
                f'{_PATH}: gt_size: {self.gt_size} contradicts gt_sizes, the largest of '
                f'which is {largest}; remove gt_size.'
            )
        for size in cycle.patch_sizes:
            if size % self.scale:
                raise OptionError(
                    f'{_PATH}: gt_sizes: {size} must be a multiple of scale: {self.scale}.'
                )


def parse_dataset(section: Mapping[str, Any]) -> DatasetOptions:
    """Parse one entry of `datasets`.

    Raises OptionError naming the key for everything that cannot be.
    """
    phase = section.get('phase', 'train')
    return parse_section(DatasetOptions, section, f'datasets: {phase}')


def parse_cycle(section: Mapping[str, Any]) -> PatchCycle | None:
    """The patch cycle of `datasets: train`, None if that is another data set than ours."""
    return parse_dataset(section).cycle if section.get('type') == DATASET_TYPE else None

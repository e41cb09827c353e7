"""The data set of the patch cycle for BasicSR's loaders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from basicsr.data.data_util import paired_paths_from_meta_info_file
from basicsr.utils import FileClient, get_root_logger
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils import data

from c2fdft_model.data.dataset_options import parse_dataset
from c2fdft_model.data.epoch_length import epoch_samples
from c2fdft_model.data.file_clients import file_client
from c2fdft_model.data.pairing import ImagePair, check_sizes, list_images, pair_files, pair_lmdbs
from c2fdft_model.data.sample_stream import BatchPlan, Crop, SampleStream
from c2fdft_model.data.training_clock import ITERATION_KEY, ClockReading, training_clock
from c2fdft_model.images.image_crops import WholeImage, open_image
from c2fdft_model.images.image_io import ImageReadError, pad_to, to_float
from c2fdft_model.images.indexed_png import IndexedPng
from c2fdft_model.plugin.patches.iterations import announce_iterations

OpenImage = IndexedPng | WholeImage

announce_iterations()


@DATASET_REGISTRY.register()
class PatchCyclePairedDataset(data.Dataset):
    """Pairs of images whose patch size and batch size follow the training iteration.

    In training, one call of `__getitems__` loads the whole batch of an iteration. What it holds is
    a function of the seed, the rank, the number of ranks and the iteration alone; the indices that
    the loader passes only say how many GPUs it loads for. In validation and test, whole images.

    Samples: `lq`, `gt` (3, H, W) RGB float32 in [0, 1]; `lq_path`, `gt_path`; in training also
    `patch_cycle_iteration`, the iteration they were loaded for.

    Raises OptionError for options that cannot be, PairingError for images that do not pair, and
    ImageReadError for a file that cannot be read.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__()
        self.opt = opt
        self.options = parse_dataset(opt)
        self.is_train = self.options.phase == 'train'
        self.pairs = self._find_pairs()
        self._client: FileClient | None = None
        self._process = os.getpid()
        self._served = 0
        self._reading: ClockReading | None = None
        if self.is_train:
            self._log_cycle()

    def __len__(self) -> int:
        """In training, as many samples as make an epoch a whole number of loader batches."""
        if not self.is_train:
            return len(self.pairs)
        options = self.options
        _, world_size = get_dist_info()
        return epoch_samples(options.batch_size_per_gpu, world_size, options.dataset_enlarge_ratio)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Pair number `index`, whole, whatever the phase."""
        pair = self.pairs[index]
        lq, gt = (image.crop(0, 0, image.height, image.width) for image in self._open(pair))
        return self._sample(pair, _to_tensor(lq), _to_tensor(gt))

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The batch of the iteration that this call is for; the indices' values are ignored."""
        if not self.is_train:
            return [self[index] for index in indices]
        reading = self._clock()
        iteration = self._iteration(reading)
        stream = SampleStream(
            len(self.pairs),
            self.options.cycle,
            reading.seed,
            reading.world_size,
            self.options.crops_per_image,
        )
        plan = stream.batch(iteration, reading.rank, self._replicas(indices))
        return self._load(plan, reading.total_iter)

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is not forked gets the clock with the data set.
        state = self.__dict__ | {'_client': None, '_served': 0}
        if training_clock.started:
            state['_reading'] = training_clock.reading()
        return state

    def _clock(self) -> ClockReading:
        if training_clock.started or self._reading is None:
            return training_clock.reading()
        return self._reading

    def _iteration(self, reading: ClockReading) -> int:
        worker = data.get_worker_info()
        if worker is None:
            return reading.next_iteration
        if getattr(worker, 'worker_method', None) == 'thread':
            raise RuntimeError(
                f'{type(self).__name__} cannot be loaded by worker threads, which share one data '
                "set; leave the data loader's worker_method at its default."
            )
        self._enter_process()
        iteration = reading.iteration_of(worker.id, worker.num_workers, self._served)
        self._served += 1
        return iteration

    def _enter_process(self) -> None:
        # Neither an open LMDB nor a count may be taken over through a fork.
        if self._process != os.getpid():
            self._process, self._client, self._served = os.getpid(), None, 0

    def _replicas(self, indices: Sequence[int]) -> int:
        replicas, rest = divmod(len(indices), self.options.batch_size_per_gpu)
        if rest or not replicas:
            raise RuntimeError(
                f"The data loader's batch of {len(indices)} is no multiple of datasets: train: "
                f'batch_size_per_gpu: {self.options.batch_size_per_gpu}.'
            )
        return replicas

    def _load(self, plan: BatchPlan, total_iter: int | None) -> list[dict[str, Any]]:
        # Workers load ahead of the training, also past its end, where one sample is enough.
        beyond = total_iter is not None and plan.iteration > total_iter
        samples = []
        for draw in plan.draws[:1] if beyond else plan.draws:
            pair = self.pairs[draw.image]
            lq, gt = self._open(pair)
            for crop in draw.crops:
                sample = self._sample(pair, *self._crop(lq, gt, crop, plan.patch_size))
                samples.append(sample | {ITERATION_KEY: plan.iteration})
        return samples

    def _crop(
        self, lq: OpenImage, gt: OpenImage, crop: Crop, patch_size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scale = self.options.scale
        size = patch_size // scale
        top, left = crop.top_left(max(lq.height, size), max(lq.width, size), size)
        patches = _patch(lq, top, left, size), _patch(gt, top * scale, left * scale, patch_size)
        if self.options.geometric_augs:
            patches = crop.orient(patches[0]), crop.orient(patches[1])
        return _to_tensor(patches[0]), _to_tensor(patches[1])

    def _open(self, pair: ImagePair) -> tuple[OpenImage, OpenImage]:
        options = self.options
        lq = self._open_image(pair.lq, options.dataroot_lq, 'lq')
        gt = self._open_image(pair.gt, options.dataroot_gt, 'gt')
        if (lq.height * options.scale, lq.width * options.scale) != (gt.height, gt.width):
            raise ImageReadError(
                f'{os.path.join(options.dataroot_lq, pair.lq)} is {lq.width} x {lq.height}, '
                f'{os.path.join(options.dataroot_gt, pair.gt)} {gt.width} x {gt.height}: '
                f'sizes differ (scale: {options.scale}).'
            )
        return lq, gt

    def _open_image(self, name: str, folder: str, client_key: str) -> OpenImage:
        path = os.path.join(folder, name)
        try:
            content = self._file_client().get(name if self.options.is_lmdb else path, client_key)
        except OSError as error:
            raise ImageReadError(f'{path}: {error.strerror or error}.') from error
        if content is None:
            raise ImageReadError(f'{folder}: there is no image of the key {name}.')
        return open_image(content, path)

    def _file_client(self) -> FileClient:
        self._enter_process()
        if self._client is None:
            options = self.options
            arguments = dict(options.io_backend)
            if options.is_lmdb:
                arguments['db_paths'] = [options.dataroot_lq, options.dataroot_gt]
                arguments['client_keys'] = ['lq', 'gt']
            self._client = file_client(FileClient, arguments)
        return self._client

    def _sample(self, pair: ImagePair, lq: torch.Tensor, gt: torch.Tensor) -> dict[str, Any]:
        options = self.options
        lq_path, gt_path = pair.lq, pair.gt
        if not options.is_lmdb:
            lq_path = os.path.join(options.dataroot_lq, lq_path)
            gt_path = os.path.join(options.dataroot_gt, gt_path)
        return {'lq': lq, 'gt': gt, 'lq_path': lq_path, 'gt_path': gt_path}

    def _find_pairs(self) -> list[ImagePair]:
        options = self.options
        lq, gt = options.dataroot_lq, options.dataroot_gt
        if options.is_lmdb:
            return pair_lmdbs(lq, gt, options.scale)
        if options.meta_info_file is not None:
            pairs = self._listed_pairs(options.meta_info_file)
        else:
            pairs = pair_files(list_images(lq), list_images(gt), options.filename_tmpl)
        if options.check_images and get_dist_info()[0] == 0:
            check_sizes(lq, gt, pairs, options.scale)
        return pairs

    def _listed_pairs(self, meta_info_file: str) -> list[ImagePair]:
        lq, gt = self.options.dataroot_lq, self.options.dataroot_gt
        listed = paired_paths_from_meta_info_file(
            [lq, gt], ['lq', 'gt'], meta_info_file, self.options.filename_tmpl
        )
        relative = [
            (os.path.relpath(paths['lq_path'], lq), os.path.relpath(paths['gt_path'], gt))
            for paths in listed
        ]
        return [ImagePair(os.path.splitext(clean)[0], bad, clean) for bad, clean in relative]

    def _log_cycle(self) -> None:
        cycle = self.options.cycle
        phases = ', '.join(
            f'{batch} x {size}x{size} for {length}'
            for size, batch, length in zip(
                cycle.patch_sizes, cycle.batch_sizes, cycle.iters, strict=True
            )
        )
        get_root_logger().info(
            f'{len(self.pairs)} pairs. Patch cycle (batch per GPU x patch for iterations): '
            f'{phases}. An epoch counts as {len(self)} images for BasicSR.'
        )


def _patch(image: OpenImage, top: int, left: int, size: int) -> np.ndarray:
    """A square of an image; of a smaller image, what there is, reflected."""
    patch = image.crop(top, left, min(size, image.height), min(size, image.width))
    return pad_to(patch, size, size)


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) as stored to (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(to_float(image.transpose(2, 0, 1)))

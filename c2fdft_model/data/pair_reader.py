"""The images of pairs, found, read and cropped into samples."""

import os
from typing import Any

import lmdb
import numpy as np
import torch

from c2fdft_model.data.dataset_options import DatasetOptions
from c2fdft_model.data.image_listing import ListingError
from c2fdft_model.data.lmdb_contents import pair_lmdbs
from c2fdft_model.data.pair_sources import check_sizes, decoded_size
from c2fdft_model.data.pairing import ImagePair, PairingError, listed_pairs, pair_folders
from c2fdft_model.data.sample_stream import Crop
from c2fdft_model.data.shared_lmdbs import open_shared
from c2fdft_model.images.image_io import ImageReadError, image_size, read_bytes, to_float
from c2fdft_model.images.indexed_png import IndexedPng, WholeImage, open_image

OpenImage = IndexedPng | WholeImage


def find_pairs(options: DatasetOptions, check_images: bool | str) -> list[ImagePair]:
    """The pairs of a data set; `check_images` reads the headers of all files in folders,
    or decodes them (`decode`).

    Raises PairingError naming the data set for folders and images that do not pair.
    """
    try:
        return _find_pairs(options, check_images)
    except (ListingError, PairingError) as error:
        raise PairingError(f'datasets: {options.name or options.phase}: {error}') from error


def _find_pairs(options: DatasetOptions, check_images: bool | str) -> list[ImagePair]:
    lq, gt = options.dataroot_lq, options.dataroot_gt
    templates = options.filename_tmpl, options.filename_tmpl_gt
    if options.is_lmdb:
        return pair_lmdbs(lq, gt, options.scale)
    if options.meta_info_file is None:
        pairs = pair_folders(lq, gt, *templates)
    else:
        pairs = listed_pairs(options.meta_info_file, lq, gt, *templates)
    if check_images:
        measure = decoded_size if check_images == 'decode' else image_size
        check_sizes(lq, gt, pairs, options.scale, measure)
    return pairs


class PairReader:
    """Reads pairs of images from folders or LMDBs.

    Samples: `lq`, `gt` (3, H, W) RGB float32 in [0, 1]; `lq_path`, `gt_path`. All methods raise
    ImageReadError for a file that cannot be read, and for images of a pair whose sizes differ.
    """

    def __init__(self, options: DatasetOptions) -> None:
        self.options = options
        self._lmdbs: dict[str, lmdb.Environment] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {'_lmdbs': {}}

    def whole(self, pair: ImagePair) -> dict[str, Any]:
        """Both images in full."""
        lq, gt = (image.crop(0, 0, image.height, image.width) for image in self.open(pair))
        return self._sample(pair, lq, gt)

    def patches(
        self, pair: ImagePair, crops: tuple[Crop, ...], patch_size: int
    ) -> list[dict[str, Any]]:
        """A sample for each crop, cut and oriented; `patch_size` is that of the clean image."""
        lq, gt = self.open(pair)
        return [self._sample(pair, *self._crop(lq, gt, crop, patch_size)) for crop in crops]

    def open(self, pair: ImagePair) -> tuple[OpenImage, OpenImage]:
        """The degraded and the clean image, ready for crops."""
        options = self.options
        lq = self._open_image(options.dataroot_lq, pair.lq)
        gt = self._open_image(options.dataroot_gt, pair.gt)
        if (lq.height * options.scale, lq.width * options.scale) != (gt.height, gt.width):
            raise ImageReadError(
                f'{os.path.join(options.dataroot_lq, pair.lq)} is {lq.width} x {lq.height}, '
                f'{os.path.join(options.dataroot_gt, pair.gt)} {gt.width} x {gt.height}: '
                f'sizes differ (scale: {options.scale}).'
            )
        return lq, gt

    def _open_image(self, folder: str, name: str) -> OpenImage:
        path = os.path.join(folder, name)
        content = self._lmdb_entry(folder, name) if self.options.is_lmdb else read_bytes(path)
        if content is None:
            raise ImageReadError(f'{folder}: there is no image of the key {name}.')
        return open_image(content, path)

    def _lmdb_entry(self, folder: str, key: str) -> bytes | None:
        # An open LMDB must not be used by a forked process.
        if self._process != os.getpid():
            self._process, self._lmdbs = os.getpid(), {}
        if folder not in self._lmdbs:
            arguments = {k: v for k, v in self.options.io_backend.items() if k != 'type'}
            self._lmdbs[folder] = open_shared(folder, **arguments)
        with self._lmdbs[folder].begin() as transaction:
            return transaction.get(key.encode())

    def _crop(
        self, lq: OpenImage, gt: OpenImage, crop: Crop, patch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        scale = self.options.scale
        size = patch_size // scale
        top, left = crop.top_left(max(lq.height, size), max(lq.width, size), size)
        patches = _patch(lq, top, left, size), _patch(gt, top * scale, left * scale, patch_size)
        if self.options.geometric_augs:
            return crop.orient(patches[0]), crop.orient(patches[1])
        return patches

    def _sample(self, pair: ImagePair, lq: np.ndarray, gt: np.ndarray) -> dict[str, Any]:
        paths = {'lq_path': self.lq_path(pair), 'gt_path': self.gt_path(pair)}
        return {'lq': _to_tensor(lq), 'gt': _to_tensor(gt), **paths}

    def lq_path(self, pair: ImagePair) -> str:
        """Key or path of the degraded image."""
        options = self.options
        return pair.lq if options.is_lmdb else os.path.join(options.dataroot_lq, pair.lq)

    def gt_path(self, pair: ImagePair) -> str:
        """Key or path of the clean image."""
        options = self.options
        return pair.gt if options.is_lmdb else os.path.join(options.dataroot_gt, pair.gt)


def _patch(image: OpenImage, top: int, left: int, size: int) -> np.ndarray:
    """A square of an image; of a smaller image, what there is, reflected."""
    patch = image.crop(top, left, min(size, image.height), min(size, image.width))
    missing = size - patch.shape[0], size - patch.shape[1]
    if missing == (0, 0):
        return patch
    return np.pad(patch, ((0, missing[0]), (0, missing[1]), (0, 0)), mode='reflect')


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) as stored to (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(to_float(image.transpose(2, 0, 1)))

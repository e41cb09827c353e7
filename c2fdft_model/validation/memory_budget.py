"""Whether `val: memory_budget_mb` suffices for every validation image, known before training."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_arch.inference.memory_plan import MemoryBudgetError
from c2fdft_model.data.image_listing import list_images
from c2fdft_model.data.lmdb_contents import read_meta_info
from c2fdft_model.data.pairing import listed_pairs
from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.images.image_io import image_size
from c2fdft_model.restoring.restoration import inference_settings
from c2fdft_model.validation.options import ValidationOptions


def check_memory_budget(
    network: nn.Module,
    process: DiffusionProcess,
    options: ValidationOptions,
    data_sets: Iterable[Mapping[str, Any]],
) -> None:
    """Raise OptionError, naming the image, if `val: memory_budget_mb` is too small for one.

    `data_sets`: sections of `datasets`. Nothing is restored: the network tells what it needs for
    the sizes in the images' headers. If it cannot, or the sizes are not known, nothing is checked.
    """
    if options.memory_budget_mb is None or not hasattr(network, 'inference_memory_mb'):
        return
    multiple = int(getattr(network, 'size_multiple', 1))
    with inference_settings(network, process, options.precision, options.memory_budget_mb):
        for image, *size in itertools.chain.from_iterable(map(degraded_sizes, data_sets)):
            padded = [-(-side // multiple) * multiple for side in size]
            try:
                network.inference_memory_mb(1, *padded)
            except MemoryBudgetError as error:
                raise budget_error(options, image, error) from error


def budget_error(options: ValidationOptions, image: str, error: MemoryBudgetError) -> OptionError:
    """What a network says of its memory, in terms of `val`, which has no tiles."""
    return OptionError(
        f'val: memory_budget_mb: {options.memory_budget_mb} is too small for {image}: '
        f'{error.need}. Raise it, or leave it out.'
    )


def degraded_sizes(section: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Name, height and width of each degraded image of a data set; none if headers do not tell.

    Raises ImageReadError for a file that is no image, PairingError for a folder that is not there.
    """
    folder = section.get('dataroot_lq')
    backend = (section.get('io_backend') or {}).get('type')
    if folder and backend == 'lmdb':
        for key, size in read_meta_info(folder).items():
            yield os.path.join(folder, key), *size
    elif folder and backend == 'disk':
        for path in _degraded_files(section, folder):
            yield path, *image_size(path)


def _degraded_files(section: Mapping[str, Any], folder: str) -> list[str]:
    """The degraded images in a folder, or those that `meta_info_file` selects."""
    listed = section.get('meta_info_file')
    if not listed:
        return [os.path.join(folder, name) for name in list_images(folder).images]
    templates = (section.get(key) or '{}' for key in ('filename_tmpl', 'filename_tmpl_gt'))
    pairs = listed_pairs(listed, folder, section['dataroot_gt'], *templates)
    return [os.path.join(folder, pair.lq) for pair in pairs]

"""Validation over all ranks: each restores its share of the images, all of them get the result."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_arch.inference.memory_plan import MemoryBudgetError
from c2fdft_model.data.pairing import list_images, read_meta_info
from c2fdft_model.images.image_io import image_size
from c2fdft_model.restoring.restoration import inference_settings
from c2fdft_model.training import distributed
from c2fdft_model.validation.options import ValidationOptions

Record = dict[str, Any]


@dataclass(frozen=True)
class ImageResult:
    """One image: its place in the data set, its metrics, and a strip (h, w, 3) uint8 to show."""

    index: int
    name: str
    values: Mapping[str, float]
    strip: np.ndarray | None = None


def validate_shared(
    dataset: Dataset,
    evaluate: Callable[[int, dict[str, Any]], ImageResult],
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[ImageResult]:
    """Evaluate every image once, batches of one, and return all results in the data set's order.

    Every rank takes every `world_size`-th image; the results are the same in all of them. An
    OptionError in any rank is raised in all, so that none waits for another.
    """
    share = distributed.shard(range(len(dataset)))  # type: ignore[arg-type]
    loader = DataLoader(Subset(dataset, share), batch_size=1, num_workers=0)
    own: list[ImageResult] = []
    problem = ''
    try:
        own = [evaluate(*item) for item in progress(zip(share, loader, strict=True))]
    except OptionError as error:
        problem = str(error)
    shares, problems = zip(*distributed.gather_objects((own, problem)), strict=True)
    for text in filter(None, problems):
        raise OptionError(text)
    return sorted(itertools.chain.from_iterable(shares), key=lambda result: result.index)


def mean_values(results: Sequence[ImageResult], names: Iterable[str]) -> dict[str, float]:
    """The mean of each metric, summed in the data set's order: the same for any number of ranks."""
    return {name: sum(r.values[name] for r in results) / max(1, len(results)) for name in names}


# --- the memory budget -------------------------------------------------------------------------


def check_memory_budget(
    network: nn.Module, options: ValidationOptions, data_sets: Iterable[Mapping[str, Any]]
) -> None:
    """Raise OptionError, naming the image, if `val: memory_budget_mb` is too small for one.

    `data_sets`: sections of `datasets`. Nothing is restored: the network tells what it needs for
    the sizes in the images' headers. If it cannot, or the sizes are not known, nothing is checked.
    """
    if options.memory_budget_mb is None or not hasattr(network, 'inference_memory_mb'):
        return
    multiple = int(getattr(network, 'size_multiple', 1))
    with inference_settings(network, options.precision, options.memory_budget_mb):
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
    if not folder:
        return
    if backend == 'lmdb':
        for key, size in read_meta_info(folder).items():
            yield os.path.join(folder, key), *size
    elif backend == 'disk':
        for path in _degraded_files(section, folder):
            yield path, *image_size(path)


def _degraded_files(section: Mapping[str, Any], folder: str) -> list[str]:
    """The degraded images in a folder, or those that `meta_info_file` selects."""
    listed = section.get('meta_info_file')
    if not listed:
        return [os.path.join(folder, name) for name in list_images(folder)]
    # As BasicSR pairs them, which this module does without.
    template = section.get('filename_tmpl') or '{}'
    clean = [line.split(' ')[0].strip() for line in Path(listed).read_text().splitlines()]
    names = [os.path.splitext(os.path.basename(name)) for name in clean if name]
    return [os.path.join(folder, template.format(stem) + ending) for stem, ending in names]


# --- what TensorBoard shows --------------------------------------------------------------------


def show_strips(results: Iterable[ImageResult], tag: str, iteration: int, board: Any) -> None:
    """Add the strips to a TensorBoard writer, `<tag>/<name of the image>`."""
    for result in results:
        if result.strip is not None:
            board.add_image(f'{tag}/{result.name}', result.strip, iteration, dataformats='HWC')


def show_validation(
    results: Sequence[ImageResult],
    metrics: Mapping[str, float],
    dataset: str,
    iteration: int,
    board: Any,
) -> None:
    """Give a TensorBoard writer what BasicSR gives it of a validation, and the strips."""
    for name, value in metrics.items():
        board.add_scalar(f'metrics/{dataset}/{name}', value, iteration)
    show_strips(results, f'strips/{dataset}', iteration, board)


# --- the best results so far ------------------------------------------------------------------


def record_of_best(
    results: Mapping[str, Mapping[str, Record]],
    metric: str | None,
    validated: Mapping[str, int],
) -> Record:
    """What is written beside `net_g_best.pth`, from BasicSR's `best_metric_results`.

    The metric on the first data set decides; by default it is the first metric. `validated`: the
    iteration of the last validation with each data set.
    """
    dataset, metrics = next(iter(results.items()))
    metric = metric or next(iter(metrics))
    best = metrics[metric]
    return {
        'dataset': dataset,
        'metric': metric,
        'better': best['better'],
        'value': best['val'],
        'iteration': best['iter'],
        'validated': dict(validated),
        'best_metric_results': results,
    }


def results_at(iteration: int, in_state: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """The best results so far, on going on after `iteration`.

    The state is written before the validation of its iteration, the record after it; a record of
    a later validation, which will be made again, does not count.
    """
    return dict(record['best_metric_results'] if _is_of(record, iteration) else in_state)


def missed_data_sets(opt: Mapping[str, Any], iteration: int, record: Record) -> tuple[str, ...]:
    """The keys of `datasets` whose validation at `iteration` was due and did not end."""
    val = opt.get('val') or {}
    if not val.get('metrics') or not val.get('val_freq') or iteration % int(val['val_freq']):
        return ()
    validated = record['validated'] if _is_of(record, iteration) else {}
    return tuple(
        key
        for key, dataset in opt['datasets'].items()
        if key.split('_')[0] == 'val' and validated.get(dataset['name']) != iteration
    )


def _is_of(record: Record, iteration: int) -> bool:
    """Whether the record was written no later than after the validation at `iteration`."""
    return bool(record) and max(record['validated'].values()) <= iteration

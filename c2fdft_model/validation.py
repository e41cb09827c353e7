"""Validation over all ranks: each restores its share of the images, all of them get the result."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Subset

from c2fdft_model import distributed

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

    Every rank takes every `world_size`-th image; the results are the same in all of them.
    """
    share = distributed.share_of_rank(range(len(dataset)))  # type: ignore[arg-type]
    loader = DataLoader(Subset(dataset, share), batch_size=1, num_workers=0)
    own = [evaluate(*item) for item in progress(zip(share, loader, strict=True))]
    every = itertools.chain.from_iterable(distributed.gather_objects(own))
    return sorted(every, key=lambda result: result.index)


def mean_values(results: Sequence[ImageResult], names: Iterable[str]) -> dict[str, float]:
    """The mean of each metric, summed in the data set's order: the same for any number of ranks."""
    return {name: sum(r.values[name] for r in results) / max(1, len(results)) for name in names}


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

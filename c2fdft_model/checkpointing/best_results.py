"""The best results of the validations so far, and which validations an interrupted run missed.

A record beside `net_g_best.pth` holds them; see `record_of_best`.
"""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]


def record_of_best(
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
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
    """The best results so far, on resuming after `iteration`.

    The training state is written before the validation of its iteration, the record after it. A
    record of a later validation does not count: that validation will be made again.
    """
    return dict(record['best_metric_results'] if _is_of(record, iteration) else in_state)


def missed_data_sets(opt: Mapping[str, Any], iteration: int, record: Record) -> list[str]:
    """The keys of `datasets` whose validation at `iteration` was due and was not finished."""
    val = opt.get('val') or {}
    if not val.get('metrics') or not val.get('val_freq') or iteration % int(val['val_freq']):
        return []
    validated = record['validated'] if _is_of(record, iteration) else {}
    return [
        key
        for key, dataset in opt['datasets'].items()
        if key.split('_')[0] == 'val' and validated.get(dataset['name']) != iteration
    ]


def _is_of(record: Record, iteration: int) -> bool:
    """Whether the record was written no later than after the validation at `iteration`."""
    return bool(record) and max(record['validated'].values()) <= iteration

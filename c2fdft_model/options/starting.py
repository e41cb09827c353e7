"""The last check before a start: this machine, the data, the other ranks, and what metrics load."""

from collections.abc import Mapping
from typing import Any

from c2fdft_model.evaluation.perceptual import MetricUnavailable, check_metrics
from c2fdft_model.options.data_sets import data_set_problems
from c2fdft_model.options.machine import disk_warning, machine_problems
from c2fdft_model.options.ranks import check_ranks


def check_start(
    opt: Mapping[str, Any], given: Mapping[str, Any], parameters: int | None
) -> list[str]:
    """Check that the options can be followed here; to be called in all ranks at the same time.

    `opt` as BasicSR has parsed them, `given` as in the file. Returns warnings. Raises OptionError.
    """
    problems = list(machine_problems(opt, parameters)) or list(data_set_problems(opt))
    try:
        check_metrics((opt.get('val') or {}).get('metrics'))
    except MetricUnavailable as error:
        problems.append(str(error))
    warnings = check_ranks(given, problems)
    too_many = disk_warning(opt, parameters)
    return [*warnings, *([too_many] if too_many else [])]

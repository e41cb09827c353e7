"""BasicSR ignores unknown option keys, and moves results before it reads the known ones."""

import argparse
import contextlib
import copy
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

from c2fdft_model.plugin.patches.patch import patch, replaces


@patch(
    fault='unknown keys are ignored, 1e-4 is text, results are moved before options are read',
    module='basicsr.utils.options',
    upstream='none',
)
def check_option_files() -> bool:
    """Let `parse_options` check files with our model or data set whole, before anything starts."""
    from basicsr.utils import options

    @replaces(options, 'parse_options')
    def parse_checked_options(parse_options, root_path, is_train=True):
        given = command_line(sys.argv[1:])
        if given is None:
            return parse_options(root_path, is_train=is_train)
        return _parse(parse_options, root_path, is_train, *given)

    return True


def command_line(arguments: list[str]) -> tuple[str, list[str], list[str]] | None:
    """`-opt`, the entries of `--force_yml` and the rest; None where BasicSR is to show its help."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument('-opt')
    parser.add_argument('--force_yml', nargs='+', default=[])
    try:
        found, others = parser.parse_known_args(arguments)
    except (argparse.ArgumentError, SystemExit):
        return None
    if not found.opt or {'-h', '--help'} & set(others):
        return None
    return found.opt, found.force_yml, others


def _parse(
    parse_options, root_path: str, is_train: bool, path: str, forced: list[str], others: list[str]
) -> Any:
    """BasicSR's `parse_options`, which gets the options as they are meant."""
    from c2fdft_arch.common import distributed
    from c2fdft_model.options.checking import check_options, concerns_us
    from c2fdft_model.options.reading import force, read_option_file
    from c2fdft_model.options.starting import check_start

    opt = read_option_file(path)
    force(opt, forced)
    if not concerns_us(opt):
        return parse_options(root_path, is_train=is_train)
    check = check_options(opt, is_train, registries(opt))
    given = copy.deepcopy(check.opt)
    with _in_place_of_file(check.opt, [sys.argv[0], '-opt', path, *others]):
        parsed = parse_options(root_path, is_train=is_train)
    warnings = [*check.warnings, *check_start(parsed[0], given, check.parameters)]
    if distributed.rank() == 0:
        for line in warnings:
            print(f'WARNING: {line}', file=sys.stderr, flush=True)
    return parsed


@contextlib.contextmanager
def _in_place_of_file(opt: Mapping[str, Any], command: list[str]) -> Iterator[None]:
    """BasicSR's options module reads `opt`, whatever file it opens, and another command line."""
    from basicsr.utils import options

    yaml, before = options.yaml, sys.argv
    instead = {**vars(yaml), 'load': lambda stream, Loader=None: opt}
    options.yaml, sys.argv = types.SimpleNamespace(**instead), command
    try:
        yield
    finally:
        options.yaml, sys.argv = yaml, before


def registries(opt: Mapping[str, Any]) -> Any:
    """BasicSR's registries and the schedules that the model of an option file knows."""
    from basicsr.models import lr_scheduler
    from basicsr.utils import registry

    from c2fdft_model.options.checking import MODEL_TYPE, Registries
    from c2fdft_model.training.lr_scheduler import CosineAnnealingRestartCyclicLR

    schedules = {
        'MultiStepLR': lr_scheduler.MultiStepRestartLR,
        'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
        'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR,
    }
    if opt.get('model_type') == MODEL_TYPE:
        schedules['CosineAnnealingRestartCyclicLR'] = CosineAnnealingRestartCyclicLR
    return Registries(
        model=registry.MODEL_REGISTRY,
        dataset=registry.DATASET_REGISTRY,
        arch=registry.ARCH_REGISTRY,
        loss=registry.LOSS_REGISTRY,
        metric=registry.METRIC_REGISTRY,
        scheduler=tuple(schedules.items()),
    )

"""Trainings by BasicSR: their option files, and a run that times every iteration."""

import os
import shutil
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.experiments.processes import call_with_log
from c2fdft_model.options.reading import read_option_file
from c2fdft_model.plugin import autoload

LOG = 'training.log'
DATA_KEYS = ('dataroot_lq', 'dataroot_gt')


def read_training(path: Path, root: Path) -> dict[str, Any]:
    """The options of a training; the paths of its data and weights become absolute under `root`.

    Raises OptionError for a file that is missing or not a training's.
    """
    options = read_option_file(path)
    if 'train' not in (options.get('datasets') or {}):
        raise OptionError(f'{path} is no option file of a training: it has no datasets: train.')
    train_data = options['datasets']['train']
    for key in DATA_KEYS:
        train_data[key] = str((root / train_data[key]).resolve())
    start = options['path'].get('pretrain_network_g')
    if start is not None:
        options['path']['pretrain_network_g'] = str((root / start).resolve())
    return options


def run_training(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train in an emptied folder, where the output goes to `training.log`.

    Returns the `seconds` of all iterations and, as lists `by_size`, those of each iteration by
    patch size. Paths of the options are absolute or in `folder`. Raises ProcessFailed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / 'options.yml').write_text(yaml.safe_dump(options, sort_keys=False))
    return call_with_log(folder / LOG, _train_in, folder)


def _train_in(folder: Path) -> dict[str, Any]:
    autoload.install()
    import basicsr.train as training

    os.chdir(folder)
    ends: list[float] = []
    by_size: dict[str, list[float]] = defaultdict(list)
    build_model = training.build_model
    training.build_model = lambda opt: _watch(build_model(opt), ends, by_size)
    sys.argv = ['train', '-opt', 'options.yml']
    training.train_pipeline(os.getcwd())
    return {'seconds': ends[-1] - ends[0] if ends else 0.0, 'by_size': dict(by_size)}


def _watch(model: Any, ends: list[float], by_size: dict[str, list[float]]) -> Any:
    """Note the first iteration's start and every one's end, and the seconds by patch size."""
    update, optimize = model.update_learning_rate, model.optimize_parameters

    def timed_update(*arguments: Any, **settings: Any) -> None:
        if not ends:
            ends.append(time.monotonic())
        update(*arguments, **settings)

    def timed_optimize(*arguments: Any) -> None:
        optimize(*arguments)
        ends.append(time.monotonic())
        by_size[str(model.gt.shape[-1])].append(ends[-1] - ends[-2])

    model.update_learning_rate, model.optimize_parameters = timed_update, timed_optimize
    return model

"""The check of a whole option file: every key known, every value possible, before anything starts.

With our model an unknown key is an error. With one of BasicSR's models and our data set it is a
warning: that model may read keys that nothing here knows of.
"""

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from c2fdft_arch.common.option_parsing import OptionError, parse_section, unknown_key
from c2fdft_arch.common.registry_lookup import find_registered
from c2fdft_model.data.dataset_options import DatasetOptions
from c2fdft_model.data.patch_cycle import DATASET_TYPE
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.options import sections
from c2fdft_model.options.components import OPTIMIZERS, Registry, build, component, numbers
from c2fdft_model.options.known_keys import mentioned, merged, without_unknown
from c2fdft_model.options.schedule import check_schedule
from c2fdft_model.training.options import check_no_discriminator

MODEL_TYPE = 'C2FDFTModel'
FILES: Mapping[tuple[bool, bool], type[sections.FileOptions]] = {
    (True, True): sections.TrainingFile,
    (True, False): sections.TestFile,
    (False, True): sections.BasicSRTrainingFile,
    (False, False): sections.BasicSRTestFile,
}
"""By whether the model is ours and whether it is trained."""
LOADS_A_NETWORK = 'perceptual_opt'
SWALLOW_KEYS = ('basicsr.', 'c2fdft_model.')
"""Where metrics take any key in order to ignore it."""


@dataclass(frozen=True)
class Registries:
    """What option files may name: BasicSR's registries, and its learning-rate schedules."""

    model: Registry
    dataset: Registry
    arch: Registry
    loss: Registry
    metric: Registry
    scheduler: Registry


@dataclass
class Check:
    """An option file in the course of being checked."""

    opt: dict[str, Any]
    """Becomes what BasicSR is given: every value as it is meant."""
    is_train: bool
    is_ours: bool
    registries: Registries
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    parameters: int | None = None
    """Of `network_g`, where that can be told without building it."""

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Note what an OptionError says, and go on with what comes next."""
        try:
            yield
        except OptionError as error:
            self.errors += str(error).splitlines()

    def section(self, name: str) -> dict[str, Any]:
        """A section at the top of the file; empty if it is none."""
        found = self.opt.get(name)
        return found if isinstance(found, dict) else {}


def concerns_us(opt: Mapping[str, Any]) -> bool:
    """Whether an option file has our model or our data set in it."""
    data = opt.get('datasets')
    listed = data.values() if isinstance(data, Mapping) else ()
    types = [section.get('type') for section in listed if isinstance(section, Mapping)]
    return opt.get('model_type') == MODEL_TYPE or DATASET_TYPE in types


def check_options(opt: Mapping[str, Any], is_train: bool, registries: Registries) -> Check:
    """Check an option file as it was read; nothing is written, and nothing built that takes time.

    Returns the options as BasicSR is to get them, and warnings. Raises OptionError with a line for
    everything that is wrong.
    """
    check = Check(dict(opt), is_train, opt.get('model_type') == MODEL_TYPE, registries)
    for step in (_sections, _datasets, _networks, _training, _schedule, _metrics, _process):
        with check.collecting():
            step(check)
    if check.errors:
        raise OptionError('\n'.join(dict.fromkeys(check.errors)))
    return check


def _sections(check: Check) -> None:
    """Every section against its class."""
    given, cls = check.opt, FILES[check.is_ours, check.is_train]
    model = find_registered(check.registries.model, given.get('model_type'), 'model_type', 'model')
    own = given
    if check.is_ours:
        check_no_discriminator(given)
    else:
        own = without_unknown(cls, given, '', mentioned(model), check.warnings)
    check.opt = merged(given, parse_section(cls, own, ''))
    if check.opt.get('val') is not None:
        check.opt['val'].setdefault('save_img', False)  # BasicSR expects it
        if check.is_train and 'val_freq' not in check.opt['val']:
            raise OptionError('val: val_freq is missing: Iterations between validations.')
    logger = check.section('logger')
    if (logger.get('wandb') or {}).get('project') and not logger.get('use_tb_logger'):
        raise OptionError('logger: wandb: project needs logger: use_tb_logger: true.')


def _datasets(check: Check) -> None:
    data = check.section('datasets')
    if check.is_train and 'train' not in data:
        check.errors.append('datasets: train is missing: the images to train with.')
    for key, given in data.items():
        path, phase = f'datasets: {key}', str(key).partition('_')[0]
        with check.collecting():
            if not isinstance(given, Mapping):
                raise OptionError(f'{path}: {given!r} must be a section with keys of its own.')
            if check.is_train and phase not in ('train', 'val'):
                raise OptionError(f'datasets: {unknown_key(key, ["train", "val", "val_1"])}')
            if not given.get('name'):
                raise OptionError(f'{path}: name is missing: the name of the data set in the log.')
            cls = find_registered(check.registries.dataset, given.get('type'), path, 'data set')
            data[key] = _dataset(check, cls, given, path, phase)


def _dataset(
    check: Check, cls: type, given: Mapping[str, Any], path: str, phase: str
) -> dict[str, Any]:
    """One entry of `datasets`, with what BasicSR's loader needs of it."""
    if cls.__name__ == DATASET_TYPE:
        scale = check.opt.get('scale') or 1
        parsed = parse_section(DatasetOptions, {**given, 'phase': phase, 'scale': scale}, path)
        needed = ('batch_size_per_gpu', 'num_worker_per_gpu') if phase == 'train' else ()
        return {key: getattr(parsed, key) for key in needed} | merged(given, parsed)
    loader = sections.LoaderOptions
    words = mentioned(cls) | {'name', 'type', 'use_shuffle'}
    own = without_unknown(loader, given, path, words, check.warnings)
    plain = {key: numbers(value) for key, value in given.items()}
    return plain | merged(own, parse_section(loader, own, path)) if phase == 'train' else plain


def _networks(check: Check) -> None:
    names = [key for key in check.opt if str(key).startswith('network_')]
    for key in ['network_g'] if check.is_ours else names:
        with check.collecting():
            registry, given = check.registries.arch, check.opt.get(key)
            network, check.opt[key] = component(given, registry, key, 'architecture')
            if network.__module__ == 'c2fdft_arch.dft':  # the others may need a real device
                with torch.device('meta'):
                    built = build(network, check.opt[key], key)
                check.parameters = sum(p.numel() for p in built.parameters())


def _training(check: Check) -> None:
    train = check.section('train') if check.is_train else {}
    for key, given in train.items():
        path = f'train: {key}'
        with check.collecting():
            if not isinstance(given, Mapping):
                continue
            if str(key).startswith('optim_'):
                _, train[key] = component(given, OPTIMIZERS, path, 'optimiser', ['params'])
                if 'lr' not in given:
                    raise OptionError(f'{path}: lr is missing: the learning rate.')
            elif str(key).endswith('_opt') and (check.is_ours or 'type' in given):
                loss, train[key] = component(given, check.registries.loss, path, 'loss')
                if key != LOADS_A_NETWORK and check.is_ours:
                    build(loss, train[key], path)


def _schedule(check: Check) -> None:
    train = check.section('train')
    if check.is_train and not check.errors:
        cls, section = component(
            train['scheduler'],
            check.registries.scheduler,
            'train: scheduler',
            'learning-rate schedule',
            ['optimizer', 'last_epoch'],
        )
        train['scheduler'], warnings = check_schedule(train, cls, section)
        check.warnings += warnings


def _metrics(check: Check) -> None:
    metrics = check.section('val').get('metrics')
    if not isinstance(metrics, dict):
        return  # none, or what has been found to be no section
    without_gt = [
        f'{key} ({section.get("name")})'
        for key, section in check.section('datasets').items()
        if key != 'train' and isinstance(section, Mapping) and not section.get('dataroot_gt')
    ]
    for key, given in metrics.items():
        path = f'val: metrics: {key}'
        with check.collecting():
            registry, images = check.registries.metric, ['img', 'img2']
            metric, metrics[key] = component(
                given, registry, path, 'metric', images, also=['better'], closed=SWALLOW_KEYS
            )
            if (better := given.get('better', 'higher')) not in ('higher', 'lower'):
                raise OptionError(f'{path}: better: {better!r} must be higher or lower.')
            gt = inspect.signature(metric).parameters.get('img2')
            if gt is not None and gt.default is gt.empty and without_gt:
                raise OptionError(
                    f'{path} compares with the ground truth, which datasets: '
                    f'{", ".join(without_gt)} does not have. Give dataroot_gt, with a data set of '
                    'pairs, or remove the metric.'
                )


def _process(check: Check) -> None:
    if check.is_ours and not check.errors:
        build_process(parse_section(DiffusionOptions, check.opt.get('diffusion'), 'diffusion'))

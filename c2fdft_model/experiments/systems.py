"""The systems that are compared: one option file each, or several stages joined by `+`."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model.experiments.basicsr_training import DATA_KEYS, read_training
from c2fdft_model.experiments.files import digest

LOG_LINES = 20
SHORTEST_EMA = 0.5
"""No average of a shortened training has a smaller decay."""


class ComparisonError(C2FDFTError, ValueError):
    """The comparison cannot be made; the text says why and what would help."""


@dataclass(frozen=True)
class System:
    """A label for the table and the option files of its training stages, in their order."""

    label: str
    files: tuple[Path, ...]
    stages: tuple[dict[str, Any], ...]

    @property
    def total_iters(self) -> list[int]:
        """Iterations of each stage as its file has them."""
        return [int(stage['train']['total_iter']) for stage in self.stages]

    changes: tuple[tuple[str, Any], ...] = ()
    """What was changed of the files, by key."""

    def fingerprint(self, **settings: Any) -> str:
        """A digest of the option files and of what else determines the result."""
        changes = {'changes': self.changes} if self.changes else {}
        return digest(
            [[path.read_text(encoding='utf-8') for path in self.files], settings | changes]
        )


def read_systems(
    specifications: Sequence[str],
    root: Path,
    degraded: Path | None = None,
    clean: Path | None = None,
) -> list[System]:
    """Systems from `FILE`, `FILE+FILE` or `LABEL=...`; data paths become absolute under `root`.

    With `degraded` and `clean` they train on these images instead of their files'.

    Raises OptionError for a file that is missing or no training, and ComparisonError for a label
    that is there twice and for systems that do not train on the same images.
    """
    systems = [read_system(specification, root) for specification in specifications]
    labels = [system.label for system in systems]
    for label in labels:
        if labels.count(label) > 1:
            raise ComparisonError(f'{label} is there twice; name them: -opt A={label} B={label}.')
    if degraded or clean:
        systems = [trained_on(system, degraded, clean) for system in systems]
    check_same_data(systems)
    return systems


def read_system(specification: str, root: Path) -> System:
    """One system from `FILE`, `FILE+FILE` or `LABEL=...`."""
    label, equals, names = specification.rpartition('=')
    files = tuple(Path(name) for name in names.split('+'))
    stages = tuple(read_training(path, root) for path in files)
    return System(label if equals else stages[-1]['name'], files, stages)


def seeded(system: System, seed: int) -> System:
    """The system with another seed in each stage; 0 leaves those of its files."""
    if not seed:
        return system
    stages = tuple(
        {**stage, 'manual_seed': int(stage.get('manual_seed') or 0) + seed}
        for stage in system.stages
    )
    return replace(system, stages=stages, changes=(*system.changes, ('seed', seed)))


def trained_on(system: System, degraded: Path | None, clean: Path | None) -> System:
    """The system trained on other images, in folders or LMDBs.

    Raises ComparisonError for a folder that is not there, or is given without the other.
    """
    if degraded is None or clean is None:
        raise ComparisonError(
            'give both folders of training images: --train-input, --train-target.'
        )
    for folder in (degraded, clean):
        if not folder.is_dir():
            raise ComparisonError(f'{folder}: no such folder of training images.')
    paths = [str(folder.resolve()) for folder in (degraded, clean)]
    backend = {'type': 'lmdb' if degraded.suffix == '.lmdb' else 'disk'}
    data = dict(zip(DATA_KEYS, paths, strict=True)) | {'io_backend': backend}
    stages = []
    for stage in system.stages:
        sets = stage['datasets']
        stages.append({**stage, 'datasets': {**sets, 'train': {**sets['train'], **data}}})
    return replace(system, stages=tuple(stages), changes=(*system.changes, ('data', paths)))


def check_same_data(systems: Sequence[System]) -> None:
    """Raise ComparisonError unless every stage trains on the same images."""
    first = systems[0]
    wanted = first.stages[0]['datasets']['train']
    for system in systems:
        for path, stage in zip(system.files, system.stages, strict=True):
            for key in DATA_KEYS:
                found = stage['datasets']['train'][key]
                if found != wanted[key]:
                    raise ComparisonError(
                        f'{path}: datasets: train: {key} is {found}, but {wanted[key]} in '
                        f'{first.files[0]}; a comparison needs the same images.'
                    )


def validation_folders(systems: Sequence[System], root: Path) -> tuple[Path, Path] | None:
    """The folders of `datasets: val` of the first option file that has them on disk."""
    for system in systems:
        for stage in system.stages:
            data = stage['datasets'].get('val')
            if data and data['io_backend']['type'] == 'disk':
                lq, gt = (root / data[key] for key in DATA_KEYS)
                return lq, gt
    return None


def with_budget(
    options: dict[str, Any], total_iter: int, iters_per_phase: int | None = None
) -> dict[str, Any]:
    """The options of a stage for `total_iter` iterations, without validation.

    The learning rate's schedule is scaled with them, and so is the time that the averaged weights
    remember: else those of short trainings would still be half untrained. The phases of the patch
    cycle last `iters_per_phase`, or at most their share of the training, so that it sees every
    patch size.
    """
    options = copy.deepcopy(options)
    train, data = options['train'], options['datasets']['train']
    factor = total_iter / int(train['total_iter'])
    train['total_iter'] = total_iter
    scale_schedule(train['scheduler'], factor, total_iter)
    if train.get('warmup_iter', -1) > 0:
        train['warmup_iter'] = round(train['warmup_iter'] * factor)
    if train.get('ema_decay'):
        train['ema_decay'] = max(1 - (1 - train['ema_decay']) / factor, SHORTEST_EMA)
    if 'gt_sizes' in data:
        longest = iters_per_phase or max(total_iter // len(data['gt_sizes']), 1)
        data['iters'] = [min(length, longest) for length in phase_lengths(data, total_iter)]
    options['datasets'] = {'train': data}
    options.pop('val', None)
    options['logger'] = {
        'print_freq': max(total_iter // LOG_LINES, 1),
        'save_checkpoint_freq': 10 * total_iter,
        'use_tb_logger': False,
    }
    return options


def scale_schedule(scheduler: dict[str, Any], factor: float, total_iter: int) -> None:
    """Scale `periods` (whose sum stays `total_iter`) and `milestones` in place."""
    if 'periods' in scheduler:
        periods = [max(round(period * factor), 1) for period in scheduler['periods']]
        periods[-1] = max(periods[-1] + total_iter - sum(periods), 1)
        scheduler['periods'] = periods
    if 'milestones' in scheduler:
        scheduler['milestones'] = [round(m * factor) for m in scheduler['milestones']]


def phase_lengths(data: dict[str, Any], otherwise: int = 1) -> list[int]:
    """Iterations of each phase of a data section's patch cycle, `otherwise` if it has none."""
    phases = len(data.get('gt_sizes', [0]))
    lengths = data.get('iters') or [otherwise]
    return lengths if len(lengths) == phases else lengths * phases

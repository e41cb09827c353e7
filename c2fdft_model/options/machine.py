"""What an option file asks of the machine that it is started on."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from c2fdft_model.restoring.weight_files.hub import is_hub_name

SHARED_MEMORY = '/dev/shm'
PREFETCH_FACTOR = 2  # batches that PyTorch's loader has each worker load ahead
COPIES_PER_CHECKPOINT = {True: 4, False: 3}
"""Parameters, two moments of Adam and, if averaged, their average."""


def machine_problems(opt: Mapping[str, Any], parameters: int | None) -> Iterator[str]:
    """What this machine lacks for the options that BasicSR has parsed, a line for each.

    `parameters` of the network, if known.
    """
    yield from _devices(opt)
    yield from _files(opt)
    if opt['is_train']:
        yield from _shared_memory(opt)
        yield from _disk(opt, parameters)


def _devices(opt: Mapping[str, Any]) -> Iterator[str]:
    if torch.cuda.device_count():
        return
    if opt['num_gpu'] != 0:
        yield (
            f'num_gpu: {opt["num_gpu"]}: PyTorch finds no CUDA device on this machine. Set '
            'num_gpu: 0 for the CPU, or auto.'
        )
    if opt['is_train'] and opt['datasets']['train'].get('prefetch_mode') == 'cuda':
        yield (
            'datasets: train: prefetch_mode: cuda: PyTorch finds no CUDA device on this machine. '
            'Set prefetch_mode: cpu or ~.'
        )


def _files(opt: Mapping[str, Any]) -> Iterator[str]:
    for key, section in opt['datasets'].items():
        for name, value in section.items():
            if name.startswith('dataroot') and isinstance(value, str) and not Path(value).exists():
                yield (
                    f'datasets: {key} ({section["name"]}): {name}: there is no {value} (looked for '
                    f'from {Path.cwd()}).'
                )
    path = opt['path']
    state = None if opt.get('auto_resume') else path.get('resume_state')
    if state and not Path(state).is_file():
        yield f'path: resume_state: there is no file {state} (looked for from {Path.cwd()}).'
    if not path.get('resume_state') and not _resumes(opt):
        for name, value in path.items():
            if name.startswith('pretrain_network') and value and not _is_there(Path(value)):
                yield f'path: {name}: there is no file {value} (looked for from {Path.cwd()}).'


def _is_there(weights: Path) -> bool:
    """Whether there is such a file or folder, or it could be a name on a hub."""
    return weights.exists() or is_hub_name(weights)


def _resumes(opt: Mapping[str, Any]) -> bool:
    states = opt['path'].get('training_states')
    return bool(opt.get('auto_resume') and states and any(Path(states).glob('*.state')))


def batch_bytes(section: Mapping[str, Any]) -> int:
    """Bytes of the largest batch that a loader hands out: degraded and clean images in float32."""
    sizes = section.get('gt_sizes') or [section.get('gt_size') or 0]
    batches = section.get('mini_batch_sizes') or [section['batch_size_per_gpu']] * len(sizes)
    scale = section.get('scale') or 1
    pixels = max(b * s * s for b, s in zip(batches, sizes, strict=True))
    return int(pixels * 3 * 4 * (1 + 1 / scale**2))


def _shared_memory(opt: Mapping[str, Any]) -> Iterator[str]:
    section = opt['datasets']['train']
    processes = 1 if opt['dist'] else max(1, opt['num_gpu'])
    on_this_machine = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    workers = section['num_worker_per_gpu'] * processes
    if not workers or not os.path.isdir(SHARED_MEMORY):
        return
    batch = batch_bytes(section) * processes
    free = shutil.disk_usage(SHARED_MEMORY).free // on_this_machine
    needed = batch * PREFETCH_FACTOR * workers
    if needed > free:
        fit = free // (batch * PREFETCH_FACTOR * processes) if batch else 0
        yield (
            f'datasets: train: num_worker_per_gpu: {section["num_worker_per_gpu"]}: the batches '
            f'that the workers hold ready take {_mb(needed)} of shared memory, and {SHARED_MEMORY} '
            f'has {_mb(free)} free. Give the container more (docker run --shm-size='
            f'{-(-needed // 2**30)}g, or --ipc=host), or set num_worker_per_gpu: {fit}.'
        )


def _disk(opt: Mapping[str, Any], parameters: int | None) -> Iterator[str]:
    """Room for one checkpoint more than there must ever be, which is written before one goes."""
    if parameters is None:
        return
    existing, free = _disk_of_run(opt)
    needed = checkpoint_bytes(opt, parameters)
    if free < needed:
        yield (
            f'logger: save_checkpoint_freq: a checkpoint of this network and its training state '
            f'take {_mb(needed)}, and {existing} has {_mb(free)} free. Make room there.'
        )


def checkpoint_bytes(opt: Mapping[str, Any], parameters: int) -> int:
    """Size of a network's file and its training state."""
    averaged = bool(opt['train'].get('ema_decay', 0.999))
    return 4 * parameters * COPIES_PER_CHECKPOINT[averaged]


def disk_warning(opt: Mapping[str, Any], parameters: int | None) -> str | None:
    """A warning if the checkpoints of the whole training do not fit on the disk."""
    if parameters is None or not opt['is_train']:
        return None
    count = -(-int(opt['train']['total_iter']) // int(opt['logger']['save_checkpoint_freq'])) + 1
    keep = opt['train'].get('keep_last')
    count = count if keep is None else min(count, keep + 2)
    needed = count * checkpoint_bytes(opt, parameters)
    existing, free = _disk_of_run(opt)
    if needed <= free:
        return None
    return (
        f'The {count} checkpoints of this training will take {_mb(needed)}, and {existing} has '
        f'{_mb(free)} free: set train: keep_last, or a larger logger: save_checkpoint_freq.'
    )


def _disk_of_run(opt: Mapping[str, Any]) -> tuple[Path, int]:
    """The folder that is there of those for the run, and what is free on its disk."""
    folder = Path(opt['path']['experiments_root'])
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return existing, shutil.disk_usage(existing).free


def _mb(count: int) -> str:
    return f'{count / 1e6:,.0f} MB'

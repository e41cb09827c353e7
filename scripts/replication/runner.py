"""The plan of a replication and its jobs: in order of importance, in parallel, resumable."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch

from c2fdft_model.experiments.files import read_json, write_json
from replication import experiments
from replication.data import HeldOutImage, TrainingPairs, find_photographs, held_out_images
from replication.evaluation import evaluate, evaluate_degraded
from replication.experiments import ROWS, TRAININGS, Training, Wave
from replication.training import Trainer, load_state, save_state

PLAN_FILE = 'plan.json'
# The rest of the time is for testing the networks and for the other tasks and rows.
CORE_SHARE = 0.75
SWEEP_IMAGES = 4


@dataclass(frozen=True)
class Plan:
    """What is trained; it stays the same when a replication is continued."""

    coarse_iterations: int
    seeds: int
    tasks: tuple[str, ...]
    photographs: str | None  # a folder, None for those of scikit-image

    def write(self, folder: Path) -> None:
        write_json(folder / PLAN_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan that a folder was begun with, if any."""
        content = read_json(folder / PLAN_FILE)
        return cls(**content | {'tasks': tuple(content['tasks'])}) if content else None


@dataclass(frozen=True)
class Job:
    """Trainings of one task and seed, one after the other."""

    plan: Plan
    folder: Path
    task: str
    seed: int
    chain: tuple[str, ...]
    device: str
    deadline: float  # time.time()
    threads: int
    lpips: bool = True


def affordable_iterations(
    minutes: float, jobs: int, seconds_per_iteration: float, seeds: int, rows: str = 'tables'
) -> int:
    """Iterations of the coarse training such that the core of the rows, of one task, fits the
    minutes: the first two waves."""
    core = [chain for wave in ROWS[rows][:2] for chain in wave]
    chains = [sum(training.length for training in chain) for chain in core]
    # Chains run beside each other; no more processes help than there are chains.
    coarse_lengths = max(seeds * sum(chains) / jobs, max(chains))
    seconds = minutes * 60 * CORE_SHARE / coarse_lengths
    phases = experiments.PHASES_PER_COARSE
    return max(1, round(seconds / seconds_per_iteration / phases)) * phases


def seconds_per_iteration(task: str, photographs: str | None, device: torch.device) -> float:
    """Measured over two coarse iterations of each phase, after one that is not counted."""
    pairs = _pairs(task, photographs)
    trainer = Trainer(experiments.COARSE, 0, experiments.PHASES_PER_COARSE, pairs, device)
    phases = len(experiments.PATCHES)
    trainer.run(lambda: trainer.done == phases, lambda state: None)
    warm = trainer.seconds
    trainer.run(lambda: trainer.done == 3 * phases, lambda state: None)
    return (trainer.seconds - warm) / (2 * phases)


def jobs_in_order(
    plan: Plan, folder: Path, device: str, deadline: float, threads: int, rows: Sequence[str]
) -> list[Job]:
    """All jobs, those for the most important rows first: all rows of the first task, then those of
    the other tasks."""
    jobs = [
        Job(plan, folder, task, seed, tuple(t.name for t in chain), device, deadline, threads)
        for wave, tasks in _waves_in_order(plan.tasks, rows)
        for task in tasks
        for seed in range(plan.seeds)
        for chain in wave
    ]
    return list(dict.fromkeys(jobs))


def _waves_in_order(
    tasks: tuple[str, ...], rows: Sequence[str]
) -> Iterator[tuple[Wave, tuple[str, ...]]]:
    for some in (tasks[:1], tasks[1:]):
        for name in rows:
            yield from ((wave, some) for wave in ROWS[name])


def perform(jobs: Sequence[Job], processes: int, tell: Callable[[str], object]) -> bool:
    """Do the jobs that are not done, until the deadline; returns whether all are done."""
    left = [job for job in jobs if not is_done(job)]
    while left and time.time() < left[0].deadline:
        for line in _in_processes(left, processes):
            tell(line)
        before, left = len(left), [job for job in left if not is_done(job)]
        if len(left) == before:
            break
    return not left


def trainings_left(jobs: Sequence[Job]) -> tuple[int, int]:
    """How many trainings have no metrics yet, and how many there are in all."""
    files = {
        metrics_file(job.folder, job.task, job.seed, name) for job in jobs for name in job.chain
    }
    return sum(not file.exists() for file in files), len(files)


def is_done(job: Job) -> bool:
    """Whether every training of the chain has its metrics."""
    return all(metrics_file(job.folder, job.task, job.seed, name).exists() for name in job.chain)


def metrics_file(folder: Path, task: str, seed: int, name: str) -> Path:
    return folder / 'runs' / task / f'seed{seed}' / f'{name}.json'


def _in_processes(jobs: Sequence[Job], processes: int) -> Iterator[str]:
    if processes <= 1:
        for job in jobs:
            yield from run_chain(job)
        return
    with multiprocessing.get_context('spawn').Pool(min(processes, len(jobs))) as pool:
        for lines in pool.imap_unordered(run_chain, jobs):
            yield from lines


def run_chain(job: Job) -> list[str]:
    """Train and test the networks of a job until the deadline; returns a line about each."""
    if time.time() >= job.deadline:
        return []
    torch.set_num_threads(job.threads)
    lines = []
    for name in job.chain:
        file = metrics_file(job.folder, job.task, job.seed, name)
        if file.exists():
            continue
        state = _train(job, TRAININGS[name])
        if state is None or time.time() >= job.deadline:
            break  # what is trained is kept, and tested the next time
        content = _test(job, TRAININGS[name], state)
        write_json(file, content)
        lines.append(
            f'{job.task}, seed {job.seed}, {TRAININGS[name].title}: {content["psnr"]:.2f} dB, '
            f'{content["iterations"]} iterations, {content["training_seconds"]:.0f} s'
        )
    return lines


def _train(job: Job, training: Training) -> dict | None:
    """The state at the end of a training, None if it is not finished or its base is not."""
    from c2fdft_model.plugin import autoload

    autoload.install()
    path = metrics_file(job.folder, job.task, job.seed, training.name).with_suffix('.pth')
    path.parent.mkdir(parents=True, exist_ok=True)
    device = torch.device(job.device)
    pairs = _pairs(job.task, job.plan.photographs)
    trainer = Trainer(training, job.seed, job.plan.coarse_iterations, pairs, device)
    if path.exists():
        trainer.resume(load_state(path))
    elif training.base:
        base = path.with_name(f'{training.base}.pth')
        if not metrics_file(job.folder, job.task, job.seed, training.base).exists():
            return None
        trainer.start_from(load_state(base)[training.base_key])
    some = _few(_images(job.task, job.plan.photographs))
    process = training.process(training.tested_steps)
    finished = trainer.run(
        lambda: time.time() >= job.deadline,
        lambda state: save_state(path, state),
        lambda network: evaluate(network, job.task, some, process, job.lpips),
    )
    return trainer.state() if finished else None


def _test(job: Job, training: Training, state: dict) -> dict:
    device = torch.device(job.device)
    network = training.new_network().to(device)
    network.load_state_dict(state['params_ema'])
    images = _images(job.task, job.plan.photographs)

    def tested(steps: int, images: list[HeldOutImage] = images) -> dict[str, float]:
        return evaluate(network, job.task, images, training.process(steps), job.lpips)

    content: dict = tested(training.steps) | {
        'iterations': state['done'],
        'training_seconds': state['seconds'],
        'curve': state['curve'],
        'degraded': evaluate_degraded(job.task, images),
    }
    if training.stage == 'coarse':
        content['steps'] = {steps: tested(steps) for steps in experiments.TARGET_STEPS}
    if training.name == experiments.COARSE.name:
        some = _few(images)
        content['sweep'] = {steps: tested(steps, some) for steps in experiments.SWEEP_STEPS}
    return content


def _few(images: list[HeldOutImage]) -> list[HeldOutImage]:
    return images[:: max(1, len(images) // SWEEP_IMAGES)][:SWEEP_IMAGES]


@lru_cache(maxsize=3)
def _pairs(task: str, photographs: str | None) -> TrainingPairs:
    training, _ = find_photographs(photographs)
    return TrainingPairs(task, training, max(experiments.PATCHES))


@lru_cache(maxsize=3)
def _images(task: str, photographs: str | None) -> list[HeldOutImage]:
    _, held_out = find_photographs(photographs)
    return held_out_images(task, held_out)

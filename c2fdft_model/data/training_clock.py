"""Which iteration of the training comes next, for the data set and for its loader's workers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch.utils import data

from c2fdft_arch.common import distributed
from c2fdft_model.data.dataset_options import DatasetOptions, parse_dataset
from c2fdft_model.data.epoch_length import check_reach, replicas
from c2fdft_model.data.patch_cycle import DATASET_TYPE

ITERATION_KEY = 'patch_cycle_iteration'


@dataclass(frozen=True)
class ClockReading:
    """What a data loader has to know about the training, at the moment its iterator is made."""

    seed: int
    rank: int
    world_size: int
    next_iteration: int
    total_iter: int | None = None


class TrainingClock:
    """Knows which iteration comes next, because the training loop announces each one.

    BasicSR gives a dataset no way to learn the iteration. The models announce it here
    (`plugin.patches.iterations`), the datasets of the same process read it, and `LoaderPosition`
    copies the reading into their workers.
    """

    def __init__(self) -> None:
        self._reading: ClockReading | None = None
        self._options: DatasetOptions | None = None
        self._replicas = 1

    def reading(self) -> ClockReading:
        """Everything a data loader has to know, as of now.

        Raises RuntimeError if no training has been announced.
        """
        if self._reading is None:
            raise RuntimeError(
                f'{DATASET_TYPE} gives batches by the iteration of a training, and none has been '
                'announced. BasicSR models announce it when they are built with is_train; in a '
                'loop of your own call c2fdft_model.data.training_clock.training_clock.start(opt) '
                'first and .iteration(i) in every iteration, as BasicSR calls '
                'update_learning_rate(i).'
            )
        return self._reading

    def start(self, opt: Mapping[str, Any]) -> None:
        """A training with these BasicSR options begins; iteration 1 is next.

        Raises OptionError if the training would end before its `total_iter`, and for a section
        `datasets: train` of ours that is not valid.
        """
        if not opt.get('is_train', True):
            return
        total = (opt.get('train') or {}).get('total_iter')
        section = (opt.get('datasets') or {}).get('train') or {}
        self._reading = ClockReading(
            # Without `manual_seed`, BasicSR draws another one in every rank.
            seed=distributed.broadcast_object(int(opt.get('manual_seed') or 0)),
            rank=int(opt.get('rank', 0)),
            world_size=int(opt.get('world_size', 1)),
            next_iteration=1,
            total_iter=None if total is None else int(total),
        )
        self._options = parse_dataset(section) if section.get('type') == DATASET_TYPE else None
        self._replicas = replicas(opt)
        self._check_reach(0, 0)

    def iteration(self, iteration: int) -> None:
        """Iteration `iteration` begins; its batch has been loaded already."""
        self._reading = replace(self.reading(), next_iteration=iteration + 1)

    def resumed(self, iteration: int, epoch: int = 0) -> None:
        """The training goes on after iteration `iteration`, in the epoch `epoch`.

        Raises OptionError if the training would end before its `total_iter`.
        """
        self.iteration(iteration)
        self._check_reach(iteration, epoch)

    def _check_reach(self, iteration: int, epoch: int) -> None:
        now = self.reading()
        if now.total_iter is None or self._options is None:
            return
        check_reach(
            now.total_iter,
            self._options.batch_size_per_gpu,
            now.world_size,
            self._options.dataset_enlarge_ratio,
            self._replicas,
            iteration,
            epoch,
        )

    def check(self, batch: Mapping[str, Any]) -> None:
        """Raise RuntimeError unless this batch is the one of the iteration that has begun.

        A batch of another dataset, which carries no iteration, passes.
        """
        arrived = batch.get(ITERATION_KEY)
        if arrived is None or self._reading is None:
            return
        begun = self._reading.next_iteration - 1
        iterations = sorted(set(arrived.tolist()))
        if iterations != [begun]:
            raise RuntimeError(
                f'Iteration {begun} was given a batch loaded for iteration '
                f'{", ".join(map(str, iterations))}. The data loader must hand out batches in '
                'order (in_order: true), start its workers anew for every iterator '
                '(persistent_workers: false) and fetch nothing ahead without workers '
                '(prefetch_mode: ~ or num_worker_per_gpu above 0).'
            )
        if self._options is None:
            return
        phase = self._options.cycle.phase_at(begun)
        patch_size, batch_size = phase.patch_size, phase.batch_size * self._replicas
        shape = tuple(batch['gt'].shape)
        if (shape[0], *shape[2:]) != (batch_size, patch_size, patch_size):
            raise RuntimeError(
                f'Iteration {begun} was given a batch of shape {shape}; its phase has '
                f'{batch_size} patches of {patch_size} x {patch_size}.'
            )


training_clock = TrainingClock()


class LoaderPosition:
    """Counts the batches that a worker has served; belongs to one data set."""

    def __init__(self) -> None:
        self._served = 0
        self._reading: ClockReading | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is not forked gets the clock with the data set.
        return {'_served': 0, '_reading': training_clock._reading or self._reading}

    def reading(self) -> ClockReading:
        """The training clock of this process or, in a worker that has none, of its parent.

        Raises RuntimeError if no training has been announced.
        """
        return training_clock._reading or self._reading or training_clock.reading()

    def next_iteration(self) -> int:
        """The iteration that the next batch is for; in a worker, each call counts one batch.

        Raises RuntimeError in a worker thread, and if no training has been announced.
        """
        reading, worker = self.reading(), data.get_worker_info()
        if worker is None:
            return reading.next_iteration
        if getattr(worker, 'worker_method', None) == 'thread':
            raise RuntimeError(
                'PatchCyclePairedDataset cannot be loaded by worker threads, which share one data '
                "set; leave the data loader's worker_method at its default."
            )
        # A data loader hands batch k of its iterator to worker k modulo the number of workers.
        batch = worker.id + self._served * worker.num_workers
        self._served += 1
        return reading.next_iteration + batch

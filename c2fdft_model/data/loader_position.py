"""Which iteration a data set is asked for, in the process that trains and in its workers."""

from typing import Any

from torch.utils import data

from c2fdft_model.data.training_clock import ClockReading, training_clock


class LoaderPosition:
    """Counts the batches that a worker has served; belongs to one data set."""

    def __init__(self) -> None:
        self._served = 0
        self._reading: ClockReading | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is not forked gets the clock with the data set.
        reading = training_clock.reading() if training_clock.started else self._reading
        return {'_served': 0, '_reading': reading}

    def reading(self) -> ClockReading:
        """The training clock of this process or, in a worker that has none, of its parent.

        Raises RuntimeError if no training has been announced.
        """
        if training_clock.started or self._reading is None:
            return training_clock.reading()
        return self._reading

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
        iteration = reading.iteration_of(worker.id, worker.num_workers, self._served)
        self._served += 1
        return iteration

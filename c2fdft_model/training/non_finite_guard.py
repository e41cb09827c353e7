"""Checks the loss and the gradient of every iteration, without making the host wait for them.

Whether an iteration is finite is known on the device, where the optimiser and the EMA skip it if
not. The host learns of it when the values arrive: at once on the CPU, on a GPU an iteration later.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from c2fdft_arch.common import distributed
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import shortened


class TrainingDiverged(C2FDFTError, RuntimeError):
    """Too many iterations in a row had a loss or gradient that is not finite."""


@dataclass(frozen=True)
class IterationRecord:
    """One iteration; `values` are on their way from the device until the event `arrived`."""

    iteration: int
    lrs: Sequence[float]
    image_names: Sequence[str]
    names: Sequence[str]
    values: Tensor
    arrived: Any


@dataclass(eq=False)
class NonFiniteGuard:
    """Flags the iterations to skip, reports them, and gives up after `max_bad` in a row.

    In distributed training an iteration that is bad in one rank is skipped in all, and all ranks
    see `stop_requested` after the same iteration. `metrics` are the loss terms and `grad_norm`,
    scalars on the device.
    """

    max_bad: int
    report: Callable[[str], object]
    """Takes the lines of the log, in rank 0."""
    last_good: Callable[[], str]
    """Names the last checkpoint known to be good."""
    on_finite: Callable[[], object] = lambda: None
    """Called for every finite iteration, which shows that the weights it began with were good."""
    bad_in_a_row: int = 0
    skipped: int = 0
    stop_requested: bool = False
    _pending: deque[IterationRecord] = field(default_factory=deque)

    def state_dict(self) -> dict[str, int]:
        """The counters, for a training state; call `finish` before."""
        return {'bad_in_a_row': self.bad_in_a_row, 'skipped': self.skipped}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Count on from a training state; one of an earlier version has no counters."""
        self.bad_in_a_row = state.get('bad_in_a_row', 0)
        self.skipped = state.get('skipped', 0)

    def check(self, metrics: Mapping[str, Tensor], stop: bool = False) -> Tensor:
        """The flags (bad, stop) as float32 0 or 1 on the device, the same in every rank."""
        finite = torch.stack([value.detach().float() for value in metrics.values()]).isfinite()
        flags = torch.stack([~finite.all(), torch.full_like(finite[0], stop)]).float()
        return distributed.all_reduce_max(flags)

    def record(
        self,
        iteration: int,
        metrics: Mapping[str, Tensor],
        flags: Tensor,
        lrs: Sequence[float] = (),
        image_names: Sequence[str] = (),
    ) -> None:
        """Keep an iteration until its values have arrived, and act on those that have.

        Raises TrainingDiverged after `max_bad` bad iterations in a row.
        """
        values = torch.cat([flags, torch.stack([v.detach().float() for v in metrics.values()])])
        arrived = None
        if values.device.type == 'cuda':
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            values = host.copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        names = ('bad', 'stop', *metrics)
        self._pending.append(
            IterationRecord(iteration, tuple(lrs), tuple(image_names), names, values, arrived)
        )
        while self._pending and self._is_due(self._pending[0]):
            self._act_on(self._pending.popleft())

    def finish(self) -> None:
        """Wait for the values of all iterations, and act on them."""
        while self._pending:
            self._act_on(self._pending.popleft())

    def _is_due(self, oldest: IterationRecord) -> bool:
        if oldest.arrived is None:
            return True
        if distributed.is_distributed():
            # Ranks must act on an iteration at the same time, whenever its values arrive in each.
            return len(self._pending) > 1
        return oldest.arrived.query()

    def _act_on(self, record: IterationRecord) -> None:
        if record.arrived is not None:
            record.arrived.synchronize()
        values = dict(zip(record.names, record.values.tolist(), strict=True))
        self.stop_requested |= bool(values['stop'])
        if not values['bad']:
            self.bad_in_a_row = 0
            self.on_finite()
            return
        self.bad_in_a_row += 1
        self.skipped += 1
        ranks = distributed.gather_objects((values, record.image_names))
        if distributed.rank() == 0:
            for line in describe_skipped(record, ranks):
                self.report(line)
        if self.bad_in_a_row >= self.max_bad:
            raise TrainingDiverged(
                f'{self.bad_in_a_row} iterations in a row, up to {record.iteration}, had a loss '
                'or gradient that is not finite (train: max_bad_iterations). Training stops. '
                f'Last good checkpoint: {self.last_good()}. What may help: going on from its '
                'training state (path: resume_state, without --auto_resume, which takes the '
                'newest) with train: use_grad_clip or amp: off; or a new run from its network '
                '(path: pretrain_network_g) with a lower learning rate.'
            )


def describe_skipped(
    record: IterationRecord, ranks: Sequence[tuple[Mapping[str, float], Sequence[str]]]
) -> list[str]:
    """The lines of the log for a skipped iteration: losses, learning rate, names of the images.

    `ranks`: the values and the names of the images of every rank. There is one line for each rank
    with a loss that is not finite; if only the gradient is not, which they share, for every rank.
    """
    metrics = record.names[2:]
    bad = [[name for name in metrics if not math.isfinite(values[name])] for values, _ in ranks]
    culprits = [rank for rank, names in enumerate(bad) if set(names) - {'grad_norm'}]
    lrs = ', '.join(f'{lr:.3e}' for lr in record.lrs) or 'unknown'
    lines = []
    for rank in culprits or range(len(ranks)):
        values, image_names = ranks[rank]
        place = f' in rank {rank}' if len(ranks) > 1 else ''
        shown = ', '.join(f'{name} {values[name]:.4e}' for name in metrics)
        lines.append(
            f'Iteration {record.iteration:,} skipped, {", ".join(bad[rank])} not finite{place}: '
            f'{shown}; lr {lrs}; images: {shortened(image_names, 8) or "unknown"}.'
        )
    return lines

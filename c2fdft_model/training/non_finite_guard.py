"""Watches every iteration for losses and gradients that are not finite, without waiting for them.

Whether an iteration is bad is known on the device only. There the optimiser and the average are
told to skip it; the host learns of it when the number arrives, which is at once on the CPU and an
iteration or so later on a GPU, that is never made to wait for it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from c2fdft_model.training import distributed

SHOWN_NAMES = 8


class TrainingDiverged(RuntimeError):
    """Too many iterations in a row had a loss or gradient that is not finite."""


@dataclass(frozen=True)
class IterationRecord:
    """One iteration as the host knows it, and its numbers on their way from the device."""

    iteration: int
    lrs: Sequence[float]
    image_names: Sequence[str]
    names: Sequence[str]
    values: Tensor
    arrived: Any

    def has_arrived(self) -> bool:
        return self.arrived is None or self.arrived.query()

    def numbers(self) -> dict[str, float]:
        """The numbers by name; waits for them if it must."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return dict(zip(self.names, self.values.tolist(), strict=True))


class NonFiniteGuard:
    """Says which iterations to skip, reports them, and gives up after `max_bad` in a row.

    `report` takes one text per skipped iteration, or per rank that was the cause, in rank 0;
    `last_good` names the newest checkpoint that can
    be relied on; `shown_finite` is called once an iteration is known to be finite, and with it the
    weights that it began with. `numbers` of `watch` are the loss terms and `grad_norm`, scalars on
    the device. In distributed training an iteration that is bad in one rank is skipped in all, and
    all ranks see the same `stop_requested`, since they have to stop after the same iteration.
    """

    def __init__(
        self,
        max_bad: int,
        report: Callable[[str], object],
        last_good: Callable[[], str],
        shown_finite: Callable[[], object] = lambda: None,
    ) -> None:
        self.max_bad = max_bad
        self.bad_in_a_row = 0
        self.skipped = 0
        self.stop_requested = False
        self._report = report
        self._last_good = last_good
        self._shown_finite = shown_finite
        self._under_way: deque[IterationRecord] = deque()

    def state_dict(self) -> dict[str, int]:
        """The counters, for a training state; `finish` comes first."""
        return {'bad_in_a_row': self.bad_in_a_row, 'skipped': self.skipped}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Count on from a training state; one of an earlier version has no counters."""
        self.bad_in_a_row = state.get('bad_in_a_row', 0)
        self.skipped = state.get('skipped', 0)

    def check(self, numbers: Mapping[str, Tensor], stop: bool = False) -> Tensor:
        """(bad, stop) as float32 0 or 1 on the device, the same in every rank."""
        finite = (
            torch.stack([value.detach().float() for value in numbers.values()]).isfinite().all()
        )
        flags = torch.stack([~finite, torch.full_like(finite, stop)]).float()
        return distributed.all_reduce_max(flags)

    def record(
        self,
        iteration: int,
        numbers: Mapping[str, Tensor],
        flags: Tensor,
        lrs: Sequence[float] = (),
        image_names: Sequence[str] = (),
    ) -> None:
        """Remember an iteration until its numbers are here, and act on those that are.

        Raises TrainingDiverged after `max_bad` bad iterations in a row.
        """
        values = torch.cat([flags, torch.stack([v.detach().float() for v in numbers.values()])])
        arrived = None
        if values.device.type == 'cuda':
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            values = host.copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        names = ('bad', 'stop', *numbers)
        self._under_way.append(
            IterationRecord(iteration, tuple(lrs), tuple(image_names), names, values, arrived)
        )
        # Ranks must not act on an iteration at different times; one back, it is there already.
        behind = 1 if arrived is not None else 0
        while self._under_way and self._is_due(behind):
            self._act_on(self._under_way.popleft())

    def finish(self) -> None:
        """Wait for everything that is under way, and act on it."""
        while self._under_way:
            self._act_on(self._under_way.popleft())

    def _is_due(self, behind: int) -> bool:
        if distributed.is_distributed():
            return len(self._under_way) > behind
        return self._under_way[0].has_arrived()

    def _act_on(self, watched: IterationRecord) -> None:
        numbers = watched.numbers()
        self.stop_requested |= bool(numbers['stop'])
        if not numbers['bad']:
            self.bad_in_a_row = 0
            self._shown_finite()
            return
        self.bad_in_a_row += 1
        self.skipped += 1
        ranks = distributed.gather_objects((numbers, watched.image_names))
        if distributed.rank() == 0:
            for text in describe_skipped(watched, ranks):
                self._report(text)
        if self.bad_in_a_row >= self.max_bad:
            raise TrainingDiverged(
                f'{self.bad_in_a_row} iterations in a row, up to {watched.iteration}, had a loss '
                'or gradient that is not finite (train: max_bad_iterations). Training stops. '
                f'Last good checkpoint: {self._last_good()}. What may help: going on from its '
                'training state (path: resume_state, without --auto_resume, which takes the '
                'newest) with train: use_grad_clip or amp: off; or a new run from its network '
                '(path: pretrain_network_g) with a lower learning rate.'
            )


def describe_skipped(
    watched: IterationRecord, ranks: Sequence[tuple[Mapping[str, float], Sequence[str]]]
) -> list[str]:
    """The lines of the log for a skipped iteration: losses, learning rate, names of the images.

    `ranks`: the numbers and the names of the images of every rank. There is one line for each rank
    with a loss that is not finite; if the gradient alone is not, which all of them share, for all.
    """
    bad = [[name for name in watched.names[2:] if not math.isfinite(n[name])] for n, _ in ranks]
    culprits = [rank for rank, names in enumerate(bad) if set(names) - {'grad_norm'}]
    lrs = ', '.join(f'{lr:.3e}' for lr in watched.lrs) or 'unknown'
    lines = []
    for rank in culprits or range(len(ranks)):
        numbers, image_names = ranks[rank]
        place = f' in rank {rank}' if len(ranks) > 1 else ''
        shown = ', '.join(f'{name} {numbers[name]:.4e}' for name in watched.names[2:])
        lines.append(
            f'Iteration {watched.iteration:,} skipped, {", ".join(bad[rank])} not finite{place}: '
            f'{shown}; lr {lrs}; images: {_some(image_names)}.'
        )
    return lines


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return (', '.join(names[:SHOWN_NAMES]) or 'unknown') + (f' and {more} more' if more > 0 else '')

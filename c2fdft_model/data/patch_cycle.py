"""The patch cycle: which patch size and batch size an iteration trains with, and which one is next.

Iterations are counted from 1, as BasicSR's training loop counts them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from c2fdft_arch.common.option_parsing import OptionError

PATCH_MULTIPLE = 8
DATASET_TYPE = 'PatchCyclePairedDataset'


@dataclass(frozen=True)
class Phase:
    """One stretch of the cycle: patches of `patch_size` x `patch_size`, `batch_size` per GPU."""

    patch_size: int
    batch_size: int


@dataclass(frozen=True)
class PatchCycle:
    """Patch sizes and batch sizes that alternate, phase k for `iters[k]` iterations, for ever.

    Raises OptionError for lists of unequal length, a number that is not positive, and a patch size
    that is not a multiple of 8.
    """

    patch_sizes: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    iters: tuple[int, ...]

    def __post_init__(self) -> None:
        lists = {
            'gt_sizes': self.patch_sizes,
            'mini_batch_sizes': self.batch_sizes,
            'iters': self.iters,
        }
        for key, values in lists.items():
            if not values:
                raise OptionError(f'datasets: train: {key}: the list is empty.')
            for value in values:
                if value < 1:
                    raise OptionError(f'datasets: train: {key}: {value} must be above 0.')
        if len({len(values) for values in lists.values()}) > 1:
            given = ', '.join(f'{key} has {len(values)}' for key, values in lists.items())
            raise OptionError(
                f'datasets: train: {given} values; each phase needs one of each '
                '(iters may hold one value for all phases).'
            )
        for size in self.patch_sizes:
            if size % PATCH_MULTIPLE:
                below = size // PATCH_MULTIPLE * PATCH_MULTIPLE
                above = below + PATCH_MULTIPLE
                nearest = f'{below} or {above}' if below else f'{above}'
                raise OptionError(
                    f'datasets: train: gt_sizes: {size} must be a multiple of {PATCH_MULTIPLE}, '
                    f'e.g. {nearest}.'
                )

    @classmethod
    def build(
        cls, patch_sizes: Sequence[int], batch_sizes: Sequence[int], iters: Sequence[int]
    ) -> PatchCycle:
        """A cycle in which a single value of `iters` stands for every phase."""
        if len(iters) == 1:
            iters = tuple(iters) * len(patch_sizes)
        return cls(tuple(patch_sizes), tuple(batch_sizes), tuple(iters))

    def __str__(self) -> str:
        """`360 x 32x32 for 10000, ...`: batch size, patch size and iterations of each phase."""
        phases = zip(self.patch_sizes, self.batch_sizes, self.iters, strict=True)
        return ', '.join(f'{batch} x {size}x{size} for {length}' for size, batch, length in phases)

    def phase_index(self, iteration: int) -> int:
        """Number of the phase, from 0, that iteration 1, 2, ... falls into."""
        if iteration < 1:
            raise ValueError(f'iteration {iteration}: iterations are counted from 1.')
        return bisect_right(list(accumulate(self.iters)), (iteration - 1) % sum(self.iters))

    def phase_at(self, iteration: int) -> Phase:
        """The phase of iteration 1, 2, ..."""
        index = self.phase_index(iteration)
        return Phase(self.patch_sizes[index], self.batch_sizes[index])

    def total_before(self, iteration: int, amounts: Sequence[int]) -> int:
        """Sum over all iterations before this one of `amounts[k]`, k being the phase of each."""
        cycles, place = divmod(iteration - 1, sum(self.iters))
        total = cycles * sum(n * amount for n, amount in zip(self.iters, amounts, strict=True))
        for length, amount in zip(self.iters, amounts, strict=True):
            total += min(place, length) * amount
            place -= min(place, length)
        return total

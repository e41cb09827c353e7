"""The cyclic cosine learning-rate schedule of the released option files."""

import bisect
import itertools
import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class CosineAnnealingRestartCyclicLR(LRScheduler):
    """Cosine annealing with restarts, each period with a weight and a minimum of its own.

    In period k, which starts at iteration s and lasts p iterations, the learning rate is
    eta_min_k + weight_k / 2 (lr - eta_min_k) (1 + cos(pi (i - s) / p)), after Loshchilov and
    Hutter, "SGDR" (2017), Eq. 5.

    `periods`: lengths in iterations, e.g. [50000, 220000]; `restart_weights`, `eta_mins`: one
    value per period. `after_periods`: `hold` keeps the minimum of the last period after its end;
    with `continue` its cosine goes on, as in the released code, and the learning rate rises again.

    Raises ValueError for lists of unequal length, a period that is not positive and another
    `after_periods`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        periods: Sequence[int],
        restart_weights: Sequence[float] = (1,),
        eta_mins: Sequence[float] = (0,),
        after_periods: str = 'hold',
        last_epoch: int = -1,
    ) -> None:
        if not len(periods) == len(restart_weights) == len(eta_mins) > 0:
            raise ValueError(
                'periods, restart_weights and eta_mins need one value per period, but '
                f'have {len(periods)}, {len(restart_weights)} and {len(eta_mins)}.'
            )
        if min(periods) <= 0:
            raise ValueError(f'periods: {list(periods)} must be positive.')
        if after_periods not in ('hold', 'continue'):
            raise ValueError(f'after_periods: {after_periods!r} must be hold or continue.')
        self.after_periods = after_periods
        self.periods = list(periods)
        self.restart_weights = list(restart_weights)
        self.eta_mins = list(eta_mins)
        self.period_ends = list(itertools.accumulate(periods))
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Learning rate of each parameter group at the present iteration."""
        # A restart happens on the iteration after a period's end.
        k = min(bisect.bisect_left(self.period_ends, self.last_epoch), len(self.periods) - 1)
        elapsed = self.last_epoch - (self.period_ends[k] - self.periods[k])
        if self.after_periods == 'hold':
            elapsed = min(elapsed, self.periods[k])
        cosine = 1 + math.cos(math.pi * elapsed / self.periods[k])
        eta_min, weight = self.eta_mins[k], self.restart_weights[k]
        return [eta_min + 0.5 * weight * (lr - eta_min) * cosine for lr in self.base_lrs]

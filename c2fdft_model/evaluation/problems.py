"""What went wrong with one item of an evaluation, while the rest goes on."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from c2fdft_arch.common.errors import C2FDFTError


@dataclass(frozen=True)
class Problem:
    """One item that could not be evaluated: the kind (to count), its name and the reason."""

    kind: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f'{self.kind}: {self.name}: {self.reason}'


def summary(problems: Iterable[Problem]) -> str:
    """The problems counted by kind, as in '3 (2 unpaired, 1 different sizes)'."""
    counts = Counter(problem.kind for problem in problems)
    kinds = ', '.join(f'{count} {kind}' for kind, count in counts.most_common())
    return f'{sum(counts.values())} ({kinds})' if counts else '0'


class ItemError(C2FDFTError, ValueError):
    """One item cannot be evaluated; `kind` is what such items are counted under."""

    kind = 'unusable'


class SizeError(ItemError):
    """A result and its ground truth have different sizes."""

    kind = 'different sizes'

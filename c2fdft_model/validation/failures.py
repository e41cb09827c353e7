"""Images that a validation or test could not read, and results that it could not write."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from c2fdft_arch.common import distributed
from c2fdft_arch.common.errors import C2FDFTError

SHOWN = 3
logger = logging.getLogger('basicsr')


class ImagesFailed(C2FDFTError, RuntimeError):
    """A validation or test is over, but not of all images; the text counts and names them."""


@dataclass
class Failures:
    """What failed for single images, which keeps no other image from being restored."""

    noted: list[str] = field(default_factory=list)
    """Of this rank, in the data set that is being restored: the file and the reason."""
    reports: dict[str, str] = field(default_factory=dict)
    """By data set, of the last time that images of it failed; the same in all ranks."""

    def note(self, error: OSError) -> None:
        """Remember an error that names its file."""
        self.noted.append(str(error))

    def end_of_set(self, name: str, of_ranks: Sequence[Sequence[str]], count: int) -> None:
        """Log what all ranks have noted in a data set of `count` images."""
        texts = [text for noted in of_ranks for text in noted]
        self.noted.clear()
        if texts:
            more = f' … and {len(texts) - SHOWN} more.' if len(texts) > SHOWN else ''
            report = f'{len(texts)} of {count} images of {name}: {" ".join(texts[:SHOWN])}{more}'
            self.reports[name] = report
            if distributed.rank() == 0:
                logger.error(f'Failed: {report}')

    def check(self) -> None:
        """Raise ImagesFailed if there were any. Everything else has been done before."""
        if self.reports:
            raise ImagesFailed(f'Failed: {" ".join(self.reports.values())}')

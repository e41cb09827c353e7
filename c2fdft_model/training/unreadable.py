"""Images that cannot be read in training: others take their place, up to a number."""

from collections.abc import Callable, Iterable

from c2fdft_model.images.image_io import ImageReadError

UNREADABLE_KEY = 'unreadable'
"""In a sample of a batch: what was wrong with the images that it stands in for, a line each."""


class UnreadableImages:
    """The images that batches stood in for, each named once by `warn`."""

    def __init__(self, limit: int, warn: Callable[[str], object]) -> None:
        self.limit = limit
        self.warn = warn
        self.named: set[str] = set()

    def record(self, texts: Iterable[str]) -> None:
        """Take `UNREADABLE_KEY` of a batch. Raises ImageReadError for more than `limit` images."""
        for line in {line for text in texts for line in text.splitlines()} - self.named:
            self.named.add(line)
            self.warn(f'{line} Another pair takes its place ({len(self.named)} of {self.limit}).')
        if len(self.named) > self.limit:
            listed = '\n  '.join(sorted(self.named))
            raise ImageReadError(
                f'{len(self.named)} images of the training set cannot be read '
                f'(datasets: train: max_unreadable: {self.limit}):\n  {listed}'
            )

"""BasicSR archives the results of an earlier run before it knows whether the new one can begin."""

import contextlib
import os
import shutil
import signal
import sys
import threading
from atexit import register as call_at_exit
from dataclasses import dataclass, field
from pathlib import Path

from c2fdft_model.plugin.patches.patch import patch, replaces

LOG = '.log'
NOT_RESULTS = (LOG, '.yml', '.yaml')
TENSORBOARD = 'events.out.tfevents'


@patch(
    fault='a start that fails leaves the earlier results under another name',
    upstream='none',
    module='basicsr.utils.misc',
)
def archive_until_begun() -> bool:
    """Give earlier results their name back if this process ends before its run has begun."""
    from basicsr.utils import misc

    @replaces(misc, 'mkdir_and_rename')
    def rename_for_now(mkdir_and_rename, path):
        before = _archives(path)
        mkdir_and_rename(path)
        for archive in _archives(path) - before:
            start.archived(Path(path).absolute(), archive)

    return True


@patch(
    fault='nothing tells when a run has begun',
    upstream='none',
    module='basicsr.models.base_model',
)
def note_beginnings() -> bool:
    """A run has begun when its first iteration or validation, which may fail, is over."""
    from basicsr.models.base_model import BaseModel

    from c2fdft_model.validation.failures import ImagesFailed

    @replaces(BaseModel, 'update_learning_rate')
    def update(update_learning_rate, self, current_iter, warmup_iter=-1):
        start.iteration(current_iter)
        update_learning_rate(self, current_iter, warmup_iter=warmup_iter)

    @replaces(BaseModel, 'validation')
    def validate(validation, self, *arguments, **settings):
        try:
            validation(self, *arguments, **settings)
        except ImagesFailed:  # of some images, when all was done
            start.succeeded()
            raise
        start.succeeded()

    return True


@dataclass
class Start:
    """What was archived for a run that may fail before it has begun."""

    folders: list[tuple[Path, Path]] = field(default_factory=list)
    """Their names before, and now."""
    first_iteration: int | None = None

    def archived(self, folder: Path, archive: Path) -> None:
        """A folder was renamed; at the end of this process it gets its name back, see `undo`."""
        if not self.folders:
            call_at_exit(self.undo, os.getpid())
            _end_on_sigterm()
        self.folders.append((folder, archive))

    def iteration(self, number: int) -> None:
        """An iteration begins; with the second one the first is over."""
        if self.first_iteration is None:
            self.first_iteration = number
        elif number != self.first_iteration:
            self.succeeded()

    def succeeded(self) -> None:
        """The run has begun: what was archived stays so."""
        self.folders.clear()
        if signal.getsignal(signal.SIGTERM) is _end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def undo(self, process: int) -> None:
        """Give folders their names back, with the log of the start that has failed in them.

        One that has results of this run already stays, as everything does in a process that was
        forked from `process`.
        """
        while self.folders and os.getpid() == process:
            folder, archive = self.folders.pop()
            if _has_results(folder):
                continue
            try:
                for log in folder.glob(f'*{LOG}'):
                    log.rename(archive / log.name)
                shutil.rmtree(folder)
                archive.rename(folder)
            except OSError as error:
                text = f'{archive} could not be given its name back: {error.strerror or error}.'
            else:
                text = f'The run has not begun: {folder} is again what it was.'
            print(text, file=sys.stderr)


start = Start()


def _has_results(folder: Path) -> bool:
    """Whether a run has written more than its log and its options."""
    files = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return any(
        file.suffix not in NOT_RESULTS and not file.name.startswith(TENSORBOARD) for file in files
    )


def _archives(path: str) -> set[Path]:
    """The folders to which BasicSR has renamed earlier ones of this name."""
    folder = Path(path).absolute()
    with contextlib.suppress(OSError):
        return {f for f in folder.parent.iterdir() if f.name.startswith(f'{folder.name}_archived_')}
    return set()


def _end_on_sigterm() -> None:
    """Let SIGTERM end this process as an error does: by default nothing more is called then."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)

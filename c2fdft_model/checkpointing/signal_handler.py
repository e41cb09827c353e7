"""SIGTERM and SIGINT: a training finishes its iteration, saves itself and leaves."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class SignalHandler:
    """Turns signals into a request that is met at the next moment at which all is consistent.

    Between `begin()` and `end()` (an iteration, or the writing of a checkpoint) a signal is only
    noted. Outside, where the process waits for data or validates, `leave` is called at once if
    `may_leave_alone`; otherwise the ranks have to agree first, and the request waits.

    A second SIGINT is Python's own KeyboardInterrupt.
    """

    def __init__(self, leave: Callable[[], None], may_leave_alone: bool) -> None:
        self.signal_number: int | None = None
        self._leave = leave
        self._may_leave_alone = may_leave_alone
        self._busy = 0
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it; SIGTERM's if another rank was told."""
        return 128 + (self.signal_number or signal.SIGTERM)

    def install(self) -> None:
        """Take over the signals; only the main thread can."""
        if self._previous or threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._note)

    def remove(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def begin(self) -> None:
        """From here on a signal has to wait."""
        self._busy += 1

    def end(self) -> None:
        """All is consistent again."""
        self._busy = max(0, self._busy - 1)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a loader's worker that was forked from this process
            return
        if self.requested and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        self.signal_number = number
        # A signal to the whole group ends the loader's workers too. PyTorch raises an error in
        # the midst of whatever runs when one dies, and the iteration would be lost.
        if hasattr(signal, 'SIGCHLD'):
            signal.signal(signal.SIGCHLD, _nothing)
        if self._may_leave_alone and not self._busy:
            self._leave()


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing; SIG_IGN would change how children end."""

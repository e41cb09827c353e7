"""SIGTERM and SIGINT: a training finishes its iteration, saves itself and leaves."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class SignalHandler:
    """Calls `leave` when a signal comes, or at `unblock` for one that came while it was blocked.

    It is blocked during an iteration and while a checkpoint is written. Otherwise the process
    waits for data or validates, which takes too long to wait for. Without `leave_at_once`, for
    processes that have to agree on it first, signals are noted only.

    If the program fails after a signal, because a loader's worker has died of it, `leave` is called
    instead, unless that was in the middle of an iteration.

    A second SIGINT is Python's own KeyboardInterrupt.
    """

    def __init__(self, leave: Callable[[], None], leave_at_once: bool) -> None:
        self._signal_number: int | None = None
        self._leave = leave
        self._leave_at_once = leave_at_once
        self._blocked = False
        self._in_iteration = False
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._signal_number is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it; SIGTERM's if another rank was told."""
        return 128 + (self._signal_number or signal.SIGTERM)

    def install(self) -> None:
        """Take over the signals; only the main thread can."""
        if not self._previous and threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
            sys.excepthook = self._leave_instead

    def remove(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
        sys.excepthook = sys.__excepthook__

    def block(self) -> None:
        """Only note signals from here on."""
        self._blocked = self._in_iteration = True

    def end_of_step(self) -> None:
        """All of an iteration but its line in the log is done; signals stay blocked."""
        self._in_iteration = False

    def unblock(self) -> None:
        """Act on signals again, and on one that was noted."""
        self._blocked = self._in_iteration = False
        if self.requested and self._leave_at_once:
            self._leave()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a loader's worker that was forked from this process
            return
        if self.requested and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        self._signal_number = number
        # A signal to the whole group ends the loader's workers too. When one dies, PyTorch raises
        # an error from its own handler, wherever the program is, and the iteration would be lost.
        if hasattr(signal, 'SIGCHLD'):
            # Unlike SIG_IGN, this leaves it to the parent to collect its children.
            signal.signal(signal.SIGCHLD, lambda number, frame: None)
        if not self._blocked:
            sys.unraisablehook = self._leave_again
            self.unblock()

    def _leave_again(self, dropped: Any) -> None:
        """Call `leave` once more if Python has dropped its SystemExit.

        It drops what is raised in a destructor or right after a fork, which is where the loader
        stops and starts its workers. The process would then wait for data from dead ones.
        """
        if isinstance(dropped.exc_value, SystemExit) and hasattr(signal, 'setitimer'):
            signal.signal(signal.SIGALRM, lambda number, frame: self._leave())
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            sys.__unraisablehook__(dropped)

    def _leave_instead(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Call `leave` instead of failing with an error that a signal has caused."""
        sys.__excepthook__(kind, error, trace)
        if self.requested and self._leave_at_once and not self._in_iteration:
            try:
                self._leave()
            except SystemExit:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(self.exit_code)  # nothing that is raised here is passed on

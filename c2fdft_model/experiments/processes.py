"""Calls in processes of their own, so that each is measured and fails alone."""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from c2fdft_arch.common.errors import C2FDFTError

LAST_LINES = 30


class ProcessFailed(C2FDFTError, RuntimeError):
    """A call failed in its process; the text names the log and shows its end."""


def new_process() -> ProcessPoolExecutor:
    """A process to submit calls to; it starts afresh, without what this one has loaded."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn'))


def call_in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a module's function, called in a new process.

    Raises what the function raises, and a RuntimeError if the process dies, which it may for lack
    of memory.
    """
    with new_process() as process:
        call = process.submit(function, *arguments)
        try:
            return call.result()
        except KeyboardInterrupt:
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def call_with_log(log: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """The same; what the process prints goes to the file `log`.

    Raises ProcessFailed if the function raises or the process dies.
    """
    log.touch()
    try:
        return call_in_process(_redirected, log, function, *arguments)
    except Exception as error:
        raise ProcessFailed(f'{log.stem} failed; {end_of(log)}') from error


def end_of(log: Path) -> str:
    """The last lines of a log, for a message."""
    lines = log.read_text(errors='replace').splitlines()
    return '\n'.join([f'the end of {log}:', *lines[-LAST_LINES:]])


def _redirected(log: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    with log.open('w', encoding='utf-8') as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    try:
        return function(*arguments)
    except Exception:
        traceback.print_exc()
        raise

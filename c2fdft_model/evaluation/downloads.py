"""Waiting for a server no longer than is worth it, when weights are to be downloaded."""

import contextlib
import queue
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

ANSWER_TIMEOUT = 5.0
"""Seconds in which a server has to begin to answer."""
SILENCE_TIMEOUT = 10.0
"""Seconds that a server may be silent in the middle of an answer."""


def await_answer(url: str, seconds: float | None = None) -> None:
    """Return once the server of `url` answers a request for it, whatever the answer.

    Raises OSError if it cannot be reached, TimeoutError (which is one) after `seconds`, by default
    `ANSWER_TIMEOUT`. They count from the start: a time limit of a socket does not cover the look-up
    of a name and is granted anew to each address of a server.
    """
    limit = ANSWER_TIMEOUT if seconds is None else seconds
    answers: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()
    # A daemon: what hangs in the operating system is left behind.
    threading.Thread(target=lambda: answers.put(_ask(url, limit)), daemon=True).start()
    try:
        error = answers.get(timeout=limit)
    except queue.Empty:
        error = TimeoutError(f'{urlsplit(url).netloc} does not answer within {limit:g} s')
    if error is not None:
        raise error


def _ask(url: str, seconds: float) -> OSError | None:
    """Why there is no answer, None if there is one."""
    try:
        with urlopen(Request(url, method='HEAD'), timeout=seconds):
            return None
    except HTTPError:
        return None
    except OSError as error:
        return error
    except (HTTPException, ValueError) as error:
        return OSError(f'{urlsplit(url).netloc}: {error!r}')


@contextlib.contextmanager
def limited_silence() -> Iterator[None]:
    """Let every connection that is opened meanwhile fail after `SILENCE_TIMEOUT` of silence."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

"""A server that accepts connections and never says a word, as some firewalls do."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server on this machine that answers nothing, `http://127.0.0.1:port`."""
    with socket.create_server(('127.0.0.1', 0)) as listening:
        # The operating system accepts for a server that never does.
        yield f'http://127.0.0.1:{listening.getsockname()[1]}'

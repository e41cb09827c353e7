"""Parts of messages (the nearest valid name, lists kept short), and switches in variables."""

import contextlib
import difflib
import os
import sys
from collections.abc import Iterable, Sequence


def nearest(name: str, allowed: Iterable[str]) -> str:
    """` (did you mean "..."?)` if `name` is close to an allowed one in any case, else empty."""
    spelling = {known.lower(): known for known in allowed}
    close = difflib.get_close_matches(name.lower(), spelling, n=1)
    return f' (did you mean "{spelling[close[0]]}"?)' if close else ''


def shortened(names: Sequence[str], shown: int = 3) -> str:
    """The first names, separated by commas, and how many more there are."""
    more = len(names) - shown
    return ', '.join(map(printable, names[:shown])) + (f' and {more} more' if more > 0 else '')


def printable(name: str | os.PathLike[str]) -> str:
    """A file's name as it can be shown: line breaks, control characters and odd bytes escaped."""
    text = os.fspath(name)
    with contextlib.suppress(UnicodeEncodeError):  # a name in the locale's letters, not its bytes
        text = os.fsencode(text).decode('utf-8', 'backslashreplace')
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def escape_what_cannot_be_printed() -> None:
    """Let this process print names of any bytes in any locale, escaped where it has to be."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')


def one_line(error: BaseException) -> str:
    """What an error says, on one line; its kind, if it says nothing."""
    return ' '.join(str(error).split()) or type(error).__name__


def is_switched_off(variable: str) -> bool:
    """Whether an environment variable says no: 0, off, false or no, in any case."""
    return os.environ.get(variable, '').strip().lower() in ('0', 'off', 'false', 'no')

"""What the benchmarks share: a process for each case, and calls that take turns."""

import sys
from collections.abc import Callable
from typing import Any

from c2fdft_model.experiments.costs import timed
from c2fdft_model.experiments.processes import call_in_process

Figures = tuple[dict[str, Any], bool]
"""What a benchmark returns: its figures for the JSON file, and whether it succeeded."""
OUT_OF_MEMORY = (RuntimeError, MemoryError)
"""What a call raises for lack of memory, of a GPU or of the system, or if its process is killed."""


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result from a process of its own; None, with a message, if that fails."""
    try:
        return call_in_process(function, *arguments)
    except OUT_OF_MEMORY as error:
        print(f'{function.__name__}: {error}', file=sys.stderr)
        return None


def fastest_in_turns(turns: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Seconds of each one's fastest call of `repeat`, taken in turns after an untimed one.

    What else goes on in the machine only ever adds time, to some calls more than to others. Those
    that run out of memory are left out.
    """
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(repeat + 1):
        for name in list(times):
            try:
                _, seconds = timed(turns[name])
            except OUT_OF_MEMORY as error:
                print(f'{name}: {error}', file=sys.stderr)
                del times[name]
                continue
            if number:
                times[name].append(seconds)
    return {name: min(values) for name, values in times.items() if values}

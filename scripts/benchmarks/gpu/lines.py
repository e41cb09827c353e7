"""The lines of a GPU benchmark: what is measured, when it has to end, and where it is written."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c2fdft_arch.common.messages import one_line

WAY = re.compile(r' (plain|torch|triton) (bf16|fp32)')

Step = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Setting:
    """The device, the size of the network, and until when lines may begin (seconds of time())."""

    device: str
    dim: int
    deadline: float
    kernels: tuple[str, ...]

    @property
    def small(self) -> bool:
        """Whether the command is only tried out, on a CPU."""
        return self.device == 'cpu'


class Lines:
    """A file with one JSON object a line, appended to by one process after another."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, part: str, name: str, **figures: Any) -> None:
        """Write and print a line."""
        with self.path.open('a') as file:
            file.write(json.dumps({'part': part, 'name': name, **figures}) + '\n')
        text = ', '.join(f'{key} {value}' for key, value in figures.items())
        print(f'{part:<12} {name:<44} {text}'[:400], flush=True)

    def measure(self, part: str, name: str, step: Step, deadline: float) -> None:
        """Write what a step finds, why it failed, or that there was no time left for it."""
        if time.time() > deadline:
            self.add(part, name, left_out='no time left')
            return
        began = time.time()
        try:
            figures = dict(step())
        except Exception as error:  # whatever it is, the next line is measured
            figures = {'error': f'{type(error).__name__}: {one_line(error)}'[:600]}
        self.add(part, name, **figures, took=round(time.time() - began, 1))

    def read(self) -> list[dict[str, Any]]:
        """All lines so far."""
        if not self.path.is_file():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]


def with_ratios(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines with milliseconds, how many times faster than plain, and the products' rate."""
    timed = {line['name']: line for line in lines if 'seconds' in line}
    rates = {line['name']: line['tflops'] for line in lines if 'tflops' in line}
    for name, line in timed.items():
        line['milliseconds'] = 1000 * line['seconds']
        way = WAY.search(name)
        case = name[: way.start()] if way else name
        for precision in ('fp32', 'bf16'):
            plain = timed.get(f'{case} plain {precision}')
            if plain is not None:
                line[f'times_plain_{precision}'] = plain['seconds'] / line['seconds']
        rate = rates.get(f'matrix product {name[-4:]}')
        if rate and 'tflops' in line:
            line['of_product_rate'] = line['tflops'] / rate
    return lines

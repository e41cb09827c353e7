"""Fill the figures of README, docs/ and the models' cards from what commands have measured.

    PYTHONPATH=scripts python -m documents            write them into the documents
    PYTHONPATH=scripts python -m documents --check    only name those that differ; exit code 1

A figure stands between marks that readers do not see:

    <!--=tiles:cases[tile=128,overlap=16].psnr:.1f-->55.1<!--=-->

names docs/measurements/tiles.json, the value in it and its format. A mark alone on a line before a
code block, `<!--=demo:output-->`, fills the block by one of `BLOCKS`, before a table by one of
`TABLES`. To bring figures up to date, write the JSON file again with the command that it names, and
run this.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from demo import report
from demo.stages import readable
from documents import comparison_tables, replication_tables, speed_tables

ROOT = Path(__file__).resolve().parents[2]
MEASUREMENTS = ROOT / 'docs' / 'measurements'
FIGURE = re.compile(r'<!--=(\w+):([^:>]+):([^>]*)-->(.*?)<!--=-->', re.DOTALL)
BLOCK = re.compile(r'(<!--=(\w+):(\w+)-->\n\n?```\w*\n)(.*?)(?=^```$)', re.DOTALL | re.MULTILINE)
TABLE = re.compile(r'(<!--=(\w+):(\w+)-->\n\n?)((?:\|.*\n)+)')
STEP = re.compile(r'\[([^\]]*)\]|([^.\[\]]+)')


class FigureError(ValueError):
    """A mark that names no measurement; the text says which."""


def demo_output(summary: Mapping[str, Any]) -> str:
    """What `scripts/demo.sh` prints at its end."""
    scores, seconds = summary['photos'], summary['seconds']
    return '\n'.join(
        [
            'Held-out photographs, PSNR (dB) and SSIM on Y',
            '',
            report.table(scores),
            '',
            report.gains(scores),
            'time: ' + ', '.join(f'{stage} {readable(s)}' for stage, s in seconds.items()),
            'picture: results/demo/comparison.png',
            'figures: results/demo/summary.json',
        ]
    )


BLOCKS: dict[str, Callable[[Mapping[str, Any]], str]] = {'output': demo_output}
TABLES = {**replication_tables.TABLES, **comparison_tables.TABLES, **speed_tables.TABLES}


def measurement(name: str) -> dict[str, Any]:
    """What a command wrote. Raises FigureError if there is no such file."""
    path = MEASUREMENTS / f'{name}.json'
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise FigureError(f'{path}: {error}') from error


def value(content: Any, path: str) -> Any:
    """The value at a path such as `cases[tile=128,overlap=16].psnr`.

    In brackets stands what tells one entry of a list from the others. Raises FigureError for a path
    that leads to no value, or to several.
    """
    for conditions, key in STEP.findall(path):
        if not conditions:
            if not isinstance(content, Mapping) or key not in content:
                raise FigureError(f'{path}: there is no {key}.')
            content = content[key]
            continue
        wanted = dict(condition.split('=') for condition in conditions.split(','))
        found = [e for e in content if all(str(e.get(k)) == v for k, v in wanted.items())]
        if len(found) != 1:
            raise FigureError(f'{path}: {len(found)} entries have {conditions}.')
        content = found[0]
    return content


def filled(text: str) -> str:
    """A document with all its figures as measured. Raises FigureError."""

    def figure(match: re.Match[str]) -> str:
        name, path, form, _ = match.groups()
        shown = format(value(measurement(name), path), form)
        return f'<!--={name}:{path}:{form}-->{shown}<!--=-->'

    def block(match: re.Match[str]) -> str:
        head, name, renderer, _ = match.groups()
        return f'{head}{_renderer(BLOCKS, renderer)(measurement(name))}\n'

    def table(match: re.Match[str]) -> str:
        head, name, renderer, _ = match.groups()
        lines = _renderer(TABLES, renderer)(measurement(name))
        return head + ''.join(f'{line}\n' for line in lines)

    return TABLE.sub(table, BLOCK.sub(block, FIGURE.sub(figure, text)))


def _renderer(known: Mapping[str, Callable[..., Any]], name: str) -> Callable[..., Any]:
    if name not in known:
        raise FigureError(f'{name} is none of {", ".join(known)}.')
    return known[name]


def documents() -> Iterator[Path]:
    """README, docs/ and the cards of the models that ship."""
    yield ROOT / 'README.md'
    for folder in ('docs', 'c2fdft_model/zoo'):
        yield from sorted((ROOT / folder).glob('*.md'))


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill or check the documents; the exit code is 1 if a figure differs or has no source."""
    parser = argparse.ArgumentParser(
        prog='python -m documents',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--check', action='store_true', help='write nothing')
    check = parser.parse_args(arguments).check
    differing = []
    for path in documents():
        text = path.read_text(encoding='utf-8')
        try:
            new = filled(text)
        except FigureError as error:
            print(f'error: {path.relative_to(ROOT)}: {error}', file=sys.stderr)
            return 1
        if new != text:
            differing.append(path.relative_to(ROOT).as_posix())
            if not check:
                path.write_text(new, encoding='utf-8')
    what = 'differ from the measurements' if check else 'filled'
    print(f'{what}: {", ".join(differing)}' if differing else 'all figures are as measured')
    return 1 if check and differing else 0


if __name__ == '__main__':
    sys.exit(main())

"""Means over images or seeds, and tables in Markdown."""

import statistics
from collections.abc import Collection, Mapping, Sequence


def means(scores: Collection[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every entry over mappings with the same keys."""
    return {name: statistics.fmean(s[name] for s in scores) for name in next(iter(scores))}


def markdown_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], right_aligned: Collection[str] = ()
) -> list[str]:
    """The lines of a table; the columns of the headings `right_aligned` are set to the right."""
    rule = '|'.join('---:' if heading in right_aligned else '---' for heading in headings)
    return [
        f'| {" | ".join(headings)} |',
        f'|{rule}|',
        *(f'| {" | ".join(cells)} |' for cells in rows),
    ]

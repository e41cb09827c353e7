"""Whether all processes of a training were started with the same options and packages."""

import importlib.metadata
import platform
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from c2fdft_arch.common import distributed
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.restoring.description import differences

PACKAGES = ('c2fdft', 'basicsr', 'torch', 'torchvision', 'numpy', 'opencv-python')
MAY_DIFFER = ('path', 'dataroot_lq', 'dataroot_gt', 'meta_info_file')
"""Sections and keys that say where things are, which may differ between machines."""


def check_ranks(options: Mapping[str, Any], problems: Sequence[str]) -> list[str]:
    """Compare the options and packages of all ranks, and gather what each found wrong.

    `options` as read from the file, `problems` in words. Returns a warning for each package that
    differs. Raises OptionError, the same in all ranks, for problems and options that differ.
    """
    own = {
        'host': socket.gethostname(),
        'options': _comparable(options),
        'packages': {name: _version(name) for name in PACKAGES} | {'Python': _python()},
        'problems': list(problems),
    }
    ranks = distributed.gather_objects(own)
    places = [f'rank {number} ({rank["host"]})' for number, rank in enumerate(ranks)]
    several = len(ranks) > 1
    lines = [
        f'{place}: {line}' if several else line
        for place, rank in zip(places, ranks, strict=True)
        for line in rank['problems']
    ]
    lines += [
        f'{text}. Start all ranks with the same option file.'
        for text in _differing('options', ranks, places)
    ]
    if lines:
        raise OptionError('\n'.join(dict.fromkeys(lines)))
    return [f'Package {text}.' for text in _differing('packages', ranks, places)]


def _differing(
    kind: str, ranks: Sequence[Mapping[str, Any]], places: Sequence[str]
) -> Iterator[str]:
    """Each key by which a rank differs from the first, once, with both values."""
    seen = set()
    for place, rank in zip(places[1:], ranks[1:], strict=True):
        for key, first, other in differences(ranks[0][kind], rank[kind]):
            if key not in seen:
                seen.add(key)
                yield f'{key} is {first} in {places[0]} and {other} in {place}'


def _comparable(section: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _comparable(value) if isinstance(value, Mapping) else value
        for key, value in section.items()
        if key not in MAY_DIFFER
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> str:
    return '.'.join(platform.python_version_tuple()[:2])

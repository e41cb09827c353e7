"""Finding an architecture in a registry, with a message that helps where BasicSR's does not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from c2fdft_arch.common.messages import nearest
from c2fdft_arch.common.option_parsing import OptionError


def find_registered(registry: Iterable[tuple[str, Any]], name: object, path: str) -> Any:
    """The entry of a BasicSR registry that `path: type: name` of an option file means.

    Raises OptionError, with the nearest registered name in any case of letters, if there is none.
    """
    entries = dict(iter(registry))
    if not isinstance(name, str):
        raise OptionError(f'{path}: type is missing; the name of an architecture is expected.')
    for known in (name, f'{name}_basicsr'):
        if known in entries:
            return entries[known]
    raise OptionError(
        f'{path}: type: {name} is not a registered architecture{nearest(name, entries)}. '
        f'Registered: {", ".join(sorted(entries))}.'
    )

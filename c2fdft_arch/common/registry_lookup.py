"""Finding an architecture in a registry, and the options that it takes."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from c2fdft_arch.common.messages import nearest
from c2fdft_arch.common.option_parsing import OptionError, check_names


def find_registered(
    registry: Iterable[tuple[str, Any]], name: object, path: str, what: str = 'architecture'
) -> Any:
    """The entry `name` of a BasicSR registry, or `name`_basicsr, as BasicSR itself looks it up.

    `path` is the section of the option file whose `type` it is, `what` the kind of thing. Raises
    OptionError, with the nearest registered name, if there is no such entry.
    """
    entries = dict(iter(registry))
    if not isinstance(name, str):
        raise OptionError(f'{path}: type is missing; the name of a registered {what} is expected.')
    for known in (name, f'{name}_basicsr'):
        if known in entries:
            return entries[known]
    raise OptionError(
        f'{path}: type: {name} is not a registered {what}{nearest(name, entries)}. '
        f'Registered: {", ".join(sorted(entries))}.'
    )


def constructor_in(registry: Iterable[tuple[str, Any]], name: object) -> Any:
    """The entry `name` of a registry, None if there is none; see `find_registered`."""
    with contextlib.suppress(OptionError):
        return find_registered(registry, name, '')
    return None


def check_network_options(registry: Iterable[tuple[str, Any]], section: Mapping[str, Any]) -> None:
    """Raise OptionError unless `network_g` names a registered architecture and options that it has.

    Options are not checked where the architecture takes any.
    """
    name = section.get('type')
    parameters = options_of(find_registered(registry, name, 'network_g'))
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_names([key for key in section if key != 'type'], parameters, f'network_g: {name}')


def options_of(constructor: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The options that a registered class or function takes, by name.

    An object that builds networks of another class states their options by `option_parameters`.
    """
    stated = getattr(constructor, 'option_parameters', None)
    return stated() if stated else inspect.signature(constructor).parameters

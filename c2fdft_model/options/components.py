"""What an option file names by `type`: it must be known, and so must each of its arguments."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch

from c2fdft_arch.common.messages import one_line
from c2fdft_arch.common.option_parsing import OptionError, as_meant, number, unknown_key
from c2fdft_arch.common.registry_lookup import find_registered, options_of

Registry = Iterable[tuple[str, Any]]
KEYWORDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
OPTIMIZERS: Registry = tuple(
    (name, found)
    for name, found in vars(torch.optim).items()
    if isinstance(found, type) and torch.optim.Optimizer in found.__mro__[1:]
)
"""PyTorch's optimisers."""


def component(
    section: Any,
    registry: Registry,
    path: str,
    what: str,
    without: Collection[str] = (),
    also: Collection[str] = (),
    closed: tuple[str, ...] = (),
) -> tuple[Any, dict[str, Any]]:
    """What a section names by its `type`, and the section with numbers written as text as numbers.

    `what` is the kind of thing in words, `without` are parameters of it that are no options, `also`
    keys beside its parameters. Other keys are accepted if it collects such (`**kwargs`), unless its
    module begins with one of `closed`.

    Raises OptionError for what is not registered, with a line for each argument that is wrong.
    """
    if not isinstance(section, Mapping):
        raise OptionError(f'{path}: {section!r} must be a section with keys of its own.')
    found = find_registered(registry, section.get('type'), path, what)
    parameters = [p for name, p in options_of(found).items() if name not in without]
    named = {p.name: p for p in parameters if p.kind in KEYWORDS}
    collects = any(p.kind is p.VAR_KEYWORD for p in parameters)
    takes_any = collects and not (closed and found.__module__.startswith(closed))
    lines, meant = [], dict(section)
    for name, value in section.items():
        if name in named:
            meant[name], problem = _as_expected(value, named[name])
            lines += [f'{path}: {name}: {problem}'] if problem else []
        elif name != 'type' and name not in also and not takes_any:
            lines.append(f'{path}: {unknown_key(name, [*named, *also])}')
    needed = [p.name for p in named.values() if p.default is p.empty]
    lines += [f'{path}: {name} is missing.' for name in needed if name not in section]
    if lines:
        raise OptionError('\n'.join(lines))
    return found, meant


def _as_expected(value: Any, parameter: inspect.Parameter) -> tuple[Any, str]:
    """A value as a parameter expects it, judging by its default, and what is wrong with it."""
    default = parameter.default
    if value is None or isinstance(value, Mapping):
        return value, ''
    if isinstance(default, bool):
        return value, '' if isinstance(value, bool) else f'{value!r} must be true or false.'
    if isinstance(default, str):
        return value, '' if isinstance(value, str) else f'{value!r} must be text.'
    value = numbers(value) if isinstance(default, float) else numbers(as_meant(value, None))
    if isinstance(default, tuple) and (problem := _wrong_numbers(value, default)):
        return value, problem
    is_number = isinstance(value, int | float | list) and not isinstance(value, bool)
    if isinstance(default, int | float) and not is_number:
        return value, f'{value!r} must be a number.'
    return value, ''


def _wrong_numbers(value: Any, default: tuple) -> str:
    """What is wrong with a list where `default` is one of numbers; empty if nothing is."""
    if not default or not all(isinstance(each, int | float) for each in default):
        return ''
    given = value if isinstance(value, list) else [value]
    if wrong := [each for each in given if isinstance(each, str | bool)]:
        return f'{wrong[0]!r} must be a number.'
    is_pair = all(isinstance(each, float) for each in default)  # as betas; not one for each period
    if is_pair and len(given) != len(default):
        return f'{value!r} must be {len(default)} numbers.'
    return ''


def numbers(value: Any) -> Any:
    """A value in which every text that writes a number is one; tuples become lists."""
    return [numbers(each) for each in value] if isinstance(value, list | tuple) else number(value)


def build(constructor: Callable[..., Any], section: Mapping[str, Any], path: str, *first) -> Any:
    """Build what a section describes. Raises OptionError, naming it, for what is refused."""
    try:
        return constructor(*first, **{k: v for k, v in section.items() if k != 'type'})
    except (ValueError, TypeError, AssertionError, LookupError, NotImplementedError) as error:
        raise OptionError(f'{path}: {one_line(error)}') from error

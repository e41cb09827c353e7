"""Parsing sections of an option file into frozen dataclasses.

BasicSR ignores keys that it does not know, so that a misspelt key trains with a default for days.
Here every key of a section is known, typed and checked; an error names the key, the value, what is
allowed and the nearest valid name.
"""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import nearest

Section = TypeVar('Section')


class OptionError(C2FDFTError, ValueError):
    """An option file asks for something that does not exist or is impossible; it says what."""


def parse_section(cls: type[Section], section: Mapping[str, Any] | None, path: str) -> Section:
    """Parse one section of an option file into the frozen dataclass `cls`.

    `path` is the section's name for messages, e.g. `train: mixing_augs`. A key that is absent or
    null gets its default. Numbers written as `3e-4`, which YAML takes for text, are accepted.

    Raises OptionError for an unknown or missing key and for a value of the wrong type.
    """
    section = {} if section is None else section
    if not isinstance(section, Mapping):
        raise OptionError(f'{path}: {section!r} must be a section with keys of its own.')
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    check_names(section, fields, path)
    hints = typing.get_type_hints(cls)
    values = {
        key: _convert(value, hints[key], f'{path}: {key}')
        for key, value in section.items()
        if value is not None
    }
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise OptionError(f'{path}: {name} is missing; {_allowed(hints[name])} is expected.')
    return cls(**values)


def check_names(given: Iterable[str], allowed: Iterable[str], path: str) -> None:
    """Raise OptionError for the first name that is not allowed, with the nearest that is."""
    allowed = list(allowed)
    for name in given:
        if name not in allowed:
            raise OptionError(
                f'{path}: {name} is not a known key{nearest(str(name), allowed)}. '
                f'Known keys: {", ".join(allowed)}.'
            )


def positive(path: str, options: object, *names: str) -> None:
    """Raise OptionError if one of the named numbers is given and not above zero."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise OptionError(f'{path}: {name}: {value} must be above 0.')


def _convert(value: Any, hint: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return parse_section(hint, value, path)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        return _convert_union(value, hint, path)
    if origin is Literal:
        return _convert_literal(value, hint, path)
    if origin is tuple and isinstance(value, (list, tuple)):
        (item_hint, _) = typing.get_args(hint)
        return tuple(_convert(v, item_hint, f'{path}[{k}]') for k, v in enumerate(value))
    if origin is None and isinstance(hint, type):
        return _convert_plain(value, hint, path)
    if origin is Mapping and isinstance(value, Mapping):
        return value
    raise _wrong_type(value, hint, path)


def _convert_union(value: Any, hint: Any, path: str) -> Any:
    for option in typing.get_args(hint):
        if dataclasses.is_dataclass(option) and isinstance(value, Mapping):
            return _convert(value, option, path)
        with contextlib.suppress(OptionError):
            return _convert(value, option, path)
    raise _wrong_type(value, hint, path)


def _convert_literal(value: Any, hint: Any, path: str) -> Any:
    # YAML reads a bare `off` as False.
    value = 'off' if value is False and 'off' in typing.get_args(hint) else value
    allowed = typing.get_args(hint)
    if value in allowed:
        return value
    names = [str(name) for name in allowed]
    raise OptionError(
        f'{path}: {value!r} is not allowed{nearest(str(value), names)}. '
        f'Allowed: {", ".join(names)}.'
    )


def _convert_plain(value: Any, hint: type, path: str) -> Any:
    if isinstance(value, bool) and hint is not bool:  # to Python, true is the integer 1
        raise _wrong_type(value, hint, path)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is float:
        with contextlib.suppress(TypeError, ValueError):
            return float(value)
    if isinstance(value, hint):
        return value
    raise _wrong_type(value, hint, path)


def _wrong_type(value: Any, hint: Any, path: str) -> OptionError:
    return OptionError(f'{path}: {value!r} is of the wrong type; {_allowed(hint)} is expected.')


_TYPE_WORDS = {
    int: 'an integer',
    float: 'a number',
    bool: 'true or false',
    str: 'text',
    type(None): '~',
}


def _allowed(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return ' or '.join(_allowed(option) for option in typing.get_args(hint))
    if origin is Literal:
        return 'one of ' + ', '.join(str(name) for name in typing.get_args(hint))
    if origin is tuple:
        return f'a list, each of which is {_allowed(typing.get_args(hint)[0])},'
    return _TYPE_WORDS.get(hint, 'a section')

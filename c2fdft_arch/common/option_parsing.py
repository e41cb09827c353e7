"""Sections of an option file as classes whose keys are known, typed and checked (pydantic).

BasicSR ignores keys that it does not know, so that a misspelt key trains with a default for days.
Here an error names the key, the value, what is allowed and the nearest valid name; pydantic finds
all of a section's errors at once, where msgspec ends at the first.
"""

import contextlib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import nearest

SectionType = TypeVar('SectionType', bound='Section')
PositiveInt = Annotated[int, Field(gt=0)]
NotNegativeInt = Annotated[int, Field(ge=0)]


class OptionError(C2FDFTError, ValueError):
    """An option file asks for something that does not exist or is impossible; it says what."""


class Section(BaseModel):
    """One section of an option file: a field for each key, its docstring the key's documentation.

    A key that is null gets its default. Numbers written as `3e-4`, which YAML takes for text, are
    numbers where a number is expected.
    """

    model_config = ConfigDict(
        extra='forbid',
        frozen=True,
        strict=True,  # true is no integer, 1 is no truth value
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    @model_validator(mode='before')
    @classmethod
    def _without_nulls(cls, section: Any) -> Any:
        if isinstance(section, Mapping):
            known = cls.model_fields
            return {k: v for k, v in section.items() if v is not None or k not in known}
        return section

    @field_validator('*', mode='before')
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        hint = cls.model_fields[str(info.field_name)].annotation
        return as_meant(value, hint)


def as_meant(value: Any, hint: Any) -> Any:
    """What a value read from YAML means where `hint` is expected: `1e-4`, 5.0, `off` and lists."""
    if isinstance(value, list | tuple):
        return tuple(as_meant(each, hint) for each in value)
    expected = set(_parts(hint))
    if value is False and 'off' in expected:  # YAML reads a bare `off` as False
        return 'off'
    if str in expected or (isinstance(value, str) and value in expected):
        return value
    value = number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def number(value: Any) -> Any:
    """The number that a text writes, such as `1e-4`; everything else unchanged."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value)
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _parts(hint: Any) -> Iterator[Any]:
    """A type and what it consists of: `str | None` gives str and None, a Literal its values."""
    inside = typing.get_args(hint)
    if not inside:
        yield hint
    for part in inside:
        yield from _parts(part)


def parse_section(
    cls: type[SectionType], section: Mapping[str, Any] | None, path: str
) -> SectionType:
    """Parse one section of an option file; `path` is its name, e.g. `train: mixing_augs`.

    Raises OptionError with a line for each unknown or missing key and each impossible value.
    """
    try:
        return cls.model_validate({} if section is None else section)
    except ValidationError as error:
        raise OptionError('\n'.join(problems(error, cls, section, path))) from error


def check_names(given: Iterable[str], allowed: Iterable[str], path: str) -> None:
    """Raise OptionError for the first name that is not allowed, with the nearest that is."""
    allowed = list(allowed)
    for name in given:
        if name not in allowed:
            raise OptionError(f'{path}: {unknown_key(name, allowed)}')


def unknown_key(name: object, allowed: Sequence[str]) -> str:
    """The sentence about a key that is not among those allowed."""
    hint = nearest(str(name), allowed)
    return f'{name} is not a known key{hint}. Known keys: {", ".join(allowed)}.'


def problems(error: ValidationError, cls: type[Section], section: Any, path: str) -> list[str]:
    """What pydantic found, a line for each key: where, what was given, what is expected."""
    found: dict[str, list[str]] = {}
    for each in error.errors():
        cause = each.get('ctx', {}).get('error')
        names, parent = _place(each['loc'], cls, section)
        if isinstance(cause, OptionError):  # about several keys at once; it names them
            found[str(cause)] = []
        elif each['type'] in ('extra_forbidden', 'missing'):
            key = str(each['loc'][-1])
            fields = parent.model_fields
            text = (
                f'{key} is missing: {fields[key].description}'
                if key in fields
                else unknown_key(key, list(fields))
            )
            found[_joined_keys([path, *names[:-1], text])] = []
        else:
            where = _joined_keys([path, *names])
            found.setdefault(where, []).append(_sentence(each['msg'], each['input']))
    # Of a list that could be a single value as well, what is wrong in it says more.
    inside = {where.rpartition('[')[0] for where in found}
    return [
        _joined_keys([where, _joined(texts)]) if texts else where
        for where, texts in found.items()
        if where not in inside
    ]


def _place(
    loc: Sequence[int | str], cls: type[Section], section: Any
) -> tuple[list[str], type[Section]]:
    """The keys that lead to a place, without pydantic's names of alternatives, and its section."""
    names: list[str] = []
    for part in loc:
        if isinstance(part, int) and isinstance(section, Sequence):
            names.append(f'[{part}]')
            section = section[part]
        elif isinstance(part, str) and isinstance(section, Mapping):
            names.append(part)
            section = section.get(part)
            cls = (inner_section(cls, part) if isinstance(section, Mapping) else None) or cls
    return names, cls


def _joined_keys(keys: Iterable[str]) -> str:
    return ': '.join(key for key in keys if key).replace(': [', '[')


def inner_section(cls: type[Section], key: str) -> type[Section] | None:
    """The class of the section under a key of another, None if there is none."""
    field = cls.model_fields.get(key)
    parts = _parts(field.annotation) if field else ()
    sections = (p for p in parts if isinstance(p, type) and issubclass(p, Section))
    return next(sections, None)


# Pydantic's words, and ours for people who read YAML rather than Python.
_WORDS = (
    ('Input should be', 'must be'),
    (r'a valid (dictionary|mapping).*', 'a section with keys of its own'),
    ('a valid tuple', 'a list'),
    ('a valid boolean', 'true or false'),
    ('a valid string', 'text'),
    ('a valid integer', 'an integer'),
    ('a (valid|finite) number', 'a number'),
    (', (unable|got).*', ''),
    ('greater than or equal to', 'at least'),
    ('greater than', 'above'),
    ('less than', 'below'),
)


def _sentence(text: str, given: object) -> str:
    """One of pydantic's findings about a value, in words."""
    for theirs, ours in _WORDS:
        text = re.sub(theirs, ours, text)
    allowed = re.findall("'([^']*)'", text)
    return f'{given!r} {text}{nearest(str(given), allowed)}.'


def _joined(texts: Sequence[str]) -> str:
    """The sentences about one key, which could be of several types, as one."""
    others = [text.partition(' must be ')[2] for text in texts[1:]]
    return ' or '.join([text.removesuffix('.') for text in (texts[0], *others)]) + '.'

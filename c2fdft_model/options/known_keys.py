"""Keys that a section's class does not have: known to BasicSR's sources, or to nobody."""

import functools
import inspect
import re
import sys
from collections.abc import Collection, Mapping
from typing import Any

from c2fdft_arch.common.option_parsing import Section, inner_section, unknown_key

OF_NETWORKS = re.compile('(network|pretrain_network|param_key|strict_load|optim)_[a-z]+$')


@functools.cache
def mentioned(cls: type) -> frozenset[str]:
    """Every word in quotes in the sources of a class and of those it derives from.

    BasicSR's classes read their options by such words, so that any other key has no effect.
    """
    modules = {sys.modules[base.__module__] for base in cls.__mro__ if base is not object}
    texts = [inspect.getsource(module) for module in modules if hasattr(module, '__file__')]
    return frozenset(word for text in texts for word in re.findall(r'[\'"](\w+)[\'"]', text))


def without_unknown(
    cls: type[Section], given: Any, path: str, words: Collection[str], warnings: list[str]
) -> Any:
    """The keys of a section that its class has; of the others, a warning unless in `words`."""
    if not isinstance(given, Mapping):
        return given
    kept = {}
    for key, value in given.items():
        where = f'{path}: {key}' if path else str(key)
        if key in cls.model_fields:
            inner = inner_section(cls, key)
            kept[key] = without_unknown(inner, value, where, words, warnings) if inner else value
        elif key not in words and not OF_NETWORKS.match(str(key)):
            text = unknown_key(key, [*cls.model_fields, *words]).partition(' Known keys')[0]
            warnings.append(f'{path}: {text}'.removeprefix(': '))
    return kept


def merged(given: Mapping[str, Any], parsed: Section | Mapping[str, Any]) -> dict[str, Any]:
    """A section as given, its values as parsed, in the plain types that YAML has."""
    values = parsed.model_dump(exclude_unset=True) if isinstance(parsed, Section) else parsed
    result: dict[str, Any] = {}
    for key, value in given.items():
        own = values.get(key, value)
        if isinstance(value, Mapping) and isinstance(own, Mapping):
            result[key] = merged(value, own)
        else:
            result[key] = list(own) if isinstance(own, tuple) else own
    return result

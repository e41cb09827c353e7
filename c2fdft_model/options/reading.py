"""Reading an option file, and changing keys of it as `--force_yml` does."""

import os
import re
from collections.abc import Iterable
from typing import Any

import yaml

from c2fdft_arch.common.messages import one_line
from c2fdft_arch.common.option_parsing import OptionError

_FLOAT = re.compile(r'[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$')


class _Loader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):  # type: ignore[misc]
    """YAML in which `1e-4` is a number, as in YAML 1.2, and no key may be given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own: list[str] = []
        for key, _ in node.value:
            if key.tag != 'tag:yaml.org,2002:merge' and key.value in own:
                raise yaml.MarkedYAMLError(
                    problem=f'the key {key.value} is given twice', problem_mark=key.start_mark
                )
            own.append(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver('tag:yaml.org,2002:float', _FLOAT, list('-+0123456789'))


def read_option_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The sections of an option file. Raises OptionError with the file and the line."""
    try:
        with open(path, encoding='utf-8') as stream:
            opt = yaml.load(stream, Loader=_Loader)
    except OSError as error:
        raise OptionError(f'-opt {path}: {error.strerror}.') from error
    except yaml.MarkedYAMLError as error:
        line = f', line {error.problem_mark.line + 1}' if error.problem_mark else ''
        raise OptionError(f'{path}{line}: {error.problem}.') from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise OptionError(f'{path} is no YAML file: {one_line(error)}.') from error
    if not isinstance(opt, dict):
        raise OptionError(f'{path} is no option file: sections such as network_g are expected.')
    return opt


def force(opt: dict[str, Any], entries: Iterable[str]) -> None:
    """Set keys, each given as `train:total_iter=1000`; sections that are missing come into being.

    Values are read as YAML, and `none` as null. Raises OptionError, naming the entry.
    """
    for entry in entries:
        keys, equals, text = entry.partition('=')
        *sections, key = (name.strip() for name in keys.split(':'))
        if not equals or not key:
            raise OptionError(f'--force_yml {entry}: key=value is expected, e.g. train:lr=1e-4.')
        section: Any = opt
        for name in sections:
            section = _inside(section, name, entry)
            if section is None:
                raise OptionError(
                    f'--force_yml {entry}: {name} is no section with keys of its own.'
                )
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise OptionError(f'--force_yml {entry}: {one_line(error)}') from error
        section[key] = None if str(value).lower() == 'none' else value


def _inside(section: dict[str, Any], name: str, entry: str) -> dict[str, Any] | None:
    if section.get(name) is None:
        section[name] = {}
    return section[name] if isinstance(section[name], dict) else None

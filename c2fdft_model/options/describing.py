"""Every key of the option files, for editors (JSON Schema) and for people (docs/options.md).

python -m c2fdft_model.options.describing     writes both anew, in a source tree
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from c2fdft_arch.common.option_parsing import Section
from c2fdft_arch.dft import DFT
from c2fdft_model.data.dataset_options import DatasetOptions
from c2fdft_model.data.patch_cycle import DATASET_TYPE
from c2fdft_model.diffusion.options import DiffusionOptions, IRSDEOptions
from c2fdft_model.options.checking import MODEL_TYPE
from c2fdft_model.options.sections import (
    BasicSRTrainingFile,
    DistOptions,
    FileOptions,
    LoggerOptions,
    PathOptions,
    TrainingFile,
    WandbOptions,
)
from c2fdft_model.training.lr_scheduler import CosineAnnealingRestartCyclicLR
from c2fdft_model.training.options import MixingOptions, TrainOptions
from c2fdft_model.validation.options import ValidationOptions

ROOT = Path(__file__).resolve().parents[2]
SCHEMA, DOCUMENT = ROOT / 'options' / 'schema.json', ROOT / 'docs' / 'options.md'
TABLES: Mapping[str, type[Section]] = {
    'top': FileOptions,
    'path': PathOptions,
    'train': TrainOptions,
    'train: mixing_augs': MixingOptions,
    'diffusion': DiffusionOptions,
    'diffusion: ir_sde': IRSDEOptions,
    'datasets: train': DatasetOptions,
    'val': ValidationOptions,
    'logger': LoggerOptions,
    'logger: wandb': WandbOptions,
    'dist_params': DistOptions,
}
MARKED = re.compile(r'(<!-- keys of (.+?) -->\n).*?(<!-- end -->\n)', re.DOTALL)
JSON_TYPES = {bool: 'boolean', int: 'number', float: 'number', str: 'string', tuple: 'array'}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of an option file; of one of BasicSR's models it allows keys beside."""
    ours, basicsr = _file_schema(TrainingFile), _file_schema(BasicSRTrainingFile)
    definitions = ours.pop('$defs') | basicsr.pop('$defs')
    for section in (basicsr, definitions['BasicSRTrainOptions']):
        section['additionalProperties'] = True
    is_ours = {'properties': {'model_type': {'const': MODEL_TYPE}}, 'required': ['model_type']}
    definitions['PatchCyclePairedDataset'] = _section(DatasetOptions.model_json_schema())
    definitions['DFT'] = _arguments_schema(DFT)
    definitions['CosineAnnealingRestartCyclicLR'] = _arguments_schema(
        CosineAnnealingRestartCyclicLR, ('optimizer', 'last_epoch')
    )
    return {
        '$schema': 'http://json-schema.org/draft-07/schema#',
        'title': 'An option file of BasicSR with c2fdft',
        'type': 'object',
        'if': is_ours,
        'then': ours,
        'else': basicsr,
        '$defs': definitions,
    }


def _file_schema(cls: type[FileOptions]) -> dict[str, Any]:
    """The schema of training and test files alike: only what both need is required."""
    schema = _section(cls.model_json_schema())
    for definition in schema['$defs'].values():
        _section(definition)
    schema['required'] = [name for name in schema['required'] if name in FileOptions.model_fields]
    properties = schema['properties']
    properties['datasets'] = {
        'type': 'object',
        'description': FileOptions.model_fields['datasets'].description,
        'additionalProperties': _named('type', DATASET_TYPE),
    }
    properties['network_g'] = _named('type', 'DFT')
    for definition in schema['$defs'].values():
        if 'scheduler' in definition.get('properties', {}):
            definition['properties']['scheduler'] = _named('type', 'CosineAnnealingRestartCyclicLR')
    return schema


def _named(key: str, name: str) -> dict[str, Any]:
    """A section that names what it describes; the arguments of `name` are known."""
    return {
        'type': 'object',
        'required': [key],
        'if': {'properties': {key: {'const': name}}},
        'then': {'$ref': f'#/$defs/{name}'},
    }


def _section(schema: dict[str, Any]) -> dict[str, Any]:
    """Any key may be null, which gives it its default."""
    for name, value in schema.get('properties', {}).items():
        value.pop('title', None)
        kept = {key: value.pop(key) for key in ('description', 'default') if key in value}
        schema['properties'][name] = {**kept, 'anyOf': [value, {'type': 'null'}]}
    return schema


def _arguments_schema(
    constructor: Callable[..., Any], without: Iterable[str] = ()
) -> dict[str, Any]:
    """The schema of a section whose keys are the arguments of a class, from its signature."""
    properties: dict[str, Any] = {'type': {'type': 'string'}}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if name not in without:
            kind = JSON_TYPES.get(type(parameter.default), 'array')
            known = parameter.default is not parameter.empty
            default = {'default': parameter.default} if known else {}
            properties[name] = {'type': [kind, 'null'], **default}
    return {'type': 'object', 'properties': properties, 'additionalProperties': False}


def key_table(cls: type[Section]) -> str:
    """The keys of a section as a table: name, default, what it does."""
    rows = [
        f'| `{name}` | {_default(field.is_required(), field.get_default())} '
        f'| {" ".join((field.description or "").split())} |'
        for name, field in cls.model_fields.items()
    ]
    return '\n'.join(['| key | default | what it does |', '|---|---|---|', *rows, ''])


def _default(is_required: bool, value: Any) -> str:
    if is_required:
        return ''
    if isinstance(value, Section):
        return 'section'
    if value is None:
        return '`~`'
    text = json.dumps(value).strip('"')
    return f'`{text}`' if isinstance(value, str | tuple) else text


def documented(text: str) -> str:
    """A document with its marked tables written anew."""
    return MARKED.sub(lambda found: f'{found[1]}\n{key_table(TABLES[found[2]])}\n{found[3]}', text)


def schema_text() -> str:
    """The schema as it is kept in a file."""
    return json.dumps(json_schema(), indent=1, sort_keys=True) + '\n'


if __name__ == '__main__':
    SCHEMA.write_text(schema_text(), encoding='utf-8')
    DOCUMENT.write_text(documented(DOCUMENT.read_text(encoding='utf-8')), encoding='utf-8')

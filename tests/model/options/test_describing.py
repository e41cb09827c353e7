"""The JSON Schema and the tables of docs/options.md, from the classes that parse the files."""

from __future__ import annotations

import copy
import json

import pytest

from c2fdft_model.options import describing
from c2fdft_model.options.reading import read_option_file

OPTIONS = describing.ROOT / 'options'
FILES = sorted(path.relative_to(OPTIONS).as_posix() for path in OPTIONS.rglob('*.yml'))
NEW = 'run python -m c2fdft_model.options.describing'


@pytest.fixture(scope='module')
def validator():
    jsonschema = pytest.importorskip('jsonschema')
    return jsonschema.Draft7Validator(describing.json_schema())


def test_the_schema_that_is_shipped_is_that_of_the_classes():
    assert describing.SCHEMA.read_text(encoding='utf-8') == describing.schema_text(), NEW


def test_the_tables_of_the_document_are_those_of_the_classes():
    text = describing.DOCUMENT.read_text(encoding='utf-8')
    assert describing.documented(text) == text, NEW
    assert {name for _, name, _ in describing.MARKED.findall(text)} == set(describing.TABLES)


def test_every_key_is_described():
    classes = describing.TABLES.values()
    fields = {(cls, key): f for cls in classes for key, f in cls.model_fields.items()}
    assert {key for key, field in fields.items() if not field.description} == set()


@pytest.mark.parametrize('name', FILES)
def test_the_first_line_of_every_option_file_leads_to_the_schema(name):
    first = (OPTIONS / name).read_text(encoding='utf-8').splitlines()[0]
    assert first.startswith('# yaml-language-server: $schema=')
    path = (OPTIONS / name).parent / first.partition('=')[2]
    assert path.resolve() == describing.SCHEMA
    assert json.loads(path.read_text(encoding='utf-8'))['title']


def test_every_option_file_follows_the_schema(validator):
    for name in FILES:
        problems = [e.message for e in validator.iter_errors(read_option_file(OPTIONS / name))]
        assert problems == [], name


@pytest.mark.parametrize(
    ('section', 'key', 'value'),
    [
        ([], 'diffusoin', {}),
        (['train'], 'emadecay', 0.9),
        (['train'], 'total_iter', 0),
        (['train'], 'stage', 'corse'),
        (['train', 'scheduler'], 'period', [4]),
        (['logger'], 'print_frq', 1),
        (['path'], 'pretrain_network', 'x.pth'),
        (['datasets', 'train'], 'gt_szes', [8]),
        (['network_g'], 'dmi', 8),
        (['diffusion'], 'eta', -1),
        (['val'], 'precision', 'fp64'),
    ],
)
def test_what_the_check_refuses_the_schema_marks(validator, section, key, value):
    opt = copy.deepcopy(read_option_file(OPTIONS / 'derain_coarse.yml'))
    inside = opt
    for name in section:
        inside = inside[name]
    inside[key] = value
    assert list(validator.iter_errors(opt))
    assert not validator.is_valid(opt)

"""README and docs/ against the tree: keys, files, modules, links and figures."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest
import yaml

import c2fdft_arch
from c2fdft_arch.baselines.noise_predictor import NoisePredictor
from c2fdft_arch.common.option_parsing import Section
from c2fdft_arch.dft import DFT
from c2fdft_model.data.dataset_options import DatasetOptions
from c2fdft_model.diffusion.options import DiffusionOptions, IRSDEOptions
from c2fdft_model.evaluation.protocols import PROTOCOLS
from c2fdft_model.training.lr_scheduler import CosineAnnealingRestartCyclicLR
from c2fdft_model.training.options import MixingOptions, TrainOptions
from c2fdft_model.validation.options import ValidationOptions
from helpers.documents import CODE_SPAN, DOCUMENTS, EVERY_DOCUMENT, FENCED, README, ROOT

OPTIONS, ARCHITECTURE = 'docs/options.md', 'docs/architecture.md'
TROUBLESHOOTING = DOCUMENTS['docs/troubleshooting.md']
FOLDERS = ('c2fdft_arch', 'c2fdft_model', 'scripts', 'options')
LONGEST_README = 160

LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)\)')
TREE_PATH = re.compile(r'(?<![\w/.])(?:scripts|options|docs|tests|c2fdft_\w+)/[\w./*-]*[\w/*]')
DOTTED_NAME = re.compile(r'\bc2fdft_(?:arch|model)(?:\.(?!py\b)[A-Za-z_]\w*)+')
BARE_FILE = re.compile(r'[a-z]\w*\.(?:py|sh|yml)')
OPTION_STEM = re.compile(r'(?:derain|deblur|denoise|demo)_[a-z0-9_]+')


def fields_of(section: type[Section]) -> set[str]:
    return set(section.model_fields)


def arguments_of(constructor: type, *without: str) -> set[str]:
    return set(inspect.signature(constructor).parameters) - set(without)


OPTION_KEYS = {
    'train': fields_of(TrainOptions),
    'mixing_augs': fields_of(MixingOptions),
    'diffusion': fields_of(DiffusionOptions),
    'ir_sde': fields_of(IRSDEOptions),
    'val': fields_of(ValidationOptions),
    'datasets': fields_of(DatasetOptions),
    'DFT': arguments_of(DFT),
    'NoisePredictor': arguments_of(NoisePredictor, 'name', 'in_channels'),
    'scheduler': arguments_of(CosineAnnealingRestartCyclicLR, 'optimizer', 'last_epoch'),
}


@pytest.mark.parametrize('section', OPTION_KEYS)
def test_every_option_key_is_documented(section):
    missing = {key for key in OPTION_KEYS[section] if f'`{key}`' not in DOCUMENTS[OPTIONS]}
    assert missing == set()


def test_every_default_of_a_table_is_the_codes():
    """Where a row has one key and a plain default, it is the default of the options."""
    sections = (TrainOptions, DiffusionOptions, IRSDEOptions, ValidationOptions, DatasetOptions)
    known = {n: f.default for section in sections for n, f in section.model_fields.items()}
    rows = re.findall(r'^\| `(\w+)` \| ([^|]+) \|', DOCUMENTS[OPTIONS], re.MULTILINE)
    checked = {key: yaml.safe_load(text.strip(' `')) for key, text in rows if key in known}
    wrong = {
        key: default
        for key, default in checked.items()
        if isinstance(known[key], bool | int | float) and default != known[key]
    }
    assert len(checked) > 20
    assert wrong == {}


@EVERY_DOCUMENT
def test_every_file_that_a_document_names_is_there(name):
    named = set(TREE_PATH.findall(DOCUMENTS[name]))
    missing = {path for path in named if not any(ROOT.glob(path.rstrip('/')))}
    assert missing == set()


@EVERY_DOCUMENT
def test_every_file_that_is_named_without_a_folder_is_there(name):
    named = {span for span in CODE_SPAN.findall(DOCUMENTS[name]) if BARE_FILE.fullmatch(span)}
    missing = {file for file in named - {'setup.py'} if not in_our_folders(file)}
    assert missing == set()


def in_our_folders(file: str) -> bool:
    return any(path for folder in FOLDERS for path in (ROOT / folder).rglob(file))


@EVERY_DOCUMENT
def test_every_option_file_that_is_named_by_its_stem_is_there(name):
    named = {span for span in CODE_SPAN.findall(DOCUMENTS[name]) if OPTION_STEM.fullmatch(span)}
    assert {stem for stem in named if not any((ROOT / 'options').rglob(f'{stem}.yml'))} == set()


@EVERY_DOCUMENT
def test_every_module_that_a_document_names_can_be_imported(name):
    for dotted in set(DOTTED_NAME.findall(DOCUMENTS[name])):
        assert resolve(dotted) is not None, dotted


def resolve(dotted: str) -> object | None:
    """What a dotted name stands for: a module, or something in one; None if there is no such."""
    found: object = importlib.import_module(dotted.split('.')[0])
    for part in dotted.split('.')[1:]:
        if inspect.ismodule(found) and not hasattr(found, part):
            try:
                importlib.import_module(f'{found.__name__}.{part}')
            except ModuleNotFoundError:
                return None
        found = getattr(found, part, None)
    return found


def test_every_script_is_documented():
    text = ''.join(DOCUMENTS.values())
    scripts = {path.name for path in (ROOT / 'scripts').glob('*.*')}
    # Called by setup_env.sh.
    assert {name for name in scripts - {'install_environment.py'} if name not in text} == set()


def test_every_benchmark_is_there(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    from benchmark import BENCHMARKS

    entries = (ROOT / 'scripts' / 'benchmarks').glob('[a-z]*')
    assert set(BENCHMARKS) == {path.stem for path in entries}


@pytest.mark.parametrize('package', ['c2fdft_arch', 'c2fdft_model'])
def test_every_room_is_on_the_map(package):
    rooms = {path.parent.relative_to(ROOT) for path in (ROOT / package).glob('*/__init__.py')}
    assert {room for room in rooms if f'| `{room}/` |' not in DOCUMENTS[ARCHITECTURE]} == set()


def test_every_registered_leaf_is_in_the_architecture():
    from c2fdft_model.plugin.autoload import LEAVES

    files = {f'`{leaf.rpartition(".")[2]}.py`' for leaf in LEAVES}
    assert {file for file in files if file not in DOCUMENTS[ARCHITECTURE]} == set()


def test_every_protocol_is_documented():
    rows = re.findall(r'^\| (`.+`) \|', DOCUMENTS['docs/measuring.md'], re.MULTILINE)
    assert {name for name in PROTOCOLS if f'`{name}`' not in ' '.join(rows)} == set()


def test_every_extra_is_documented():
    project = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    section = project.split('[project.optional-dependencies]\n')[1].split('\n\n')[0]
    extras = re.findall(r'^(\w+) = ', section, re.MULTILINE)
    assert extras
    assert {extra for extra in extras if f'| `{extra}` |' not in TROUBLESHOOTING} == set()


def test_every_environment_variable_of_ours_is_documented():
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob('*.py')]
    used = {name for path in files for name in re.findall(r'\bC2FDFT_[A-Z_]+', path.read_text())}
    assert used
    assert {name for name in used if f'`{name}' not in TROUBLESHOOTING} == set()


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r'[^\w\- ]', '', heading.lower()).strip().replace(' ', '-')


def anchors(text: str) -> set[str]:
    return {slug(heading) for heading in re.findall(r'^#+ (.+)$', FENCED.sub('', text), re.M)}


@EVERY_DOCUMENT
def test_every_link_between_documents_leads_somewhere(name):
    for link in LINK.findall(DOCUMENTS[name]):
        if link.startswith('http'):
            continue
        file, _, anchor = link.partition('#')
        target = (ROOT / name).parent / file if file else ROOT / name
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text(encoding='utf-8')), link


def test_every_document_is_in_the_index():
    links = set(LINK.findall(DOCUMENTS[README]))
    assert {name for name in DOCUMENTS if name != README and name not in links} == set()


def test_nothing_is_left_to_fill_in():
    for name, text in DOCUMENTS.items():
        assert re.findall(r'@@|\b(?:TODO|TBD|FIXME|XXX)\b', text) == [], name


def test_the_readme_is_short():
    assert len(DOCUMENTS[README].splitlines()) <= LONGEST_README


def test_the_paper_is_cited_as_it_was_published():
    for text in (DOCUMENTS[README], c2fdft_arch.__doc__):
        words = ' '.join(text.split())
        assert '2308.08730' in words
        assert 'Computer Vision and Image Understanding 248 (2024) 104118' in words
    files = [
        path
        for folder in (*FOLDERS, 'docs')
        for path in (ROOT / folder).rglob('*')
        if path.is_file()
    ]
    texts = {path: path.read_bytes() for path in [ROOT / README, *files]}
    assert [path for path, content in texts.items() if b'AAAI' in content] == []

"""Reading option files, and changing keys on the command line."""

from __future__ import annotations

import pytest

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.options.reading import force, read_option_file


def read(tmp_path, text: str | bytes) -> dict:
    file = tmp_path / 'train.yml'
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_option_file(file)


def test_numbers_with_an_exponent_are_numbers_and_quoted_ones_text(tmp_path):
    found = read(tmp_path, 'a: [1e-4, 5e3, 2.5E-1, -1e0, 1_0e1]\nb: "1e-4"\nc: 1e4x\nd: e5')
    assert found == {'a': [1e-4, 5e3, 0.25, -1.0, 100.0], 'b': '1e-4', 'c': '1e4x', 'd': 'e5'}


def test_basicsrs_way_to_write_them_still_works(tmp_path):
    assert read(tmp_path, 'a: !!float 3e-4\nb: ~\nc: true') == {'a': 3e-4, 'b': None, 'c': True}


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('train:\n  lr: 1\n  lr: 2', r'train.yml, line 3: the key lr is given twice'),
        ('a: [1, 2', r'train.yml, line [12]'),
        ('a:\n\tb: 1', r'train.yml, line 2'),
        ('- a\n- b', 'no option file'),
        ('', 'no option file'),
        (b'\xff\xfe\x00a', 'no YAML file'),
        ('a: !!python/object/apply:os.system [ls]', 'line 1'),
        ('a: *b', 'line 1'),
    ],
)
def test_what_is_no_option_file_is_refused_with_file_and_line(tmp_path, text, words):
    with pytest.raises(OptionError, match=words) as error:
        read(tmp_path, text)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize('name', ['missing.yml', '.'])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(OptionError, match='-opt '):
        read_option_file(tmp_path / name)


def test_one_mapping_may_be_used_twice(tmp_path):
    text = 'a: &common {x: 1, y: 2}\nb:\n  <<: *common\n  y: 3'
    assert read(tmp_path, text)['b'] == {'x': 1, 'y': 3}


def test_keys_are_set_by_their_path_and_sections_come_into_being():
    opt: dict = {'train': {'lr': 1}, 'val': None}
    force(opt, ['train:lr=1e-4', 'val:noise_seed=3', 'diffusion:ir_sde:delta=0.01', 'name=a b'])
    assert opt == {
        'train': {'lr': 1e-4},
        'val': {'noise_seed': 3},
        'diffusion': {'ir_sde': {'delta': 0.01}},
        'name': 'a b',
    }
    force(opt, ['train:lr=!!float 3', 'val:noise_seed=None', 'name=x=y', 'list=[1, 2e0]'])
    assert (opt['train']['lr'], opt['val']['noise_seed']) == (3.0, None)
    assert (opt['name'], opt['list']) == ('x=y', [1, 2.0])


@pytest.mark.parametrize('entry', ['train', 'train:lr', '=3', 'train:lr:x=1', 'a=[1', 'train:=2'])
def test_entries_that_cannot_be_followed_are_named(entry):
    with pytest.raises(OptionError, match='--force_yml') as error:
        force({'train': {'lr': 1}}, [entry])
    assert entry in str(error.value)

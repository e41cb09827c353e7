"""`c2fdft options --check`."""

from __future__ import annotations

import pytest

from c2fdft_model.commands.options import main
from c2fdft_model.options.describing import ROOT

SOUND = ROOT / 'options' / 'demo_coarse.yml'


@pytest.fixture
def wrong(tmp_path):
    file = tmp_path / 'wrong.yml'
    text = SOUND.read_text(encoding='utf-8')
    file.write_text(text.replace('ema_decay', 'emadecay').replace('print_freq', 'print_frq'))
    return file


def test_a_sound_file_is_told_so_without_its_data(capsys):
    assert main(['--check', str(SOUND)]) == 0
    assert capsys.readouterr().out == f'{SOUND}: every key and value can be.\n'


def test_everything_wrong_is_listed_and_other_files_are_checked_all_the_same(wrong, capsys):
    assert main(['--check', str(wrong), str(SOUND)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f'{SOUND}: ')
    assert f'{wrong}: train: emadecay is not a known key (did you mean "ema_decay"?)' in err
    assert f'{wrong}: logger: print_frq is not a known key (did you mean "print_freq"?)' in err


def test_warnings_are_shown(tmp_path, capsys):
    file = tmp_path / 'long.yml'
    file.write_text(SOUND.read_text().replace('total_iter: 400', 'total_iter: 4000'))
    assert main(['--check', str(file)]) == 0
    assert 'warning: train: total_iter: 4,000 is longer than' in capsys.readouterr().out


def test_what_cannot_be_read_ends_with_2(tmp_path, capsys):
    assert main(['--check', str(tmp_path / 'missing.yml')]) == 2
    assert 'missing.yml' in capsys.readouterr().err


def test_a_file_without_our_parts_is_left_alone(tmp_path, capsys):
    file = tmp_path / 'other.yml'
    file.write_text('model_type: SRModel\ndatasets: {}')
    assert main(['--check', str(file)]) == 0
    assert 'not checked' in capsys.readouterr().out


def test_one_of_both_ways_is_needed(capsys):
    with pytest.raises(SystemExit) as error:
        main([])
    assert error.value.code == 2
    assert '--check FILE' in capsys.readouterr().err

"""Results keep what made them: other weights, settings or images are refused, not measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from c2fdft_model.commands import restore
from c2fdft_model.restoring.checkpoint import file_digest
from c2fdft_model.restoring.results_record import (
    RECORD_FILE,
    append_record,
    origins,
    read_record,
)
from helpers.checkpoints import save_network


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, sigma in (('photos/a.png', 40), ('photos/trip/b.png', 60)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((12, 12), sigma).convert('RGB').save(name)
    save_network(Path('net.pth'))

    def call(*options, weights='net.pth', inputs='photos', output='out'):
        code = restore.main([inputs, output, '--weights', weights, '--steps', '1', *options])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


def other_weights() -> str:
    content = torch.load('net.pth', weights_only=True)
    content['params']['output.weight'] *= 1.5
    torch.save(content, 'other.pth')
    return 'other.pth'


def test_every_result_has_its_weights_settings_and_source(run):
    assert run('--seed', '3')[0] == 0
    record = read_record(Path('out'))
    assert set(record) == {'a.png', 'trip/b.png'}
    settings = record['trip/b.png']
    assert settings['weights'] == file_digest(Path('net.pth'))
    assert settings['source'] == file_digest(Path('photos/trip/b.png'))
    assert (settings['seed'], settings['diffusion']['sampling_timesteps']) == (3, 1)


def test_the_same_command_goes_on_and_measures(run):
    run()
    Path('out/a.png').unlink()
    code, out, err = run('--metrics', 'photos')
    assert (code, err) == (0, '')
    assert '1 restored' in out and '1 there already' in out and 'mean of 2' in out


CHANGES = {
    'weights': ([], 'weights sha256'),
    'steps': (['--steps', '2'], 'sampling_timesteps 1, now 2'),
    'seed': (['--seed', '1'], 'seed 0, now 1'),
    'tiles': (['--tile', '8', '--tile-overlap', '0'], 'tile None, now 8'),
}


@pytest.mark.parametrize(('options', 'what'), CHANGES.values(), ids=CHANGES)
def test_results_of_other_weights_or_settings_are_refused_before_anything_is_done(
    run, options, what
):
    run()
    before = Path('out/a.png').read_bytes()
    weights = 'net.pth' if options else other_weights()
    code, out, err = run('--metrics', 'photos', *options, weights=weights)
    assert code == 2 and 'mean of' not in out
    assert '2 of 2 results are there already and were made otherwise' in err and what in err
    assert Path('out/a.png').read_bytes() == before


def test_overwriting_makes_them_anew_and_notes_it(run):
    run()
    assert run('--overwrite', weights=other_weights())[0] == 0
    digest = file_digest(Path('other.pth'))
    assert {settings['weights'] for settings in read_record(Path('out')).values()} == {digest}


def test_another_image_of_the_same_name_is_no_reason_to_skip(run):
    run()
    Image.effect_noise((12, 12), 90).convert('RGB').save('photos/a.png')
    code, _, err = run()
    assert code == 2 and '1 of 2 results' in err and 'out/a.png: source sha256' in err


def test_results_without_a_record_are_taken_with_a_warning(run):
    run()
    Path('out', RECORD_FILE).unlink()
    code, out, err = run('--metrics', 'photos', weights=other_weights())
    assert code == 0 and 'mean of 2' in out
    assert '2 results are there already, and nothing says what made them' in err


def test_a_line_that_was_cut_and_foreign_lines_do_not_count(tmp_path):
    append_record(tmp_path, 'a.png', {'seed': 1})
    with open(tmp_path / RECORD_FILE, 'a') as file:
        file.write('[]\nnot JSON\n{"result": "b.png"}\n{"result": "c.png", "sett')
    assert read_record(tmp_path) == {'a.png': {'seed': 1}}
    assert json.loads((tmp_path / RECORD_FILE).read_text().splitlines()[0])['c2fdft']


def test_a_folder_says_what_made_its_results(tmp_path):
    assert origins(tmp_path) == []
    settings = {'weights': 'ab' * 32, 'diffusion': {'sampling_timesteps': 4}}
    append_record(tmp_path, 'b.png', settings)
    text = 'made with weights sha256 abababababab…, sampling_timesteps 4'
    assert origins(tmp_path) == [text]
    append_record(tmp_path, 'a.png', {**settings, 'weights': 'cd' * 32})
    assert origins(tmp_path)[0] == f'1 {text}' and len(origins(tmp_path)) == 2


def test_an_image_that_is_restored_and_not_measured_counts_once(run):
    Path('gt').mkdir()
    Image.new('RGB', (12, 12)).save('gt/a.png')
    code, out, err = run('--metrics', 'gt')
    assert code == 1
    assert '2 restored' in out and '0 failed; 1 of the restored not measured' in out
    assert 'mean of 1' in out and 'b.png' in err


def test_the_first_image_does_not_pay_for_what_only_a_first_call_does(run, monkeypatch):
    from c2fdft_model.restoring.restorer import Restorer

    order = []
    for name in ('warm_up', '__call__'):
        real = getattr(Restorer, name)

        def noted(*arguments, real=real, name=name, **options):
            order.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(Restorer, name, noted)
    run()
    assert order == ['warm_up', '__call__', '__call__']
    run()
    assert len(order) == 3  # nothing is left to restore

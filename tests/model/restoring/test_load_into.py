"""Checkpoints that do not fit say what is wrong with them."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from c2fdft_model.restoring.weights import WeightsError, load_into


def network(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))


def saved(path, **content):
    torch.save(content, path)
    return path


def test_the_log_says_file_key_and_how_much_was_loaded(tmp_path):
    source, target, log = network(), network(), []
    path = saved(tmp_path / 'a.pth', params=source.state_dict(), params_ema=source.state_dict())
    load_into(target, path, 'params_ema', True, log.append)
    assert log == [
        f'Loaded 4 of 4 parameters (26 numbers) of Sequential from {path}, key params_ema.'
    ]
    assert torch.equal(target[0].weight, source[0].weight)


def test_without_averaged_weights_the_others_are_loaded_and_named(tmp_path):
    log = []
    path = saved(tmp_path / 'a.pth', params=network().state_dict())
    load_into(network(), path, 'params_ema', True, log.append)
    assert log[0].endswith('key params.')


def test_another_network_is_refused_with_names_summarised(tmp_path):
    given = {f'body.{k}.weight': torch.ones(1) for k in range(9)}
    path = saved(tmp_path / 'a.pth', params={**network().state_dict(), **given})
    with pytest.raises(WeightsError) as error:
        load_into(nn.Sequential(nn.Linear(3, 5), nn.PReLU()), path, 'params', True, print)
    text = str(error.value)
    assert 'unexpected: ' in text and 'and 7 more' in text
    assert 'of another shape: 0.weight (4, 3) instead of (5, 3)' in text
    assert len(text) < 700


def test_a_missing_parameter_is_named(tmp_path):
    state = network().state_dict()
    del state['1.bias']
    path = saved(tmp_path / 'a.pth', params=state)
    with pytest.raises(WeightsError, match=r'1 missing: 1\.bias'):
        load_into(network(), path, 'params', True, print)


def test_not_strict_loads_what_fits_and_says_what_did_not(tmp_path):
    log, target = [], network(5)
    path = saved(tmp_path / 'a.pth', params=network(4).state_dict())
    before = target[0].weight.detach().clone()
    load_into(target, path, 'params', False, log.append)
    assert torch.equal(target[0].weight, before)
    assert log[0].startswith('Loaded 1 of 4') and log[1].startswith('Not loaded: 3 of another')


class Malicious:
    def __reduce__(self):
        return print, ('code has run',)


def test_a_file_that_would_run_code_is_not_loaded(tmp_path, capsys):
    path = tmp_path / 'a.pth'
    path.write_bytes(pickle.dumps({'params': Malicious()}))
    with pytest.raises(WeightsError, match=str(path)):
        load_into(network(), path, 'params', True, print)
    assert 'code has run' not in capsys.readouterr().out


@pytest.mark.parametrize('content', [b'', b'no checkpoint at all', b'PK\x03\x04 cut short'])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=str(path)):
        load_into(network(), path, 'params', True, print)

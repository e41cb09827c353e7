"""A checkpoint and a training state written by the version before the modules became rooms.

`tests/data/before_rooms` holds iteration 3 of a coarse training of 6 iterations that saved every
iteration and validated every second, and of its final weights the sums of `summary`.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import basicsr.train
import pytest
import torch
from basicsr.models import build_model
from basicsr.utils.options import parse_options

from c2fdft_model.restoring.weights import load_into
from helpers.networks import tiny_network
from helpers.training_runs import (
    checkout,
    command,
    loss_lines,
    options,
    train,
    validation_set,
    weights,
)

SAVED = Path(__file__).resolve().parents[2] / 'data' / 'before_rooms'
NETWORK = {'dim': 4, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1], 'ffn_factor': 1.0}
PSNR = {'psnr': {'type': 'calculate_psnr', 'crop_border': 0, 'test_y_channel': False}}


def saved_run(root: Path) -> dict[str, Any]:
    """The options of that training, in a folder that holds its iteration 3."""
    folder = checkout(root) / 'experiments' / 'run'
    for name, file in (('models', 'net_g_3.pth'), ('training_states', '3.state')):
        (folder / name).mkdir(parents=True)
        shutil.copyfile(SAVED / file, folder / name / file)
    opt = options(
        root,
        'coarse',
        network_g={'type': 'DFT', **NETWORK},
        train={'total_iter': 6},
        logger={'save_checkpoint_freq': 1},
        val={'val_freq': 2, 'save_img': False, 'metrics': PSNR},
    )
    opt['datasets']['val'] = validation_set(root)
    return opt


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location='cpu', weights_only=True)


def assert_identical(found: Any, saved: Any, place: str = '') -> None:
    """All that was saved is there, tensors bit for bit; a later PyTorch may add keys of its own."""
    assert type(found) is type(saved), place
    if isinstance(saved, dict):
        for key, value in saved.items():
            assert_identical(found[key], value, f'{place}/{key}')
    elif isinstance(saved, (list, tuple)):
        assert len(found) == len(saved), place
        for number, (one, other) in enumerate(zip(found, saved, strict=True)):
            assert_identical(one, other, f'{place}/{number}')
    elif isinstance(saved, torch.Tensor):
        assert found.dtype == saved.dtype and torch.equal(found, saved), place
    else:
        assert found == saved, place


@pytest.mark.parametrize('key', ['params', 'params_ema'])
def test_the_checkpoint_loads_with_all_its_names_and_bits(key):
    network = type(tiny_network())(**NETWORK)
    load_into(network, SAVED / 'net_g_3.pth', key, strict=True, log=print)
    saved = load(SAVED / 'net_g_3.pth')[key]
    assert network.state_dict().keys() == saved.keys()
    assert_identical(dict(network.state_dict()), saved)


def test_the_state_is_resumed_and_saved_again_with_all_its_bits(tmp_path, monkeypatch):
    arguments = [*command(tmp_path, saved_run(tmp_path)), '--auto_resume']
    monkeypatch.setattr(sys, 'argv', arguments)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    opt, _ = parse_options(str(tmp_path), is_train=True)
    state = basicsr.train.load_resume_state(opt)
    model = build_model(copy.deepcopy(opt))
    model.resume_training(state)
    folder = tmp_path / 'experiments' / 'run'
    for file in (folder / 'models' / 'net_g_3.pth', folder / 'training_states' / '3.state'):
        file.unlink()
    model.save(0, 3)
    for file in (folder / 'models' / 'net_g_3.pth', folder / 'training_states' / '3.state'):
        assert_identical(load(file), load(SAVED / file.name))


def summary(tensors: dict[str, torch.Tensor]) -> dict[str, list[float]]:
    """Of each tensor the norm and the sum of its values times the cosines of their numbers."""
    found = {}
    for name, tensor in tensors.items():
        values = tensor.double().flatten()
        projection = (values * torch.arange(len(values)).double().cos()).sum()
        found[name] = [values.norm().item(), projection.item()]
    return found


def test_the_resumed_training_ends_at_the_weights_of_the_old_one(tmp_path):
    printed = train(tmp_path, saved_run(tmp_path), '--auto_resume')
    assert sorted(loss_lines(printed)) == [4, 5, 6]
    assert 'started with other options' not in printed
    found = summary(weights(tmp_path, 'latest'))
    expected = json.loads((SAVED / 'final.json').read_text())
    assert found.keys() == expected.keys()
    # Other processors round differently.
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-6, abs=1e-6), name

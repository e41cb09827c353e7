"""What keeps the page from being served, and the models that it offers."""

from __future__ import annotations

import importlib.util

import cv2
import numpy as np
import pytest
import torch

from c2fdft_arch.dft import DFT
from c2fdft_model import zoo
from c2fdft_model.commands import page
from c2fdft_model.commands.page import main
from c2fdft_model.web.page_model import restore_upload
from helpers.checkpoints import OTHER_SETTINGS, restored_otherwise, save_trained_otherwise


def test_without_gradio_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert main(['--weights', 'w.pth']) == 2
    assert 'pip install "c2fdft[page]"' in capsys.readouterr().err


def test_without_weights_the_models_that_ship_are_offered(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zoo, 'FOLDER', tmp_path)
    assert main(['--port', '0']) == 2
    assert 'no model ships with this version: give --weights' in capsys.readouterr().err
    network = DFT(dim=8, num_blocks=[1, 1, 1, 1], heads=[1, 2, 2, 4])
    torch.save({'params': network.state_dict()}, tmp_path / 'derain.pth')
    offered = []
    monkeypatch.setattr(page, 'serve', lambda models, *settings: offered.extend(models))
    assert main(['--port', '0']) == 0
    assert [model.name for model in offered] == ['derain']


@pytest.mark.parametrize('settings', OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
def test_an_upload_is_restored_as_the_weights_were_trained(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(zoo, 'FOLDER', tmp_path / 'none')
    offered = []
    monkeypatch.setattr(page, 'serve', lambda models, *_: offered.extend(models))
    weights = save_trained_otherwise(tmp_path / 'net.pth', settings)
    assert main(['--weights', str(weights), '--device', 'cpu', '--port', '0']) == 0
    (model,) = offered
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / 'photo.png'), pixels[..., ::-1])
    image = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    for calls, given in ((model.calls, {}), (2, {'sampling_timesteps': 2})):
        restorer = model.restorer(calls, 0)
        done = restore_upload(tmp_path / 'photo.png', tmp_path, restorer, lambda: None, 1)
        expected = restored_otherwise(weights, {**settings, **given}, image, 'photo')
        expected = (expected * 255).round().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(cv2.imread(str(done.file))[..., ::-1], expected)


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (['--weights', 'nowhere.pth'], 'nowhere.pth: no such file'),
        (['--port', '70000'], '--port 70000: give a number from 1 to 65535'),
        (['--device', 'abacus'], '--device abacus cannot be used here'),
        (['--weights', 'tiny.pth', 'other/tiny.pth'], 'two models are called tiny'),
        (['--megabytes', '0'], '--megabytes 0'),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path, monkeypatch, capsys, changed, message):
    monkeypatch.chdir(tmp_path)
    network = DFT(dim=8, num_blocks=[1, 1, 1, 1], heads=[1, 2, 2, 4])
    (tmp_path / 'other').mkdir()
    for name in ('tiny.pth', 'other/tiny.pth'):
        torch.save({'params': network.state_dict()}, name)
    try:
        code = main(['--weights', 'tiny.pth', '--port', '0', *changed])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error

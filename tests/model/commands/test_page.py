"""What keeps the page from being served."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from c2fdft_arch.dft import DFT
from c2fdft_model.commands.page import main


def test_without_gradio_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert main(['--weights', 'w.pth']) == 2
    assert 'pip install "c2fdft[page]"' in capsys.readouterr().err


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

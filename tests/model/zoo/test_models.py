"""The models that ship: they open, are small, say what they are, and have a card and recipes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from c2fdft_arch.dft import DFT
from c2fdft_model import zoo
from c2fdft_model.commands import restore as restore_command
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.restoring.checkpoint import read_checkpoint
from c2fdft_model.restoring.description import Description
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.restoring.weights import load_network

MODELS = zoo.model_names()
LARGEST_MODEL, LARGEST_ZOO = 3_000_000, 6_000_000


def test_all_models_together_are_small():
    assert sum(zoo.model_path(name).stat().st_size for name in MODELS) < LARGEST_ZOO


@pytest.mark.parametrize('name', MODELS)
def test_a_model_says_what_it_is_in_half_precision(name):
    stored = torch.load(zoo.model_path(name), weights_only=True)['params_ema']
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert sum(value.numel() for value in stored.values()) <= LARGEST_MODEL
    said = read_checkpoint(zoo.model_path(name)).description
    assert (said.stage, said.data, said.diffusion.prediction) == ('fine', (f'zoo_{name}',), 'clean')
    assert said.network_g['skip'] == 'degraded'


@pytest.mark.parametrize('name', MODELS)
def test_the_option_files_are_those_of_the_model(name):
    said = read_checkpoint(zoo.model_path(name)).description
    for stage in ('coarse', 'fine'):
        opt = yaml.safe_load((zoo.FOLDER / f'{name}_{stage}.yml').read_text())
        assert opt['network_g'].items() <= said.network_g.items()
        assert opt['diffusion'].items() <= said.diffusion.model_dump(mode='json').items()
        assert opt['datasets']['train']['name'] == f'zoo_{name}'
    assert opt['train']['total_iter'] == said.iteration


@pytest.mark.parametrize('name', MODELS)
def test_a_model_restores_nearer_to_a_smooth_image_than_it_was_given(name):
    rng = torch.Generator().manual_seed(0)
    clean = torch.nn.functional.interpolate(
        torch.rand(1, 3, 5, 6, generator=rng), (80, 96), mode='bicubic', align_corners=True
    )[0].clamp(0, 1)
    if name == 'denoise':
        degraded = (clean + 0.08 * torch.randn(clean.shape, generator=rng)).clamp(0, 1)
    else:
        degraded = clean.clone()
        degraded[:, 10:40, 20:22] = 1  # a streak
    restored = restore(load_network(zoo.model_path(name)), degraded)
    assert (restored - clean).square().mean() < 0.7 * (degraded - clean).square().mean()


@pytest.mark.parametrize('name', MODELS)
def test_a_card_names_data_licences_figures_and_limits(name):
    card = (zoo.FOLDER / f'{name}.md').read_text()
    parts = re.findall(r'^## (.*)', card, re.MULTILINE)
    assert parts == ['Recipe', 'Data', 'Licence', 'Figures', 'Limits']
    assert f'{name}_coarse.yml' in card and f'{name}_fine.yml' in card
    photographs = re.findall(r'^- ([\w.-]+): (\S+), (.+), (\S+|public domain)$', card, re.MULTILINE)
    licences = {licence for *_, licence in photographs}
    free = {'CC0', 'CC-BY-4.0', 'CC-BY-SA-3.0', 'CC-BY-SA-4.0', 'GPL-2+', 'public domain'}
    assert len(photographs) > 30 and licences <= free
    measured = set(re.findall(r'^\| (\w+) \| \d', card, re.MULTILINE)) - {'mean'}
    assert measured == {Path(file).stem for _, file, *_ in photographs[-7:]}


def test_a_model_that_does_not_ship_is_answered_with_those_that_do(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, 'FOLDER', tmp_path)
    with pytest.raises(zoo.UnknownModelError, match='no model derain ships; these do: none'):
        zoo.model_path('derain')
    for name in ('derain', 'denoise'):
        (tmp_path / f'{name}.pth').touch()
    with pytest.raises(zoo.UnknownModelError, match='these do: denoise, derain'):
        zoo.model_path('superresolution')
    with pytest.raises(zoo.UnknownModelError, match='did you mean "denoise"'):
        zoo.model_path('denois')
    assert zoo.model_path('derain') == tmp_path / 'derain.pth'


def test_restore_takes_a_model_by_name_and_names_those_there_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo, 'FOLDER', tmp_path)
    network = DFT(dim=4, num_blocks=(1, 1, 1, 1), skip='degraded')
    torch.nn.init.zeros_(network.output.weight)
    description = Description(
        network_g={'type': 'DFT', 'skip': 'degraded'},
        diffusion=DiffusionOptions(prediction='clean', sampling_timesteps=1),
        stage='fine',
    )
    half = {name: value.half() for name, value in network.state_dict().items()}
    torch.save({'params_ema': half, 'description': description.to_plain()}, 'derain.pth')
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save('photo.png')
    assert restore_command.main(['photo.png', 'same.png', '--model', 'derain']) == 0
    assert 'Timesteps: 999;' in capsys.readouterr().out
    assert (np.asarray(Image.open('same.png')) == pixels).all()
    assert restore_command.main(['photo.png', 'b.png', '--model', 'deblur']) == 2
    assert 'no model deblur ships; these do: derain' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        restore_command.main(['photo.png', 'b.png', '--model', 'derain', '--weights', 'w.pth'])
    assert 'not allowed with' in capsys.readouterr().err

"""convert and publish, and what reads what they write: --weights, DFT.from_pretrained, a hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from c2fdft_arch.common.pretrained import HubMissing
from c2fdft_arch.dft import DFT
from c2fdft_model.commands.publishing.convert import main as convert
from c2fdft_model.commands.publishing.publish import main as publish
from c2fdft_model.commands.restore import main as restore
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.restoring import restoration
from c2fdft_model.restoring.checkpoint import read_checkpoint
from c2fdft_model.restoring.description import DESCRIPTION_KEY, Description
from c2fdft_model.restoring.weights import load_network
from helpers.hub_server import hub_of

TINY = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 2, 2, 4], 'skip': 'degraded'}


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch) -> Path:
    """A described checkpoint with averaged weights beside the others, and a photograph."""
    monkeypatch.chdir(tmp_path)
    network = DFT(**TINY)
    description = Description(
        network_g={'type': 'DFT', **network.options},
        diffusion=DiffusionOptions(prediction='clean', sampling_timesteps=2),
        stage='fine',
        iteration=90000,
        data=('Rain13K',),
    )
    ema = {name: value * 0.5 for name, value in network.state_dict().items()}
    content = {'params': network.state_dict(), 'params_ema': ema}
    torch.save({**content, DESCRIPTION_KEY: description.to_plain()}, 'w.pth')
    torch.save({'params': network.state_dict()}, 'released.pth')
    pixels = np.random.default_rng(0).integers(0, 256, (24, 33, 3), np.uint8)
    assert cv2.imwrite('photo.png', pixels)
    return tmp_path


def restored_with(weights: str, target: str) -> bytes:
    assert restore(['photo.png', target, '--weights', weights, '--device', 'cpu']) == 0
    return Path(target).read_bytes()


def test_converted_weights_restore_the_same(capsys):
    assert convert(['w.pth', 'w.safetensors']) == 0
    assert convert(['w.safetensors', 'back.pth']) == 0
    expected = restored_with('w.pth', 'a.png')
    assert restored_with('w.safetensors', 'b.png') == expected
    assert restored_with('back.pth', 'c.png') == expected
    assert 'key params_ema' in capsys.readouterr().out


def test_half_takes_half_of_the_space():
    assert convert(['w.pth', 'w.safetensors']) == 0
    assert convert(['w.pth', 'half.safetensors', '--half']) == 0
    size, half = (Path(name).stat().st_size for name in ('w.safetensors', 'half.safetensors'))
    assert half < 0.6 * size
    whole, rounded = (read_checkpoint(n).parameters for n in ('w.safetensors', 'half.safetensors'))
    assert all(torch.equal(rounded[name], whole[name].half()) for name in whole)
    assert load_network('half.safetensors').output.weight.dtype == torch.float32


def test_an_option_file_describes_weights_that_do_not(in_folder):
    Path('opt.yml').write_text('diffusion: {num_diffusion_timesteps: 500}\nnetwork_g: {type: DFT}')
    assert convert(['released.pth', 'bare.safetensors']) == 0
    assert convert(['released.pth', 'told.safetensors', '--opt', 'opt.yml']) == 0
    assert read_checkpoint('bare.safetensors').description is None
    told = read_checkpoint('told.safetensors').description
    assert told.diffusion.num_diffusion_timesteps == 500


@pytest.mark.parametrize(
    ('command', 'arguments', 'message'),
    [
        (convert, ['w.pth', 'w.onnx'], 'must end in .safetensors or .pth'),
        (convert, ['w.pth', 'released.pth'], 'released.pth is there already'),
        (convert, ['nowhere.pth', 'a.pth'], 'nowhere.pth: no such file'),
        (convert, ['large.pth', 'a.safetensors', '--half'], 'values beyond float16'),
        (publish, ['w.pth', 'full'], 'full is not empty; --overwrite'),
        (publish, ['w.pth', 'photo.png'], 'photo.png is a file'),
        (publish, ['w.pth', 'new', '--figures', 'w.pth'], '--figures w.pth'),
        (publish, ['w.pth', 'new', '--figures', 'no.csv'], '--figures no.csv cannot be read'),
        (publish, ['full', 'new'], 'full is a folder without config.json'),
        (publish, ['configured', 'new'], 'configured is a folder without model.safetensors'),
    ],
)
def test_what_cannot_be_written_is_one_line(command, arguments, message, capsys):
    large = {name: value + 1e5 for name, value in DFT(**TINY).state_dict().items()}
    torch.save(large, 'large.pth')
    Path('full').mkdir()
    Path('full/notes.txt').touch()
    Path('configured').mkdir()
    Path('configured/config.json').write_text('{}')
    before = sorted(Path().rglob('*'))
    assert command(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert sorted(Path().rglob('*')) == before


FIGURES = """protocol,image,psnr,ssim,problem
rain_y,a,30.0,0.9,
rain_y,b,32.0,0.92,
rain_y,c,,,missing: no such file
rain_y,mean,31.0,0.91,
"""


def test_a_folder_has_config_weights_and_a_card_with_figures():
    Path('Rain100L.csv').write_text(FIGURES)
    options = ['--figures', 'Rain100L.csv', '--licence', 'apache-2.0', '--name', 'derain-tiny']
    assert publish(['w.pth', 'model', *options]) == 0
    assert sorted(path.name for path in Path('model').iterdir()) == [
        'README.md', 'config.json', 'model.safetensors',
    ]  # fmt: skip
    config = json.loads(Path('model/config.json').read_text())
    assert config['dim'] == 8
    assert config['c2fdft']['diffusion']['prediction'] == 'clean'
    card = Path('model/README.md').read_text()
    assert '\nlicense: apache-2.0\n' in card
    assert '# derain-tiny\n' in card
    assert '| Rain100L | rain_y | 2 | psnr | 31.0000 dB |' in card
    assert 'iteration 90,000, Rain13K' in card
    assert 'network calls for an image: 2' in card


def test_a_folder_restores_as_the_checkpoint_does():
    assert publish(['w.pth', 'model']) == 0
    assert restored_with('model', 'a.png') == restored_with('w.pth', 'b.png')


def test_from_pretrained_gives_the_network_and_its_description():
    pytest.importorskip('huggingface_hub')
    assert publish(['w.pth', 'model']) == 0
    network = DFT.from_pretrained('model')
    assert type(network) is DFT
    assert not network.training
    expected = load_network('w.pth')
    assert network.options == expected.options
    image = torch.rand(3, 16, 24)
    restored, wanted = (restoration.restore(each, image) for each in (network, expected))
    assert torch.equal(restored, wanted)


def test_what_save_pretrained_writes_is_read_as_weights():
    pytest.importorskip('huggingface_hub')
    network = DFT(**TINY, time_embedding=False).eval()
    network.save_pretrained('saved')
    assert type(network) is DFT
    loaded = load_network('saved')
    assert (loaded.time_embedding, loaded.skip) == (False, 'degraded')
    assert torch.equal(loaded.output.weight, network.output.weight)


def test_a_description_survives_from_pretrained_and_save_pretrained():
    pytest.importorskip('huggingface_hub')
    assert publish(['w.pth', 'model']) == 0
    DFT.from_pretrained('model').save_pretrained('again')
    assert read_checkpoint('again').description == read_checkpoint('w.pth').description
    load_network('w.pth').save_pretrained('directly')
    assert read_checkpoint('directly').description == read_checkpoint('w.pth').description


def test_without_huggingface_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(HubMissing, match=r'c2fdft\[hub\]'):
        DFT.from_pretrained('model')
    with pytest.raises(ValueError, match=r'c2fdft\[hub\]'):
        read_checkpoint('somebody/something')


CHECK_WEIGHTS = """
import sys
from c2fdft_model.__main__ import main
for weights in sys.argv[1:]:
    print('exit code', main(['check-weights', weights]), flush=True)
"""


def check_weights(
    names: list[str], address: str, folder: Path, **variables: str
) -> subprocess.CompletedProcess:
    """`c2fdft check-weights` of each, with the hub at this address, which is read at the start."""
    pytest.importorskip('huggingface_hub')
    own = {'HF_ENDPOINT': address, 'HF_HOME': str(folder / 'cache'), 'OMP_NUM_THREADS': '1'}
    return subprocess.run(
        [sys.executable, '-c', CHECK_WEIGHTS, *names],
        env={**os.environ, **own, **variables},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_name_on_a_hub_is_read_and_kept_and_others_are_one_line_each(tmp_path):
    assert publish(['w.pth', 'hub/us/model']) == 0
    (tmp_path / 'hub' / 'us' / 'empty').mkdir()
    names = ['us/model', 'nobody/nothing', 'us/empty', 'us/model@v9']
    with hub_of(tmp_path / 'hub') as (address, asked):
        done = check_weights(names, address, tmp_path)
    assert 'fine, iteration 90,000' in done.stdout
    codes = [line for line in done.stdout.splitlines() if line.startswith('exit code')]
    assert codes == ['exit code 0', 'exit code 2', 'exit code 2', 'exit code 2']
    assert [line[:60] for line in done.stderr.splitlines()] == [
        line[:60]
        for line in (
            'error: nobody/nothing: neither a file here nor a name on the hub',
            'error: us/empty: the hub has the name, but no config.json under it',
            'error: us/model@v9: the hub has the name, but no such revision.',
        )
    ]
    assert 'GET /us/model/resolve/main/config.json' in ' '.join(asked)
    kept = check_weights(['us/model', 'us/other'], address, tmp_path, HF_HUB_OFFLINE='1')
    assert 'fine, iteration 90,000' in kept.stdout
    assert kept.stderr.startswith('error: us/other: no such file here, and the hub cannot be')


def test_without_a_network_the_hub_cannot_be_reached(tmp_path):
    done = check_weights(['us/model'], 'http://127.0.0.1:9', tmp_path)
    assert 'exit code 2' in done.stdout
    assert 'us/model: no such file here, and the hub cannot be reached' in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

"""The weights of DFT in spandrel: recognised, restored as `restore` does, and no others claimed."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

spandrel = pytest.importorskip('spandrel')
extra = pytest.importorskip('spandrel_extra_arches')

from c2fdft_arch.baselines.spandrel_networks import BASELINES, BaselineFactory  # noqa: E402
from c2fdft_arch.dft import DFT  # noqa: E402
from c2fdft_model.diffusion.options import DiffusionOptions  # noqa: E402
from c2fdft_model.plugin import spandrel_support  # noqa: E402
from c2fdft_model.restoring.description import DESCRIPTION_KEY, Description  # noqa: E402
from c2fdft_model.restoring.restoration import restore  # noqa: E402
from c2fdft_model.restoring.weight_files.safetensors_files import write_safetensors  # noqa: E402
from c2fdft_model.restoring.weights import load_network  # noqa: E402

TINY = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 2, 2, 4]}


@pytest.fixture(autouse=True)
def registered() -> None:
    """Also where the tests run without the start-up file."""
    spandrel_support.add_dft()


@pytest.fixture(scope='module', autouse=True)
def extra_architectures() -> None:
    """Restormer and others, which are recognised only when a program asks for it."""
    extra.install(ignore_duplicates=True)


@pytest.fixture
def image():
    return torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('norm', ['WithBias', 'BiasFree'])
@pytest.mark.parametrize('wrapped', [{}, {'params': None}, {'params': None, 'params_ema': None}])
def test_weights_in_the_released_format_restore_as_restore_does(tmp_path, image, norm, wrapped):
    network = DFT(**TINY, LayerNorm_type=norm)
    state = network.state_dict()
    torch.save(dict.fromkeys(wrapped, state) or state, tmp_path / 'w.pth')
    model = spandrel.ModelLoader().load_from_file(tmp_path / 'w.pth')
    assert model.architecture.id == 'C2F-DFT'
    assert (model.purpose, model.scale, model.input_channels) == ('Restoration', 1, 3)
    assert model.tiling == spandrel.ModelTiling.INTERNAL
    assert model.size_requirements.multiple_of == 8
    assert model.tags == ['8dim', '4calls']
    assert torch.equal(model(image), restore(network.eval(), image, precision='fp32'))


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_weights_that_describe_themselves_are_sampled_as_they_say(tmp_path, image, ending):
    network = DFT(**TINY, skip='degraded', time_embedding=False)
    description = Description(
        network_g={'type': 'DFT', **network.options},
        diffusion=DiffusionOptions(prediction='clean', sampling_timesteps=1),
        stage='fine',
    )
    path = tmp_path / f'w.{ending}'
    if ending == 'pth':
        own = {'params': network.state_dict(), DESCRIPTION_KEY: description.to_plain()}
        torch.save(own, path)
    else:
        write_safetensors(path, network.state_dict(), description.to_plain())
    model = spandrel.ModelLoader().load_from_file(path)
    assert model.tags == ['8dim', '1calls']
    assert torch.equal(model(image), restore(load_network(path), image, precision='fp32'))


def test_images_of_odd_sizes_keep_their_size(tmp_path):
    torch.save(DFT(**TINY).state_dict(), tmp_path / 'w.pth')
    model = spandrel.ModelLoader().load_from_file(tmp_path / 'w.pth')
    assert model(torch.rand(1, 3, 21, 19)).shape == (1, 3, 21, 19)


def test_no_other_architecture_of_spandrel_claims_ours():
    state = DFT(**TINY).state_dict()
    others = spandrel.MAIN_REGISTRY.architectures()
    claiming = [each.architecture.id for each in others if each.detect(state)]
    assert len(others) > 40
    assert claiming == ['C2F-DFT']


SMALL = {
    'Restormer': {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1},
    'NAFNet': {'width': 8, 'enc_blk_nums': [1, 1], 'middle_blk_num': 1, 'dec_blk_nums': [1, 1]},
    'MPRNet': {},
    'KBNet_s': {},
    'FFTformer': {'dim': 8, 'num_blocks': [1, 1, 1], 'num_refinement_blocks': 1},
}


@pytest.mark.parametrize('name', SMALL)
def test_ours_claims_no_other(name):
    assert name in BASELINES
    assert not spandrel_support.is_dft(BaselineFactory(name)(**SMALL[name]).state_dict())


def test_networks_of_other_channels_are_not_claimed():
    assert not spandrel_support.is_dft(DFT(**TINY, inp_channels=3).state_dict())


HOOK = """
from c2fdft_model.plugin import autoload
autoload.install()
import sys, warnings
import spandrel
print('C2F-DFT' in [each.architecture.id for each in spandrel.MAIN_REGISTRY.architectures()])
print('basicsr' in sys.modules)
"""


@pytest.mark.parametrize(('switch', 'known'), [('1', 'True'), ('0', 'False')])
def test_importing_spandrel_registers_unless_switched_off(switch, known, clean_environment):
    environment = {**clean_environment, 'C2FDFT_AUTOLOAD': switch}
    command = [sys.executable, '-c', HOOK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [known, 'False']
    assert 'RuntimeWarning' not in done.stderr


def test_a_failure_is_one_warning_and_spandrel_is_imported(clean_environment):
    broken = "import sys; sys.modules['c2fdft_model.plugin.spandrel_support'] = None\n" + HOOK
    command = [sys.executable, '-c', broken]
    done = subprocess.run(
        command, env=clean_environment, capture_output=True, text=True, check=True
    )
    assert done.stderr.count('could not add itself to spandrel') == 1

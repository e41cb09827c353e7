"""What checkpoints say of themselves: written, read, compared, and used without an option file."""

from __future__ import annotations

import pytest
import torch
import yaml
from PIL import Image
from torchvision.transforms.functional import to_tensor

from c2fdft_arch.dft import DFT
from c2fdft_model.commands import check_weights, restore
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.restoring.checkpoint import WeightsError, complete_from_weights, read_checkpoint
from c2fdft_model.restoring.description import (
    DESCRIPTION_KEY,
    Description,
    contradictions,
    describe,
    provenance,
)
from c2fdft_model.restoring.restoration import restore as restore_image
from c2fdft_model.restoring.weights import load_network
from helpers.checkpoints import OTHER_SETTINGS, TINY, description, save_network


def test_what_is_written_is_read_back_with_weights_only(tmp_path):
    saved = description('fine', sampling_timesteps=(999, 500, 0), eta=0.5)
    path = save_network(tmp_path / 'net.pth', saved)
    assert torch.load(path, weights_only=True)[DESCRIPTION_KEY] == saved.to_plain()
    assert read_checkpoint(path).description == saved


def test_a_description_holds_every_option_and_its_default():
    def find(name):
        return lambda dim=48, skip='noisy': None

    opt = {
        'network_g': {'type': 'DFT', 'dim': 8},
        'train': {'stage': 'coarse'},
        'datasets': {'train': {'name': 'Rain13K'}, 'val': {'name': 'Test100'}},
    }
    found = describe(opt, DiffusionOptions(), find)
    assert found.network_g == {'type': 'DFT', 'dim': 8, 'skip': 'noisy'}
    assert (found.stage, found.data) == ('coarse', ('Rain13K',))
    assert found.to_plain()['diffusion'] == DiffusionOptions().model_dump(mode='json')


@pytest.mark.parametrize('settings', OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
def test_an_image_is_restored_as_the_weights_were_trained(tmp_path, settings):
    network = load_network(save_network(tmp_path / 'net.pth', description(**settings)))
    image = torch.rand(3, 9, 11)
    process = build_process(DiffusionOptions(**settings))
    assert torch.equal(
        restore_image(network, image), restore_image(network, image, process=process)
    )


@pytest.mark.parametrize('unseen', [{'time_embedding': False}, {'skip': 'degraded'}])
def test_options_that_shapes_do_not_show_are_those_of_the_description(tmp_path, unseen):
    network = load_network(save_network(tmp_path / 'net.pth', description(network=unseen)))
    assert {name: getattr(network, name) for name in unseen} == unseen


def test_timesteps_that_are_given_go_before_those_of_the_description(tmp_path):
    network = load_network(save_network(tmp_path / 'net.pth', description(beta_schedule='quad')))
    calls = []
    restore_image(network, torch.rand(3, 8, 8), timesteps=2, progress=lambda: calls.append(1))
    assert len(calls) == 2


def test_a_difference_is_named_by_its_key_and_both_values():
    saved = description(network={'skip': 'degraded'}, num_diffusion_timesteps=500)
    found = contradictions(saved, description(network={'skip': 'noisy'}))
    assert found == [
        'network_g: skip: trained with degraded, noisy is used',
        'diffusion: num_diffusion_timesteps: trained with 500, 1000 is used',
    ]


def test_sampling_otherwise_contradicts_fine_weights_only():
    used = description(sampling_timesteps=1)
    assert contradictions(description('coarse'), used) == []
    assert contradictions(description('fine'), used) == [
        'diffusion: sampling_timesteps: trained with 4 calls (999, 666, 333, 0), '
        '1 call (999) is used'
    ]
    one = description('fine', sampling_timesteps=1)
    assert contradictions(one, description('fine', sampling_timesteps=50)) == [
        'diffusion: sampling_timesteps: trained with 1 call (999), '
        '50 calls (999, 979, 958, 938 and 46 more) are used'
    ]
    assert (
        contradictions(description('fine'), description(sampling_timesteps=(999, 666, 333, 0)))
        == []
    )


def test_weights_without_a_description_contradict_nothing():
    assert contradictions(None, description()) == []
    assert "the paper's settings are assumed" in provenance(None)


def test_a_description_of_a_later_version_is_refused_with_both_versions(tmp_path):
    path = save_network(tmp_path / 'net.pth', description())
    content = torch.load(path, weights_only=True)
    content[DESCRIPTION_KEY]['version'] = '9.0'
    content[DESCRIPTION_KEY]['diffusion']['wavelets'] = True
    torch.save(content, path)
    with pytest.raises(
        WeightsError, match=r'wavelets is not a known key.* by c2fdft 9\.0'
    ) as error:
        read_checkpoint(path)
    assert '\n' not in str(error.value)


def test_a_test_takes_from_the_weights_what_its_option_file_leaves_out(tmp_path):
    saved = description(network={'skip': 'degraded'}, prediction='clean', beta_end=0.01)
    weights = save_network(tmp_path / 'net.pth', saved)
    opt = {
        'network_g': {'type': 'DFT', **TINY},
        'diffusion': {'beta_end': 0.02},
        'path': {'pretrain_network_g': str(weights)},
    }
    log: list[str] = []
    complete_from_weights(opt, log.append)
    assert (opt['network_g']['skip'], opt['diffusion']['prediction']) == ('degraded', 'clean')
    assert opt['diffusion']['beta_end'] == 0.02
    assert 'diffusion: prediction: clean, as the weights say.' in log


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((11, 9), 60).convert('RGB').save('photo.png')

    def call(weights, *options, output='out.png'):
        code = restore.main(['photo.png', output, '--weights', str(weights), *options])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


def test_the_command_says_what_the_weights_say(run, tmp_path):
    weights = save_network(tmp_path / 'net.pth', description(num_diffusion_timesteps=500))
    code, out, err = run(weights)
    assert (code, err) == (0, '')
    assert 'coarse stage, iteration 5, pairs' in out and 'Timesteps: 499, 333, 166, 0' in out


@pytest.mark.parametrize('network', [{}, {'time_embedding': False}, {'skip': 'none'}])
@pytest.mark.parametrize('settings', OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
def test_the_command_restores_as_the_weights_were_trained(run, tmp_path, settings, network):
    saved = description(network=network, **settings)
    weights = save_network(tmp_path / 'net.pth', saved, **network)
    assert run(weights)[0] == 0
    trained = DFT(**TINY, **network).eval()
    trained.load_state_dict(torch.load(weights, weights_only=True)['params'])
    process = build_process(DiffusionOptions(**settings))
    photo = to_tensor(Image.open('photo.png'))
    expected = restore_image(trained, photo, process=process, noise_name='photo') * 255
    found = to_tensor(Image.open('out.png')) * 255
    torch.testing.assert_close(found, expected.round(), atol=1, rtol=0)
    other = restore_image(trained, photo, noise_name='photo') * 255
    assert (other - expected).abs().max() > 1


def test_the_command_says_what_is_assumed(run, tmp_path):
    _, out, _ = run(save_network(tmp_path / 'net.pth'))
    assert "the paper's settings are assumed" in out and 'T = 1000' in out


def test_an_option_file_goes_first_and_is_contradicted_by_key(run, tmp_path):
    weights = save_network(tmp_path / 'net.pth', description(prediction='clean'))
    options = tmp_path / 'o.yml'
    options.write_text(yaml.safe_dump({'diffusion': {'prediction': 'velocity'}}))
    code, _, err = run(weights, '--opt', str(options))
    assert code == 0
    assert 'diffusion: prediction: trained with clean, velocity is used' in err


def test_fine_weights_that_are_sampled_otherwise_are_warned_of(run, tmp_path):
    weights = save_network(tmp_path / 'net.pth', description('fine', sampling_timesteps=1))
    assert '--steps' not in run(weights)[2]
    _, _, err = run(weights, '--steps', '2', output='other.png')
    assert 'sampling_timesteps: trained with 1 call (999), 2 calls (999, 0) are used' in err


def test_starting_in_the_middle_from_pure_noise_is_warned_of(run, tmp_path):
    _, _, err = run(save_network(tmp_path / 'net.pth'), '--steps', '2,1')
    assert 'starts at timestep 2' in err and 'begin the timesteps with 999' in err
    _, _, err = run(save_network(tmp_path / 'net.pth'), '--steps', '999,2', output='b.png')
    assert err == ''


def test_the_check_prints_the_description(tmp_path, capsys):
    saved = description('fine', network={'skip': 'degraded'}, prediction='clean')
    assert check_weights.main([str(save_network(tmp_path / 'net.pth', saved))]) == 0
    out = capsys.readouterr().out
    for text in ('fine, iteration 5', 'pairs', 'T = 1000', 'prediction clean', 'skip degraded'):
        assert text in out


def test_the_exact_type_of_a_description_survives_a_copy():
    assert Description(**description().to_plain()) == description()

"""The systems of the paper's tables: as their authors' networks, any size, training, errors."""

from __future__ import annotations

import json
from pathlib import Path

import basicsr  # noqa: F401  (the hook registers the plugin)
import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY

import c2fdft_arch.baselines_arch  # noqa: F401
from c2fdft_arch.baselines.blocks.tensorflow import resize_corners
from c2fdft_arch.baselines.systems import DISCRIMINATORS, SYSTEMS
from c2fdft_arch.common.option_parsing import OptionError
from helpers import closed_form

# What the public networks give for weights and image of `closed_form`, and with which options.
REFERENCES = json.loads(
    (Path(__file__).resolve().parents[2] / 'data' / 'systems.json').read_text(encoding='utf-8')
)
TINY = {
    'PReNet': {'recurrent_iter': 2},
    'RESCAN': {'channels': 4, 'stages': 2, 'depth': 4},
    'HINet': {'wf': 4, 'depth': 3},
    'MIMOUNet': {'num_res': 1, 'base_channel': 8},
    'DMPHN': {'levels': 3, 'stacks': 2, 'channels': 4},
    'CBDNet': {'width': 4},
    'VDN': {'wf': 4, 'dep_U': 3, 'dep_S': 3},
    'TransWeather': {'widths': [8, 8, 16, 16]},
    'DeblurGAN': {'ngf': 4, 'n_blocks': 1},
    'DeblurGANv2': {
        'num_filters': 4,
        'num_filters_fpn': 8,
        'repeats': [1, 1],
        'unused_repeats': 0,
    },
    'MTRNN': {'iterations': 2, 'channels': 4},
    'SRN': {'variant': 'lstm', 'channels': 4},
    'AINDNet': {'width': 16},
    'MSPFN': {'modules': 2, 'channels': 32},
    'DeamNet': {'channels': 64},
    'CycleISPDenoiser': {'groups': 1, 'blocks': 1, 'channels': 32},
}
# How many outputs those return that return more than the restored image.
OUTPUTS = {
    'PReNet': 2, 'RESCAN': 2, 'HINet': 2, 'MIMOUNet': 3, 'DMPHN': 2, 'CBDNet': 3, 'VDN': 5,
    'MTRNN': 2, 'SRN': 3, 'AINDNet': 3,
}  # fmt: skip


def build(name: str, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network({'type': name, **(options or TINY[name])})


def test_every_system_is_tried_here():
    assert set(TINY) == set(SYSTEMS)
    assert {name.split('_')[0] for name in REFERENCES} == set(SYSTEMS)


def test_every_system_is_registered():
    assert set(SYSTEMS) <= set(ARCH_REGISTRY.keys())


@pytest.mark.parametrize('name', REFERENCES)
def test_the_output_is_that_of_the_authors_network(name):
    reference = REFERENCES[name]
    network = closed_form.fill(SYSTEMS[name.split('_')[0]](**reference['options'])).eval()
    with torch.no_grad():
        restored = network(closed_form.image(*reference['size']))
    found = torch.cat([restored[0, :, 2, 3], restored[0, :, -3, -4]])
    assert torch.allclose(found, torch.tensor(reference['values']), atol=1e-5)


@pytest.mark.parametrize('name', SYSTEMS)
def test_any_size_comes_back_as_it_was(name):
    network = build(name).eval()
    with torch.no_grad():
        for size in ((37, 29), (1, 1)):
            assert network(torch.rand(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize('name', SYSTEMS)
def test_a_training_step_reaches_every_parameter(name):
    network = build(name, **TINY[name], all_outputs=True)
    # Attention to a single token has no gradient: TransWeather needs a larger image.
    size = (128, 160) if name == 'TransWeather' else (32, 40)
    outputs = network(torch.rand(2, 3, *size))
    assert len(outputs) == OUTPUTS.get(name, 1)
    sum((output**2).mean() for output in outputs).backward()
    trained = {key: p for key, p in network.named_parameters() if p.requires_grad}
    assert [key for key, p in trained.items() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize('name', SYSTEMS)
def test_all_outputs_are_for_training_and_the_restored_image_is_the_first(name):
    network = build(name, **TINY[name], all_outputs=True)
    image = torch.rand(1, 3, 37, 29)
    first = network(image)[0]
    assert first.shape == image.shape
    network.eval()
    assert torch.is_tensor(network(image))
    if name not in ('DeblurGAN', 'TransWeather'):  # these leave things out at random
        assert torch.allclose(network(image), first, atol=1e-6)


@pytest.mark.parametrize('name', SYSTEMS)
def test_without_all_outputs_training_sees_the_restored_image_alone(name):
    assert build(name)(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize('name', SYSTEMS)
def test_an_image_that_is_not_rgb_is_refused_with_its_shape(name):
    network = build(name)
    for shape in ((1, 1, 32, 32), (1, 6, 32, 32), (3, 32, 32)):
        with pytest.raises(ValueError, match=rf'{name} takes RGB images .*got \({shape[0]}, '):
            network(torch.zeros(shape))


@pytest.mark.parametrize('name', SYSTEMS)
def test_a_system_with_adapters_can_predict_noise(name):
    network = build_network(
        {'type': 'NoisePredictor', 'adapters': True, 'backbone': {'type': name, **TINY[name]}}
    )
    noise = network(torch.rand(2, 6, 17, 24), torch.tensor([0, 999]))
    assert noise.shape == (2, 3, 17, 24)


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('PReNet', {'recurrent_iter': 0}, 'PReNet: recurrent_iter: 0 must be 1 or more'),
        ('RESCAN', {'depth': 2}, 'RESCAN: depth: 2 must be 3 or more'),
        ('HINet', {'depth': 1}, 'HINet: depth: 1 must be 2 or more'),
        ('MIMOUNet', {'base_channel': 3}, 'MIMOUNet: base_channel: 3 must be 4 or more'),
        ('DMPHN', {'levels': 1}, 'DMPHN: levels: 1 must be 2 or more'),
        ('DMPHN', {'weights': 'nowhere'}, 'weights: nowhere/encoder_lv1.pkl cannot be loaded'),
        ('TransWeather', {'widths': [8, 8, 8]}, r'widths: \[8, 8, 8\] must be 4 multiples of 8'),
        ('TransWeather', {'widths': [8, 8, 8, 12]}, 'must be 4 multiples of 8'),
        ('DeblurGAN', {'n_blocks': 0}, 'DeblurGAN: n_blocks: 0 must be 1 or more'),
        ('DeblurGANv2', {'num_filters': 1}, 'DeblurGANv2: num_filters: 1 must be 2 or more'),
        ('MTRNN', {'iterations': 1}, 'MTRNN: iterations: 1 must be 2 or more'),
        ('DeamNet', {'channels': 8}, 'DeamNet: channels: 8 must be 16 or more'),
        ('CycleISPDenoiser', {'groups': 0}, 'CycleISPDenoiser: groups: 0 must be 1 or more'),
        ('SRN', {'variant': 'colour'}, r'colour is not allowed \(did you mean "color"'),
        ('SRN', {'weights': 'nowhere.pth'}, 'SRN: weights: nowhere.pth cannot be loaded'),
        ('AINDNet', {'width': 0}, 'AINDNet: width: 0 must be 1 or more'),
        ('MSPFN', {'blocks': [1, 1]}, r'blocks: \[1, 1\] must be 3 numbers above 0'),
        ('MSPFN', {'modules': 0}, 'MSPFN: modules: 0 must be 1 or more'),
        ('CBDNet', {'width': 1}, 'CBDNet: width: 1 must be 2 or more'),
        ('VDN', {'dep_S': 1}, 'VDN: dep_S: 1 must be 2 or more'),
    ],
)
def test_impossible_options_are_refused_by_name(name, options, words):
    with pytest.raises(OptionError, match=words):
        SYSTEMS[name](**options)


@pytest.mark.parametrize('name', DISCRIMINATORS)
def test_a_discriminator_is_registered_and_judges_patches(name):
    network = build_network({'type': name, 'ndf': 2})
    scores = network(torch.rand(2, 3, 128, 160))
    assert scores.shape == (2, {'PatchDiscriminator': 1}.get(name, 2), 19, 23)
    scores.mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_both_scales_of_the_discriminator_count_alike():
    network = build_network({'type': 'DoubleScaleDiscriminator', 'ndf': 2})
    image = torch.rand(1, 3, 128, 128)
    scores = network(image)
    assert torch.equal(scores[:, :1], network.patch(image))
    assert torch.allclose(scores[:, 1:].unique(), network.full(image).unique())


def test_evaluation_normalises_by_the_images_own_statistics():
    network = build('DeblurGANv2').eval()
    image = torch.rand(1, 3, 128, 128)
    before = network(image)
    for module in network.modules():
        if hasattr(module, 'running_mean'):
            module.running_mean.fill_(5.0)
    assert torch.equal(network(image), before)


def test_shared_blocks_are_one_block_applied_five_times():
    shared, own = build('PReNet', shared_blocks=True).eval(), build('PReNet').eval()
    state = shared.state_dict()
    block = {key: value for key, value in state.items() if key.startswith('res_conv1.')}
    copies = {key.replace('1', str(k), 1): v for k in range(1, 6) for key, v in block.items()}
    own = build('PReNet', recurrent_iter=6).eval()
    own.load_state_dict({**state, **copies})
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(shared(image), own(image))


def test_the_self_ensemble_is_the_mean_over_flips_in_evaluation_alone():
    network = build('MIMOUNet', **TINY['MIMOUNet'], self_ensemble=True)
    image = torch.rand(1, 3, 16, 24)
    trained = network(image)
    network.self_ensemble = False
    assert torch.equal(network(image), trained)
    network.eval()
    flips = ((), (-1,), (-2,), (-2, -1))
    expected = sum(network(image.flip(dims)).flip(dims) for dims in flips) / 4
    network.self_ensemble = True
    assert torch.allclose(network(image), expected, atol=1e-6)


@pytest.mark.parametrize(('levels', 'stacks'), [(3, 1), (3, 2)])
def test_dmphn_loads_a_folder_with_a_file_for_each_part(levels, stacks, tmp_path):
    options = {'levels': levels, 'stacks': stacks, 'channels': 4}
    trained = build('DMPHN', **options).eval()
    for name, part in trained.named_children():
        torch.save(part.state_dict(), tmp_path / f'{name}.pkl')
    loaded = SYSTEMS['DMPHN'](**options, weights=str(tmp_path)).eval()
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(loaded(image), trained(image))


def variables_of(network: torch.nn.Module, scope: str) -> dict[str, torch.Tensor]:
    """A network's parameters as the variables of a TensorFlow checkpoint."""
    variables = {}
    for key, value in network.state_dict().items():
        *path, leaf = key.split('.')
        leaf = {'weight': 'weights', 'bias': 'biases'}.get(leaf, leaf)
        channels_last = value.permute(2, 3, 1, 0) if value.dim() == 4 else value
        variables[scope + '/'.join([*path, leaf])] = channels_last.clone()
    return variables


@pytest.mark.parametrize(
    ('name', 'scope'), [('SRN', 'g_net/'), ('AINDNet', ''), ('MSPFN', 'generator/')]
)
def test_the_variables_of_a_tensorflow_checkpoint_load(name, scope, tmp_path):
    trained = build(name).eval()
    variables = variables_of(trained, scope)
    first = next(iter(variables))
    file = tmp_path / 'variables.pth'
    torch.save({**variables, f'{first}/Adam': torch.zeros(3), 'global_step': torch.tensor(7)}, file)
    loaded = build(name, **TINY[name], weights=str(file)).eval()
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(image), trained(image))


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(tmp_path):
    file = tmp_path / 'variables.pth'
    variables = variables_of(build('AINDNet'), '')
    torch.save(variables, file)
    with pytest.raises(OptionError, match='AINDNet: weights: .* does not fit'):
        SYSTEMS['AINDNet'](width=8, weights=str(file))
    del variables['AINDNet/conv6/weights']
    torch.save(variables, file)
    with pytest.raises(OptionError, match='lacks 1 of its variables, as AINDNet.conv6.weight'):
        SYSTEMS['AINDNet'](width=16, weights=str(file))


def test_resizing_keeps_the_first_pixel_in_its_place():
    row = torch.tensor([0.0, 4.0, 2.0]).view(1, 1, 1, 3)
    assert resize_corners(row, (1, 6)).flatten().tolist() == [0, 2, 4, 3, 2, 2]
    assert resize_corners(row, (1, 1)).flatten().tolist() == [0]


@pytest.mark.parametrize('colours', ['gray', 'lstm'])
def test_srn_restores_each_colour_on_its_own_but_for_the_variant_color(colours):
    network = build('SRN', variant=colours, channels=4).eval()
    image = torch.rand(1, 3, 16, 16)
    swapped = network(image.flip(1)).flip(1)
    assert torch.allclose(network(image), swapped, atol=1e-6)
    network = build('SRN', channels=4).eval()
    assert not torch.allclose(network(image), network(image.flip(1)).flip(1), atol=1e-6)

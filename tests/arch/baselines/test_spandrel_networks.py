"""The networks that the paper compares with: built, trained, loaded, and refused clearly."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import basicsr  # noqa: F401  (the hook registers the plugin)
import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY

import c2fdft_arch.baselines_arch  # noqa: F401
from c2fdft_arch.baselines.spandrel_networks import BASELINES, BaselineFactory
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_arch.common.registry_lookup import options_of

INSTALLED = all(
    importlib.util.find_spec(package) for package in ('spandrel', 'spandrel_extra_arches')
)
needs_extra = pytest.mark.skipif(
    not INSTALLED, reason='the extra is not installed: pip install "c2fdft[baselines]"'
)

TINY = {
    'NAFNet': {'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]},
    'Uformer': {'img_size': 128, 'embed_dim': 4, 'depths': [1] * 9, 'num_heads': [1] * 9},
    'KBNet_s': {'width': 8, 'middle_blk_num': 1, 'enc_blk_nums': [1], 'dec_blk_nums': [1]},
    'KBNet_l': {'dim': 12, 'num_blocks': [1] * 4, 'num_refinement_blocks': 1, 'heads': [1] * 4},
    'FFTformer': {'dim': 8, 'num_blocks': [1] * 3, 'num_refinement_blocks': 1},
    'SCUNet': {'config': [2] * 7},
    'DRUNet': {'nc': [4, 4, 8, 8], 'nb': 2},
    'DnCNN': {'nc': 4, 'nb': 3},
    'FBCNN': {'nc': [4, 4, 8, 512], 'nb': 2},
    'RetinexFormer': {'n_feat': 8, 'stage': 1},
    'HVICIDNet': {'channels': [4, 4, 8, 16], 'heads': [1] * 4},
    'GRL': {
        'img_size': 16,
        'embed_dim': 12,
        'depths': [1],
        'num_heads_window': [1],
        'num_heads_stripe': [1],
    },
    'Restormer': {'dim': 8, 'num_blocks': [1] * 4, 'num_refinement_blocks': 1, 'heads': [1] * 4},
    'MPRNet': {'n_feat': 8, 'scale_unetfeats': 4, 'scale_orsnetfeats': 4, 'num_cab': 2},
    'MIRNet2': {'n_feat': 16, 'n_MRB': 2},
    'M3SNet': {'width': 4, 'enc_blk_nums': [1] * 4, 'dec_blk_nums': [1] * 4},
}

# Checkpoints as their authors publish them: the key and the prefix around the parameters.
PUBLISHED = {
    'NAFNet': ('params', ''),
    'Restormer': ('params', ''),
    'MPRNet': ('state_dict', 'module.'),
    'MIRNet2': ('params', ''),
    'Uformer': ('state_dict', 'module.'),
    'KBNet_s': ('params', ''),
    'SCUNet': (None, ''),
    'DRUNet': (None, ''),
    'FFTformer': (None, ''),
}


def build(name: str, **options) -> torch.nn.Module:
    return build_network({'type': f'spandrel/{name}', **(options or TINY[name])})


def publish(network: torch.nn.Module, path, key: str | None, prefix: str) -> str:
    weights = {prefix + name: value for name, value in network.state_dict().items()}
    torch.save({key: weights} if key else weights, path)
    return str(path)


def sr_options(network_g: dict, folder, **path) -> dict:
    """Options of BasicSR's SRModel for training on the CPU."""
    return {
        'is_train': True,
        'num_gpu': 0,
        'dist': False,
        'rank': 0,
        'scale': 1,
        'name': 'test',
        'network_g': network_g,
        'path': {'models': str(folder), 'training_states': str(folder), **path},
        'train': {
            'ema_decay': 0.9,
            'optim_g': {'type': 'Adam', 'lr': 1e-3},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [10]},
            'pixel_opt': {'type': 'L1Loss'},
        },
    }


def test_every_baseline_has_a_tiny_configuration():
    assert set(TINY) == set(BASELINES)


def test_every_baseline_is_registered_under_the_name_of_the_package():
    assert {f'spandrel/{name}' for name in BASELINES} <= set(ARCH_REGISTRY.keys())


@pytest.mark.subprocess
def test_importing_basicsr_does_not_import_the_extra():
    code = (
        'import basicsr, sys; from basicsr.utils.registry import ARCH_REGISTRY as r; '
        'print("spandrel/NAFNet" in r, "spandrel" in sys.modules)'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ['True', 'False']


@needs_extra
@pytest.mark.parametrize('name', BASELINES)
def test_any_size_comes_back_as_it_was(name):
    network = build(name).eval()
    with torch.no_grad():
        for size in ((37, 29), (1, 1)):
            assert network(torch.rand(1, 3, *size)).shape == (1, 3, *size)


@needs_extra
@pytest.mark.parametrize('name', BASELINES)
def test_padding_leaves_legal_sizes_as_the_plain_network_restores_them(name):
    torch.manual_seed(0)
    network = build(name).eval()
    plain = BaselineFactory(name).network_class()(**network.hyperparameters).eval()
    plain.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        expected = plain(image)
        expected = expected[0] if isinstance(expected, (list, tuple)) else expected
        assert torch.equal(network(image), expected)


@needs_extra
@pytest.mark.parametrize('name', BASELINES)
def test_size_multiple_is_the_one_that_spandrel_states(name):
    factory = BaselineFactory(name)
    network = build(name)
    stated = factory.architecture().load(network.state_dict()).size_requirements
    assert network.size_multiple % max(stated.multiple_of, 1) == 0
    assert network.square >= stated.square


@needs_extra
@pytest.mark.parametrize('name', BASELINES)
def test_a_training_step_under_srmodel(name, tmp_path):
    torch.manual_seed(0)
    model = build_model(
        {
            **sr_options({'type': f'spandrel/{name}', **TINY[name]}, tmp_path),
            'model_type': 'SRModel',
        }
    )
    before = [p.detach().clone() for p in model.net_g.parameters()]
    model.feed_data({'lq': torch.rand(2, 3, 32, 32), 'gt': torch.rand(2, 3, 32, 32)})
    model.optimize_parameters(1)
    assert model.get_current_log()['l_pix'] > 0
    after = list(model.net_g.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    model.test()
    assert model.output.shape == (2, 3, 32, 32)


@needs_extra
@pytest.mark.parametrize('name', PUBLISHED)
def test_published_weights_decide_the_options(name, tmp_path):
    torch.manual_seed(0)
    trained = build(name).eval()
    path = publish(trained, tmp_path / 'published.pth', *PUBLISHED[name])
    loaded = build(name, weights=path).eval()
    image = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(loaded(image), trained(image))


@needs_extra
@pytest.mark.parametrize('name', PUBLISHED)
def test_published_weights_load_through_basicsr(name, tmp_path):
    torch.manual_seed(0)
    trained = build(name).eval()
    key, prefix = PUBLISHED[name]
    path = publish(trained, tmp_path / 'published.pth', key, prefix)
    section = {'type': f'spandrel/{name}', **TINY[name]}
    model = build_model(
        {
            **sr_options(section, tmp_path, pretrain_network_g=path, param_key_g=key),
            'is_train': False,
            'model_type': 'SRModel',
        }
    )
    for ours, theirs in zip(model.net_g.parameters(), trained.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@needs_extra
def test_noise_level_is_appended_as_a_constant_channel():
    network = build('DRUNet', **TINY['DRUNet'], noise_level=51)
    seen = []
    network.m_head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.zeros(1, 3, 8, 8))
    assert seen[0].shape[1] == 4
    assert torch.allclose(seen[0][:, 3], torch.tensor(0.2))


@needs_extra
@pytest.mark.parametrize('name', ['NAFNet', 'Restormer', 'SCUNet'])
def test_a_baseline_can_predict_noise(name):
    network = build_network(
        {'type': 'NoisePredictor', 'backbone': {'type': f'spandrel/{name}', **TINY[name]}}
    )
    x = torch.rand(2, 6, 16, 24)
    assert network(x, torch.tensor([0, 999])).shape == (2, 3, 16, 24)


@needs_extra
@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('Restormer', {'dims': 8}, ['dims', 'did you mean "dim"']),
        ('NAFNet', {'weights': 'nowhere.pth'}, ['weights: nowhere.pth cannot be read']),
        ('NAFNet', {'weights': 'x.pth', 'width': 4}, ['width follow from weights']),
    ],
)
def test_wrong_options_are_refused_by_name(name, options, words):
    with pytest.raises(OptionError) as error:
        build(name, **options)
    for word in words:
        assert word in str(error.value)


@needs_extra
def test_networks_of_a_name_are_of_one_class():
    assert type(build('NAFNet')) is type(build('NAFNet'))


@needs_extra
def test_options_of_a_baseline_are_the_networks_own_and_two_more():
    options = options_of(BaselineFactory('NAFNet'))
    assert {'width', 'weights', 'noise_level'} <= set(options)
    assert options['img_channel'].default == 3


@needs_extra
def test_weights_of_another_network_are_refused_and_named(tmp_path):
    path = publish(build('Restormer'), tmp_path / 'restormer.pth', 'params', '')
    with pytest.raises(OptionError, match='not a checkpoint of NAFNet; it fits Restormer'):
        build('NAFNet', weights=path)


@pytest.mark.parametrize('name', ['NAFNet', 'Restormer'])
def test_an_extra_that_is_not_installed_is_named_with_the_command(name, monkeypatch):
    package, module = BASELINES[name].package, BASELINES[name].module
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f'{package}.architectures', raising=False)
    monkeypatch.delitem(sys.modules, f'{package}.architectures.{module}', raising=False)
    with pytest.raises(OptionError) as error:
        build(name)
    assert f'spandrel/{name} needs the package {package}' in str(error.value)
    assert 'pip install "c2fdft[baselines]"' in str(error.value)

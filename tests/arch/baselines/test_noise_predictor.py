"""Every stock architecture of BasicSR as a noise predictor, and what is refused."""

from __future__ import annotations

import inspect

import basicsr  # noqa: F401  (the hook registers the plugin)
import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

import c2fdft_arch.noise_predictor_arch  # noqa: F401
from c2fdft_arch.baselines.noise_predictor import NoisePredictor
from c2fdft_arch.baselines.probing import probe_size, size_multiples
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.diffusion.noise_schedule import NoiseSchedule
from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.training.stages import CoarseStage, FineStage

TINY_SWINIR = {'img_size': 16, 'embed_dim': 8, 'depths': [2], 'num_heads': [2], 'mlp_ratio': 2}

# Name: (options of the backbone, options of NoisePredictor, size multiple)
STOCK = {
    'EDSR': ({'num_feat': 8, 'num_block': 1, 'upscale': 1}, {}, 1),
    'RCAN': ({'num_feat': 16, 'num_group': 1, 'num_block': 1, 'upscale': 1}, {}, 1),
    'RRDBNet': ({'scale': 1, 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}, {}, 4),
    'MSRResNet': (
        {'num_in_ch': 12, 'num_out_ch': 12, 'num_feat': 8, 'num_block': 1, 'upscale': 2},
        {'unshuffle': 2, 'adapters': True},
        2,
    ),
    'SwinIR': ({**TINY_SWINIR, 'window_size': 8, 'upscale': 1}, {}, 8),
    'RIDNet': (
        {'in_channels': 3, 'mid_channels': 16, 'out_channels': 3, 'num_block': 1},
        {'adapters': True},
        1,
    ),
    'SRVGGNetCompact': ({'num_feat': 8, 'num_conv': 1, 'upscale': 1}, {}, 1),
    'ECBSR': (
        {'num_block': 1, 'num_channel': 8, 'with_idt': False, 'act_type': 'prelu', 'scale': 1},
        {},
        1,
    ),
    'DFT': ({'dim': 4, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1]}, {}, 8),
}

NOT_IMAGE_TO_IMAGE = {
    'BasicVSR', 'BasicVSRPlusPlus', 'DUF', 'EDVR', 'IconVSR', 'SpyNet', 'TOFlow',  # frames
    'DFDNet', 'HiFaceGAN', 'StyleGAN2Generator', 'StyleGAN2GeneratorBilinear',  # faces
    'HiFaceGANDiscriminator', 'StyleGAN2Discriminator', 'StyleGAN2DiscriminatorBilinear',
    'UNetDiscriminatorSN', 'VGGStyleDiscriminator', 'VGGFeatureExtractor',
}  # fmt: skip


def build(name: str, backbone: dict | None = None, **options) -> nn.Module:
    stock_backbone, stock_options, _ = STOCK.get(name, ({}, {}, 1))
    section = {'type': name, **(stock_backbone if backbone is None else backbone)}
    options = options or (stock_options if backbone is None else {})
    return build_network({'type': 'NoisePredictor', 'backbone': section, **options})


def process() -> DDPMProcess:
    return DDPMProcess(NoiseSchedule(), sampling_steps=2)


def images(height: int = 16, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(2, 3, height, width, generator=generator),
        torch.rand(2, 3, height, width, generator=generator),
    )


def training_step(network: nn.Module, stage: nn.Module) -> None:
    """One step of plain gradient descent; every parameter that takes part must move."""
    lq, gt = images()
    loss = sum(stage(lq, gt, torch.randn(gt.shape), torch.tensor([3, 900])).values())
    assert torch.isfinite(loss)
    loss.backward()
    trained = [p for p in network.parameters() if p.requires_grad]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    with torch.no_grad():
        for p in trained:
            if p.grad is not None:
                p -= 1e-4 * p.grad


def test_every_stock_architecture_is_tested_or_known_to_map_something_else():
    stock = {
        name.removesuffix('_basicsr')
        for name, obj in ARCH_REGISTRY
        if inspect.getmodule(obj).__name__.startswith('basicsr.')
    }
    assert stock - NOT_IMAGE_TO_IMAGE <= set(STOCK)


@pytest.mark.parametrize('name', STOCK)
def test_a_coarse_and_a_fine_step_and_a_sampling(name):
    torch.manual_seed(0)
    network = build(name)
    training_step(network, CoarseStage(network, process(), nn.L1Loss()))
    training_step(network, FineStage(network, process(), {'l_pix': nn.L1Loss()}, {}))
    lq, _ = images(21, 19)
    restored = restore(network.eval(), lq, process=process())
    assert restored.shape == lq.shape
    assert torch.isfinite(restored).all()


@pytest.mark.parametrize('name', STOCK)
def test_size_multiple_is_found(name):
    assert build(name).size_multiple == STOCK[name][2]


@pytest.mark.parametrize('name', STOCK)
def test_any_size_is_taken(name):
    network = build(name).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 6, 8, 24), torch.zeros(1)).shape == (1, 3, 8, 24)


@pytest.mark.parametrize('name', [n for n in STOCK if n != 'DFT'])
def test_the_timestep_reaches_the_backbone(name):
    torch.manual_seed(0)
    network = build(name).eval()
    x = torch.rand(1, 6, 16, 16)
    with torch.no_grad():
        early, late = (network(x, torch.tensor([t])) for t in (0, 999))
    assert (early - late).abs().max() > 0


def test_time_none_ignores_the_timestep():
    network = build('EDSR', {'num_feat': 8, 'num_block': 1, 'upscale': 1}, time='none').eval()
    assert network.backbone.conv_first.in_channels == 6
    x = torch.rand(1, 6, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(x, torch.tensor([0])), network(x, torch.tensor([999])))


def test_time_channel_is_the_constant_t_over_T():
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(7, 3, 1)

        def forward(self, x):
            seen.append(x)
            return self.conv(x)

    network = NoisePredictor(Spy(), num_timesteps=500)
    x = torch.rand(2, 6, 8, 8)
    network(x, torch.tensor([0, 250]))
    assert torch.equal(seen[-1][:, :6], x)
    assert torch.equal(seen[-1][0, 6], torch.zeros(8, 8))
    assert torch.equal(seen[-1][1, 6], torch.full((8, 8), 0.5))


def test_three_output_channels_are_added_to_the_noisy_image():
    backbone = nn.Conv2d(7, 3, 1)
    nn.init.zeros_(backbone.weight)
    nn.init.zeros_(backbone.bias)
    x = torch.rand(1, 6, 8, 8)
    assert torch.equal(NoisePredictor(backbone)(x, torch.zeros(1)), x[:, 3:])


def test_residual_can_be_switched_off():
    backbone = nn.Conv2d(7, 3, 1)
    x = torch.rand(1, 6, 8, 8)
    network = NoisePredictor(backbone, residual=False)
    assert torch.allclose(network(x, torch.zeros(1)), backbone(torch.cat([x, 0 * x[:, :1]], 1)))


def test_a_backbone_with_its_own_residual_predicts_in_place_of_the_noisy_image():
    network = NoisePredictor(nn.Identity())
    x = torch.rand(1, 6, 8, 8)
    assert torch.equal(network(x, torch.zeros(1)), x[:, 3:])


@pytest.mark.parametrize(
    ('skip', 'added'), [('noisy', slice(3, 6)), ('degraded', slice(0, 3)), ('none', None)]
)
def test_skip_chooses_the_image_that_three_output_channels_are_added_to(skip, added):
    backbone = nn.Conv2d(7, 3, 1)
    nn.init.zeros_(backbone.weight)
    nn.init.zeros_(backbone.bias)
    x = torch.rand(1, 6, 8, 8)
    expected = torch.zeros(1, 3, 8, 8) if added is None else x[:, added]
    assert torch.equal(NoisePredictor(backbone, skip=skip)(x, torch.zeros(1)), expected)


def test_skip_degraded_takes_the_channels_in_place_of_the_degraded_image():
    network = NoisePredictor(nn.Identity(), skip='degraded')
    x = torch.rand(1, 6, 8, 8)
    assert torch.equal(network(x, torch.zeros(1)), x[:, :3])


def test_a_network_that_takes_the_timestep_is_used_as_it_is():
    wrapped = build('DFT').eval()
    x = torch.rand(2, 6, 16, 16)
    t = torch.tensor([5, 700])
    with torch.no_grad():
        assert torch.equal(wrapped(x, t), wrapped.backbone(x, t))


def test_edsr_subtracts_no_rgb_mean_from_stacked_images():
    assert float(build('EDSR').backbone.mean.abs().sum()) == 0


def test_unshuffle_undoes_the_upscaling_of_the_backbone():
    network = build('RRDBNet', {'scale': 4, 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4},
                    unshuffle=4)  # fmt: skip
    assert network.backbone.conv_first.in_channels == 7 * 16
    assert network.size_multiple == 4
    assert network(torch.zeros(1, 6, 12, 8), torch.zeros(1)).shape == (1, 3, 12, 8)


@pytest.mark.parametrize('window_size', [7, 8])
def test_size_multiple_of_a_window_attention_is_its_window(window_size):
    size = {'window_size': window_size, 'img_size': 2 * window_size}
    network = build('SwinIR', {**TINY_SWINIR, **size, 'upscale': 1})
    assert network.size_multiple == window_size


@pytest.mark.parametrize('multiple', [1, 2, 7, 8, 64])
def test_probe_sizes_are_multiples_of_no_larger_power_of_two(multiple):
    for side in probe_size(multiple):
        assert side % multiple == 0
        assert side % (2 * multiple) != 0


def test_multiples_of_the_window_size_are_tried():
    backbone = nn.Conv2d(7, 3, 1)
    backbone.window_size = 6
    assert {6, 12, 24, 48} <= set(size_multiples(backbone))


def test_building_leaves_no_trace_of_the_probe_in_the_backbone():
    network = build('EDSR')
    assert network.backbone.mean.device.type == 'cpu'
    assert all(p.device.type == 'cpu' for p in network.parameters())


@pytest.mark.parametrize(
    ('backbone', 'options', 'words'),
    [
        ({'type': 'Edsr'}, {}, ['Edsr is not a registered', 'did you mean "EDSR"']),
        ({'type': 'RRDBNett'}, {}, ['did you mean "RRDBNet"']),
        ({}, {}, ['type is missing']),
        ({'type': 'EDSR', 'num_feats': 8}, {}, ['num_feats', 'did you mean "num_feat"']),
        ({'type': 'RIDNet'}, {}, ['RIDNet needs mid_channels']),
        ({'type': 'EDSR', 'num_feat': 8}, {}, ['4 times the size', 'unshuffle: 4']),
        (
            {'type': 'EDSR', 'num_in_ch': 3, 'upscale': 1},
            {},
            ['num_in_ch: 3', 'fed 7 channels', 'Set num_in_ch: 7'],
        ),
        (
            {'type': 'RIDNet', 'mid_channels': 16, 'num_block': 1},
            {},
            ['RIDNet cannot predict noise', 'adapters: true'],
        ),
        ({'type': 'MSRResNet', 'upscale': 1}, {}, ['MSRResNet', 'unshuffle: s']),
        (
            {'type': 'RRDBNet', 'scale': 4, 'num_feat': 8, 'num_block': 1},
            {'unshuffle': 2},
            ['RRDBNet', '4 times the size'],
        ),
        ({'type': 'UNetDiscriminatorSN', 'num_in_ch': 7}, {}, ['returns 1 channels']),
        ({'type': 'EDSR', 'upscale': 1}, {'time': 'chanel'}, ['chanel', 'channel, none']),
        ({'type': 'DFT', 'dim': 4}, {'time': 'channel'}, ['takes the timestep itself']),
        ({'type': 'DFT', 'dim': 4}, {'skip': 'degraded'}, ['skip: degraded does not fit DFT']),
        ({'type': 'EDSR', 'upscale': 1}, {'skip': 'noisi'}, ["skip: 'noisi'", 'mean "noisy"']),
        (
            {'type': 'EDSR', 'upscale': 1},
            {'skip': 'none', 'residual': True},
            ['residual: true contradicts skip: none'],
        ),
        (
            {'type': 'EDSR', 'upscale': 1},
            {'skip': 'degraded', 'residual': False},
            ['residual: false contradicts skip: degraded'],
        ),
        ({'type': 'DFT', 'dim': 4}, {'adapters': True}, ['adapters', 'used as it is']),
        ({'type': 'DFT', 'dim': 4}, {'unshuffle': 2}, ['unshuffle: 2', 'leave unshuffle out']),
        ({'type': 'EDSR', 'upscale': 1}, {'unshuffle': 0}, ['unshuffle: 0']),
        ({'type': 'DUF'}, {}, ['DUF cannot predict noise']),
    ],
)  # fmt: skip
def test_what_cannot_predict_noise_is_refused_with_name_and_fix(backbone, options, words):
    with pytest.raises(OptionError) as error:
        build_network({'type': 'NoisePredictor', 'backbone': backbone, **options})
    for word in words:
        assert word in str(error.value)


def test_wrong_input_is_refused_at_the_call():
    with pytest.raises(ValueError, match='degraded and the noisy'):
        build('EDSR')(torch.zeros(1, 3, 8, 8), torch.zeros(1))

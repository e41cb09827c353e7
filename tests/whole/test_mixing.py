"""Our parts under BasicSR's models, BasicSR's parts under ours, through BasicSR's own pipelines."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import cv2
import pytest
import torch
import torchvision
import yaml
from basicsr.test import test_pipeline as basicsr_test
from basicsr.train import train_pipeline as basicsr_train
from basicsr.utils import get_root_logger

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.training import set_up
from helpers.paired_data import write_noise_folders

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1}
EDSR = {**EDSR, 'upscale': 1, 'img_range': 1.0}
DFT = {'type': 'DFT', 'dim': 8, 'num_blocks': [1] * 4, 'heads': [1] * 4}
DISCRIMINATOR = {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3, 'num_feat': 4}
ADAM = {'type': 'Adam', 'lr': 1e-3}
L1 = {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}
SSIM = {'type': 'SSIMLoss', 'loss_weight': 1.0}
PSNR = {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}
GAN = {
    'type': 'GANLoss',
    'gan_type': 'vanilla',
    'real_label_val': 1.0,
    'fake_label_val': 0.0,
    'loss_weight': 0.1,
}
NOISE_PREDICTOR = {
    'type': 'NoisePredictor',
    'backbone': {'type': 'EDSR', 'num_feat': 8, 'num_block': 1, 'upscale': 1},
}


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    """Folders `input` and `target` with three images of odd sizes."""
    return write_noise_folders(tmp_path_factory.mktemp('data'), height=41)


def folders(images: Path) -> dict:
    return {
        'dataroot_lq': str(images / 'input'),
        'dataroot_gt': str(images / 'target'),
        'io_backend': {'type': 'disk'},
    }


def our_data(images: Path) -> dict:
    """The patch cycle: 16 x 16 in iteration 1, 24 x 24 in iteration 2, and so on."""
    return {
        'name': 'train',
        'type': 'PatchCyclePairedDataset',
        'gt_sizes': [16, 24],
        'mini_batch_sizes': [4, 2],
        'iters': [1],
        'batch_size_per_gpu': 4,
        'num_worker_per_gpu': 0,
        **folders(images),
    }


def basicsr_data(images: Path) -> dict:
    return {
        'name': 'train',
        'type': 'PairedImageDataset',
        'gt_size': 16,
        'use_hflip': True,
        'use_rot': True,
        'use_shuffle': True,
        'batch_size_per_gpu': 2,
        'num_worker_per_gpu': 0,
        'dataset_enlarge_ratio': 10,
        'prefetch_mode': None,
        **folders(images),
    }


def training(images: Path, model_type: str, network_g: dict, data: dict, train: dict, **more):
    """Options of a training of three iterations with one validation."""
    validation = {'name': 'val', 'type': 'PairedImageDataset', **folders(images)}
    return {
        'name': 'mixed',
        'model_type': model_type,
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': 0,
        'datasets': {'train': data, 'val': validation},
        'network_g': network_g,
        'path': {'pretrain_network_g': None, 'resume_state': None},
        'train': {
            'ema_decay': 0.9,
            'optim_g': ADAM,
            'scheduler': {'type': 'MultiStepLR', 'milestones': [10]},
            'total_iter': 3,
            'warmup_iter': -1,
            **train,
        },
        'val': {
            'val_freq': 3,
            'save_img': False,
            'metrics': PSNR,
        },
        'logger': {
            'print_freq': 1,
            'save_checkpoint_freq': 3,
            'use_tb_logger': False,
        },
        'dist_params': {'backend': 'nccl', 'port': 29500},
        **more,
    }


@pytest.fixture
def run(tmp_path, monkeypatch, caplog):
    """Run a pipeline of BasicSR on options, in an empty folder; return what it logged."""

    def run_pipeline(opt: dict, pipeline=basicsr_train) -> str:
        path = tmp_path / 'options.yml'
        path.write_text(yaml.safe_dump(opt, sort_keys=False))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', ['basicsr', '-opt', str(path)])
        get_root_logger()
        monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
        with caplog.at_level(logging.INFO, logger='basicsr'):
            pipeline(str(tmp_path))
        return caplog.text

    return run_pipeline


def saved_weights(folder: Path, label: str = 'net_g_latest') -> dict:
    path = folder / 'experiments' / 'mixed' / 'models' / f'{label}.pth'
    return torch.load(path, weights_only=True)


def assert_finite(saved: dict) -> None:
    networks = [weights for name, weights in saved.items() if name.startswith('params')]
    assert networks
    for weights in networks:
        assert all(torch.isfinite(value).all() for value in weights.values())


@pytest.mark.parametrize('loss', [L1, SSIM], ids=['L1Loss', 'SSIMLoss'])
def test_our_data_and_loss_under_srmodel(loss, images, run, tmp_path):
    train = {'pixel_opt': loss}
    log = run(training(images, 'SRModel', EDSR, our_data(images), train))
    assert 'l_pix' in log
    assert 'psnr' in log
    assert_finite(saved_weights(tmp_path))


@pytest.mark.parametrize('model_type', ['SRGANModel', 'ESRGANModel'])
def test_our_data_and_ssim_loss_under_gan_models(model_type, images, run, tmp_path):
    train = {'pixel_opt': SSIM, 'gan_opt': GAN, 'optim_d': dict(ADAM), 'net_d_init_iters': 0}
    opt = training(images, model_type, EDSR, our_data(images), train, network_d=DISCRIMINATOR)
    log = run(opt)
    assert 'l_g_pix' in log
    assert 'l_g_gan' in log
    assert_finite(saved_weights(tmp_path))
    assert_finite(saved_weights(tmp_path, 'net_d_latest'))


def test_our_data_and_loss_under_swinirmodel(images, run, tmp_path):
    network = {
        'type': 'SwinIR', 'upscale': 1, 'img_size': 16, 'window_size': 8, 'embed_dim': 8,
        'depths': [1], 'num_heads': [2], 'mlp_ratio': 2,
    }  # fmt: skip
    log = run(training(images, 'SwinIRModel', network, our_data(images), {'pixel_opt': SSIM}))
    assert 'psnr' in log
    assert_finite(saved_weights(tmp_path))


COARSE = {'stage': 'coarse', 'pixel_opt': L1}
FINE = {'stage': 'fine', 'pixel_opt': L1, 'ssim_opt': SSIM}
TWO_STEPS = {'sampling_timesteps': 2}
IR_SDE = {
    'process': 'ir_sde',
    'num_diffusion_timesteps': 10,
    'sampling_timesteps': 3,
    'eta': 1,
    'ir_sde': {'objective': 'maximum_likelihood'},
}


@pytest.mark.parametrize('train', [COARSE, FINE], ids=['coarse', 'fine'])
def test_our_model_with_basicsrs_paired_image_dataset(train, images, run, tmp_path):
    opt = training(images, 'C2FDFTModel', DFT, basicsr_data(images), train, diffusion=TWO_STEPS)
    assert 'psnr' in run(opt)
    assert_finite(saved_weights(tmp_path))


@pytest.mark.parametrize('diffusion', [TWO_STEPS, IR_SDE], ids=['ddpm', 'ir_sde'])
@pytest.mark.parametrize('network', [DFT, NOISE_PREDICTOR], ids=['DFT', 'NoisePredictor'])
@pytest.mark.parametrize('train', [COARSE, FINE], ids=['coarse', 'fine'])
def test_every_network_under_every_process_in_both_stages(
    diffusion, network, train, images, run, tmp_path
):
    opt = training(images, 'C2FDFTModel', network, our_data(images), train, diffusion=diffusion)
    assert 'psnr' in run(opt)
    assert_finite(saved_weights(tmp_path))


RESIDUAL = {'prediction': 'clean', 'sampling_timesteps': 1}


@pytest.mark.parametrize(
    'network, train',
    [
        ({**DFT, 'skip': 'degraded'}, COARSE),
        ({**NOISE_PREDICTOR, 'skip': 'degraded'}, FINE),
        ({**DFT, 'skip': 'noisy'}, COARSE),
    ],
    ids=['DFT', 'NoisePredictor', 'another_skip'],
)
def test_the_clean_image_as_the_target(network, train, images, run, tmp_path):
    log = run(training(images, 'C2FDFTModel', network, our_data(images), train, diffusion=RESIDUAL))
    assert 'psnr' in log
    assert ('l_clean' in log) is (train is COARSE)
    assert ('skip: degraded suits this prediction' in log) is (network['skip'] == 'noisy')
    assert_finite(saved_weights(tmp_path))


@pytest.mark.parametrize(
    'network, words',
    [
        ({**DFT, 'skp': 'noisy'}, r'network_g: skp is not a known key .*"skip"'),
        ({'type': 'EDSR', 'skip': 'degraded'}, 'network_g: skip is not a known key'),
    ],
)
def test_an_option_that_the_network_does_not_have_is_refused(network, words, images, run):
    opt = training(images, 'C2FDFTModel', network, our_data(images), COARSE)
    with pytest.raises(OptionError, match=words):
        run(opt)


@pytest.mark.parametrize('fast', [False, True])
def test_bf16_on_a_machine_that_does_not_multiply_it_is_warned_of(fast, images, run, monkeypatch):
    monkeypatch.setattr(set_up, 'has_fast_bf16', lambda device_type: fast)
    train = {**COARSE, 'amp': 'bf16'}
    opt = training(images, 'C2FDFTModel', DFT, our_data(images), train, diffusion=TWO_STEPS)
    warned = 'train: amp: bf16: this CPU does not multiply bfloat16' in run(opt)
    assert warned is not fast


@pytest.mark.parametrize('diffusion', [TWO_STEPS, IR_SDE], ids=['ddpm', 'ir_sde'])
def test_a_test_file_restores_with_every_process(diffusion, images, run, tmp_path):
    opt = {
        'name': 'mixed',
        'model_type': 'C2FDFTModel',
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': 0,
        'datasets': {'test_1': {'name': 'set', 'type': 'PairedImageDataset', **folders(images)}},
        'network_g': NOISE_PREDICTOR,
        'path': {'pretrain_network_g': None},
        'val': {
            'save_img': True,
            'metrics': PSNR,
        },
        'diffusion': diffusion,
    }
    assert 'psnr' in run(opt, basicsr_test)
    written = sorted((tmp_path / 'results' / 'mixed' / 'visualization' / 'set').glob('*.png'))
    assert [cv2.imread(str(path)).shape for path in written] == [(41 + k, 45, 3) for k in range(3)]


def write_vgg_weights(path: Path) -> None:
    """A VGG11 of random convolutions where BasicSR looks for its file before it downloads one."""
    torch.manual_seed(0)
    network = torchvision.models.vgg11(weights=None, init_weights=False, num_classes=1)
    weights = torchvision.models.vgg11(weights=None, init_weights=False).state_dict()
    weights.update({k: v for k, v in network.state_dict().items() if k.startswith('features')})
    # The classifier is not used; one stored zero each keeps the file small.
    zeros = {k: torch.zeros(1).expand(v.shape) for k, v in weights.items() if 'classifier' in k}
    path.parent.mkdir(parents=True)
    torch.save({**weights, **zeros}, path)


def test_perceptual_and_style_loss_in_the_fine_stage(images, run, tmp_path):
    write_vgg_weights(tmp_path / 'experiments' / 'pretrained_models' / 'vgg19-dcbb9e9d.pth')
    perceptual = {
        'type': 'PerceptualLoss', 'vgg_type': 'vgg11', 'layer_weights': {'conv2_1': 1.0},
        'perceptual_weight': 1.0, 'style_weight': 1.0, 'criterion': 'l1',
    }  # fmt: skip
    train = {'stage': 'fine', 'perceptual_opt': perceptual}
    opt = training(images, 'C2FDFTModel', DFT, our_data(images), train, diffusion=TWO_STEPS)
    log = run(opt)
    assert 'l_percep' in log
    assert 'l_style' in log
    assert_finite(saved_weights(tmp_path))


@pytest.mark.parametrize(
    ('network', 'more', 'words'),
    [
        (DFT, {'network_d': DISCRIMINATOR}, ['network_d', 'GAN models of BasicSR']),
        ({**DFT, 'type': 'Dft'}, {}, ['Dft is not a registered', 'did you mean "DFT"']),
        (EDSR, {}, ['EDSR takes no timestep', 'type: NoisePredictor, backbone: {type: EDSR']),
        ({**DFT, 'inp_channels': 3}, {}, ['DFT cannot take the degraded and the noisy image']),
        ({**DFT, 'out_channels': 1}, {}, ['must return noise of 3 channels']),
        (
            {'type': 'NoisePredictor', 'backbone': {'type': 'EDSR', 'upscale': 2}},
            {},
            ['EDSR cannot predict noise', '2 times the size', 'unshuffle: 2'],
        ),
    ],
    ids=['discriminator', 'typo', 'no timestep', 'channels', 'out channels', 'size'],
)
def test_what_cannot_be_mixed_is_refused_at_start(network, more, words, images, run):
    opt = training(images, 'C2FDFTModel', network, our_data(images), COARSE, **more)
    with pytest.raises(OptionError) as error:
        run(opt)
    for word in words:
        assert word in str(error.value)

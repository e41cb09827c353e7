"""The option files of the baselines: our data and metrics, their networks, run through BasicSR."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.test import test_pipeline as basicsr_test
from basicsr.train import train_pipeline as basicsr_train
from basicsr.utils.options import ordered_yaml

from c2fdft_arch.common.option_parsing import parse_section
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.experiments.measuring import flops_per_restoration, load_model, restore
from helpers.paired_data import write_noise_folders
from helpers.vgg import replace_vgg

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(p) for p in ('spandrel', 'spandrel_extra_arches')),
    reason='the extra is not installed: pip install "c2fdft[baselines]"',
)

OPTIONS = Path(__file__).resolve().parents[2] / 'options'
FILES = sorted(path.stem for path in (OPTIONS / 'baselines').glob('*.yml'))
TEST_FILES = [name for name in FILES if name.endswith('_test')]
TRAINING_FILES = [name for name in FILES if name not in TEST_FILES]
PAPER_FILES = [name for name in TRAINING_FILES if not name.startswith('demo')]

# Millions of parameters as the networks' papers or authors state them.
PUBLISHED_SIZES = {
    'deblur_fftformer': 16.6,
    'deblur_mprnet': 20.1,
    'deblur_nafnet': 17.1,
    'deblur_restormer': 26.1,
    'denoise_mirnet2': 5.9,
    'denoise_mprnet': 15.7,
    'denoise_nafnet': 29.2,
    'denoise_restormer': 26.1,
    'denoise_uformer': 50.9,
    'derain_mprnet': 3.6,
    'derain_restormer': 26.1,
}

# Parameters of the networks that their authors publish.
PUBLISHED_COUNTS = {
    'deblur_dmphn': 21_697_572,
    'deblur_mimo_unet_plus': 16_107_651,
    'deblur_mimo_unet_plus_plus': 16_107_651,
    'denoise_cbdnet': 4_365_382,
    'denoise_vdn': 7_816_780,
    'deblur_deblurgan': 11_378_179,
    'deblur_deblurgan_v2': 60_929_291,
    'deblur_mt_rnn': 2_635_547,
    'deblur_srn': 6_881_251,
    'denoise_aindnet': 13_764_014,
    'derain_mspfn': 15_823_424,
    'denoise_cycleisp': 2_834_947,
    'denoise_deamnet': 2_228_131,
    'derain_transweather': 38_052_078,
    'derain_hinet': 88_669_702,
    'derain_prenet': 168_963,
    'derain_rescan': 149_823,
}

TINY = {
    'spandrel/Restormer': {'dim': 8, 'num_blocks': [1] * 4, 'heads': [1] * 4},
    'spandrel/NAFNet': {'width': 4, 'enc_blk_nums': [1], 'dec_blk_nums': [1], 'middle_blk_num': 1},
    'spandrel/MPRNet': {'n_feat': 8, 'scale_unetfeats': 4, 'scale_orsnetfeats': 4, 'num_cab': 1},
    'spandrel/FFTformer': {'dim': 8, 'num_blocks': [1] * 3},
    'spandrel/Uformer': {'embed_dim': 4, 'depths': [1] * 9, 'num_heads': [1] * 9},
    'spandrel/MIRNet2': {'n_feat': 16, 'n_MRB': 1},
    'PReNet': {},
    'RESCAN': {'channels': 4, 'stages': 2, 'depth': 4},
    'HINet': {'wf': 4},
    'MIMOUNet': {'num_res': 1, 'base_channel': 8},
    'DMPHN': {'stacks': 2, 'channels': 4},
    'CBDNet': {'width': 4},
    'VDN': {'wf': 4},
    'TransWeather': {'widths': [8, 8, 16, 16]},
    'DeblurGAN': {'ngf': 4, 'n_blocks': 1},
    'DeblurGANv2': {'num_filters': 4, 'num_filters_fpn': 8, 'repeats': [1, 1], 'unused_repeats': 0},
    'MTRNN': {'iterations': 2, 'channels': 4},
    'SRN': {'channels': 4},
    'AINDNet': {'width': 4},
    'MSPFN': {'modules': 1, 'channels': 8},
    'DeamNet': {'channels': 16},
    'CycleISPDenoiser': {'groups': 1, 'blocks': 1, 'channels': 16},
    'EDSR': {'num_feat': 8, 'num_block': 1},
    'DFT': {'dim': 8, 'num_blocks': [1] * 4, 'heads': [1] * 4},
}
SECTIONS = [
    'name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'find_unused_parameters', 'datasets',
    'network_g', 'network_d', 'path', 'train', 'val', 'logger', 'dist_params', 'diffusion',
]  # fmt: skip


def load(name: str) -> dict:
    with open(OPTIONS / name) as stream:
        return yaml.load(stream, Loader=ordered_yaml()[0])


def baseline(name: str) -> dict:
    return load(f'baselines/{name}.yml')


def shrink_network(section: dict) -> None:
    if section['type'] == 'NoisePredictor':
        section = section['backbone']
    section.pop('weights', None)
    section.update(TINY[section['type']])


@pytest.mark.parametrize('name', FILES)
def test_names_and_commands_follow_the_files(name):
    assert baseline(name)['name'] == f'baselines_{name}'
    header = (OPTIONS / 'baselines' / f'{name}.yml').read_text().split('# general settings')[0]
    commands = [line for line in header.splitlines() if ' -opt ' in line]
    assert commands
    assert all(f'-opt options/baselines/{name}.yml' in line for line in commands)


@pytest.mark.parametrize('name', FILES)
def test_sections_stand_in_upstreams_order(name):
    found = list(baseline(name))
    assert found == [section for section in SECTIONS if section in found]


@pytest.mark.parametrize('name', PAPER_FILES)
def test_data_and_validation_are_those_of_c2f_dft(name):
    ours = load(f'{name.split("_")[0]}_coarse.yml')
    theirs = baseline(name)
    assert theirs['datasets'] == ours['datasets']
    assert theirs.get('val') == ours.get('val')
    assert theirs['manual_seed'] == ours['manual_seed']


@pytest.mark.parametrize('name', sorted(set(TRAINING_FILES) - set(PAPER_FILES)))
def test_demo_files_train_on_the_images_of_the_demo(name):
    ours, theirs = (opt['datasets']['train'] for opt in (load('demo_coarse.yml'), baseline(name)))
    for key in ('dataroot_lq', 'dataroot_gt', 'io_backend', 'gt_sizes'):
        assert theirs[key] == ours[key]


@pytest.mark.parametrize('name', [n for n in PAPER_FILES if not n.endswith('_coarse')])
def test_they_train_as_long_as_both_our_stages(name):
    task = name.split('_')[0]
    stages = [load(f'{task}_{stage}.yml')['train']['total_iter'] for stage in ('coarse', 'fine')]
    assert baseline(name)['train']['total_iter'] == sum(stages)


@pytest.mark.parametrize('name', TRAINING_FILES)
def test_the_learning_rate_is_scheduled_to_the_end(name):
    train = baseline(name)['train']
    scheduler = train['scheduler']
    if 'milestones' in scheduler:
        assert scheduler['milestones'] == sorted(scheduler['milestones'])
        assert train['total_iter'] / 2 <= scheduler['milestones'][-1] < train['total_iter']
    else:
        assert sum(scheduler['periods']) == train['total_iter']


@pytest.mark.parametrize('name', TEST_FILES)
def test_the_test_sets_are_those_of_c2f_dft(name):
    ours = load(f'{name.split("_")[0]}_test.yml')
    assert baseline(name)['datasets'] == ours['datasets']
    assert baseline(name)['val'] == ours['val']


@pytest.mark.parametrize('name', PUBLISHED_SIZES)
def test_networks_have_the_published_number_of_parameters(name):
    network = build_network(baseline(name)['network_g'])
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert round(millions, 1) == PUBLISHED_SIZES[name]


@pytest.mark.parametrize('name', PUBLISHED_COUNTS)
def test_networks_have_as_many_parameters_as_their_authors(name):
    with torch.device('meta'):
        network = build_network(baseline(name)['network_g'])
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED_COUNTS[name]


@pytest.mark.parametrize('network', ['restormer', 'nafnet', 'edsr'])
def test_demo_networks_are_about_as_large_as_the_demos(network):
    sizes = [
        sum(p.numel() for p in build_network(opt['network_g']).parameters())
        for opt in (baseline(f'demo_{network}'), load('demo_fine.yml'))
    ]
    assert 0.7 < sizes[0] / sizes[1] < 1.4


def test_ir_sde_has_the_settings_of_its_paper():
    process = build_process(
        parse_section(DiffusionOptions, baseline('derain_irsde')['diffusion'], 'diffusion')
    )
    assert process.num_timesteps == len(process.timesteps) == 100
    assert process.eta == 1
    assert process.reversion.stationary_std == pytest.approx(2 * 10 / 255)


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    """Folders `input` and `target` with three images of odd sizes."""
    return write_noise_folders(tmp_path_factory.mktemp('data'), height=37)


def use_folders(opt: dict, images: Path, folder: Path) -> None:
    for phase, dataset in opt['datasets'].items():
        copied = shutil.copytree(images, folder / phase)
        dataset['io_backend'] = {'type': 'disk'}
        dataset['dataroot_lq'] = str(copied / 'input')
        dataset['dataroot_gt'] = str(copied / 'target')


def run(opt: dict, folder: Path, pipeline, monkeypatch) -> None:
    path = folder / 'options.yml'
    path.write_text(yaml.safe_dump(opt, sort_keys=False))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'argv', ['basicsr', '-opt', str(path)])
    pipeline(str(folder))


def plain(section):
    """Ordered dictionaries of the loader as plain ones, which yaml can write."""
    if isinstance(section, dict):
        return {key: plain(value) for key, value in section.items()}
    if isinstance(section, list):
        return [plain(value) for value in section]
    return section


@pytest.mark.parametrize('name', TRAINING_FILES)
def test_a_training_file_trains_two_iterations(name, images, tmp_path, monkeypatch):
    opt = plain(baseline(name))
    shrink_network(opt['network_g'])
    use_folders(opt, images, tmp_path)
    opt['num_gpu'] = 0
    if 'network_d' in opt:
        opt['network_d']['ndf'] = 2
    replace_vgg(monkeypatch)
    phases = len(opt['datasets']['train']['gt_sizes'])
    opt['datasets']['train'].update(
        gt_sizes=[16, 24, 32][:phases], mini_batch_sizes=[4, 2, 1][:phases], iters=[1],
        batch_size_per_gpu=4, num_worker_per_gpu=0, pin_memory=False,
    )  # fmt: skip
    for key, values in opt['train']['scheduler'].items():
        if key in ('periods', 'milestones'):
            opt['train']['scheduler'][key] = [1, 1][: len(values)]
    opt['train']['total_iter'] = 2
    opt['logger'].update(print_freq=1, save_checkpoint_freq=2, use_tb_logger=False)
    if 'val' in opt:
        opt['val']['val_freq'] = 2
    if 'diffusion' in opt:
        opt['diffusion']['sampling_timesteps'] = 2
    run(opt, tmp_path, basicsr_train, monkeypatch)
    models = tmp_path / 'experiments' / opt['name'] / 'models'
    saved = torch.load(models / 'net_g_latest.pth', weights_only=True)
    assert {'params', 'params_ema'} <= set(saved) <= {'params', 'params_ema', 'description'}
    assert all(torch.isfinite(value).all() for value in saved['params'].values())
    compare_can_measure(opt, models / 'net_g_latest.pth', next((tmp_path / 'train').rglob('*.png')))


def compare_can_measure(opt: dict, weights: Path, image: Path) -> None:
    """What `compare` does with a trained system: load, restore, count its operations."""
    model = load_model(opt, str(weights))
    restored, seconds = restore(model, image)
    assert restored.shape == (3, *cv2.imread(str(image)).shape[:2])
    assert seconds > 0
    assert flops_per_restoration(model, image) > 0


@pytest.mark.parametrize('name', TEST_FILES)
def test_a_test_file_restores_with_published_weights(name, images, tmp_path, monkeypatch):
    opt = plain(baseline(name))
    section = {'type': opt['network_g']['type'], **TINY[opt['network_g']['type']]}
    path = tmp_path / 'published.pth'
    torch.save({'params': build_network(section).state_dict()}, path)
    opt['network_g']['weights'] = str(path)
    opt['num_gpu'] = 0
    use_folders(opt, images, tmp_path)
    run(opt, tmp_path, basicsr_test, monkeypatch)
    for dataset in opt['datasets'].values():
        folder = tmp_path / 'results' / opt['name'] / 'visualization' / dataset['name']
        sizes = {path.stem: cv2.imread(str(path)).shape for path in folder.glob('*.png')}
        assert sizes == {f'{k}_{opt["name"]}': (37 + k, 45, 3) for k in range(3)}

"""The check of checkpoints: what it says of each kind, and that it refuses all else."""

from __future__ import annotations

import json

import pytest
import torch

from c2fdft_arch.dft import DFT
from c2fdft_model.commands import check_weights

TINY = {'dim': 8, 'num_blocks': (1, 2, 1, 1), 'heads': (1, 2, 2, 2), 'ffn_factor': 1.5}


@pytest.fixture
def run(tmp_path, capsys):
    def call(content, *options, name='net_g.pth'):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        code = check_weights.main([str(path), *options])
        streams = capsys.readouterr()
        said = dict(line.split(maxsplit=1) for line in streams.out.splitlines())
        return code, said, streams.out, streams.err

    return call


def tiny(**options):
    torch.manual_seed(0)
    return DFT(**TINY, **options).state_dict()


def test_the_released_format_is_recognised(run, project_root):
    shapes = project_root / 'tests' / 'data' / 'official_state_dict_shapes.json'
    # expanded, so that the file holds one number a parameter
    parameters = {
        f'module.{name}': torch.zeros(1).expand(shape)
        for name, shape in json.loads(shapes.read_text()).items()
    }
    code, said, out, _ = run({'params': parameters, 'params_ema': parameters})
    assert code == 0
    assert 'full size of the paper' in said['network']
    assert said['parameters'] == '25,363,344'
    assert said['names'] == 'with the prefix module.'
    assert said['keys'] == 'params_ema (loaded), params; they differ by 0 at most'


def test_a_layer_norm_with_bias_is_deraining_or_deblurring_and_it_says_so(run):
    code, said, out, _ = run({'params': tiny(LayerNorm_type='WithBias')})
    assert code == 0
    assert 'layer norm  WithBias' in out
    assert 'deraining or deblurring' in said['task']
    assert 'the weights do not say which' in said['task']


def test_a_layer_norm_without_bias_is_denoising(run):
    _, said, out, _ = run({'params': tiny(LayerNorm_type='BiasFree')})
    assert 'layer norm  BiasFree' in out
    assert 'real denoising' in said['task']


def test_the_stage_cannot_be_known_except_from_the_files_name(run):
    _, said, _, _ = run({'params': tiny()})
    assert said['stage'] == 'coarse or fine: the weights do not say'
    _, said, _, _ = run({'params': tiny()}, name='net_g_derain_Fine.pth')
    assert said['stage'].endswith('(the file name has fine, derain)')


def test_the_network_is_read_from_names_and_shapes(run):
    _, said, _, _ = run(tiny(dual_pixel_task=True, bias=True))
    assert said['keys'] == 'none, the file is the parameters themselves'
    assert said['network'] == (
        'DFT, dim 8, blocks 1 2 1 1, heads 1 2 2 2, ffn_factor 1.5, with bias, dual_pixel_task: '
        'not the size of the paper'
    )
    expected = sum(p.numel() for p in DFT(**TINY, dual_pixel_task=True, bias=True).parameters())
    assert said['parameters'] == f'{expected:,}'


def test_both_sets_of_weights_are_compared(run):
    raw, average = tiny(), tiny()
    average['output.weight'] = average['output.weight'] + 0.25
    _, said, _, _ = run({'params': raw, 'params_ema': average})
    assert 'they differ by 0.25 at most' in said['keys']


def test_a_key_can_be_chosen(run):
    _, said, _, _ = run({'params': tiny(), 'params_ema': tiny()}, '--param-key', 'params')
    assert said['keys'].startswith('params (loaded), params_ema')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'empty'),
        (b'GIF89a no checkpoint', 'not a checkpoint'),
        ({'params': {'conv.weight': torch.zeros(3, 3, 3, 3)}}, 'another network'),
        ({'epoch': 1, 'iter': 2, 'optimizers': [], 'schedulers': []}, 'training state'),
        ({'params': {**tiny(), 'output.weight': torch.zeros(3, 8, 3, 3)}}, 'output.weight'),
        ({'params': {**tiny(), 'output.weight': tiny()['output.weight'] * torch.nan}}, 'finite'),
    ],
    ids=['empty', 'other format', 'other network', 'training state', 'wrong shape', 'diverged'],
)
def test_what_is_no_checkpoint_of_the_network_is_refused(run, content, message):
    code, _, out, err = run(content)
    assert (code, out) == (2, '')
    assert message in err
    assert 'net_g.pth' in err


def test_a_missing_file_is_named(capsys, tmp_path):
    assert check_weights.main([str(tmp_path / 'absent.pth')]) == 2
    assert 'absent.pth: no such file' in capsys.readouterr().err

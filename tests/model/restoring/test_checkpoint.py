"""Reading checkpoints: files that are something else, and tensors that are no parameters."""

from __future__ import annotations

import gzip
import os
import zipfile

import pytest
import torch

from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.restoring.checkpoint import (
    WeightsError,
    complete_from_weights,
    file_digest,
    read_checkpoint,
)
from c2fdft_model.restoring.weights import load_network
from helpers.checkpoints import OTHER_SETTINGS, TINY, description, save_network

LFS = b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 101000000\n'
PAGE = b'\n<!DOCTYPE html><html><head><title>Google Drive -\n Quota</title></head></html>'
FILES = {
    'web page': (PAGE, 'saved web page ("Google Drive - Quota")'),
    'Git-LFS pointer': (LFS, 'Git-LFS pointer'),
    'error of a server': (b'<?xml version="1.0"?><Error>AccessDenied</Error>', 'AccessDenied'),
    'JSON': (b'{"message": "Not Found"}', "server's answer"),
    'zeros': (bytes(5000), 'never written'),
    'nothing': (b'', 'empty'),
    'gzip': (gzip.compress(b'x' * 99), 'packed (gzip)'),
    'PNG': (b'\x89PNG\r\n\x1a\n' + bytes(50), 'image (PNG)'),
    'text': (b'network_g:\n  type: DFT\n', 'text file'),
    'safetensors': (b'\x10\0\0\0\0\0\0\0{"a":{}', 'safetensors file that is cut short'),
    'damaged safetensors': (b'\x10\0\0\0\0\0\0\0{"a":{}}        ', 'is damaged'),
    'cut': (b'PK\x03\x04 cut short', 'cut short at 14 bytes'),
}


@pytest.mark.parametrize(('content', 'what'), FILES.values(), ids=FILES)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, content, what):
    path = tmp_path / 'net.pth'
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        read_checkpoint(path)
    assert what in str(error.value)
    assert str(error.value).startswith(str(path)) and '\n' not in str(error.value)


def test_an_archive_with_the_checkpoint_in_it_is_named(tmp_path):
    path = tmp_path / 'net.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('Deraining/net_g.pth', b'x')
    with pytest.raises(WeightsError, match=r'unpack it .*Deraining/net_g\.pth'):
        read_checkpoint(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'net.pth')
    with pytest.raises(WeightsError, match='not a regular file'):
        read_checkpoint(tmp_path / 'net.pth')


def stored(tmp_path):
    return torch.load(save_network(tmp_path / 'whole.pth'), weights_only=True)['params']


ODD = {
    'sparse': (lambda v: v.to_sparse(), 'sparse'),
    'meta': (lambda v: v.to('meta'), 'without values'),
    'complex': (lambda v: v.to(torch.complex64), 'complex'),
    'integer': (lambda v: v.to(torch.int64), 'of another kind'),
}


@pytest.mark.parametrize(('change', 'what'), ODD.values(), ids=ODD)
def test_tensors_that_are_no_parameters_are_refused_in_one_line(tmp_path, change, what):
    parameters = stored(tmp_path)
    parameters['output.weight'] = change(parameters['output.weight'])
    torch.save({'params': parameters}, tmp_path / 'net.pth')
    with pytest.raises(WeightsError, match=what) as error:
        load_network(tmp_path / 'net.pth')
    assert 'output.weight' in str(error.value) and '\n' not in str(error.value)


def test_number_formats_are_mixed_and_parameters_lie_in_memory_as_they_like(tmp_path):
    parameters = stored(tmp_path)
    formats = (torch.float64, torch.float16, torch.bfloat16)
    mixed = {n: v.to(formats[k % 3]) for k, (n, v) in enumerate(parameters.items())}
    mixed = {n: v.mT.contiguous().mT if v.dim() > 1 else v for n, v in mixed.items()}
    torch.save({'params': mixed}, tmp_path / 'net.pth')
    loaded = load_network(tmp_path / 'net.pth').state_dict()
    assert {v.dtype for v in loaded.values()} == {torch.float32}
    assert all(v.is_contiguous() for v in loaded.values())
    assert all(torch.equal(loaded[n], v.float()) for n, v in mixed.items())


CLAIMS = {
    'blocks': ('encoder_level1.99999999.x', torch.zeros(1), 'missing: encoder_level1.1'),
    'channels': (
        'patch_embed.proj.weight',
        torch.zeros(1).expand(4096, 6, 3, 3),
        'another network',
    ),
    'a tensor': ('z', torch.zeros(1).half().expand(1 << 20, 1 << 20), '2,048 GiB are claimed'),
}


@pytest.mark.parametrize(('name', 'value', 'what'), CLAIMS.values(), ids=CLAIMS)
def test_a_small_file_that_claims_a_huge_network_is_refused_before_building(
    tmp_path, name, value, what, monkeypatch
):
    torch.save({'params': {**stored(tmp_path), name: value}}, tmp_path / 'net.pth')
    monkeypatch.setattr(torch.nn.Module, 'to_empty', lambda *_, **__: pytest.fail('was built'))
    with pytest.raises(WeightsError, match=what):
        load_network(tmp_path / 'net.pth')


def test_the_digest_is_that_of_sha256sum(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    assert file_digest(tmp_path / 'a').startswith('ba7816bf8f01cfea')


@pytest.mark.parametrize('settings', OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
def test_a_test_without_a_section_diffusion_has_the_sampler_of_its_weights(tmp_path, settings):
    weights = save_network(tmp_path / 'net.pth', description(**settings))
    opt = {
        'network_g': {'type': 'DFT', **TINY},
        'path': {'pretrain_network_g': str(weights)},
    }
    complete_from_weights(opt, lambda _: None)
    y, x_T = torch.randn(2, 1, 3, 8, 8)
    found, expected = (
        build_process(DiffusionOptions(**section)).sample(lambda x_t, t: x_t / 2 + y, x_T, y)
        for section in (opt['diffusion'], settings)
    )
    assert torch.equal(found, expected)

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.images.image_files import ImageRecord
from c2fdft_model.restoring import restorer as restorer_module
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.restoring.restorer import Restorer


class PixelNoise(nn.Module):
    size_multiple = 8
    inp_channels = 6
    out_channels = 3

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.001))

    def forward(self, x, t):
        return x[:, 3:] - self.scale * (x[:, :3] + x[:, 3:])


def image_record(height=9, width=13, **fields):
    rng = np.random.default_rng(0)
    return ImageRecord(rng.random((height, width, 3), np.float32), **fields)


def test_an_image_is_restored_as_the_function_does():
    network, given = PixelNoise(), image_record()
    process = DDPMProcess(sampling_steps=2)
    restored = Restorer(network, process, seed=3, samples=2, precision='fp32')(given, 'a')
    image = torch.from_numpy(given.colour).permute(2, 0, 1)
    expected = restore(network, image, timesteps=2, noise_name='a', seed=3, samples=2)
    np.testing.assert_array_equal(restored.colour, expected.permute(1, 2, 0).numpy())


def test_what_belongs_to_the_file_is_kept():
    given = image_record(depth=16, icc=b'profile', exif=b'turned', alpha=np.zeros((9, 13)))
    restored = Restorer(PixelNoise(), DDPMProcess())(given, 'a')
    assert (restored.depth, restored.icc, restored.exif) == (16, b'profile', b'turned')
    assert restored.alpha is given.alpha


def test_every_network_call_is_reported():
    restorer = Restorer(PixelNoise(), DDPMProcess(sampling_steps=2), samples=3)
    told = []
    restorer(image_record(), 'a', lambda: told.append(1))
    assert len(told) == restorer.calls == 6


def test_nothing_is_computed_without_the_memory_for_it(monkeypatch):
    network = PixelNoise()
    network.inference_memory_mb = lambda batch, height, width: 4096.0
    monkeypatch.setattr(restorer_module, 'available_memory_mb', lambda _: 1024.0)
    told = []
    with pytest.raises(MemoryError, match=r'4\.0 GB are needed and 1\.0 GB are free'):
        Restorer(network, DDPMProcess())(image_record(), 'a', lambda: told.append(1))
    assert not told


@pytest.mark.parametrize(('needed', 'available'), [(1, 2), (None, 2), (3, None)])
def test_enough_or_unknown_memory_is_no_error(monkeypatch, needed, available):
    monkeypatch.setattr(restorer_module, 'needed_memory_mb', lambda *_: needed)
    monkeypatch.setattr(restorer_module, 'available_memory_mb', lambda _: available)
    assert Restorer(PixelNoise(), DDPMProcess())(image_record(), 'a')


def test_networks_for_other_images_are_refused():
    network = PixelNoise()
    network.inp_channels = 9
    with pytest.raises(ValueError, match='9 input'):
        Restorer(network, DDPMProcess())


def test_impossible_tiles_are_refused_before_the_first_image():
    with pytest.raises(ValueError, match='tile is 30'):
        Restorer(PixelNoise(), DDPMProcess(), tile=30)


@pytest.mark.parametrize(
    'text', ['CUDA out of memory. Tried', "DefaultCPUAllocator: can't allocate memory: you tried"]
)
def test_an_allocation_that_fails_is_a_memory_error(monkeypatch, text):
    def fail(*_, **__):
        raise RuntimeError(f'{text}\nmore lines')

    monkeypatch.setattr(restorer_module, 'restore', fail)
    with pytest.raises(MemoryError) as caught:
        Restorer(PixelNoise(), DDPMProcess())(image_record(), 'a')
    assert str(caught.value) == text


def test_other_faults_stay_what_they_are(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError('shapes cannot be multiplied')

    monkeypatch.setattr(restorer_module, 'restore', fail)
    with pytest.raises(RuntimeError, match='shapes'):
        Restorer(PixelNoise(), DDPMProcess())(image_record(), 'a')

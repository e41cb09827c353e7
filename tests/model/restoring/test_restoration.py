from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from c2fdft_arch.common.padding import pad_to_multiple, reflected_indices
from c2fdft_model.diffusion.named_noise import named_noise
from c2fdft_model.diffusion.noise_schedule import NoiseSchedule
from c2fdft_model.restoring.restoration import restore


class CleanImageKnown(nn.Module):
    """Predicts the noise that leaves the degraded image as the clean one, pixel by pixel."""

    size_multiple = 8

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.alpha_bar = NoiseSchedule().alpha_bar
        self.calls: list[tuple[tuple[int, ...], list[int]]] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls.append((tuple(x.shape), t.tolist()))
        degraded, x_t = x[:, :3], x[:, 3:]
        alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
        return ((x_t - alpha_bar.sqrt() * degraded) / (1 - alpha_bar).sqrt()).float()


class PixelNoise(nn.Module):
    """A point-wise network whose result still shows which noise it was given."""

    size_multiple = 8

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x[:, 3:] - 0.001 * self.scale * (x[:, :3] + x[:, 3:])


def image_of(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (3, 5), (8, 8), (13, 16), (31, 47)])
def test_an_image_of_any_size_comes_back_in_its_size(size):
    image = image_of(3, *size)
    restored = restore(CleanImageKnown(), image)
    assert restored.shape == image.shape
    torch.testing.assert_close(restored, image, atol=2e-5, rtol=0)


@pytest.mark.parametrize('size', [(1, 1), (3, 5), (13, 16)])
def test_the_network_sees_only_multiples_of_its_size(size):
    network = CleanImageKnown()
    restore(network, image_of(3, *size))
    assert all(shape[-1] % 8 == 0 and shape[-2] % 8 == 0 for shape, _ in network.calls)


@pytest.mark.parametrize(
    ('timesteps', 'called'),
    [(1, [999]), (2, [999, 0]), (4, [999, 666, 333, 0]), ([700, 100], [700, 100])],
)
def test_the_network_is_called_once_per_timestep(timesteps, called):
    network = CleanImageKnown()
    restore(network, image_of(2, 3, 8, 8), timesteps=timesteps)
    assert [t for _, t in network.calls] == [[t, t] for t in called]


def test_the_noise_inside_the_image_does_not_depend_on_the_padding():
    image = image_of(3, 13, 11)
    network = PixelNoise()
    padded = restore(network, image, noise_name='a')
    network.size_multiple = 1
    torch.testing.assert_close(restore(network, image, noise_name='a'), padded)


def test_the_noise_is_that_of_the_name_and_the_seed():
    image = image_of(3, 8, 8)
    network = PixelNoise()
    first = restore(network, image, noise_name='a', seed=1)
    assert torch.equal(first, restore(network, image, noise_name='a', seed=1))
    assert not torch.equal(first, restore(network, image, noise_name='b', seed=1))
    assert not torch.equal(first, restore(network, image, noise_name='a', seed=2))


def test_one_step_starts_from_the_named_noise():
    seen = []

    class Recorder(CleanImageKnown):
        def forward(self, x, t):
            seen.append(x[:, 3:].clone())
            return super().forward(x, t)

    restore(Recorder(), image_of(3, 6, 8), timesteps=1, noise_name='a', seed=7)
    assert torch.equal(seen[0][0, :, :6], named_noise('a', (3, 6, 8), 7))


def test_an_image_is_restored_alike_alone_and_in_a_batch():
    batch = image_of(2, 3, 9, 10)
    together = restore(PixelNoise(), batch, noise_name=['a', 'b'])
    alone = restore(PixelNoise(), batch[1], noise_name='b')
    torch.testing.assert_close(together[1], alone)


def test_images_of_a_batch_with_one_name_do_not_share_their_noise():
    batch = image_of(1, 3, 8, 8).expand(2, 3, 8, 8)
    restored = restore(PixelNoise(), batch, noise_name='a')
    assert not torch.equal(restored[0], restored[1])


def test_samples_are_averaged_over_independent_noise():
    image = image_of(3, 16, 16) * 0 + 0.5
    network = PixelNoise()
    spread_of_one = restore(network, image, noise_name='a').std()
    spread_of_many = restore(network, image, noise_name='a', samples=8).std()
    assert spread_of_many < 0.6 * spread_of_one


def test_the_result_is_in_range_and_carries_no_gradient():
    image = image_of(3, 8, 8)
    network = PixelNoise()
    network.scale.data.fill_(2000.0)
    restored = restore(network, image)
    assert restored.min() >= 0 and restored.max() <= 1
    assert not restored.requires_grad


def test_stochastic_sampling_repeats():
    image = image_of(3, 8, 8)
    first = restore(PixelNoise(), image, noise_name='a', eta=1.0)
    assert torch.equal(first, restore(PixelNoise(), image, noise_name='a', eta=1.0))
    assert not torch.equal(first, restore(PixelNoise(), image, noise_name='a'))


def test_tiles_agree_with_the_whole_for_a_pointwise_network():
    image = image_of(3, 45, 61)
    whole = restore(PixelNoise(), image, noise_name='a')
    tiles = restore(PixelNoise(), image, noise_name='a', tile=24, tile_overlap=8)
    torch.testing.assert_close(tiles, whole, atol=2e-3, rtol=0)


def test_progress_is_called_for_every_step_of_every_sample():
    ticks = []
    restore(
        PixelNoise(),
        image_of(3, 8, 8),
        timesteps=3,
        samples=2,
        progress=lambda: ticks.append(1),
    )
    assert len(ticks) == 6


@pytest.mark.parametrize('shape', [(8, 8), (1, 8, 8), (2, 4, 8, 8), (3, 0, 8)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match='shape'):
        restore(PixelNoise(), torch.zeros(shape))


def test_an_integer_image_is_refused():
    with pytest.raises(ValueError, match='uint8'):
        restore(PixelNoise(), torch.zeros(3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ('value', 'complaint'),
    [
        (255.0, r'image has values from .* to 255: give RGB in \[0, 1\]'),
        (-1.0, r'image has values from -1 to .*: give RGB in \[0, 1\]'),
        (float('nan'), r'image has values that are not numbers'),
        (float('inf'), r'image has values from .* to inf'),
    ],
)
def test_values_that_are_no_colours_are_refused(value, complaint):
    image = image_of(3, 8, 8)
    image[1, 2, 3] = value
    with pytest.raises(ValueError, match=complaint):
        restore(PixelNoise(), image)


@pytest.mark.parametrize('eta', [-0.5, float('nan')])
def test_a_negative_eta_is_refused(eta):
    with pytest.raises(ValueError, match='eta is'):
        restore(PixelNoise(), image_of(3, 8, 8), eta=eta)


def test_names_must_be_as_many_as_images():
    with pytest.raises(ValueError, match='2 names for a batch of 3'):
        restore(PixelNoise(), image_of(3, 3, 8, 8), noise_name=['a', 'b'])


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match='samples'):
        restore(PixelNoise(), image_of(3, 8, 8), samples=0)


def test_reflection_repeats_for_images_smaller_than_the_padding():
    assert reflected_indices(3, 8).tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert reflected_indices(1, 4).tolist() == [0, 0, 0, 0]


def test_padding_equals_torch_reflection_where_that_is_possible():
    image = image_of(1, 3, 13, 22)
    expected = nn.functional.pad(image, (0, 2, 0, 3), mode='reflect')
    assert torch.equal(pad_to_multiple(image, 8), expected)

"""Restoring whole images of any size with a noise-prediction network."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from c2fdft_arch.common.padding import pad_to_multiple
from c2fdft_model.diffusion.named_noise import named_noise, seed_for
from c2fdft_model.diffusion.noise_schedule import NoiseSchedule
from c2fdft_model.diffusion.process import DDPMProcess, DiffusionProcess
from c2fdft_model.restoring.tiling import tiled

DEFAULT_TILE_OVERLAP = 64
ROUNDING = 1e-4
"""How far an image may leave [0, 1]."""


def restore(
    network: nn.Module,
    image: Tensor,
    *,
    process: DiffusionProcess | None = None,
    schedule: NoiseSchedule | None = None,
    timesteps: int | Sequence[int] = 4,
    noise_name: str | Sequence[str] = '',
    seed: int = 0,
    precision: str = 'auto',
    samples: int = 1,
    memory_budget_mb: float | None = None,
    tile: int | None = None,
    tile_overlap: int = DEFAULT_TILE_OVERLAP,
    eta: float = 0.0,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Restore degraded images by sampling from noise that depends only on their names.

    `image` is (B, 3, H, W) or (3, H, W), RGB in [0, 1], of any size from 1 x 1 up; the result has
    its shape, device and value range, as float32. `process` is by default the paper's, with
    `schedule`, `eta` and `timesteps`: the number of network calls or the list of their 0-based
    timesteps. `noise_name` is one name, or one for each image of the batch. `samples` restorations
    from independent noise are averaged. With `tile` (pixels) every network call sees overlapping
    tiles instead of the whole image. `progress` is called after every network call.

    Raises ValueError for a wrong shape, type, range or setting.
    """
    batch = _as_batch(image)
    names = _names(noise_name, batch.shape[0])
    _check_range(batch)
    if samples < 1:
        raise ValueError(f'samples is {samples}: give 1 or more.')
    if not eta >= 0:
        raise ValueError(f'eta is {eta}: give 0 (no noise) or more.')
    process = process or DDPMProcess(schedule, timesteps, eta)
    device = next(network.parameters()).device
    multiple = int(getattr(network, 'size_multiple', 1))
    network_input = _network_input(batch.to(device=device, dtype=torch.float32), multiple)
    degraded = network_input[:, :3]
    shape, padded = batch.shape[1:], degraded.shape[1:]

    total: Tensor | None = None
    with torch.no_grad(), inference_settings(network, precision, memory_budget_mb):
        denoise = _conditioned(network, network_input, tile, tile_overlap, multiple, progress)
        for sample in range(samples):
            eps = _noise_map([_sample_name(n, sample) for n in names], shape, padded, seed)
            x_T = process.initial_sample(degraded, eps.to(device))
            del eps
            generator = _sampler_generator(names, seed, sample)
            x_0 = process.sample(denoise, x_T, degraded, generator=generator)
            total = x_0 if total is None else total + x_0
    assert total is not None
    restored = (total[..., : shape[1], : shape[2]] / samples + 1) / 2
    return restored.clamp(0, 1).reshape(image.shape).to(image.device)


@contextlib.contextmanager
def inference_settings(
    network: nn.Module, precision: str, memory_budget_mb: float | None
) -> Iterator[None]:
    """Give the network its precision and memory budget for the time of a restoration."""
    settings = getattr(network, 'inference_settings', None)
    if settings is None:
        yield
        return
    with settings(precision=precision, memory_budget_mb=memory_budget_mb):
        yield


def _as_batch(image: Tensor) -> Tensor:
    if not image.is_floating_point():
        raise ValueError(f'the image is {image.dtype}: give floating point RGB in [0, 1].')
    if image.dim() not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape:
        raise ValueError(
            f'the image has shape {tuple(image.shape)}: give (3, H, W) or (B, 3, H, W).'
        )
    return image if image.dim() == 4 else image.unsqueeze(0)


def _check_range(batch: Tensor) -> None:
    low, high = (value.item() for value in batch.aminmax())
    if math.isnan(low) or math.isnan(high):
        raise ValueError('the image has values that are no numbers (NaN): give RGB in [0, 1].')
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(f'the image has values from {low:g} to {high:g}: give RGB in [0, 1].')


def _names(noise_name: str | Sequence[str], count: int) -> list[str]:
    if isinstance(noise_name, str):
        # images of one batch must not share their noise
        return [noise_name] + [f'{noise_name}[{i}]' for i in range(1, count)]
    if len(noise_name) != count:
        raise ValueError(f'noise_name has {len(noise_name)} names for a batch of {count} images.')
    return list(noise_name)


def _network_input(batch: Tensor, multiple: int) -> Tensor:
    """cat(degraded, room for x_t), (B, 6, H, W) in [-1, 1], with padded sides."""
    degraded = pad_to_multiple(batch, multiple)
    joined = degraded.new_empty(degraded.shape[0], 6, *degraded.shape[2:])
    torch.mul(degraded, 2, out=joined[:, :3])
    joined[:, :3].sub_(1)
    return joined


def _noise_map(
    names: Sequence[str], shape: Sequence[int], padded: Sequence[int], seed: int
) -> Tensor:
    """Noise (B, 3, H, W) of the padded size, which inside the image is that of the image alone."""
    maps = []
    for name in names:
        noise = named_noise(name, tuple(shape), seed)
        if tuple(padded) != tuple(shape):
            inside = noise
            noise = named_noise(f'{name} (padding)', tuple(padded), seed)
            noise[:, : inside.shape[1], : inside.shape[2]] = inside
        maps.append(noise)
    return torch.stack(maps) if len(maps) > 1 else maps[0].unsqueeze(0)


def _sample_name(name: str, sample: int) -> str:
    return name if sample == 0 else f'{name} (sample {sample})'


def _sampler_generator(names: Sequence[str], seed: int, sample: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_for(_sample_name('|'.join(names), sample), seed + 1))


def _conditioned(
    network: nn.Module,
    network_input: Tensor,
    tile: int | None,
    tile_overlap: int,
    multiple: int,
    progress: Callable[[], object] | None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The noise prediction as a function of (x_t, t) alone, as a sampler wants it.

    `network_input` (B, 6, H, W) holds the degraded images, and takes up x_t at every call: large
    images leave no memory for a second copy.
    """

    def predict(joined: Tensor, t: Tensor) -> Tensor:
        return network(joined, t).float()

    whole = predict if tile is None else tiled(predict, tile, tile_overlap, multiple)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        network_input[:, 3:] = x_t
        eps = whole(network_input, torch.as_tensor(t, device=x_t.device).expand(x_t.shape[0]))
        if progress is not None:
            progress()
        return eps

    return denoise

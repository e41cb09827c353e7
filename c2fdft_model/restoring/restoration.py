"""Restoring whole images of any size with the network of a diffusion process."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from c2fdft_arch.common.kernel_choice import check_kernels, check_precision
from c2fdft_arch.common.option_parsing import OptionError, parse_section
from c2fdft_arch.common.padding import pad_to_multiple
from c2fdft_model.diffusion.named_noise import named_noise, seed_for
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.diffusion.sampling import Denoiser
from c2fdft_model.restoring.description import DESCRIPTION_KEY, Description
from c2fdft_model.restoring.tiling import Blend, Predict, tiled

DEFAULT_TILE_OVERLAP = 64
ROUNDING = 1e-4
"""How far an image may leave [0, 1]."""


def restore(
    network: nn.Module,
    image: Tensor,
    *,
    process: DiffusionProcess | None = None,
    timesteps: int | Sequence[int] | None = None,
    noise_name: str | Sequence[str] = '',
    seed: int = 0,
    precision: str = 'auto',
    samples: int = 1,
    memory_budget_mb: float | None = None,
    tile: int | None = None,
    tile_overlap: int = DEFAULT_TILE_OVERLAP,
    tile_blend: Blend = 'smooth',
    eta: float | None = None,
    kernels: str = 'auto',
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Restore degraded images by sampling from noise that depends only on their names.

    `image` is (B, 3, H, W) or (3, H, W), RGB in [0, 1], of any size from 1 x 1 up; the result has
    its shape, device and value range, as float32. `process` is by default that of the checkpoint
    from which the network was loaded, else the paper's, with `eta` and `timesteps` where they are
    given: the number of network calls or the list of their 0-based timesteps.
    `noise_name` is one name, or one for each image of the batch. `samples` restorations from
    independent noise are averaged. With `tile` (pixels) every network call sees overlapping tiles
    instead of the whole image; `tile_blend` says how they are joined (`tiling.Blend`). `kernels`
    chooses what computes the network (`InferenceSettings`). `progress` is called after every
    network call.

    Raises ValueError for a wrong shape, type, range or setting.
    """
    batch = _as_batch(image)
    names = _names(noise_name, batch.shape[0])
    _check_range(batch)
    _check_sampling(samples, eta)
    process = process or _process_of(network, timesteps, eta)
    device = next(network.parameters()).device
    multiple = size_multiple(network)
    network_input = _network_input(batch.to(device=device, dtype=torch.float32), multiple)
    degraded, shape = network_input[:, :3], batch.shape[1:]
    with (
        torch.no_grad(),
        inference_settings(network, process, precision, memory_budget_mb, kernels),
    ):
        predict = _tiled(network, tile, tile_overlap, tile_blend, multiple)
        denoise = _conditioned(predict, network_input, progress)
        total = _sample(process, denoise, degraded, names, shape, seed, 0)
        for number in range(1, samples):
            total += _sample(process, denoise, degraded, names, shape, seed, number)
    restored = (total[..., : shape[1], : shape[2]] / samples + 1) / 2
    return restored.clamp(0, 1).reshape(image.shape).to(image.device)


def _check_sampling(samples: int, eta: float | None) -> None:
    """Raise ValueError for a number of samples or a noise that is impossible."""
    if samples < 1:
        raise ValueError(f'samples is {samples}: give 1 or more.')
    if eta is not None and not eta >= 0:
        raise ValueError(f'eta is {eta}: give 0 (no noise) or more.')


def _process_of(
    network: nn.Module, timesteps: int | Sequence[int] | None, eta: float | None
) -> DiffusionProcess:
    """The process that a network was trained for, with these timesteps and this noise if given."""
    said = getattr(network, 'description', None)
    if isinstance(said, Mapping):  # of a network that a hub gave
        said = parse_section(Description, said, DESCRIPTION_KEY)
    options = said.diffusion if isinstance(said, Description) else DiffusionOptions()
    steps = timesteps if timesteps is None or isinstance(timesteps, int) else tuple(timesteps)
    given = {'sampling_timesteps': steps, 'eta': eta}
    changes = {name: value for name, value in given.items() if value is not None}
    return build_process(options.model_copy(update=changes))


def inference_settings(
    network: nn.Module,
    process: DiffusionProcess,
    precision: str,
    memory_budget_mb: float | None,
    kernels: str = 'auto',
) -> contextlib.AbstractContextManager[None]:
    """Give the network its precision, memory budget and kernels during a restoration, if it can.

    Raises OptionError for kernels that the device or the network cannot be computed by.
    """
    device = next(network.parameters()).device
    check_kernels(kernels, device)
    check_precision(precision, device, 'precision')
    settings = getattr(network, 'inference_settings', None)
    if settings is None:
        if kernels not in ('auto', 'torch'):
            raise OptionError(
                f'kernels: {kernels} is not possible for {type(network).__name__}; allowed here '
                'are auto and torch.'
            )
        return contextlib.nullcontext()
    return settings(
        precision=precision,
        memory_budget_mb=memory_budget_mb,
        float32_from=float32_from(process),
        kernels=kernels,
    )


def float32_from(process: DiffusionProcess) -> float | None:
    """`InferenceSettings.float32_from`: None, its default, only where errors are amplified."""
    return None if process.amplifies_errors else math.inf


def size_multiple(network: nn.Module) -> int:
    """What the sides of a network's input must be multiples of."""
    return int(getattr(network, 'size_multiple', 1))


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
        raise ValueError('the image has values that are not numbers (NaN): give RGB in [0, 1].')
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


def _sample(
    process: DiffusionProcess,
    denoise: Denoiser,
    degraded: Tensor,
    names: Sequence[str],
    shape: Sequence[int],
    seed: int,
    number: int,
) -> Tensor:
    """One sampling, (B, 3, H, W) in [-1, 1] like the padded degraded images.

    `shape` is that of an image before the padding. `number` counts the samplings from 0; each has
    noise of its own.
    """
    own_names = [_sample_name(name, number) for name in names]
    maps = [_noise_map(name, shape, degraded.shape[1:], seed) for name in own_names]
    eps = torch.stack(maps) if len(maps) > 1 else maps[0].unsqueeze(0)
    x_T = process.initial_sample(degraded, eps.to(degraded.device))
    del maps, eps  # large images leave no memory for them
    # the sampler's noise is drawn for the batch, and with another seed than the initial sample's
    batch_name = _sample_name('|'.join(names), number)
    generator = torch.Generator().manual_seed(seed_for(batch_name, seed + 1))
    return process.sample(denoise, x_T, degraded, generator=generator)


def _noise_map(name: str, shape: Sequence[int], padded: Sequence[int], seed: int) -> Tensor:
    """Noise (3, H, W) of the padded size, which inside the image is that of the image alone."""
    inside = named_noise(name, shape, seed)
    if tuple(padded) == tuple(shape):
        return inside
    noise = named_noise(f'{name} (padding)', padded, seed)
    noise[:, : shape[1], : shape[2]] = inside
    return noise


def _sample_name(name: str, number: int) -> str:
    return name if number == 0 else f'{name} (sample {number})'


def _tiled(
    network: nn.Module, tile: int | None, overlap: int, blend: Blend, multiple: int
) -> Predict:
    """The network as a function of (cat(degraded, x_t), t), by tiles if there are to be any."""

    def predict(joined: Tensor, t: Tensor) -> Tensor:
        return network(joined, t).float()

    return predict if tile is None else tiled(predict, tile, overlap, multiple, blend)


def _conditioned(
    predict: Predict, network_input: Tensor, progress: Callable[[], object] | None
) -> Denoiser:
    """The network as a function of (x_t, t) alone, as samplers expect it.

    `network_input` (B, 6, H, W) holds the degraded images; every call writes its x_t beside them,
    because large images leave no memory for a second copy.
    """

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        network_input[:, 3:] = x_t
        output = predict(network_input, torch.as_tensor(t, device=x_t.device).expand(x_t.shape[0]))
        if progress is not None:
            progress()
        return output

    return denoise

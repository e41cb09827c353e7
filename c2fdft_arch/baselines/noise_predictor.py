"""Any image-to-image network as the network of a diffusion process."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from c2fdft_arch.baselines.probing import (
    final_image,
    probe_size,
    run_copy,
    size_multiples,
    takes_time,
)
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_arch.common.padding import pad_to_multiple
from c2fdft_arch.network.network_options import check_skip

IMAGE_CHANNELS = 3
DEGRADED, NOISY = slice(IMAGE_CHANNELS), slice(IMAGE_CHANNELS, 2 * IMAGE_CHANNELS)
"""The channels of the two images in the input."""
LARGEST_CPU_PROBE = 16
ADAPTERS_HINT = (
    '. If it only exists with other numbers of channels, add adapters: true to network_g, which '
    'puts learned convolutions before and after it'
)


class NoisePredictor(nn.Module):
    """Predicts noise with a backbone that maps images to images of the same size.

    The input is x (B, 6, H, W) in [-1, 1], the degraded and the noisy image concatenated, and t
    (B,), 0-based timesteps; the output is the noise (B, 3, H, W). A backbone whose forward takes
    (x, t) is used as it is. Any other is fed x and, with `time: channel`, one more channel, the
    constant t / `num_timesteps`.

    A backbone that returns 3 channels gives what is added to the noisy image, as in DFT
    (`residual`, or `skip: noisy`); with `skip: degraded` to the degraded image, which suits
    `diffusion: prediction: clean`, with `skip: none` to nothing. One that returns as many channels
    as it takes adds its own input already; the channels in place of the noisy image are the
    prediction, with `skip: degraded` those in place of the degraded image.

    `unshuffle` s hands the backbone the image at 1/s of its size with s^2 times the channels, for a
    network that only exists with an upscaling of s. `adapters` puts a learned 3x3 convolution
    before and after a backbone whose numbers of channels are fixed, the first to `in_channels`.

    `size_multiple`: sides that the backbone takes are multiples of it; found by trial if not given.
    Other images are extended by reflection and the prediction is cropped.

    Raises OptionError if the backbone cannot take the channels or does not return the image's size.
    """

    def __init__(
        self,
        backbone: nn.Module,
        time: str | None = None,
        num_timesteps: int = 1000,
        residual: bool | None = None,
        unshuffle: int = 1,
        adapters: bool = False,
        in_channels: int | None = None,
        size_multiple: int | None = None,
        name: str | None = None,
        skip: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name or type(backbone).__name__
        self.takes_time = takes_time(backbone)
        self._check_settings(time, residual, unshuffle, adapters, skip)
        self.time = 'none' if self.takes_time else time or 'channel'
        self.num_timesteps = num_timesteps
        self.unshuffle = unshuffle
        stacked = stacked_channels(self.time, unshuffle)
        in_channels = (in_channels or IMAGE_CHANNELS) if adapters else stacked
        self.stem = nn.Conv2d(stacked, in_channels, 3, padding=1) if adapters else nn.Identity()
        self.backbone = backbone
        if in_channels != IMAGE_CHANNELS:
            drop_rgb_mean(backbone)
        self.head: nn.Module = nn.Identity()

        given = size_multiple or getattr(backbone, 'size_multiple', None)
        multiple, out_channels = self._probe(in_channels, given)
        self.size_multiple = multiple * unshuffle
        if adapters:
            self.head = nn.Conv2d(out_channels, IMAGE_CHANNELS, 3, padding=1)
            out_channels = IMAGE_CHANNELS
        self._check_out_channels(in_channels, out_channels)
        adds_its_input = out_channels != IMAGE_CHANNELS
        adds_nothing = self.takes_time or adds_its_input or skip == 'none'
        self.residual = not adds_nothing if residual is None else residual
        self.skip = skip or ('noisy' if self.residual or adds_its_input else 'none')
        self.skipped = DEGRADED if skip == 'degraded' else NOISY

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The predicted noise (B, 3, H, W) of the last 3 channels of `x` at timesteps `t`."""
        if x.dim() != 4 or x.shape[1] != 2 * IMAGE_CHANNELS:
            raise ValueError(
                f'NoisePredictor takes (B, {2 * IMAGE_CHANNELS}, H, W), the degraded and the noisy '
                f'image concatenated; got {tuple(x.shape)}.'
            )
        height, width = x.shape[-2:]
        stacked = x
        if self.time == 'channel':
            plane = (t.to(x.dtype) / self.num_timesteps).view(-1, 1, 1, 1)
            stacked = torch.cat([x, plane.expand(x.shape[0], 1, height, width)], dim=1)
        stacked = pad_to_multiple(stacked, self.size_multiple)
        if self.unshuffle > 1:
            stacked = pixel_unshuffle(stacked, self.unshuffle)
        arguments = (self.stem(stacked), t) if self.takes_time else (self.stem(stacked),)
        output = self.head(final_image(self.backbone(*arguments)))[..., :height, :width]
        if output.shape[1] != IMAGE_CHANNELS:
            output = output[:, self.skipped]
        return output + x[:, self.skipped] if self.residual else output

    def _check_settings(
        self,
        time: str | None,
        residual: bool | None,
        unshuffle: int,
        adapters: bool,
        skip: str | None,
    ) -> None:
        """Refuse what does not exist, and what a backbone that takes the timestep cannot use."""
        if time not in (None, 'channel', 'none'):
            raise OptionError(f'network_g: time: {time!r} is not allowed. Allowed: channel, none.')
        if skip is not None:
            _check_skip(skip, residual)
        if unshuffle < 1:
            raise OptionError(f'network_g: unshuffle: {unshuffle} must be 1 or more.')
        settings = {
            'time: channel': time == 'channel',
            'residual: true': residual,
            f'skip: {skip}': skip is not None,
            f'unshuffle: {unshuffle}': unshuffle > 1,
            'adapters: true': adapters,
        }
        given = [setting for setting, is_given in settings.items() if is_given]
        if self.takes_time and given:
            raise OptionError(
                f'network_g: {given[0]} does not fit {self.name}, which takes the timestep itself '
                f'and is used as it is; leave {given[0].split(":")[0]} out.'
            )

    def _probe(self, in_channels: int, size_multiple: int | None) -> tuple[int, int]:
        """Size multiple and number of output channels of the backbone, by running it on zeros.

        On the meta device, which computes shapes only; on the CPU if the backbone cannot be there.
        """
        candidates = [size_multiple] if size_multiple else size_multiples(self.backbone)
        trials = [('meta', multiple) for multiple in candidates]
        trials += [('cpu', multiple) for multiple in candidates if multiple <= LARGEST_CPU_PROBE]
        problem: Exception | None = None
        for device, multiple in trials:
            if device == 'cpu' and isinstance(problem, OptionError):
                break
            height, width = probe_size(multiple)
            zeros = torch.zeros(1, in_channels, height, width, device=device)
            try:
                output = run_copy(self.backbone, zeros)
            except Exception as error:
                problem = error
                continue
            if output.shape[-2:] == (height * self.unshuffle, width * self.unshuffle):
                return multiple, output.shape[1]
            problem = self._wrong_size((height, width), tuple(output.shape[-2:]))
        reason = str(problem).rstrip('.') or type(problem).__name__
        if not isinstance(problem, OptionError):
            reason += ADAPTERS_HINT
        raise OptionError(
            f'network_g: backbone: {self.name} cannot predict noise from {in_channels} channels: '
            f'{reason}.'
        ) from problem

    def _wrong_size(self, given: tuple[int, int], returned: tuple[int, ...]) -> OptionError:
        text = f'it returns {returned[0]} x {returned[1]} for {given[0]} x {given[1]}'
        scale, rest = divmod(returned[0], given[0])
        if scale > 1 and not rest:
            text += (
                f', {scale} times the size. Set its upscaling to 1; if it has no such setting, add '
                f'unshuffle: {scale} to network_g: it is then fed images of 1/{scale} of the size'
            )
        elif self.unshuffle > 1:
            height, width = (side * self.unshuffle for side in given)
            text += f'; with unshuffle: {self.unshuffle} it must return {height} x {width}'
        return OptionError(text)

    def _check_out_channels(self, in_channels: int, out_channels: int) -> None:
        slice_is_possible = self.unshuffle == 1 and out_channels == in_channels
        if out_channels != IMAGE_CHANNELS and not slice_is_possible:
            raise OptionError(
                f'network_g: backbone: {self.name} returns {out_channels} channels; noise has '
                f'{IMAGE_CHANNELS}. Set its output channels to {IMAGE_CHANNELS}, or add '
                'adapters: true to network_g, which puts a learned convolution after it.'
            )


def check_predicts_noise(network: nn.Module, name: str) -> None:
    """Raise OptionError unless `network` maps (cat(degraded, noisy), t) to noise of their size.

    Tried on zeros on the meta device, which computes shapes only.
    """
    if not takes_time(network):
        raise OptionError(
            f'network_g: type: {name} takes no timestep; use it as the backbone of a noise '
            f'predictor: network_g: {{type: NoisePredictor, backbone: {{type: {name}, ...}}}}.'
        )
    side = probe_size(getattr(network, 'size_multiple', 1))[0]
    x = torch.zeros(1, 2 * IMAGE_CHANNELS, side, side, device='meta')
    try:
        returned = tuple(run_copy(network, x).shape)
    except NotImplementedError:
        return
    except Exception as error:
        raise OptionError(
            f'network_g: {name} cannot take the degraded and the noisy image, '
            f'{2 * IMAGE_CHANNELS} channels: {str(error).rstrip(".")}.'
        ) from error
    if returned != (1, IMAGE_CHANNELS, side, side):
        raise OptionError(
            f'network_g: {name} must return noise of {IMAGE_CHANNELS} channels and the size of the '
            f'image; for {side} x {side} it returns {returned[1]} channels of '
            f'{" x ".join(str(length) for length in returned[2:])}.'
        )


def _check_skip(skip: str, residual: bool | None) -> None:
    try:
        check_skip(skip)
    except ValueError as error:
        raise OptionError(f'network_g: {error}.') from error
    if residual is not None and residual is (skip == 'none'):
        raise OptionError(
            f'network_g: residual: {str(residual).lower()} contradicts skip: {skip}; leave '
            'residual out.'
        )


def stacked_channels(time: str, unshuffle: int = 1) -> int:
    """Channels that a backbone is fed: two images, time as a channel, `unshuffle` applied."""
    return (2 * IMAGE_CHANNELS + (time == 'channel')) * unshuffle**2


def drop_rgb_mean(network: nn.Module) -> None:
    """Zero the RGB mean that EDSR and RCAN subtract, which stacked images and noise do not have."""
    mean = getattr(network, 'mean', None)
    if isinstance(mean, Tensor) and mean.numel() == IMAGE_CHANNELS:
        network.mean = mean.new_zeros(1, 1, 1, 1)

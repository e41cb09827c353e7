"""What the network accepts: the options of `network_g` and the shapes of its inputs."""

from collections.abc import Sequence

from torch import Tensor

from c2fdft_arch.common.messages import nearest

SIZE_MULTIPLE = 8
LAYER_NORM_TYPES = ('WithBias', 'BiasFree')
LEVELS = 4
SKIPS = ('noisy', 'degraded', 'none')


def check_options(
    inp_channels: int,
    out_channels: int,
    dim: int,
    num_blocks: Sequence[int],
    heads: Sequence[int],
    ffn_factor: float,
    LayerNorm_type: str,
    dual_pixel_task: bool,
    skip: str,
) -> None:
    """Raise ValueError naming the first option of the network that cannot be built."""
    for name, values in (('num_blocks', num_blocks), ('heads', heads)):
        if len(values) != LEVELS or any(int(v) != v or v < 1 for v in values):
            raise ValueError(
                f'{name}: {list(values)} given; {LEVELS} positive whole numbers are needed, '
                'for levels 1 to 3 and the latent'
            )
    if dim < 4 or dim % 2:
        raise ValueError(f'dim: {dim} given; an even number from 4 up is needed')
    for level, count in enumerate(heads):
        channels = dim * 2**level
        if channels % count:
            raise ValueError(
                f'heads: {count} heads of level {level + 1} do not divide its {channels} channels '
                f'(dim {dim})'
            )
    if int(dim * ffn_factor) < 1:
        raise ValueError(f'ffn_factor: {ffn_factor} given; dim * ffn_factor must be at least 1')
    if not dual_pixel_task and inp_channels < out_channels:
        raise ValueError(
            f'inp_channels: {inp_channels} given; the noisy image is its last {out_channels} '
            'channels (out_channels), so at least as many are needed'
        )
    check_skip(skip)
    if dual_pixel_task and skip == 'degraded':
        raise ValueError(
            'skip: degraded given; with dual_pixel_task: true nothing is added to the last '
            'convolution (skip: none, or leave it out)'
        )
    if LayerNorm_type not in LAYER_NORM_TYPES:
        raise ValueError(
            f'LayerNorm_type: {LayerNorm_type!r} given; it is {" or ".join(LAYER_NORM_TYPES)}'
            f'{nearest(str(LayerNorm_type), LAYER_NORM_TYPES)}'
        )


def check_skip(skip: str) -> None:
    """Raise ValueError unless `skip` names what the last convolution can be added to."""
    if skip not in SKIPS:
        raise ValueError(
            f'skip: {skip!r} given; it is {", ".join(SKIPS)}{nearest(str(skip), SKIPS)}'
        )


def check_input(x: Tensor, t: Tensor, inp_channels: int) -> None:
    """Raise ValueError unless x is (B, inp_channels, H, W) with legal sides, and t is (B,)."""
    if x.dim() != 4 or x.shape[1] != inp_channels:
        raise ValueError(
            f'the network takes (B, {inp_channels}, H, W), the degraded and the noisy image '
            f'concatenated; got {tuple(x.shape)}'
        )
    if x.shape[2] % SIZE_MULTIPLE or x.shape[3] % SIZE_MULTIPLE or not x.numel():
        raise ValueError(
            f'image sides must be positive multiples of {SIZE_MULTIPLE}; got '
            f'{x.shape[2]} x {x.shape[3]} (pad the image and crop the result)'
        )
    if t.dim() != 1 or t.shape[0] != x.shape[0]:
        raise ValueError(
            f'one timestep per image is needed, t of shape ({x.shape[0]},); got {tuple(t.shape)}'
        )

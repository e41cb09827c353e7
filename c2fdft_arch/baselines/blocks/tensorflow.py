"""Layers and weights of networks that were published for TensorFlow."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, pad

from c2fdft_arch.common.messages import one_line
from c2fdft_arch.common.option_parsing import OptionError

LEAVES = {'weights': 'weight', 'kernel': 'weight', 'biases': 'bias'}


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding `SAME`: what is odd of it lies below and right."""

    def forward(self, x: Tensor) -> Tensor:
        """Features of the size divided by the stride, rounded up."""
        before_after = [
            _same_padding(x.shape[dim], self.kernel_size[dim], self.stride[dim]) for dim in (-1, -2)
        ]
        return super().forward(pad(x, [side for both in before_after for side in both]))


class SameConvTranspose2d(nn.ConvTranspose2d):
    """The transposed convolution whose output has the size times the stride."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Features of the size times the stride."""
        output = conv_transpose2d(x, self.weight, self.bias, self.stride)
        for dim in (-2, -1):
            size = x.shape[dim] * self.stride[dim]
            before, _ = _same_padding(size, self.kernel_size[dim], self.stride[dim])
            output = output.narrow(dim, before, size)
        return output


def resize_corners(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resizing as TensorFlow 1 did it: pixel 0 stays where it is (B, C, *size)."""
    for dim, length in zip((-2, -1), size, strict=True):
        given = x.shape[dim]
        if given != length:
            place = torch.arange(length, device=x.device, dtype=x.dtype) * (given / length)
            low = place.floor().long()
            share = (place - low).view(-1, *[1] * (-1 - dim))
            first = x.index_select(dim, low)
            second = x.index_select(dim, (low + 1).clamp(max=given - 1))
            x = first + share * (second - first)
    return x


def load_variables(network: nn.Module, path: str, scope: str) -> None:
    """Give a network the variables of a TensorFlow checkpoint, a file of {name: tensor}.

    `torch.save({n: torch.tensor(reader.get_tensor(n)) for n in reader.get_variable_to_shape_map()},
    path)` writes it, with `reader = tensorflow.train.load_checkpoint(checkpoint)`. Variables are
    those below `scope`; others, as an optimiser's, are left out.

    Raises OptionError for a file that cannot be read and for variables that are missing or do not
    fit.
    """
    name = f'network_g: {type(network).__name__}: weights: {path}'
    try:
        variables = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        raise OptionError(f'{name} cannot be loaded: {one_line(error)}') from error
    wanted = network.state_dict()
    state = {}
    for variable, value in variables.items():
        key = parameter_name(variable.removeprefix(scope))
        if variable.startswith(scope) and key in wanted:
            state[key] = value.permute(3, 2, 0, 1) if value.dim() == 4 else value
    missing = [key for key in wanted if key not in state]
    if missing:
        raise OptionError(f'{name} lacks {len(missing)} of its variables, as {missing[0]}.')
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise OptionError(f'{name} does not fit: {one_line(error)}') from error


def parameter_name(variable: str) -> str:
    """The name here of a variable, as `enc1_1/weights` or `deconv4_1`."""
    *path, leaf = variable.split('/')
    if leaf in LEAVES:
        return '.'.join([*path, LEAVES[leaf]])
    if leaf in ('weight', 'bias', 'alpha'):
        return '.'.join([*path, leaf])
    return '.'.join([*path, leaf, 'weight'])


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2

"""The network evaluated for training: channels-last, with fused blocks.

Blocks are computed by the kernels in C++ (`native_branches`), which also compute 3x3 convolutions,
by those in Triton (`triton_branches`) or in PyTorch's operations (`block`).
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from c2fdft_arch.common.hardware import matmul_dtype
from c2fdft_arch.common.kernel_choice import chosen_kernels
from c2fdft_arch.native.structures import SHUFFLE, UNSHUFFLE
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_arch.training.block import TorchTraining, apply_block
from c2fdft_arch.training.cuda_graphs import graphed_training
from c2fdft_arch.training.native_branches import NativeTraining

if TYPE_CHECKING:
    from c2fdft_arch.training.triton_branches import TritonTraining


def training_forward(network: PlainDFT, x: Tensor, t: Tensor, dtype: torch.dtype) -> Tensor:
    """Predict the noise (B, 3, H, W) in x (B, 6, H, W) at timesteps t (B,), differentiably.

    On a GPU the call is recorded as CUDA graphs, unless the network says `cuda_graphs = False`, or
    it is a replica of `DataParallel`, whose weights are new ones in every call.
    """
    checkpoint_blocks, kernels = network.checkpoint_blocks, network.kernels

    def forward(x: Tensor, t: Tensor) -> Tensor:
        return TrainingForward(network, t, dtype, checkpoint_blocks, kernels)(x)

    recordable = x.is_cuda and not torch.cuda.is_current_stream_capturing()
    if not (recordable and network.cuda_graphs and network.output.weight.is_leaf):
        return forward(x, t)
    key = dtype, checkpoint_blocks, kernels, t.dtype, torch.are_deterministic_algorithms_enabled()
    return graphed_training(network)(network, forward, x, t, key)


class TrainingForward:
    """One forward pass with gradients, for timesteps t (B,); feature maps are (B, H, W, C).

    Matrix products and convolutions are computed in `dtype` (see `matmul_dtype`); everything else,
    and the features that the blocks add to, in float32. With `checkpoint_blocks` only the blocks'
    inputs are kept for the backward pass, and each block is evaluated again there.
    """

    def __init__(
        self,
        network: PlainDFT,
        t: Tensor,
        dtype: torch.dtype,
        checkpoint_blocks: bool,
        kernels: str = 'auto',
    ) -> None:
        device = network.output.weight.device
        dtype = matmul_dtype(dtype, device.type)
        self.network = network
        self.time_embeddings = network.embeddings(t)
        self.backend = backend_of(chosen_kernels(kernels, device, 'training'), dtype)
        with_native = kernels == 'auto'
        self.native = NativeTraining.of(network, dtype) if with_native else None
        self.native_fp32 = NativeTraining.of(network, torch.float32) if with_native else None
        self.checkpoint_blocks = checkpoint_blocks

    def __call__(self, x: Tensor) -> Tensor:
        """Predict the noise (B, 3, H, W) in x (B, 6, H, W), differentiably."""
        net = self.network
        image = x.permute(0, 2, 3, 1).contiguous()
        embedded = self.convolve_fp32(net.patch_embed.proj, image)
        encoded1 = self.level(net.encoder_level1, embedded)
        encoded2 = self.level(net.encoder_level2, self.down(net.down1_2, encoded1))
        encoded3 = self.level(net.encoder_level3, self.down(net.down2_3, encoded2))
        features = self.level(net.latent, self.down(net.down3_4, encoded3))
        features = self.up(net.up4_3, features, encoded3, net.reduce_chan_level3)
        features = self.level(net.decoder_level3, features)
        features = self.up(net.up3_2, features, encoded2, net.reduce_chan_level2)
        features = self.level(net.decoder_level2, features)
        features = self.up(net.up2_1, features, encoded1, None)
        features = self.level(net.decoder_level1, features)
        if net.dual_pixel_task:
            features = features + self.convolve(net.skip_conv, embedded, torch.float32)
        result = self.convolve_fp32(net.output, features).permute(0, 3, 1, 2)
        skipped = net.global_skip(x)
        return result if skipped is None else result + skipped

    def level(self, blocks: nn.Module, x: Tensor) -> Tensor:
        """The blocks of a level on x (B, H, W, C), each by the kernels if they take it."""
        time_embedding = self.time_embeddings[x.shape[3]]
        for block in blocks.children():
            native = self.native
            backend = native if native is not None and native.suits(block) else self.backend
            arguments = block, x, time_embedding, backend
            if self.checkpoint_blocks:
                x = checkpoint(
                    apply_block, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x = apply_block(*arguments)
        return x

    def convolve(self, conv: nn.Module, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """A convolution of (B, H, W, C), by default in the dtype of matrix products."""
        dtype = dtype or self.backend.dtype
        weight = conv.weight.to(dtype)
        bias = None if conv.bias is None else conv.bias.to(dtype)
        convolve = functools.partial(F.conv2d, weight=weight, bias=bias, padding=conv.padding)
        return channels_first(convolve, x.to(dtype))

    def convolve_fp32(self, conv: nn.Module, x: Tensor) -> Tensor:
        """A 3x3 convolution that is always computed in float32: the first and the last one."""
        if self.native_fp32 is not None:
            return self.native_fp32.convolve(conv, x)
        return self.convolve(conv, x, torch.float32)

    def down(self, module: nn.Module, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H/2, W/2, 2C)."""
        if self.native is not None:
            return self.native.convolve(module.body[0], x, UNSHUFFLE)
        y = channels_first(module.body[1], self.convolve(module.body[0], x))
        return y.float().contiguous()

    def up(self, module: nn.Module, x: Tensor, skip: Tensor, reduce: nn.Module | None) -> Tensor:
        """(B, H, W, C) to (B, 2H, 2W, C/2), concatenated with skip (B, 2H, 2W, C/2).

        With `reduce`, a 1x1 convolution, that is reduced to (B, 2H, 2W, C/2).
        """
        if self.native is not None:
            joined = self.native.convolve(module.body[0], x, SHUFFLE, skip)
        else:
            y = channels_first(module.body[1], self.convolve(module.body[0], x))
            dtype = torch.float32 if reduce is None else y.dtype
            joined = torch.cat([y.to(dtype), skip.to(dtype)], dim=3)
        return joined if reduce is None else self.convolve(reduce, joined).float()


def backend_of(kernels: str, dtype: torch.dtype) -> 'TorchTraining | TritonTraining':
    """What computes the blocks that the kernels in C++ do not."""
    if kernels != 'triton':
        return TorchTraining(dtype)
    from c2fdft_arch.training.triton_branches import TritonTraining  # Triton may be missing

    return TritonTraining(dtype)


def channels_first(operation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An operation of (B, C, H, W) applied to x (B, H, W, C)."""
    return operation(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

"""The two training stages: what is computed from a batch, as a module around the network.

A stage is an `nn.Module`, so that distributed training, data parallelism and compilation wrap one
forward pass, however often the network is called in it. All randomness comes in as arguments.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from c2fdft_model.diffusion.noise_schedule import antithetic_timesteps
from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.diffusion.sampling import Denoiser
from c2fdft_model.training.options import MixingOptions

Loss = Callable[[Tensor, Tensor], Any]
LossTerms = dict[str, Tensor]


def to_signed(image: Tensor) -> Tensor:
    """Map [0, 1] to [-1, 1], the range of the diffusion process."""
    return 2 * image - 1


def to_unit(image: Tensor) -> Tensor:
    """Map [-1, 1] to [0, 1], not clamped."""
    return (image + 1) / 2


class Stage(nn.Module):
    """What both stages share: the network, the process, and the precision of the network calls.

    With `bf16` the network's matrix products and convolutions are computed in bfloat16; images,
    noise, the process and the losses stay in float32. With `compiled` the network is compiled when
    it is first called; it keeps its own `forward` and parameter names.
    """

    def __init__(
        self,
        network: nn.Module,
        process: DiffusionProcess,
        *,
        bf16: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.process = process
        self.bf16 = bf16
        self._call = torch.compile(network.forward, dynamic=False) if compiled else None

    def denoiser(self, y: Tensor) -> Denoiser:
        """The network as a denoiser of x_t for one degraded image `y` (B, 3, H, W) in [-1, 1]."""

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            network = self._call or self.network
            autocast = torch.autocast(y.device.type, torch.bfloat16) if self.bf16 else None
            with autocast or contextlib.nullcontext():
                return network(torch.cat([y, x_t], dim=1), t).float()

        return denoise


class CoarseStage(Stage):
    """The coarse stage: predict the noise of x_t (Wang et al., Eq. 8), or the process's target."""

    def __init__(
        self, network: nn.Module, process: DiffusionProcess, loss: Loss, **settings: bool
    ) -> None:
        super().__init__(network, process, **settings)
        self.loss = loss

    def forward(self, lq: Tensor, gt: Tensor, eps: Tensor, t: Tensor) -> LossTerms:
        """The term `l_noise`, `l_clean` or `l_velocity`, as the process's prediction is called.

        `lq`, `gt`: (B, 3, H, W) in [0, 1]; `eps`: standard normal noise like `gt`; `t`: (B,)
        timesteps, 0-based.
        """
        y, x_0 = to_signed(lq), to_signed(gt)
        x_t = self.process.q_sample(x_0, y, eps, t)
        output = self.denoiser(y)(x_t, t)
        estimate, target = self.process.objective(output, x_t, x_0, y, eps, t)
        return {f'l_{self.process.prediction}': self.loss(estimate, target)}


class FineStage(Stage):
    """The fine stage: sample an image and compare it with the clean one (Wang et al., Eq. 9).

    `signed_losses` compare the images in [-1, 1], `unit_losses` in [0, 1]; each is a mapping from
    the term's name to its loss. `grad_steps` and `checkpoint`: see `DiffusionProcess.sample`.
    """

    def __init__(
        self,
        network: nn.Module,
        process: DiffusionProcess,
        signed_losses: Mapping[str, Loss],
        unit_losses: Mapping[str, Loss],
        grad_steps: int | None = None,
        checkpoint: bool = False,
        **settings: bool,
    ) -> None:
        super().__init__(network, process, **settings)
        self.signed_losses = dict(signed_losses)
        self.unit_losses = dict(unit_losses)
        self.grad_steps = grad_steps
        self.checkpoint = checkpoint

    def forward(self, lq: Tensor, gt: Tensor, eps: Tensor, t: Tensor) -> LossTerms:
        """One term for each loss.

        `lq`, `gt`: (B, 3, H, W) in [0, 1]; `eps`: standard normal noise like `gt`, from which
        sampling starts. `t` is taken for uniformity with the coarse stage and not used.
        """
        y, x_0 = to_signed(lq), to_signed(gt)
        sampled = self.process.sample(
            self.denoiser(y),
            self.process.initial_sample(y, eps),
            y,
            grad_steps=self.grad_steps,
            checkpoint=self.checkpoint,
        )
        terms: LossTerms = {}
        for name, loss in self.signed_losses.items():
            terms.update(named_terms(name, loss(sampled, x_0)))
        unit_sampled = to_unit(sampled)
        for name, loss in self.unit_losses.items():
            terms.update(named_terms(name, loss(unit_sampled, gt)))
        return terms


def named_terms(name: str, value: Any) -> LossTerms:
    """The terms of a loss: BasicSR's perceptual loss returns (perceptual, style) or None each."""
    if not isinstance(value, tuple):
        return {name: value}
    terms = dict(zip((name, 'l_style'), value, strict=True))
    return {name: term for name, term in terms.items() if term is not None}


def mixup(
    lq: Tensor, gt: Tensor, beta: float, use_identity: bool, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Blend each pair of a batch with another pair of it (Zhang et al., "mixup", 2018).

    One weight for the batch, from Beta(`beta`, `beta`); with `use_identity` half of the batches,
    drawn at random, stay as they are.
    """
    if use_identity and rng.random() < 0.5:
        return lq, gt
    weight = float(rng.beta(beta, beta))
    partner = torch.from_numpy(rng.permutation(len(lq))).to(lq.device, non_blocking=True)
    return (
        weight * lq + (1 - weight) * lq[partner],
        weight * gt + (1 - weight) * gt[partner],
    )


def stage_inputs(
    lq: Tensor, gt: Tensor, num_timesteps: int, mixing: MixingOptions, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a stage takes: the images, mixed up as the options say, noise and timesteps.

    Functions of the images and of `seed` alone, which seeds PyTorch's own generator, too: for
    dropout in a network, and noise with eta above 0.
    """
    torch.manual_seed(seed)
    if mixing.mixup:
        rng = np.random.default_rng(seed)
        lq, gt = mixup(lq, gt, mixing.mixup_beta, mixing.use_identity, rng)
    t = antithetic_timesteps(len(gt), num_timesteps, torch.Generator().manual_seed(seed))
    generator = torch.Generator(gt.device).manual_seed(seed)
    eps = torch.randn(gt.shape, generator=generator, device=gt.device)
    return lq, gt, eps, t.to(gt.device, non_blocking=True)

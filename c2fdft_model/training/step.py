"""One iteration of training: the gradients of a batch, and a step if they are finite."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from c2fdft_arch.common import distributed
from c2fdft_model.training.ema import ModelEMA


def accumulate_gradients(
    stage: nn.Module, inputs: Sequence[Tensor], parts: int = 1
) -> dict[str, Tensor]:
    """Add the gradients of a batch, computed in `parts` pieces, to the parameters.

    `inputs` are tensors of (B, ...), the arguments of `stage`, whose result is the loss terms by
    name, each a mean over the images. Pieces are weighted by their share of the images, so that
    the gradients are those of the whole batch. Returns the terms of the whole batch, detached.
    """
    batch_size = len(inputs[0])
    parts = min(parts, batch_size)
    pieces = list(zip(*(tensor.tensor_split(parts) for tensor in inputs), strict=True))
    totals: dict[str, Tensor] = {}
    for number, piece in enumerate(pieces, start=1):
        share = len(piece[0]) / batch_size
        with distributed.no_sync(stage, last_part=number == len(pieces)):
            terms = {name: term.mean() * share for name, term in stage(*piece).items()}
            torch.stack(list(terms.values())).sum().backward()
        for name, term in terms.items():
            totals[name] = totals[name] + term.detach() if name in totals else term.detach()
    return totals


def gradient_norm(parameters: Sequence[nn.Parameter], clip_to: float | None = None) -> Tensor:
    """The norm of all gradients together, a scalar; they are then scaled down to `clip_to`."""
    if clip_to is not None:
        return nn.utils.clip_grad_norm_(parameters, clip_to)
    norms = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])
    return torch.linalg.vector_norm(torch.stack(norms))


def fused_if_possible(optimizer_class: type, parameters: list, **kwargs: Any) -> Any:
    """Build Adam or AdamW in its fused form, if this PyTorch has one for the parameters' device."""
    if not {'fused', 'foreach', 'capturable'} & kwargs.keys():
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            return optimizer_class(parameters, fused=True, **kwargs)
    return optimizer_class(parameters, **kwargs)


def with_fusion_of(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state of an optimiser, for one that may be fused where the one that saved it was not."""
    groups = [
        group | {name: own[name] for name in ('fused', 'foreach') if name in own}
        for group, own in zip(state['param_groups'], optimizer.param_groups, strict=True)
    ]
    return {**state, 'param_groups': groups}


def step_if_finite(
    found_inf: Tensor, optimizer: torch.optim.Optimizer, ema: ModelEMA | None, iteration: int
) -> None:
    """Step the optimiser and the averaged weights, unless `found_inf` (a scalar, 0 or 1) is 1.

    A fused optimiser reads the flag on the device, so that the host need not wait for it. With any
    other one on a GPU the host has to.
    """
    if any(group.get('fused') for group in optimizer.param_groups):
        # The attribute through which PyTorch's gradient scaler hands the flag to the optimiser.
        optimizer.found_inf = found_inf  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]
    elif not found_inf:
        optimizer.step()
    if ema is not None:
        ema.update(found_inf, iteration)

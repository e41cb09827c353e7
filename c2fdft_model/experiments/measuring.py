"""Restores the test images with one trained system and measures what that costs."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c2fdft_model.experiments.costs import (
    count_flops,
    peak_memory,
    reset_peak_memory,
    resident_memory,
    timed,
)
from c2fdft_model.experiments.images import read_tensor, to_uint8, write_png
from c2fdft_model.plugin import autoload
from c2fdft_model.training.allocator import give_back_freed_memory


def measure(
    options: dict[str, Any], weights: str, images: Sequence[Path], results: Path
) -> dict[str, Any]:
    """Restore every image once, after one to warm up, write the results and return the costs.

    They are parameters, gflop (of the first image), seconds_per_image and peak_mib: above what a
    process without the system needs, so call this in a process of its own. On a GPU it is the
    allocated memory, otherwise the resident memory of the process.
    """
    autoload.install()
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    give_back_freed_memory()  # what is kept for later would hide as much of the peak
    baseline = resident_memory() if device == 'cpu' else 0
    model = load_model(options, weights)
    restore(model, images[0])
    reset_peak_memory(device)
    seconds = []
    for path in images:
        result, taken = restore(model, path)
        seconds.append(taken)
        write_png(results / f'{path.stem}.png', to_uint8(result)[..., ::-1])
    peak = max(peak_memory(device) - baseline, 0)
    return {
        'parameters': sum(p.numel() for p in model.get_bare_model(model.net_g).parameters()),
        'gflop': flops_per_restoration(model, images[0]) / 1e9,
        'seconds_per_image': seconds,
        'peak_mib': peak / 2**20,
    }


def load_model(options: dict[str, Any], weights: str) -> Any:
    """The BasicSR model of the options, with the averaged weights if there are any."""
    from basicsr.models import build_model

    content = torch.load(weights, map_location='cpu', weights_only=True)
    key = 'params_ema' if 'params_ema' in content else 'params'
    path = {'pretrain_network_g': weights, 'param_key_g': key, 'strict_load_g': True}
    num_gpu = torch.cuda.device_count() if options['num_gpu'] == 'auto' else options['num_gpu']
    one_process = {'is_train': False, 'dist': False, 'rank': 0, 'world_size': 1}
    return build_model({**options, **one_process, 'num_gpu': num_gpu, 'path': path})


def restore(model: Any, path: Path) -> tuple[Tensor, float]:
    """The restored image (3, H, W) in [0, 1] on the CPU, and the seconds that it took."""
    model.feed_data({'lq': read_tensor(path)[None].contiguous(), 'lq_path': [str(path)]})
    _, seconds = timed(model.test)
    return model.output[0].float().clamp(0, 1).cpu(), seconds


def flops_per_restoration(model: Any, path: Path) -> int:
    """Floating-point operations of the network calls that restoring one image makes."""
    network = model.get_bare_model(model.net_g)
    calls: dict[tuple, list[tuple[Tensor, ...]]] = defaultdict(list)
    hook = network.register_forward_pre_hook(
        lambda _, inputs: calls[tuple(x.shape for x in inputs)].append(inputs)
    )
    restore(model, path)
    hook.remove()
    return sum(len(alike) * count_flops(network, alike[0]) for alike in calls.values())

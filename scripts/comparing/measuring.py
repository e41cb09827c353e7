"""Restores the test images with one trained system and measures what that costs.

    python -m comparing.measuring JOB.json

The job names option file, weights, images and where the results go (see `budget.Trained`). Run in a
process of its own, so that the peak memory is the system's alone.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from c2fdft_model.images.image_files import read_image
from c2fdft_model.plugin import autoload
from comparing.memory_meter import MemoryMeter

MEBI = 2**20


def main(job_file: str) -> None:
    """Restore every image of the job once, after one to warm up, and write result.json."""
    autoload.install()
    job = json.loads(Path(job_file).read_text())
    torch.manual_seed(0)
    meter = MemoryMeter()
    model = load_model(job)
    images = [Path(name) for name in job['images']]
    restore(model, images[0])
    meter.restart()
    seconds = []
    for path in images:
        result, taken = restore(model, path)
        seconds.append(taken)
        write_png(Path(job['results']) / f'{path.stem}.png', result)
    peak = meter.peak()
    flops = flops_per_restoration(model, images[0])
    Path(job['report']).write_text(
        json.dumps(
            {
                'parameters': sum(p.numel() for p in bare(model).parameters()),
                'gflop': flops / 1e9,
                'seconds_per_image': seconds,
                'peak_mib': peak / MEBI,
            }
        )
    )


def load_model(job: dict[str, Any]) -> Any:
    """The BasicSR model of the options, with the averaged weights if there are any."""
    from basicsr.models import build_model

    options = job['options']
    weights = torch.load(job['weights'], map_location='cpu', weights_only=True)
    key = 'params_ema' if 'params_ema' in weights else 'params'
    path = {'pretrain_network_g': job['weights'], 'param_key_g': key, 'strict_load_g': True}
    num_gpu = options['num_gpu']
    if num_gpu == 'auto':
        num_gpu = torch.cuda.device_count()
    settings = {'is_train': False, 'dist': False, 'num_gpu': num_gpu, 'path': path}
    settings |= {'rank': 0, 'world_size': 1}
    return build_model({**options, **settings})


def bare(model: Any) -> nn.Module:
    """The network inside the model's wrappers."""
    return model.get_bare_model(model.net_g)


def restore(model: Any, path: Path) -> tuple[Tensor, float]:
    """The restored image (3, H, W) in [0, 1] on the CPU, and the seconds that it took."""
    model.feed_data({**read(path), 'lq_path': [str(path)]})
    synchronise()
    start = time.perf_counter()
    model.test()
    synchronise()
    return model.output[0].float().clamp(0, 1).cpu(), time.perf_counter() - start


def read(path: Path) -> dict[str, Tensor]:
    """A batch of one image, RGB in [0, 1], as BasicSR's models take it."""
    colour = read_image(path).colour
    return {'lq': torch.from_numpy(colour.transpose(2, 0, 1).copy())[None].float()}


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def flops_per_restoration(model: Any, path: Path) -> int:
    """Floating-point operations of the network calls that restoring one image makes.

    Counted on the meta device for the shapes that the network is really called with: that computes
    nothing, and counts a network that works in strips like the same network in one piece.
    """
    network = bare(model)
    calls: list[tuple[Any, ...]] = []
    hook = network.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    restore(model, path)
    hook.remove()
    counted: dict[tuple, int] = {}
    total = 0
    for inputs in calls:
        key = tuple(tuple(x.shape) for x in inputs)
        if key not in counted:
            counted[key] = count_flops(network, inputs)
        total += counted[key]
    return total


def count_flops(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Operations of one call: two for each multiplication and addition of a matrix product."""
    meta = copy.deepcopy(network).to('meta')
    counter = FlopCounterMode(display=False)
    with torch.enable_grad(), counter:
        meta(*(x.to('meta') for x in inputs))
    return counter.get_total_flops()


def write_png(path: Path, image: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    cv2.imwrite(str(path), pixels[..., ::-1])


if __name__ == '__main__':
    main(sys.argv[1])

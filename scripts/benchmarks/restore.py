"""Restoring photographs: seconds, extra memory and share of the matrix-product rate.

For every size and precision, with random weights: one evaluation of the network, a restoration of
four, and the same evaluation by PlainDFT, the network as the paper draws it, layer by layer, in
float32. Times are taken in one process, in which all take turns, and so does a product of large
matrices, whose rate a call is held against. Extra memory is taken in a process per case: on the CPU
by how much the largest resident size grew during a call, on a GPU by how much the largest amount
that PyTorch had allocated. With trained weights and photographs (the demo's, if it ran) the PSNR of
float32 and bfloat16 is compared as well.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import Figures, fastest_in_turns, in_a_process
from c2fdft_arch.common.hardware import has_fast_bf16
from c2fdft_arch.common.padding import pad_to_multiple
from c2fdft_arch.dft import DFT
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_model.data.pairing import pair_folders
from c2fdft_model.evaluation.image_metrics import psnr
from c2fdft_model.experiments.costs import count_flops, peak_memory, reset_peak_memory, timed
from c2fdft_model.experiments.images import read_tensor, to_uint8
from c2fdft_model.experiments.tables import means
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.restoring.weights import load_network

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(256, 256), (512, 512), (1024, 1024), (321, 481)]
PRECISIONS = ('fp32', 'bf16', 'auto')
PLAIN_PIXELS = 512 * 512
"""Pixels of the largest image that PlainDFT is measured with; beyond, it takes minutes."""
GEMM_SIDE = 2048
FIRST_SIDE = 16
"""Side of the image of a first, unmeasured call, which loads libraries and compiles kernels."""


@dataclass(frozen=True)
class Case:
    """A size, which is that of the image before padding, and how it is evaluated."""

    height: int
    width: int
    precision: str  # or plain
    device: str = 'cpu'
    dim: int = 48


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `benchmark.py restore`."""
    add = parser.add_argument
    add(
        '--sizes', nargs='+', type=_size, default=SIZES, metavar='SIZE',
        help='of the images, like 256 or 321x481 (height x width)',
    )  # fmt: skip
    add('--precisions', nargs='+', choices=PRECISIONS, default=['fp32', 'bf16'])
    add('--repeat', type=int, default=3, help='timed calls (the fastest)')
    add('--plain-everywhere', action='store_true', help='measure PlainDFT above 512 x 512 as well')
    add('--device', default='cpu', help='cpu or cuda')
    add('--dim', type=int, default=48, help="the network's dim; 48 is full size")
    add('--weights', type=Path, help="for the PSNR: trained network (default: the demo's)")
    add('--photos', type=Path, help="folder with input and target (default: the demo's, held out)")


def run(arguments: argparse.Namespace) -> Figures:
    """Measure every case and print it; a failure if one did not run."""
    rows: list[dict[str, Any]] = []
    for height, width in arguments.sizes:
        rows += _measure_size(arguments, height, width)
    figures = {'cases': rows, 'psnr': _mean_psnr(arguments)}
    return figures, all(row['seconds_per_call'] is not None for row in rows)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r'([1-9]\d*)(?:x([1-9]\d*))?', text)
    if not found:
        raise argparse.ArgumentTypeError(f'{text!r} given; it is a size like 256 or 321x481')
    return int(found[1]), int(found[2] or found[1])


def _measure_size(arguments: argparse.Namespace, height: int, width: int) -> list[dict[str, Any]]:
    with_plain = arguments.plain_everywhere or height * width <= PLAIN_PIXELS
    names = ['plain'] * with_plain + arguments.precisions
    cases = [Case(height, width, name, arguments.device, arguments.dim) for name in names]
    times = in_a_process(_times, cases, arguments.repeat) or {}
    memory = {case.precision: in_a_process(_extra_memory_mb, case) for case in cases}
    rows = []
    for name in arguments.precisions:
        measured = times.get(name, {})
        row = {
            'height': height,
            'width': width,
            'precision': name,
            'seconds_per_call': measured.get('call'),
            'plain_seconds_per_call': times.get('plain', {}).get('call'),
            'extra_memory_mb': memory[name],
            'plain_extra_memory_mb': memory.get('plain'),
            'matmul_share': measured.get('matmul_share'),
        }
        rows.append(row)
        print(_line(row, measured.get('restoration')), flush=True)
    return rows


def _line(row: dict[str, Any], restoration: float | None) -> str:
    head = f'{row["height"]:>5} x {row["width"]:<5} {row["precision"]}'
    seconds, memory = row['seconds_per_call'], row['extra_memory_mb']
    if seconds is None or memory is None:
        return f'{head} did not run (out of memory?)'
    text = (
        f'{head} {seconds:8.3f} s, four steps {restoration:8.3f} s {memory:7.0f} MB extra'
        f'   {row["matmul_share"]:4.0%} of the matrix-product rate'
    )
    plain_seconds, plain_memory = row['plain_seconds_per_call'], row['plain_extra_memory_mb']
    if plain_seconds is None or not plain_memory:
        return text
    return (
        f'{text}   plain: {plain_seconds:.3f} s, {plain_memory:.0f} MB'
        f' (speed-up {plain_seconds / seconds:.2f}, memory x {memory / plain_memory:.2f})'
    )


def _times(cases: list[Case], repeat: int) -> dict[str, dict[str, float]]:
    """Seconds of each case's fastest call, its share, and seconds of one restoration."""
    subject = _Subject(cases[0])
    gemms = {name: subject.gemm(name) for name in ('fp32', 'bf16')}
    calls = {f'call {case.precision}': subject.call(case.precision) for case in cases}
    fastest = fastest_in_turns({**gemms, **calls}, repeat)
    return {case.precision: _figures(subject, case.precision, fastest) for case in cases}


def _figures(subject: _Subject, name: str, fastest: dict[str, float]) -> dict[str, float]:
    call = fastest[f'call {name}']
    if name == 'plain':
        return {'call': call}
    dtype = InferenceSettings(name).dtype(subject.input.device)
    rate = 2 * GEMM_SIDE**3 / fastest['bf16' if dtype == torch.bfloat16 else 'fp32']
    _, restoration = timed(restore, subject.network, subject.image, timesteps=4, precision=name)
    return {
        'call': call,
        'matmul_share': count_flops(subject.network, (subject.input, subject.t)) / (call * rate),
        'restoration': restoration,
    }


def _extra_memory_mb(case: Case) -> float:
    """By how many MiB a call raises the peak memory; called in a process of its own."""
    subject = _Subject(case)
    call = subject.call(case.precision)
    subject.call(case.precision, FIRST_SIDE)()
    reset_peak_memory(case.device)
    before = peak_memory(case.device)
    call()
    return (peak_memory(case.device) - before) / 2**20


class _Subject:
    """A network with random weights, an image of a case's size, and what is measured of them."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case = case
        self.network = DFT(dim=case.dim).to(case.device).eval()
        self.image = torch.rand(3, case.height, case.width)
        padded = pad_to_multiple(self.image[None], self.network.size_multiple)
        self.input = torch.randn(1, 6, *padded.shape[2:], device=case.device)
        self.t = torch.zeros(1, device=case.device)
        self.settings = contextlib.ExitStack()

    def call(self, name: str, side: int | None = None) -> Callable[[], None]:
        """One evaluation, of the image or of its first `side` rows and columns."""
        x = self.input[:, :, :side, :side].contiguous()
        network = copy.copy(self.network)  # with settings of its own, and the same weights
        if name != 'plain':
            # never left: calls find the memory of earlier ones, as they do in a restoration
            self.settings.enter_context(network.inference_settings(name))

        @torch.no_grad()
        def evaluate() -> None:
            if name == 'plain':
                PlainDFT.forward(network, x, self.t)
            else:
                network(x, self.t)

        return evaluate

    def gemm(self, name: str) -> Callable[[], object]:
        """A product of large square matrices, in bfloat16 only where it is multiplied fast."""
        fast = has_fast_bf16(torch.device(self.case.device).type)
        dtype = torch.bfloat16 if name == 'bf16' and fast else torch.float32
        matrix = torch.randn(GEMM_SIDE, GEMM_SIDE, device=self.case.device).to(dtype)
        return lambda: torch.mm(matrix, matrix)


def _mean_psnr(arguments: argparse.Namespace) -> dict[str, float] | None:
    """The mean over the photographs for each precision, which it prints; None without weights."""
    trained = (ROOT / 'experiments').glob('demo_fine*/models/net_g_*.pth')
    weights = arguments.weights or max(trained, key=lambda p: p.stat().st_mtime, default=None)
    photos = arguments.photos or ROOT / 'datasets' / 'demo' / 'test'
    if weights is None or not (photos / 'input').is_dir():
        print(
            'PSNR in bf16 and fp32: no trained network and photographs; run `bash scripts/demo.sh`,'
            ' or give --weights FILE --photos FOLDER (with the folders input and target).'
        )
        return None
    scores = psnr_by_precision(weights, photos, arguments.device)
    mean = means(scores)
    text = ', '.join(
        f'{name} {value:.3f} dB ({value - mean["fp32"]:+.4f})' for name, value in mean.items()
    )
    print(f'PSNR of {len(scores)} photographs with {weights}: {text}')
    return mean


def psnr_by_precision(weights: Path, photos: Path, device: str = 'cpu') -> list[dict[str, float]]:
    """PSNR (dB, RGB, 8 bits) of each restored photograph to its target, for each precision."""
    network = load_network(weights).to(device)
    scores = []
    for pair in pair_folders(photos / 'input', photos / 'target'):
        degraded = read_tensor(photos / 'input' / pair.lq)
        target = to_uint8(read_tensor(photos / 'target' / pair.gt))
        restored = {
            name: restore(network, degraded, precision=name, noise_name=Path(pair.lq).stem)
            for name in PRECISIONS
        }
        scores.append({k: psnr(to_uint8(image), target, 255) for k, image in restored.items()})
    return scores

"""Restoring photographs: seconds, extra memory and share of the matrix-product rate.

For every size and precision, with random weights: one evaluation of the network, a restoration of
four, and the same evaluation by PlainDFT, the network as the paper draws it, layer by layer, in
float32. Times are taken in one process, in which all take turns, and so does a product of large
matrices, whose rate a call is held against. Extra memory is taken in a process per case: on the CPU
by how much the largest resident size grew during a call, on a GPU by how much the largest amount
that PyTorch had allocated. With trained weights and photographs (the demo's, if it ran) it also
prints what bfloat16 costs in PSNR.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import fastest_in_turns, in_a_process, peak_memory_mb, seconds_of

ROOT = Path(__file__).resolve().parent.parent.parent
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
    add('--json', type=Path, metavar='FILE', help='write the cases there')
    add('--weights', type=Path, help="for the PSNR: trained network (default: the demo's)")
    add('--photos', type=Path, help="folder with input and target (default: the demo's, held out)")
    add('--worker', help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Measure every case and print it; 0 if all of them ran."""
    if arguments.worker:
        print(json.dumps(_work(json.loads(arguments.worker))))
        return 0
    rows: list[dict[str, Any]] = []
    for height, width in arguments.sizes:
        rows += _measure_size(arguments, height, width)
    if arguments.json:
        arguments.json.write_text(json.dumps({'cases': rows}, indent=2) + '\n')
    _print_psnr(arguments)
    return 0 if all(row['seconds_per_call'] is not None for row in rows) else 1


def _size(text: str) -> tuple[int, int]:
    try:
        sides = [int(side) for side in text.split('x')]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} given; it is a size like 256 or 321x481')
    return sides[0], sides[-1]


def _measure_size(arguments: argparse.Namespace, height: int, width: int) -> list[dict[str, Any]]:
    with_plain = arguments.plain_everywhere or height * width <= PLAIN_PIXELS
    names = ['plain'] * with_plain + arguments.precisions
    cases = [Case(height, width, name, arguments.device, arguments.dim) for name in names]
    times = in_a_process(
        'restore', {'time': [asdict(case) for case in cases], 'repeat': arguments.repeat}
    )
    memory = {
        case.precision: in_a_process('restore', {'memory': asdict(case)}).get('extra_memory_mb')
        for case in cases
    }
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


# --- in the process of a case -----------------------------------------------------------------


def _work(work: dict[str, Any]) -> dict[str, Any]:
    if 'time' in work:
        return _time([Case(**case) for case in work['time']], work['repeat'])
    return {'extra_memory_mb': _extra_memory_mb(Case(**work['memory']))}


def _time(cases: list[Case], repeat: int) -> dict[str, dict[str, float]]:
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
    rate = 2 * GEMM_SIDE**3 / fastest[subject.number_format(name)]
    return {
        'call': call,
        'matmul_share': subject.flop() / (call * rate),
        'restoration': seconds_of(subject.restoration(name)),
    }


def _extra_memory_mb(case: Case) -> float:
    subject = _Subject(case)
    call = subject.call(case.precision)
    subject.call(case.precision, FIRST_SIDE)()
    _forget_peak(case.device)
    before = peak_memory_mb(case.device)
    call()
    return peak_memory_mb(case.device) - before


def _forget_peak(device: str) -> None:
    """Make the peak what is in use now, where the system can do that."""
    if device != 'cpu':
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')


class _Subject:
    """A network with random weights, an image of a case's size, and what is measured of them."""

    def __init__(self, case: Case) -> None:
        import torch

        from c2fdft_arch.common.padding import pad_to_multiple
        from c2fdft_arch.dft import DFT

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
        import torch

        from c2fdft_arch.network.plain_dft import PlainDFT

        x = self.input[:, :, :side, :side].contiguous()
        network = copy.copy(self.network)  # with settings of its own, and the same weights
        if name != 'plain':
            # never left: calls find the memory of earlier ones, as they do in a restoration
            self.settings.enter_context(network.inference_settings(name))

        def evaluate() -> None:
            with torch.no_grad():
                if name == 'plain':
                    PlainDFT.forward(network, x, self.t)
                else:
                    network(x, self.t)
            self._wait()

        return evaluate

    def restoration(self, name: str) -> Callable[[], None]:
        """A restoration in four steps, everything included but reading and writing files."""
        from c2fdft_model.restoring.restoration import restore

        def compute() -> None:
            restore(self.network, self.image, timesteps=4, precision=name)
            self._wait()

        return compute

    def gemm(self, name: str) -> Callable[[], None]:
        """A product of large square matrices, in bfloat16 only where it is multiplied fast."""
        import torch

        from c2fdft_arch.common.hardware import has_fast_bf16

        fast = has_fast_bf16(torch.device(self.case.device).type)
        dtype = torch.bfloat16 if name == 'bf16' and fast else torch.float32
        matrix = torch.randn(GEMM_SIDE, GEMM_SIDE, device=self.case.device).to(dtype)

        def multiply() -> None:
            torch.mm(matrix, matrix)
            self._wait()

        return multiply

    def number_format(self, name: str) -> str:
        """The number format, `fp32` or `bf16`, that a precision stands for on this device."""
        import torch

        from c2fdft_arch.inference.settings import InferenceSettings

        dtype = InferenceSettings(name).dtype(torch.device(self.case.device))
        return 'bf16' if dtype == torch.bfloat16 else 'fp32'

    def flop(self) -> int:
        """Floating-point operations of the matrix products and convolutions of a call."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from c2fdft_arch.network.plain_dft import PlainDFT

        with torch.device('meta'), torch.no_grad(), FlopCounterMode(display=False) as counter:
            PlainDFT(dim=self.case.dim)(self.input.to('meta'), torch.empty(1))
        return counter.get_total_flops()

    def _wait(self) -> None:
        import torch

        if self.case.device != 'cpu':
            torch.cuda.synchronize()


# --- what bfloat16 costs ----------------------------------------------------------------------


def _print_psnr(arguments: argparse.Namespace) -> None:
    weights = arguments.weights or _newest(ROOT / 'experiments', 'demo_fine*/models/net_g_*.pth')
    photos = arguments.photos or ROOT / 'datasets' / 'demo' / 'test'
    if weights is None or not (photos / 'input').is_dir():
        print(
            'PSNR in bf16 and fp32: no trained network and photographs; run `bash scripts/demo.sh`,'
            ' or give --weights FILE --photos FOLDER (with the folders input and target).'
        )
        return
    means = psnr_by_precision(weights, photos, arguments.device)
    text = ', '.join(
        f'{name} {value:.3f} dB ({value - means["fp32"]:+.4f})' for name, value in means.items()
    )
    print(f'PSNR of {len(list(_pairs(photos)))} photographs with {weights}: {text}')


def _newest(folder: Path, pattern: str) -> Path | None:
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime, default=None)


def psnr_by_precision(weights: Path, photos: Path, device: str = 'cpu') -> dict[str, float]:
    """Mean PSNR (dB, RGB, 8 bits) of restored photographs to their targets, for each precision."""
    import torch

    from c2fdft_model.evaluation.image_metrics import psnr
    from c2fdft_model.images.image_files import read_image
    from c2fdft_model.restoring.restoration import restore
    from c2fdft_model.restoring.weights import load_network

    network = load_network(weights).to(device)
    values: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for degraded_file, target_file in _pairs(photos):
        degraded = torch.from_numpy(read_image(degraded_file).colour).permute(2, 0, 1)
        target = read_image(target_file).colour
        for name in PRECISIONS:
            restored = restore(network, degraded, precision=name, noise_name=degraded_file.stem)
            pixels = restored.permute(1, 2, 0).mul(255).round().numpy()
            values[name].append(float(psnr(pixels, target * 255, 255)))
    return {name: statistics.mean(of_name) for name, of_name in values.items()}


def _pairs(photos: Path) -> Iterator[tuple[Path, Path]]:
    for degraded in sorted((photos / 'input').iterdir()):
        target = photos / 'target' / degraded.name
        if target.is_file():
            yield degraded, target

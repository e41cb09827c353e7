"""Writes a network for other programs: torch.export (.pt2) and ONNX (.onnx).

    c2fdft export --weights net_g_latest.pth network.pt2 network.onnx

The files hold one noise prediction: x (batch, 6, height, width), the degraded and the noisy image,
RGB in [-1, 1], and t (batch,), 0-based timesteps, float32 both, give the noise (batch, 3, height,
width). Batch and sides are free, the sides multiples of 8 from 16 up. Every file is compared with
the network on three sizes before it is kept. ONNX needs: pip install onnx onnxscript onnxruntime.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.restoring.export import CHECKED_SIZES, ExportError, export_network, traced
from c2fdft_model.restoring.weights import WeightsError, build_network, read_checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; the exit code is 0 if all were written, 2 otherwise."""
    parser = command_parser('export', __doc__, 'OUTPUT [OUTPUT ...] --weights W [options]')
    parser.add_argument('outputs', nargs='+', type=Path, metavar='OUTPUT', help='.pt2 or .onnx')
    parser.add_argument('--weights', required=True, type=Path, help='checkpoint (.pth)')
    parser.add_argument('--param-key', help='its key (default: params_ema, else params)')
    parser.add_argument(
        '--no-time-embedding', action='store_true', help='for weights trained without it'
    )
    args = parser.parse_args(arguments)
    try:
        checkpoint = read_checkpoint(args.weights, args.param_key)
        network = build_network(checkpoint, time_embedding=not args.no_time_embedding)
        print(f'Weights: {checkpoint}')
        sizes = ', '.join(f'{b} x {h} x {w}' for b, h, w in CHECKED_SIZES)
        program = traced(network)
        for output in args.outputs:
            difference = export_network(network, output, program)
            print(
                f'{output}: largest difference to the network {difference:.1e} of its largest '
                f'value (batch x height x width: {sizes})'
            )
    except (WeightsError, ExportError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0

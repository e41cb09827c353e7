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
from c2fdft_model.commands.weights_arguments import add_weights_arguments, announce, open_weights
from c2fdft_model.restoring.export import CHECKED_SIZES, export_network, traced


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; the exit code is 0 if all were written, 2 otherwise."""
    parser = command_parser('export', __doc__, 'OUTPUT [OUTPUT ...] --weights W [options]')
    parser.add_argument('outputs', nargs='+', type=Path, metavar='OUTPUT', help='.pt2 or .onnx')
    add_weights_arguments(parser)
    args = parser.parse_args(arguments)
    try:
        opened = open_weights(args)
        network = opened.network
        print(f'Weights: {opened.checkpoint}')
        announce(opened)
        sizes = ', '.join(f'{b} x {h} x {w}' for b, h, w in CHECKED_SIZES)
        program = traced(network)
        for output in args.outputs:
            difference = export_network(network, output, program)
            print(
                f'{output}: largest difference to the network {difference:.1e} of its largest '
                f'value (batch x height x width: {sizes})'
            )
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0

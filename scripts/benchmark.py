"""Measure this machine: `python scripts/benchmark.py NAME [options]`.

Every figure is compared with a baseline that is measured in the same run.
"""

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from c2fdft_arch.common.hardware import description
from c2fdft_model.experiments.files import write_json

BENCHMARKS = {
    'data': 'the training data: patches per second against two other schemes',
    'train': 'training iterations: time and memory of each setting',
    'precision': 'loss curves of the demo in bfloat16 and in float32',
    'restore': 'restoration: time and memory of a network call, against the plain network',
    'gpu': 'a GPU: correctness, training, restoring, where the time goes',
    'systems': "the systems of the paper's tables: parameters, operations and seconds",
    'tiles': 'restoration by tiles: difference to the whole image, and time',
    'export': 'exported networks: difference to the network',
    'kernels': 'the C++ kernels: seconds to compile them, and what they save',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark; the exit code is 0 if it succeeded."""
    names = '\n'.join(f'  {name:<8} {summary}' for name, summary in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        description=f'{__doc__}\n{names}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('benchmark', choices=BENCHMARKS, help='what to measure')
    parser.add_argument('options', nargs=argparse.REMAINDER, help='see BENCHMARK --help')
    arguments = parser.parse_args(argv)

    module = importlib.import_module(f'benchmarks.{arguments.benchmark}')
    parser = argparse.ArgumentParser(
        prog=f'benchmark.py {arguments.benchmark}', description=module.__doc__
    )
    module.add_arguments(parser)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there')
    options = parser.parse_args(arguments.options)
    at = arguments.options.index('--json') if options.json else len(arguments.options)
    measured = arguments.options[:at] + arguments.options[at + 2 :]
    figures, succeeded = module.run(options)
    if options.json:
        command = shlex.join(['python', 'scripts/benchmark.py', arguments.benchmark, *measured])
        write_json(options.json, {'command': command, 'machine': description(), **figures})
    return 0 if succeeded else 1


if __name__ == '__main__':
    sys.exit(main())

"""How far exported networks are from the network, over several sizes.

The difference is the largest of any value, as a share of the largest value.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks import Figures
from c2fdft_arch.dft import DFT
from c2fdft_model.experiments.costs import timed
from c2fdft_model.restoring.export import WRITERS, export_network, traced
from c2fdft_model.restoring.weights import load_network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument('--weights', type=Path, help='network (default: random, of full size)')


def run(args: argparse.Namespace) -> Figures:
    """Measure and print a line for each format."""
    torch.manual_seed(0)
    network = load_network(args.weights) if args.weights else DFT().eval()
    program = traced(network)
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for ending in WRITERS:
            path = Path(folder, f'network{ending}')
            difference, seconds = timed(export_network, network, path, program)
            print(f'{ending}: difference {difference:.2g}, written and checked in {seconds:.0f} s')
            cases.append({'format': ending, 'difference': difference, 'seconds': seconds})
    return {'cases': cases}, True

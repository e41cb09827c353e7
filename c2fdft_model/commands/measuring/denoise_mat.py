"""Denoises the MATLAB files of SIDD or DND and writes what their evaluations take.

    c2fdft denoise-mat sidd --input datasets/SIDD --output results/sidd --weights W.pth
    c2fdft denoise-mat dnd --input datasets/DND --output results/dnd --weights W.pth

sidd takes ValidationNoisyBlocksSrgb.mat, writing Idenoised.mat (float, for `evaluate sidd_val`),
or BenchmarkNoisyBlocksSrgb.mat, writing the submission SubmitSrgb.mat and SubmitSrgb.csv; a folder
with both gives both. dnd takes the folder of info.mat and images_srgb/0001.mat …, writing one file
for each image. A run that was interrupted goes on where it stopped. Ends with 0 if everything was
denoised, 1 if some images could not be, 2 if nothing could be started.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch

from c2fdft_arch.common.atomic_write import replacing
from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.commands.weights_arguments import add_weights_arguments, announce, open_weights
from c2fdft_model.data import mat_files
from c2fdft_model.data.image_listing import find_file
from c2fdft_model.evaluation.problems import Problem, summary
from c2fdft_model.restoring.mat_denoising import MatDenoiser

VALIDATION = 'ValidationNoisyBlocksSrgb'
BENCHMARK = 'BenchmarkNoisyBlocksSrgb'

Settings = Mapping[str, Any]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_parser(
        'denoise-mat', __doc__, '{sidd,dnd} --input DIR --output DIR --weights W [options]'
    )
    add = parser.add_argument
    add('benchmark', choices=('sidd', 'dnd'))
    add('--input', required=True, type=Path, help='folder, or for sidd a .mat file')
    add('--output', required=True, type=Path, help='folder of the results')
    add_weights_arguments(parser)
    add('--steps', type=int, help='network calls (default: as trained, else 4)')
    add('--seed', type=int, default=0, help='of the noise, with the name (default: 0)')
    add('--precision', choices=('auto', 'fp32', 'bf16'), default='auto')
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--batch', type=int, default=1, help='images at a time (default: 1)')
    add('--save-images', action='store_true', help='also write each as PNG below png/')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Denoise and report; the exit code is 0, 1 or 2 as the module says."""
    args = parse_arguments(arguments)
    try:
        run = {'sidd': _sidd, 'dnd': _dnd}[args.benchmark]
        problems = run(args, *_denoiser(args))
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'results in {args.output}; problems: {summary(problems)}')
    for problem in problems:
        print(f'  {problem}', file=sys.stderr)
    return 1 if problems else 0


def _denoiser(args: argparse.Namespace) -> tuple[MatDenoiser, Settings]:
    """What denoises, and what its results depend on."""
    opened = open_weights(args, sampling_timesteps=args.steps)
    print(f'Weights: {opened.checkpoint}')
    announce(opened)
    denoiser = MatDenoiser(
        opened.network.to(args.device),
        opened.process,
        args.output,
        args.seed,
        args.precision,
        args.batch,
        args.save_images,
    )
    names = ('benchmark', 'param_key', 'seed', 'precision')
    return denoiser, {**opened.settings(), **{name: getattr(args, name) for name in names}}


def _sidd(args: argparse.Namespace, denoiser: MatDenoiser, settings: Settings) -> list[Problem]:
    inputs = _sidd_inputs(args.input)
    denoiser.claim_output(settings)
    for path, variable in inputs:
        noisy = mat_files.read_sidd_blocks(path, variable)
        blocks, seconds = denoiser.denoise_sidd(noisy, variable)
        if variable == VALIDATION:
            target = args.output / 'Idenoised.mat'
            with replacing(target) as temporary:
                scipy.io.savemat(temporary, {'Idenoised': blocks})
            print(f'{target}: c2fdft evaluate sidd_val {args.output} ValidationGtBlocksSrgb.mat')
        else:
            as_uint8 = np.round(blocks * 255).astype(np.uint8)
            megapixels = np.prod(noisy.shape[:4]) / 1024**2
            method = f'C2F-DFT, {len(denoiser.process.timesteps)} steps'
            mat_files.write_sidd_submission(args.output, as_uint8, seconds / megapixels, method)
            print(f'{args.output}: SubmitSrgb.mat, SubmitSrgb.csv ({len(noisy)} scenes)')
    return []


def _dnd(args: argparse.Namespace, denoiser: MatDenoiser, settings: Settings) -> list[Problem]:
    info = find_file(args.input, 'info.mat')
    boxes = mat_files.read_dnd_boxes(info)
    denoiser.claim_output(settings)
    return denoiser.denoise_dnd(info.parent / 'images_srgb', boxes)


def _sidd_inputs(given: Path) -> list[tuple[Path, str]]:
    variables = (VALIDATION, BENCHMARK)
    if given.is_dir():
        first = find_file(given, *(f'{variable}.mat' for variable in variables))
        files = (first.with_name(f'{variable}.mat') for variable in variables)
        return [(file, file.stem) for file in files if file.is_file()]
    present = mat_files.variable_names(given)
    found = [(given, v) for v in variables if v in present]
    if not found:
        mat_files.read_array(given, variables)  # says what is missing and what is there
    return found

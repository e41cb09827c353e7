"""Denoises the MATLAB files of SIDD or DND and writes what their evaluations take.

    python scripts/denoise_mat.py sidd --input datasets/SIDD --output results/sidd --weights W.pth
    python scripts/denoise_mat.py dnd --input datasets/DND --output results/dnd --weights W.pth

sidd takes ValidationNoisyBlocksSrgb.mat, writing Idenoised.mat (float, for `evaluate.py sidd_val`),
or BenchmarkNoisyBlocksSrgb.mat, writing the submission SubmitSrgb.mat and SubmitSrgb.csv; a folder
with both gives both. dnd takes the folder of info.mat and images_srgb/0001.mat …, writing one file
an image. A run that was interrupted goes on where it stopped. Ends with 0 if everything was
denoised, 1 if some images could not be, 2 if nothing could be started.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.io
import torch
from tqdm import tqdm

from c2fdft_arch.common.option_parsing import parse_section
from c2fdft_model.data import mat_files
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.evaluation import Problem, summary
from c2fdft_model.images.image_files import ImageRecord, write_image
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.restoring.weights import load_network

VALIDATION = 'ValidationNoisyBlocksSrgb'
BENCHMARK = 'BenchmarkNoisyBlocksSrgb'
SETTINGS = 'settings.json'

Denoise = Callable[[Sequence[np.ndarray], Sequence[str]], list[np.ndarray]]
"""Denoises images (H, W, 3) in [0, 1] of one size, each with its name."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('benchmark', choices=('sidd', 'dnd'))
    add('--input', required=True, type=Path, help='folder, or for sidd a .mat file')
    add('--output', required=True, type=Path, help='folder of the results')
    add('--weights', required=True, type=Path, help='checkpoint of the network (.pth)')
    add('--param-key', help='key of the checkpoint (default: params_ema, else params)')
    add('--steps', type=int, default=4, help='network calls (default: 4)')
    add('--seed', type=int, default=0, help='of the noise, with the name (default: 0)')
    add('--precision', choices=('auto', 'fp32', 'bf16'), default='auto')
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--batch', type=int, default=1, help='images at a time (default: 1)')
    add('--save-images', action='store_true', help='also write each as PNG below png/')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    try:
        run = {'sidd': _sidd, 'dnd': _dnd}[args.benchmark]
        problems = run(args, _denoiser(args))
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'results in {args.output}; problems: {summary(problems)}')
    for problem in problems:
        print(f'  {problem}', file=sys.stderr)
    return 1 if problems else 0


def _denoiser(args: argparse.Namespace) -> Denoise:
    network = load_network(args.weights, args.param_key, args.device)
    options = parse_section(
        DiffusionOptions, {'sampling_timesteps': args.steps}, '--steps: diffusion'
    )
    process = build_process(options)

    def denoise(images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        restored = restore(
            network,
            batch,
            process=process,
            noise_name=list(names),
            seed=args.seed,
            precision=args.precision,
        )
        return list(restored.permute(0, 2, 3, 1).numpy())

    return denoise


def _claim_output(args: argparse.Namespace) -> None:
    """Notes the settings in the output folder, and refuses to go on there with others."""
    settings = {
        'benchmark': args.benchmark,
        'weights': hashlib.sha256(args.weights.read_bytes()).hexdigest(),
        'param_key': args.param_key,
        'steps': args.steps,
        'seed': args.seed,
        'precision': args.precision,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / SETTINGS
    if path.exists():
        before = json.loads(path.read_text())
        other = [key for key, value in settings.items() if before.get(key) != value]
        if other:
            raise ValueError(
                f'{args.output} holds results with other {", ".join(other)}: give another --output.'
            )
    path.write_text(json.dumps(settings, indent=1) + '\n')


def _sidd(args: argparse.Namespace, denoise: Denoise) -> list[Problem]:
    inputs = _sidd_inputs(args.input)
    _claim_output(args)
    for path, variable in inputs:
        noisy = mat_files.read_sidd_blocks(path, variable)
        blocks, seconds = _denoise_scenes(args, denoise, variable, noisy)
        if variable == VALIDATION:
            target = args.output / 'Idenoised.mat'
            scipy.io.savemat(target, {'Idenoised': blocks})
            print(f'{target}: evaluate.py sidd_val {args.output} ValidationGtBlocksSrgb.mat')
        else:
            as_uint8 = np.round(blocks * 255).astype(np.uint8)
            megapixels = np.prod(noisy.shape[:4]) / 1024**2
            mat_files.write_sidd_submission(
                args.output, as_uint8, seconds / megapixels, f'C2F-DFT, {args.steps} steps'
            )
            print(f'{args.output}: SubmitSrgb.mat, SubmitSrgb.csv ({len(noisy)} scenes)')
    return []


def _sidd_inputs(given: Path) -> list[tuple[Path, str]]:
    if given.is_dir():
        found = [(given / f'{v}.mat', v) for v in (VALIDATION, BENCHMARK)]
        found = [(path, v) for path, v in found if path.is_file()]
        if not found:
            raise FileNotFoundError(f'{given} has neither {VALIDATION}.mat nor {BENCHMARK}.mat.')
        return found
    present = mat_files.variable_names(given)
    found = [(given, v) for v in (VALIDATION, BENCHMARK) if v in present]
    if not found:
        # says what is missing and what is there
        mat_files.read_array(given, [VALIDATION, BENCHMARK])
    return found


def _denoise_scenes(
    args: argparse.Namespace, denoise: Denoise, variable: str, noisy: np.ndarray
) -> tuple[np.ndarray, float]:
    """All blocks in [0, 1], and the seconds; each scene is kept in a file until all are there."""
    scenes, blocks = noisy.shape[:2]
    parts = args.output / f'{variable}.parts'
    parts.mkdir(exist_ok=True)
    seconds = 0.0
    with tqdm(total=scenes * blocks, desc=variable, unit='block', disable=None) as bar:
        for i in range(scenes):
            part = parts / f'{i + 1:04d}.npz'
            if not part.exists():
                started = time.perf_counter()
                names = [f'{i + 1:04d}_{k + 1:02d}' for k in range(blocks)]
                images = list(mat_files.as_unit_range(noisy[i], variable))
                done = _in_batches(args, denoise, images, names, bar.update)
                _save_part(part, np.stack(done), time.perf_counter() - started)
                _save_images(args, done, names)
            else:
                bar.update(blocks)
    result = np.empty(noisy.shape, np.float32)
    for i in range(scenes):
        with np.load(parts / f'{i + 1:04d}.npz') as content:
            result[i] = content['blocks']
            seconds += float(content['seconds'])
    return result, seconds


def _save_part(path: Path, blocks: np.ndarray, seconds: float) -> None:
    unfinished = path.with_suffix('.unfinished.npz')
    np.savez(unfinished, blocks=blocks, seconds=seconds)
    unfinished.replace(path)


def _dnd(args: argparse.Namespace, denoise: Denoise) -> list[Problem]:
    all_boxes = mat_files.read_dnd_boxes(args.input / 'info.mat')
    _claim_output(args)
    problems = []
    total = sum(len(boxes) for boxes in all_boxes)
    with tqdm(total=total, desc='dnd', unit='box', disable=None) as bar:
        for i, boxes in enumerate(all_boxes):
            name = f'{i + 1:04d}'
            target = args.output / f'{name}.mat'
            if target.exists():
                bar.update(len(boxes))
                continue
            try:
                patches = _noisy_patches(args.input / 'images_srgb' / f'{name}.mat', boxes)
            except (ValueError, OSError) as error:
                problems.append(Problem(getattr(error, 'kind', 'unreadable'), name, str(error)))
                bar.update(len(boxes))
                continue
            names = [f'{name}_{k + 1:02d}' for k in range(len(boxes))]
            done = _in_batches(args, denoise, patches, names, bar.update)
            unfinished = target.with_suffix('.unfinished')
            with open(unfinished, 'wb') as file:
                mat_files.write_dnd_image(file, done)
            unfinished.replace(target)
            _save_images(args, done, names)
    return problems


def _noisy_patches(path: Path, boxes: np.ndarray) -> list[np.ndarray]:
    image = mat_files.read_array(path, 'InoisySRGB', (None, None, 3))
    image = mat_files.as_unit_range(image, path)
    for k, (top, left, bottom, right) in enumerate(boxes, 1):
        if min(top, left) < 1 or bottom > image.shape[0] or right > image.shape[1]:
            raise mat_files.MatFileError(
                f'{path}: box {k} of info.mat ({top}, {left}, {bottom}, {right}) leaves the image '
                f'of {image.shape[0]} x {image.shape[1]}.'
            )
    return [mat_files.crop(image, box) for box in boxes]


def _in_batches(
    args: argparse.Namespace,
    denoise: Denoise,
    images: Sequence[np.ndarray],
    names: Sequence[str],
    advance: Callable[[int], object],
) -> list[np.ndarray]:
    """Denoises images in batches of one size, in order."""
    done: list[np.ndarray] = []
    while len(done) < len(images):
        start = len(done)
        stop = start + 1
        while (
            stop < min(start + args.batch, len(images))
            and images[stop].shape == images[start].shape
        ):
            stop += 1
        done += denoise(images[start:stop], names[start:stop])
        advance(stop - start)
    return done


def _save_images(
    args: argparse.Namespace, images: Sequence[np.ndarray], names: Sequence[str]
) -> None:
    if not args.save_images:
        return
    folder = args.output / 'png'
    folder.mkdir(exist_ok=True)
    for image, name in zip(images, names, strict=True):
        write_image(folder / f'{name}.png', ImageRecord(image))

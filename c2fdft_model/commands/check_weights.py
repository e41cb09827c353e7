"""Says what a checkpoint holds: keys, network, layer norm, task, stage; and loads it strictly.

    c2fdft check-weights net_g_latest.pth

Ends with 0 if the network can be loaded, 2 if the file is not a checkpoint of it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from c2fdft_arch.dft import DFT
from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.commands.weights_arguments import (
    PAPERS_SETTINGS,
    OpenedWeights,
    add_weights_arguments,
    open_weights,
)
from c2fdft_model.restoring.checkpoint import EMA_KEY, Checkpoint, read_checkpoint
from c2fdft_model.restoring.description import defaults
from c2fdft_model.restoring.weights import network_arguments

FULL_SIZE = {'dim': 48, 'num_blocks': [4, 6, 6, 8], 'heads': [1, 2, 4, 8], 'ffn_factor': 4.0}

# The released option files: denoising is the one task without mean and shift in its layer norm.
TASKS = {
    'WithBias': 'deraining or deblurring: their networks have the same shapes, the weights do not '
    'say which',
    'BiasFree': 'real denoising (the one task trained with this layer norm)',
}
FILE_NAME_WORDS = ('coarse', 'fine', 'derain', 'deblur', 'denois')


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what the checkpoint holds; the exit code is 0, or 2 if it cannot be loaded."""
    parser = command_parser('check-weights', __doc__, 'FILE [--param-key KEY] [--opt FILE]')
    add_weights_arguments(parser, positional=True)
    args = parser.parse_args(arguments)
    try:
        opened = open_weights(args)
        description = describe(opened)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    for label, text in description:
        print(f'{label:<11} {text}')
    for warning in opened.warnings:
        print(f'warning: {warning}', file=sys.stderr)
    return 0


def describe(opened: OpenedWeights) -> list[tuple[str, str]]:
    """What can be said of a checkpoint, and what cannot, as pairs of a label and a sentence."""
    checkpoint = opened.checkpoint
    path, prefix = checkpoint.path, checkpoint.prefix
    count = sum(parameter.numel() for parameter in checkpoint.parameters.values())
    return [
        ('file', f'{path} ({path.stat().st_size / 1e6:.1f} MB)'),
        ('keys', _keys(checkpoint)),
        ('names', f'with the prefix {prefix}' if prefix else 'plain, without a prefix'),
        *_network_lines(opened),
        ('parameters', f'{count:,}'),
        *_training_lines(opened),
        ('loads', 'strictly: every name and shape fits, every value is finite'),
    ]


def _network_lines(opened: OpenedWeights) -> list[tuple[str, str]]:
    if not isinstance(opened.network, DFT):
        options = ', '.join(f'{k} {v}' for k, v in opened.network_g.items() if k != 'type')
        return [('network', f'{opened.network_g["type"]}, {options}')]
    arguments = network_arguments(opened.checkpoint.parameters)
    norm = arguments['LayerNorm_type']
    unseen = defaults(DFT).keys() - arguments.keys()
    said = {name: opened.network_g[name] for name in sorted(unseen) if name in opened.network_g}
    lines = [('network', _network(arguments)), ('layer norm', norm)]
    if opened.checkpoint.description is None:
        lines.append(('task', TASKS[norm]))
    if said:
        lines.append(('unseen', ', '.join(f'{name} {value}' for name, value in said.items())))
    return lines


def _training_lines(opened: OpenedWeights) -> list[tuple[str, str]]:
    """What the weights say of their training; what is assumed of those that say nothing."""
    saved = opened.checkpoint.description
    if saved is None:
        path = opened.checkpoint.path
        return [
            ('stage', f'coarse or fine: the weights do not say{_name_says(path)}'),
            ('settings', f'not said (the released format); assumed: {PAPERS_SETTINGS}'),
        ]
    usual = type(saved.diffusion)().model_dump(mode='json')
    diffusion = saved.diffusion.model_dump(mode='json')
    changed = [f'{name} {value}' for name, value in diffusion.items() if value != usual[name]]
    steps = ', '.join(map(str, saved.timesteps[:8])) + (' …' if saved.timesteps[8:] else '')
    total = saved.diffusion.num_diffusion_timesteps
    trained = f'{saved.stage}, iteration {saved.iteration:,}, by c2fdft {saved.version}'
    return [
        ('stage', trained if saved.stage else 'not said'),
        ('data', ', '.join(saved.data) or 'not said'),
        ('diffusion', f'{saved.diffusion.process}, T = {total}, calls at {steps}'),
        ('', ', '.join(changed) or "the paper's settings"),
    ]


def _keys(checkpoint: Checkpoint) -> str:
    if not checkpoint.key:
        return 'none, the file is the parameters themselves'
    text = ', '.join([f'{checkpoint.key} (loaded)', *checkpoint.other_keys])
    if {'params', EMA_KEY} <= {checkpoint.key, *checkpoint.other_keys}:
        text += f'; they differ by {_largest_difference(checkpoint.path):.2g} at most'
    return text


def _largest_difference(path: Path) -> float:
    raw, ema = (read_checkpoint(path, key).parameters for key in ('params', EMA_KEY))
    return max((raw[name] - ema[name]).abs().max().item() for name in raw.keys() & ema.keys())


def _network(network: dict) -> str:
    blocks, heads = (' '.join(map(str, network[key])) for key in ('num_blocks', 'heads'))
    size = f'dim {network["dim"]}, blocks {blocks}, heads {heads}'
    text = f'DFT, {size}, ffn_factor {network["ffn_factor"]:g}'
    text += ', with bias' if network['bias'] else ''
    text += ', dual_pixel_task' if network['dual_pixel_task'] else ''
    full = all(network[key] == value for key, value in FULL_SIZE.items())
    return text + (': the full size of the paper' if full else ': not the size of the paper')


def _name_says(path: Path) -> str:
    said = [word for word in FILE_NAME_WORDS if word in path.stem.lower()]
    return f' (the file name has {", ".join(said)})' if said else ''

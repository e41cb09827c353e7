"""Says what a checkpoint holds: keys, network, layer norm, task, stage; and loads it strictly.

    c2fdft check-weights net_g_latest.pth

Ends with 0 if the network can be loaded, 2 if the file is not a checkpoint of it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.restoring.weights import (
    EMA_KEY,
    Checkpoint,
    build_network,
    network_arguments,
    read_checkpoint,
)

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
    parser = command_parser('check-weights', __doc__, 'FILE [--param-key KEY]')
    parser.add_argument('file', type=Path, help='checkpoint (.pth)')
    parser.add_argument('--param-key', help='key to load (default: params_ema, else params)')
    args = parser.parse_args(arguments)
    try:
        checkpoint = read_checkpoint(args.file, args.param_key)
        build_network(checkpoint)
        description = describe(checkpoint)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    for label, text in description:
        print(f'{label:<11} {text}')
    return 0


def describe(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """What can be said of a checkpoint, and what cannot, as pairs of a label and a sentence."""
    path, prefix = checkpoint.path, checkpoint.prefix
    network = network_arguments(checkpoint.parameters)
    count = sum(parameter.numel() for parameter in checkpoint.parameters.values())
    norm = network['LayerNorm_type']
    return [
        ('file', f'{path} ({path.stat().st_size / 1e6:.1f} MB)'),
        ('keys', _keys(checkpoint)),
        ('names', f'with the prefix {prefix}' if prefix else 'plain, without a prefix'),
        ('network', _network(network)),
        ('parameters', f'{count:,}'),
        ('layer norm', norm),
        ('task', TASKS[norm]),
        ('stage', f'coarse or fine: the weights do not say{_name_says(path)}'),
        ('t embedding', 'has no parameters: the weights do not say whether it was used'),
        ('loads', 'strictly: every name and shape fits, every value is finite'),
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

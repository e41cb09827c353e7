"""Writes weights in another file format: safetensors, or a checkpoint (.pth).

    c2fdft convert net_g_latest.pth derain.safetensors

What the weights say of themselves goes along; of several networks in a checkpoint (params,
params_ema) the one that restoring takes, or that of --param-key. The parameters keep their values
bit for bit, but for --half, which stores them as float16. Ends with 0, or 2 if nothing was written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from c2fdft_arch.common.atomic_write import replacing
from c2fdft_arch.dft import DFT
from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.commands.weights_arguments import (
    OpenedWeights,
    add_weights_arguments,
    announce,
    open_weights,
)
from c2fdft_model.restoring.checkpoint import Checkpoint, Parameters
from c2fdft_model.restoring.description import DESCRIPTION_KEY, Description
from c2fdft_model.restoring.weight_files.safetensors_files import ENDING, write_safetensors

CHECKPOINT = '.pth'
HALF_MAXIMUM = torch.finfo(torch.float16).max


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_parser('convert', __doc__, 'FILE TARGET [options]')
    add_weights_arguments(parser, positional=True)
    add = parser.add_argument
    add('target', type=Path, metavar='TARGET', help='name that ends in .safetensors or .pth')
    add('--half', action='store_true', help='store float16, in half of the space')
    add('--overwrite', action='store_true', help='replace what is there')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; the exit code is 0, or 2 as the module says."""
    args = parse_arguments(arguments)
    try:
        _check_target(args.target, args.overwrite)
        opened = open_weights(args)
        announce(opened)
        parameters = stored_parameters(opened.checkpoint, args.half)
        description = described(opened, args)
        if args.target.suffix == ENDING:
            said = None if description is None else description.to_plain()
            write_safetensors(args.target, parameters, said)
        else:
            _write_checkpoint(args.target, parameters, description)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    size = args.target.stat().st_size / 1e6
    print(f'{args.target}: {len(parameters)} parameters of {opened.checkpoint}, {size:.1f} MB')
    return 0


def stored_parameters(checkpoint: Checkpoint, half: bool) -> Parameters:
    """The parameters of a checkpoint, as float16 if asked.

    Raises ValueError if a value is too large for float16.
    """
    if not half:
        return checkpoint.parameters
    for name, value in checkpoint.parameters.items():
        if value.abs().max() > HALF_MAXIMUM:
            raise ValueError(f'{checkpoint}: {name} has values beyond float16; leave out --half.')
    return {
        name: value.half() if value.is_floating_point() else value
        for name, value in checkpoint.parameters.items()
    }


def described(opened: OpenedWeights, args: argparse.Namespace) -> Description | None:
    """What is written of the weights: what they say, or what an option file says of them."""
    if opened.checkpoint.description is not None or not (args.opt or args.no_time_embedding):
        return opened.checkpoint.description
    return Description(network_g=network_options(opened), diffusion=opened.diffusion)


def network_options(opened: OpenedWeights) -> dict[str, Any]:
    """`network_g`, complete for DFT."""
    if isinstance(opened.network, DFT):
        return {'type': 'DFT', **opened.network.options}
    return dict(opened.network_g)


def _check_target(target: Path, overwrite: bool) -> None:
    if target.suffix not in (ENDING, CHECKPOINT):
        raise ValueError(f'{target}: the name must end in {ENDING} or {CHECKPOINT}.')
    if target.exists() and not overwrite:
        raise ValueError(f'{target} is there already; --overwrite replaces it.')


def _write_checkpoint(
    target: Path, parameters: Parameters, description: Description | None
) -> None:
    content: dict[str, Any] = {'params': parameters}
    if description is not None:
        content[DESCRIPTION_KEY] = description.to_plain()
    with replacing(target, durable=True) as new:
        torch.save(content, new)

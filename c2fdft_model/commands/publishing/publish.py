"""Writes a folder as hubs take it: config.json, model.safetensors and a card (README.md).

    c2fdft publish net_g_latest.pth my_model --figures rain_y.csv --licence apache-2.0

--figures are files that `c2fdft evaluate --csv` wrote; their means stand on the card. `--weights
my_model` reads the folder, and so does `DFT.from_pretrained`; `hf upload user/name my_model` takes
it to a hub, from where `--weights user/name` reads it. Ends with 0, or 2 if nothing was written.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from c2fdft_arch.common.atomic_write import write_bytes
from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.commands.publishing.convert import described, network_options, stored_parameters
from c2fdft_model.commands.publishing.model_card import model_card, read_figures
from c2fdft_model.commands.weights_arguments import add_weights_arguments, announce, open_weights
from c2fdft_model.restoring.weight_files.hub import CARD, CONFIG, WEIGHTS
from c2fdft_model.restoring.weight_files.safetensors_files import METADATA_KEY, write_safetensors


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_parser('publish', __doc__, 'FILE FOLDER [options]')
    add_weights_arguments(parser, positional=True)
    add = parser.add_argument
    add('folder', type=Path, metavar='FOLDER', help='is made, or is empty')
    add('--name', help='of the model, on its card (default: of the folder)')
    add('--figures', nargs='+', type=Path, default=[], metavar='CSV', help='from evaluate --csv')
    add('--licence', metavar='ID', help='of the weights, as hubs write it: apache-2.0')
    add('--half', action='store_true', help='store float16, in half of the space')
    add('--overwrite', action='store_true', help='replace the three files where they are')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder; the exit code is 0, or 2 as the module says."""
    args = parse_arguments(arguments)
    try:
        publish(args)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{args.folder}: {CONFIG}, {WEIGHTS}, {CARD}; next: hf upload USER/NAME {args.folder}')
    return 0


def publish(args: argparse.Namespace) -> None:
    """Read and check everything, then write. Raises ValueError or OSError."""
    _check_folder(args.folder, args.overwrite)
    figures = [read_figures(path) for path in args.figures]
    opened = open_weights(args)
    announce(opened)
    parameters = stored_parameters(opened.checkpoint, args.half)
    description = described(opened, args)
    said = None if description is None else description.to_plain()
    options = network_options(opened)
    config = {key: value for key, value in options.items() if key != 'type'}
    if options['type'] != 'DFT' or said:
        config[METADATA_KEY] = said or {'network_g': options, 'diffusion': {}}
    card = model_card(args.name or args.folder.resolve().name, opened, figures, args.licence)
    write_safetensors(args.folder / WEIGHTS, parameters, said)
    write_bytes(args.folder / CONFIG, (json.dumps(config, indent=2) + '\n').encode())
    write_bytes(args.folder / CARD, card.encode())


def _check_folder(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f'{folder} is a file; give a folder.')
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ValueError(f'{folder} is not empty; --overwrite replaces what publish writes.')

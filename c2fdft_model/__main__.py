"""`c2fdft COMMAND ...`, also as `python -m c2fdft_model`: everything that a user runs.

A command's module is imported when it is asked for, so that the list of commands needs no PyTorch.
"""

import importlib
import sys
from collections.abc import Sequence

from c2fdft_arch import __version__
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import nearest, one_line

COMMANDS = {
    'restore': ('restore', 'restore photographs: files, folders, patterns'),
    'page': ('page', 'a page in the browser that restores photographs'),
    'train': ('train', 'train with BasicSR, by an option file'),
    'test': ('test', 'restore and measure test sets with BasicSR, by an option file'),
    'evaluate': ('measuring.evaluate', 'measure results against a ground truth, by a protocol'),
    'compare': ('measuring.compare', 'train systems under an equal budget and compare them'),
    'sweep': ('measuring.sweep', 'quality and time against the number of sampling steps'),
    'denoise-mat': ('measuring.denoise_mat', 'denoise the MATLAB files of SIDD or DND'),
    'prepare-dataset': ('preparing.prepare_dataset', 'check a published data set, put it in place'),
    'prepare-lmdb': ('preparing.prepare_lmdb', 'turn two folders of images into LMDBs'),
    'check-weights': ('check_weights', 'say what a checkpoint holds'),
    'convert': ('publishing.convert', 'write weights as safetensors, or as a checkpoint'),
    'publish': ('publishing.publish', 'write weights, config and card into a folder for a hub'),
    'export': ('export', 'write a network as torch.export or ONNX'),
    'options': ('options', 'copy the option files into a BasicSR checkout'),
    'doctor': ('doctor', 'examine the installation'),
}
"""Command: its module in `c2fdft_model.commands`, what it does."""

USAGE = 'usage: c2fdft COMMAND ...'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 if all went well, 1 if a part did not, 2 if nothing did.

    130 after Ctrl-C. What a command raises for its user becomes one line.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ['--help']
    if name in ('-h', '--help'):
        print(help_text())
        return 0
    if name == '--version':
        print(f'c2fdft {__version__}')
        return 0
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS)
        print(
            f'{USAGE}\nc2fdft: error: no command {name!r}{hint}; see c2fdft --help', file=sys.stderr
        )
        return 2
    command = importlib.import_module(f'c2fdft_model.commands.{COMMANDS[name][0]}')
    try:
        return command.main(rest)
    except (C2FDFTError, OSError) as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\ninterrupted', file=sys.stderr)
        return 130


def help_text() -> str:
    """The commands and what each does."""
    listed = [f'  {name:<16} {what}' for name, (_, what) in COMMANDS.items()]
    return '\n'.join(
        [
            USAGE,
            '',
            'C2F-DFT: restores rainy, blurred and noisy photographs with a diffusion Transformer.',
            '',
            *listed,
            '',
            'Example:  c2fdft restore photo.jpg restored.png --weights net_g_latest.pth',
            'A command explains itself: c2fdft restore --help. The exit code is 0 if all went',
            'well, 1 if a part of it did not, 2 if nothing could start.',
        ]
    )


if __name__ == '__main__':
    sys.exit(main())

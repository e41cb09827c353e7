"""A page in the browser: drop a photograph, see it before and after, download the result.

    c2fdft page --weights net_g_latest.pth

Needs the extra `page`: pip install "c2fdft[page]". The page is for this machine alone, unless
--host says otherwise; it loads nothing from elsewhere and works without a network. One photograph
is restored at a time. Ends with 0 after Ctrl-C, 2 if it cannot be served.
"""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model import zoo
from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.commands.restore import find_device
from c2fdft_model.commands.weights_arguments import announce, open_weights
from c2fdft_model.web.page_model import PageModel
from c2fdft_model.web.server import check_port, serve

PORT = 7860


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_parser('page', __doc__, '[--weights W [W ...]] [options]')
    add = parser.add_argument
    add(
        '--weights',
        nargs='+',
        type=Path,
        default=[],
        metavar='W',
        help='models, before those that ship',
    )
    add('--opt', type=Path, help='option file of the training, for weights that say nothing of it')
    add('--device', default='auto', help='auto, cpu, cuda or cuda:N (default: auto)')
    add('--host', default='127.0.0.1', help='0.0.0.0 lets others in (default: 127.0.0.1)')
    add('--port', type=int, default=PORT, help=f'of the page (default: {PORT})')
    add('--megabytes', type=int, default=100, metavar='MB', help='largest upload (default: 100)')
    add('--megapixels', type=int, default=50, metavar='MP', help='largest image (default: 50)')
    parsed = parser.parse_args(arguments)
    for name in ('megabytes', 'megapixels'):
        if (value := getattr(parsed, name)) < 1:
            parser.error(f'--{name} {value} must be 1 or more')
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page; the exit code is 0 or 2 as the module says."""
    args = parse_arguments(arguments)
    if importlib.util.find_spec('gradio') is None:
        print('error: the page needs gradio: pip install "c2fdft[page]"', file=sys.stderr)
        return 2
    try:
        check_port(args.host, args.port)
        models = [_model(path, args) for path in _weights(args)]
        _check_names(models)
        for model in models:  # the first person at the page does not wait for the compiler
            model.restorer(model.calls, 0).warm_up()
        serve(models, args.host, args.port, args.megabytes, args.megapixels, _announce)
    except (C2FDFTError, OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nclosed')
    return 0


def _weights(args: argparse.Namespace) -> list[Path]:
    """The models to choose from. Raises ValueError if there are none."""
    found = [*args.weights, *map(zoo.model_path, zoo.model_names())]
    if not found:
        raise ValueError('no model ships with this version: give --weights.')
    return found


def _model(path: Path, args: argparse.Namespace) -> PageModel:
    named = argparse.Namespace(weights=path, param_key=None, opt=args.opt, no_time_embedding=False)
    opened = open_weights(named)
    print(f'{path.stem}: {opened.checkpoint}')
    announce(opened)
    return PageModel(path.stem, opened.network.to(find_device(args.device)), opened.diffusion)


def _check_names(models: Sequence[PageModel]) -> None:
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'--weights: two models are called {name}; rename a file.')


def _announce(address: str) -> None:
    print(f'The page: {address} (Ctrl-C closes it)', flush=True)

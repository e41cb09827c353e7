"""The options that say which network a command works with, and opening that network."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from c2fdft_arch.common.option_parsing import OptionError, parse_section
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.options.reading import read_option_file
from c2fdft_model.plugin import autoload
from c2fdft_model.restoring.checkpoint import Checkpoint, file_digest, read_checkpoint
from c2fdft_model.restoring.description import (
    Description,
    contradictions,
    plain,
    provenance,
    with_description,
)
from c2fdft_model.restoring.weights import build_network
from c2fdft_model.zoo import model_names, model_path

PAPERS_SETTINGS = 'T = 1000, linear, prediction noise, 4 network calls, with time embedding'


@dataclass(frozen=True)
class OpenedWeights:
    """A checkpoint, its network, and the settings with which it is sampled."""

    checkpoint: Checkpoint
    network: nn.Module
    network_g: Mapping[str, Any]
    """What was said of the network, besides its shapes."""
    diffusion: DiffusionOptions
    notes: tuple[str, ...] = ()
    """What is known of the training, or assumed."""
    warnings: tuple[str, ...] = ()
    """What contradicts what the weights say of themselves, or cannot work well."""

    @property
    def process(self) -> DiffusionProcess:
        """The diffusion process of the settings. Raises OptionError for impossible ones."""
        return build_process(self.diffusion)

    def settings(self) -> dict[str, Any]:
        """What results depend on, in plain types: which weights, network and process."""
        return {
            'weights': file_digest(self.checkpoint.path),
            'param_key': self.checkpoint.key,
            'network': plain(self.network_g),
            'diffusion': self.diffusion.model_dump(mode='json'),
        }


def add_weights_arguments(parser: Any, positional: bool = False) -> None:
    """Add --weights (or FILE), --param-key, --opt and --no-time-embedding to a parser or group."""
    add = parser.add_argument
    if positional:
        add(
            'weights', type=Path, metavar='FILE', help='checkpoint, safetensors, folder or hub name'
        )
    else:
        group = parser.add_mutually_exclusive_group(required=True)
        group.add_argument(
            '--weights', type=Path, help='checkpoint, safetensors, folder or hub name'
        )
        ships = ', '.join(model_names()) or 'none'
        group.add_argument('--model', metavar='NAME', help=f'a model that ships: {ships}')
    add('--param-key', help='key of the checkpoint (default: params_ema, else params)')
    add(
        '--opt',
        type=Path,
        help='option file of the training, if the weights say nothing',
    )
    add('--no-time-embedding', action='store_true', help='for weights trained without it')


def open_weights(args: argparse.Namespace, **sampler: Any) -> OpenedWeights:
    """Read the checkpoint that the arguments name and build its network, on the CPU.

    `--model` becomes the path of its checkpoint in `weights`.

    Settings come from the command line (`sampler`: keys of `diffusion`, None where not given), then
    from the option file, then from what the weights say of themselves, then from the paper.

    Raises WeightsError, OptionError or UnknownModelError.
    """
    if getattr(args, 'model', None):
        args.weights = model_path(args.model)
    options = read_options(args.opt)
    checkpoint = read_checkpoint(args.weights, args.param_key)
    given = {key: dict(options.get(key) or {}) for key in ('network_g', 'diffusion')}
    given['diffusion'] |= {key: value for key, value in sampler.items() if value is not None}
    if args.no_time_embedding:
        given['network_g']['time_embedding'] = False
    saved = checkpoint.description
    network_g, section = with_description(given['network_g'], given['diffusion'], saved)
    diffusion = parse_section(
        DiffusionOptions, section, f'{args.opt or "--steps, --eta"}: diffusion'
    )
    network = build_network(checkpoint, registered_architectures, **network_g)
    assumed = f' ({PAPERS_SETTINGS}; --opt gives others)' if saved is None and not args.opt else ''
    notes = [provenance(saved).rstrip('.') + assumed + '.']
    said = {key: value for key, value in network_g.items() if key in given['network_g']}
    used = Description(network_g=said, diffusion=diffusion)
    warnings = [f'{args.weights}: {text}.' for text in contradictions(saved, used)]
    if text := build_process(diffusion).start_warning():
        warnings.append(text)
    return OpenedWeights(checkpoint, network, network_g, diffusion, tuple(notes), tuple(warnings))


def announce(opened: OpenedWeights) -> None:
    """Print where the weights come from or what is assumed of them, and warn of contradictions."""
    for note in opened.notes:
        print(note)
    for warning in opened.warnings:
        print(f'warning: {warning}', file=sys.stderr)


def read_options(path: Path | None) -> Mapping[str, Any]:
    """The sections of an option file; none without one. Raises OptionError."""
    if path is None:
        return {}
    content = read_option_file(path)
    for key in ('network_g', 'diffusion'):
        if not isinstance(content.get(key) or {}, Mapping):
            raise OptionError(f'{path}: {key}: {content[key]!r} must be a section with keys.')
    return content


def registered_architectures() -> Iterable[tuple[str, Any]]:
    """BasicSR's registry of networks, with those of this package and of BasicSR in it."""
    autoload.install()
    from basicsr.archs import build_network  # noqa: F401  (registers BasicSR's own)
    from basicsr.utils.registry import ARCH_REGISTRY

    return ARCH_REGISTRY

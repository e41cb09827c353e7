"""The card of a published model: what it is, how it is used, what it reaches."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from c2fdft_arch import __version__
from c2fdft_model.commands.weights_arguments import OpenedWeights
from c2fdft_model.evaluation.image_protocols import UNITS

NO_FIGURES = (
    'None were given. `c2fdft evaluate --csv` measures, `c2fdft publish --figures` puts it here.'
)


@dataclass(frozen=True)
class Figures:
    """Means that were measured by one protocol."""

    name: str
    protocol: str
    images: int
    means: Mapping[str, float]


def read_figures(path: Path) -> Figures:
    """The means of a file that `c2fdft evaluate --csv` wrote. Raises ValueError for others."""
    try:
        with open(path, newline='', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
        (mean,) = (row for row in rows if row['image'] == 'mean')
        metrics = [name for name in mean if name not in ('protocol', 'image', 'problem')]
        means = {name: float(mean[name]) for name in metrics}
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'--figures {path} cannot be read: {error}') from error
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise ValueError(f'--figures {path} is not a table of `c2fdft evaluate --csv`.') from error
    measured = [row for row in rows if row['image'] != 'mean' and not row['problem']]
    return Figures(path.stem, mean['protocol'], len(measured), means)


def model_card(
    name: str, opened: OpenedWeights, figures: Sequence[Figures], licence: str | None
) -> str:
    """The card in Markdown, with the head that hubs read."""
    head = ['---', 'library_name: c2fdft', 'pipeline_tag: image-to-image']
    head += [f'license: {licence}'] if licence else []
    head += ['tags:', '- image-restoration', '- diffusion', '- c2f-dft', '---']
    return '\n'.join([*head, '', f'# {name}', '', *_what(opened), *_use(name), *_figures(figures)])


def _what(opened: OpenedWeights) -> list[str]:
    count = sum(value.numel() for value in opened.network.parameters()) / 1e6
    kind = opened.network_g.get('type', 'DFT')
    process = opened.process
    steps = ', '.join(map(str, process.timesteps[:8])) + (' …' if process.timesteps[8:] else '')
    diffusion = opened.diffusion
    return [
        f'Restores photographs with a diffusion Transformer (C2F-DFT, arXiv 2308.08730): {kind}, '
        f'{count:.2f} million parameters.',
        '',
        *opened.notes,
        '',
        f'- process: {diffusion.process}, T = {diffusion.num_diffusion_timesteps}, '
        f'prediction: {diffusion.prediction}',
        f'- network calls for an image: {len(process.timesteps)}, at timesteps {steps}',
        '',
    ]


def _use(name: str) -> list[str]:
    return [
        '## Use',
        '',
        '```',
        f'c2fdft restore photo.jpg restored.png --weights {name}',
        '```',
        '',
        f'with this folder, or its name on a hub, as the weights. Written by c2fdft {__version__}.',
        '',
    ]


def _figures(figures: Sequence[Figures]) -> list[str]:
    lines = ['## Figures', '']
    if not figures:
        return [*lines, NO_FIGURES, '']
    lines += ['| images | protocol | number | metric | mean |', '|---|---|---|---|---|']
    for each in figures:
        for metric, value in each.means.items():
            shown = f'{value:.4f} {UNITS.get(metric, "")}'.strip()
            lines.append(f'| {each.name} | {each.protocol} | {each.images} | {metric} | {shown} |')
    return [*lines, '']

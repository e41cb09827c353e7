"""The systems of the paper's tables: parameters, operations and seconds of each.

Every system is the network of its option file, with random weights, restoring one image of
`--size` pixels a side. `--document` writes the tables of docs/systems.md around the figures;
`--figures` takes those of an earlier run instead of measuring.
"""

import argparse
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks import OUT_OF_MEMORY, Figures
from c2fdft_arch.baselines.systems import SYSTEMS
from c2fdft_arch.common.messages import nearest
from c2fdft_model.experiments.costs import count_flops, timed
from c2fdft_model.experiments.files import read_json
from c2fdft_model.experiments.tables import markdown_table
from c2fdft_model.plugin.option_files import option_folder

OPTION_FILES = {
    'C2F-DFT': 'derain_fine',
    'RESCAN': 'baselines/derain_rescan',
    'PReNet': 'baselines/derain_prenet',
    'MSPFN': 'baselines/derain_mspfn',
    'MPRNet': 'baselines/derain_mprnet',
    'HINet': 'baselines/derain_hinet',
    'Restormer': 'baselines/derain_restormer',
    'IR-SDE': 'baselines/derain_irsde',
    'TransWeather': 'baselines/derain_transweather',
    'DeblurGAN': 'baselines/deblur_deblurgan',
    'DeblurGAN-v2': 'baselines/deblur_deblurgan_v2',
    'SRN': 'baselines/deblur_srn',
    'MT-RNN': 'baselines/deblur_mt_rnn',
    'DMPHN': 'baselines/deblur_dmphn',
    'MIMO-UNet+': 'baselines/deblur_mimo_unet_plus',
    'MIMO-UNet++': 'baselines/deblur_mimo_unet_plus_plus',
    'NAFNet': 'baselines/deblur_nafnet',
    'CBDNet': 'baselines/denoise_cbdnet',
    'AINDNet': 'baselines/denoise_aindnet',
    'VDN': 'baselines/denoise_vdn',
    'DeamNet': 'baselines/denoise_deamnet',
    'CycleISP': 'baselines/denoise_cycleisp',
    'MIRNet': 'baselines/denoise_mirnet2',
}
"""The file in `options/` that trains each system, without its ending."""
TASKS = {'derain': 'deraining', 'deblur': 'deblurring', 'denoise': 'denoising'}
BEGIN, END = '<!-- begin {} -->', '<!-- end {} -->'
Costs = dict[str, dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    add = parser.add_argument
    add('--systems', nargs='+', metavar='NAME', help='some of them (default: all)')
    add('--size', type=int, default=256, help='side of the image (default: 256)')
    add('--repeat', type=int, default=1, help='timed calls, of which the fastest counts')
    add('--figures', type=Path, metavar='FILE', help='the JSON file of an earlier run')
    add('--document', type=Path, metavar='FILE', help='write the tables into this document')


def run(args: argparse.Namespace) -> Figures:
    """Measure, or take what was measured, and print the table of costs."""
    unknown = [name for name in args.systems or () if name not in OPTION_FILES]
    if unknown:
        hint = nearest(unknown[0], OPTION_FILES)
        print(f'--systems {unknown[0]} is not known{hint}. Known: {", ".join(OPTION_FILES)}.')
        return {}, False
    if args.figures:
        figures = read_json(args.figures) or {}
        if 'systems' not in figures:
            print(f'--figures {args.figures} holds no figures of this benchmark.')
            return {}, False
    else:
        figures = measure_all(args)
    print('\n'.join(costs_table(figures['systems'])))
    if args.document:
        text = args.document.read_text(encoding='utf-8')
        args.document.write_text(with_tables(text, figures['systems']), encoding='utf-8')
    return figures, all(figures['systems'].values())


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    """The figures of the named systems, or of all; those that failed are empty."""
    costs: Costs = {}
    for name in args.systems or OPTION_FILES:
        try:
            costs[name] = measure(OPTION_FILES[name], args.size, args.repeat)
        except OUT_OF_MEMORY as error:
            print(f'{name}: {error}')
            costs[name] = {}
        print(f'{name}: {costs[name]}', flush=True)
    return {'size': args.size, 'systems': costs}


def measure(options: str, size: int, repeat: int) -> dict[str, float]:
    """Parameters, GFLOP and seconds of restoring an image with the network of an option file.

    Seconds are those of all cores together, after an untimed call.
    """
    from basicsr.archs import build_network

    torch.manual_seed(0)
    opt = yaml.safe_load((option_folder() / f'{options}.yml').read_text(encoding='utf-8'))
    network = build_network(opt['network_g']).eval()
    inputs, calls = inputs_of(opt, size)
    with torch.no_grad():
        network(*inputs)
        seconds = [timed(network, *inputs)[1] for _ in range(repeat)]
    return {
        'parameters': sum(p.numel() for p in network.parameters()),
        'gflop': calls * count_flops(network, inputs) / 1e9,
        'seconds': calls * min(seconds),
        'calls': calls,
    }


def inputs_of(opt: Mapping[str, Any], size: int) -> tuple[tuple[torch.Tensor, ...], int]:
    """What the network is called with, and how often a restoration calls it."""
    image = torch.rand(1, 3, size, size)
    if 'diffusion' not in opt:
        return (image,), 1
    diffusion = opt['diffusion']
    calls = diffusion.get('sampling_timesteps') or diffusion['num_timesteps']
    return (torch.cat([image, torch.randn_like(image)], dim=1), torch.tensor([500])), int(calls)


def costs_table(costs: Costs) -> list[str]:
    """Task, option file, parameters, GFLOP and seconds of every system."""
    rows = []
    for name, options in OPTION_FILES.items():
        found, file = costs.get(name), options.rpartition('/')[2]
        rows.append(
            [
                name,
                TASKS[file.partition('_')[0]],
                f'`{file}`',
                f'{found["parameters"] / 1e6:,.2f}' if found else '',
                f'{found["gflop"]:,.0f}' if found else '',
                f'{found["seconds"]:,.2f}' if found else '',
            ]
        )
    headings = ('system', 'task', 'option file', 'parameters (M)', 'GFLOP', 'seconds')
    return markdown_table(headings, rows, headings[3:])


def options_table() -> list[str]:
    """The options of the networks that are written here, with their defaults."""
    rows = []
    for name, network in SYSTEMS.items():
        options = inspect.signature(network).parameters.values()
        cells = [
            f'`{option.name}: {as_yaml(option.default)}`'
            for option in options
            if option.name != 'all_outputs'
        ]
        rows.append([f'`{name}`', ', '.join(cells)])
    return markdown_table(('network', 'options'), rows)


def as_yaml(value: Any) -> str:
    """A default as an option file has it."""
    value = list(value) if isinstance(value, tuple) else value
    return '~' if value is None else yaml.safe_dump(value, default_flow_style=True).split('\n')[0]


def with_tables(text: str, costs: Costs) -> str:
    """A document with its tables, which stand between marks, made anew."""
    for name, lines in {'costs': costs_table(costs), 'options': options_table()}.items():
        begin, end = BEGIN.format(name), END.format(name)
        if begin not in text:
            continue
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = '\n'.join([f'{before}{begin}', *lines, f'{end}{after}'])
    return text

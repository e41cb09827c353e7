"""Figures in documents are those of the measurements that they name."""

from __future__ import annotations

import importlib
import json

import pytest

from helpers.documents import ROOT


@pytest.fixture
def figures(monkeypatch):
    """The script's module."""
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    return importlib.import_module('documents.__main__')


@pytest.fixture
def project(figures, tmp_path, monkeypatch):
    """A project of one document and two measurements."""
    monkeypatch.setattr(figures, 'ROOT', tmp_path)
    monkeypatch.setattr(figures, 'MEASUREMENTS', tmp_path / 'docs/measurements')
    figures.MEASUREMENTS.mkdir(parents=True)
    cases = [{'tile': 128, 'overlap': 16, 'psnr': 55.06}, {'tile': 256, 'overlap': 16, 'psnr': 61}]
    (figures.MEASUREMENTS / 'tiles.json').write_text(json.dumps({'cases': cases, 'count': 2}))
    photo = {v: {'psnr': 20.0 + k, 'ssim': 0.5} for k, v in enumerate(('input', 'coarse', 'fine'))}
    summary = {'photos': {'rocket': photo}, 'seconds': {'coarse': 42.0, 'fine': 103.0}}
    (figures.MEASUREMENTS / 'demo.json').write_text(json.dumps(summary))
    return tmp_path


def test_every_figure_of_a_document_is_as_measured(figures):
    for path in figures.documents():
        text = path.read_text(encoding='utf-8')
        assert figures.filled(text) == text, f'{path.name}: run python -m documents'


def measurements_in(figures, text: str) -> set[str]:
    """The names of the measurements that a document has figures of."""
    blocks = (match[2] for kind in (figures.BLOCK, figures.TABLE) for match in kind.finditer(text))
    return {match[1] for match in figures.FIGURE.finditer(text)} | set(blocks)


def test_every_measurement_says_how_it_was_made_and_is_used(figures):
    texts = [path.read_text(encoding='utf-8') for path in figures.documents()]
    used = {name for text in texts for name in measurements_in(figures, text)}
    files = {path.stem for path in figures.MEASUREMENTS.glob('*.json')}
    assert used | {'systems'} == files  # docs/systems.md is written as a whole
    for name in files:
        content = figures.measurement(name)
        assert content['command'] and {'cpu', 'gpu'} & content['machine'].keys(), name


def test_a_figure_is_filled_where_its_marks_are(figures, project):
    readme = project / 'README.md'
    readme.write_text(
        'PSNR <!--=tiles:cases[tile=128,overlap=16].psnr:.1f-->?<!--=--> dB in '
        '<!--=tiles:count:-->many<!--=--> cases.\n'
    )
    assert figures.main(['--check']) == 1
    assert figures.main([]) == 0
    assert '.1f-->55.1<!--=--> dB in <!--=tiles:count:-->2<!--=-->' in readme.read_text()
    assert figures.main(['--check']) == 0


def test_a_code_block_is_filled_with_what_the_demo_prints(figures, project):
    readme = project / 'README.md'
    readme.write_text('Before\n\n<!--=demo:output-->\n\n```\nold\n```\n\n```\nanother\n```\n')
    assert figures.main([]) == 0
    text = readme.read_text()
    assert 'old' not in text and '```\nanother\n```' in text
    assert 'fine is +2.00 dB from the rainy input and +1.00 dB from coarse' in text
    assert 'time: coarse 42 s, fine 1 min 43 s' in text


def test_a_table_is_filled_with_what_a_comparison_measured(figures, project):
    costs = {'parameters_m': 0.97, 'iterations': 1234, 'gflop': 44.4}
    systems = [
        {'system': 'input', **dict.fromkeys(costs), 'psnr': 15.5, 'ssim': 0.4, 'psnr_std': None,
         'ssim_std': None},
        {'system': 'DFT', **costs, 'psnr': 25.04, 'ssim': 0.75, 'psnr_std': 0.2, 'ssim_std': 0.01},
    ]  # fmt: skip
    (figures.MEASUREMENTS / 'minutes.json').write_text(json.dumps({'rows': systems}))
    (project / 'README.md').write_text('<!--=minutes:systems-->\n\n| a |\n|---|\n\nAfter\n')
    assert figures.main([]) == 0
    assert (project / 'README.md').read_text().splitlines()[4:] == [
        '| input |  |  |  | 15.50 | 0.400 |',
        '| DFT | 0.97 | 1,234 | 44 | 25.04 ± 0.20 | 0.750 ± 0.010 |',
        '',
        'After',
    ]
    for row, seconds, memory in zip(systems, (None, 0.47), (None, 1367.4), strict=True):
        row |= {'seconds_per_image': seconds, 'peak_mib': memory}
    (figures.MEASUREMENTS / 'minutes.json').write_text(json.dumps({'rows': systems}))
    (project / 'README.md').write_text('<!--=minutes:systems_restoring-->\n\n| a |\n|---|\n')
    assert figures.main([]) == 0
    last = (project / 'README.md').read_text().splitlines()[-1]
    assert last == '| DFT | 0.97 | 1,234 | 44 | 0.5 | 1,367 | 25.04 ± 0.20 | 0.750 ± 0.010 |'


def test_tables_of_speed_are_relative_to_the_plain_network(figures, project):
    iteration = {'stage': 'fine', 'patch': 128, 'batch': 1, 'plain_seconds': 9.0}
    call = {'height': 321, 'width': 481, 'matmul_share': 0.914, 'extra_memory_mb': 50.0}
    contents = {
        'training_iterations': [
            iteration | {'setting': 'plain', 'seconds': 9.0, 'peak_memory_mb': 8192.0},
            iteration | {'setting': 'checkpoint_steps', 'seconds': 6.0, 'peak_memory_mb': 2048.0},
        ],
        'restoring_calls': [
            call | {'precision': 'fp32', 'seconds_per_call': 2.0, 'plain_seconds_per_call': 7.0,
                    'plain_extra_memory_mb': 500.0},
            call | {'precision': 'bf16', 'seconds_per_call': 1.0, 'plain_seconds_per_call': None,
                    'plain_extra_memory_mb': None},
        ],
        'data_phases': [
            {'patch': 32, 'batch': 360, 'ours_ms': 163.0, 'basicsr_ms': 1294.2,
             'released_scheme_ms': 1622.1}
        ],
    }  # fmt: skip
    expected = {
        'training_iterations': [
            '| fine, 1 x 128 x 128 | plain | 9.00 | 1.00 | 8.0 | 1.00 |',
            '| fine, 1 x 128 x 128 | `checkpoint: steps` | 6.00 | 1.50 | 2.0 | 0.25 |',
        ],
        'restoring_calls': [
            '| 321 x 481 | fp32 | 2.00 | 3.50 | 50 | 0.10 | 91% |',
            '| 321 x 481 | bf16 | 1.00 |  | 50 |  | 91% |',
        ],
        'data_phases': ['| 32, 360 | 163 | 36 | 1,294 | 1,622 | 7.9, 10.0 |'],
    }
    for renderer, rows in contents.items():
        content = {'phases' if renderer == 'data_phases' else 'cases': rows}
        content['routes'] = [{'route': 'uncompressed (--store raw)', 'ours_ms': [36.2]}]
        (figures.MEASUREMENTS / f'{renderer}.json').write_text(json.dumps(content))
        readme = project / 'README.md'
        readme.write_text(f'<!--={renderer}:{renderer}-->\n\n| a |\n|---|\n')
        assert figures.main([]) == 0
        assert readme.read_text().splitlines()[4:] == expected[renderer]


def test_a_table_is_filled_with_what_the_models_that_ship_were_measured_at(figures, project):
    found = {'degraded': {'psnr': 20.0, 'ssim': 0.5}, 'model': {'psnr': 28.208, 'ssim': 0.8523}}
    content = {'photographs': {'rocket': found}, 'mean': found}
    (figures.MEASUREMENTS / 'zoo.json').write_text(json.dumps(content))
    card = project / 'c2fdft_model/zoo/derain.md'
    card.parent.mkdir(parents=True)
    card.write_text('<!--=zoo:photographs-->\n\n| a |\n|---|\n')
    (project / 'README.md').write_text('')
    assert figures.main([]) == 0
    assert card.read_text().splitlines()[2:] == [
        '| photograph | degraded | model |',
        '|---|---|---|',
        '| rocket | 20.00 / 0.5000 | 28.21 / 0.8523 |',
        '| mean | 20.00 / 0.5000 | 28.21 / 0.8523 |',
    ]


def test_a_table_is_filled_with_what_a_replication_measured(figures, project):
    def spread(mean, std):
        return {'mean': mean, 'std': std}

    fine, two = {'task': 'rain', 'stage': 'fine'}, {'task': 'rain', 'calls': 4, 'seeds': 2}
    noise = {'target': 'noise', 'calls': 4, 'psnr': spread(24.364, 0.5), 'ssim': spread(0.75, 0.01)}
    clean = {'target': 'clean', 'calls': 1, 'psnr': spread(29.0, None), 'ssim': spread(0.87, None)}
    training = {'iteration': spread(50.0, 9.0), 'seconds': spread(7.0, 2.0)}
    training |= {'ratio': spread(6.0, 1.0), 'seconds_ratio': spread(5.0, 1.0)}
    claim = {'task': 'rain', 'table': '7', 'sentence': 'fine helps', 'paper': '+0.69 dB'}
    goal = {'sentence': 'above', 'task': 'rain', 'wanted': 3.0, 'unit': 'dB', 'verdict': 'holds'}
    content = {
        'plan': {'seeds': 3},
        'degraded': [{'task': 'rain', 'psnr': 23.75, 'ssim': 0.742}],
        'cases': [fine | noise, fine | clean],
        'times': [
            two | training | {'target': 'clean', 'reached': 2},
            two | {'target': 'velocity', 'reached': 1},
        ],
        'claims': [
            claim | {'metric': 'psnr', 'difference': spread(-1.45, 0.2), 'verdict': 'does not hold'}
        ],
        'trainings': [
            {'task': 'rain', 'name': t.name, 'psnr': spread(27.0, 0.1), 'ssim': spread(0.8, 0.01)}
            for pair in figures.replication_tables.LOSSES
            for t in pair
        ],
        'goals': [goal | {'seeds': 1, 'figure': 4.5, 'each': [4.5]}],
    }
    (figures.MEASUREMENTS / 'replication.json').write_text(json.dumps(content))
    marks = (
        f'<!--=replication:{name}-->\n\n| outdated |\n\n'
        for name in figures.replication_tables.TABLES
    )
    readme = project / 'README.md'
    readme.write_text('Before\n\n' + ''.join(marks) + '| another |\n')
    assert measurements_in(figures, readme.read_text()) == {'replication'}
    assert figures.main([]) == 0
    text = readme.read_text()
    assert 'outdated' not in text and text.endswith('\n\n| another |\n')
    for line in (
        '| degraded images |  |  | 23.75 / 0.742 |',
        '| noise | fine | 4 | 24.36 ± 0.50 / 0.750 ± 0.010 |',
        '| clean | fine | 1 | 29.00 / 0.870 |',
        '| coarse, then fine, PSNR and SSIM | 27.00 ± 0.10 / 0.800 ± 0.010 |',
        '| above | rain | +3 dB | +4.50 dB | +4.50 | holds (1 of 3 seeds) |',
        '| 7 | fine helps | rain | +0.69 dB | -1.45 ± 0.20 dB | does not hold |',
        '| rain | clean | 4 | 2 of 2 | 50 ± 9 | 7 ± 2 s | 6.0 ± 1.0 | 5.0 ± 1.0 |',
        '| rain | velocity | 4 | 1 of 2 | – | – | – | – |',
    ):
        assert f'\n{line}\n' in text
    assert figures.main(['--check']) == 0


@pytest.mark.parametrize(
    ('mark', 'message'),
    [
        ('<!--=none:count:-->1<!--=-->', 'none.json'),
        ('<!--=tiles:cases[tile=9].psnr:.1f-->1<!--=-->', '0 entries have tile=9'),
        ('<!--=tiles:cases[overlap=16].psnr:.1f-->1<!--=-->', '2 entries have overlap=16'),
        ('<!--=tiles:psnr:.1f-->1<!--=-->', 'there is no psnr'),
        ('<!--=demo:picture-->\n\n```\n```\n', 'picture is none of output'),
        ('<!--=demo:aims-->\n\n| a |\n|---|\n', 'aims is none of targets, losses'),
    ],
)
def test_a_mark_without_a_measurement_is_named(figures, project, capsys, mark, message):
    (project / 'README.md').write_text(mark)
    assert figures.main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: README.md: ') and message in error

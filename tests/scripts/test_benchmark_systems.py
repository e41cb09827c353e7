"""The systems' benchmark, and docs/systems.md against its figures and the option files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import benchmark
from benchmarks import systems
from c2fdft_arch.baselines.systems import SYSTEMS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / 'docs' / 'systems.md'
FIGURES = ROOT / 'docs' / 'measurements' / 'systems.json'


def test_the_documents_tables_are_those_of_the_figures():
    text = DOCUMENT.read_text(encoding='utf-8')
    costs = json.loads(FIGURES.read_text(encoding='utf-8'))['systems']
    assert '\n'.join(systems.costs_table(costs)) in text
    assert systems.with_tables(text, costs) == text


def test_every_system_has_figures_and_an_option_file():
    costs = json.loads(FIGURES.read_text(encoding='utf-8'))['systems']
    assert set(costs) == set(systems.OPTION_FILES)
    for name, found in costs.items():
        assert min(found.values()) > 0, name
        assert option_file(name).is_file()


def test_the_document_names_the_public_code_of_every_system():
    text = DOCUMENT.read_text(encoding='utf-8')
    assert [name for name in systems.OPTION_FILES if f'| {name} | <https://' not in text] == []


def test_every_network_that_is_written_here_is_in_the_table():
    types = {
        line.split(': ')[1]
        for name in systems.OPTION_FILES
        for line in network_types(option_file(name))
    }
    assert set(SYSTEMS) <= types


def option_file(name: str) -> Path:
    return ROOT / 'options' / f'{systems.OPTION_FILES[name]}.yml'


def network_types(file: Path) -> list[str]:
    lines = file.read_text(encoding='utf-8').splitlines()
    return [lines[k + 1].strip() for k, line in enumerate(lines) if line == 'network_g:']


def test_a_system_is_measured_and_its_row_written(tmp_path, capsys):
    document = tmp_path / 'systems.md'
    document.write_text('before\n<!-- begin costs -->\nold\n<!-- end costs -->\nafter\n')
    json_file = tmp_path / 'figures.json'
    options = ['--systems', 'PReNet', '--size', '16', '--repeat', '1', '--document', str(document)]
    assert benchmark.main(['systems', *options, '--json', str(json_file)]) == 0
    figures = json.loads(json_file.read_text())['systems']['PReNet']
    assert (figures['parameters'], figures['calls']) == (168_963, 1)
    # Six stages: 18 convolutions of 32 to 32 channels as the recurrence counts its double input,
    # and two of and to images, for each of 256 pixels.
    per_pixel = 2 * 9 * 6 * (6 * 32 + 4 * 64 * 32 + 10 * 32 * 32 + 32 * 3)
    assert figures['gflop'] == pytest.approx(per_pixel * 256 / 1e9)
    text = document.read_text()
    assert 'old' not in text
    assert text.startswith('before\n')
    assert '| PReNet | deraining | `derain_prenet` | 0.17 | 1 |' in text
    assert benchmark.main(['systems', '--figures', str(json_file)]) == 0
    assert '0.17' in capsys.readouterr().out


def test_an_unknown_system_is_refused_with_the_nearest_name(capsys):
    assert benchmark.main(['systems', '--systems', 'PRenet']) == 1
    assert 'PRenet is not known (did you mean "PReNet"?). Known: C2F-DFT' in capsys.readouterr().out


def test_a_file_without_figures_is_refused(tmp_path, capsys):
    assert benchmark.main(['systems', '--figures', str(tmp_path / 'nowhere.json')]) == 1
    assert 'holds no figures of this benchmark' in capsys.readouterr().out

"""`c2fdft`: its list of commands, their help, and how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from c2fdft_arch import __version__
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model import __main__ as command_line
from c2fdft_model.__main__ import COMMANDS, main

SCREEN = 50, 100
"""Lines and columns."""


@pytest.mark.parametrize('name', COMMANDS)
def test_help_fits_a_screen_and_has_an_example(name, monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', str(SCREEN[1]))
    with pytest.raises(SystemExit) as ended:
        main([name, '--help'])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert lines[0].startswith(f'usage: c2fdft {name} ')
    assert len(lines) <= SCREEN[0]
    assert max(map(len, lines)) <= SCREEN[1]
    assert [line for line in lines if line.startswith(f'    c2fdft {name}')]


@pytest.mark.parametrize('arguments', [[], ['--help']])
def test_the_list_has_every_command_and_what_it_does(arguments, capsys):
    assert main(arguments) == 0
    listed = dict(re.findall(r'^  ([a-z-]+) +(\S.*)$', capsys.readouterr().out, re.MULTILINE))
    assert listed == {name: what for name, (_, what) in COMMANDS.items()}


def test_the_list_needs_no_pytorch():
    code = 'import sys; from c2fdft_model.__main__ import main; main([]); print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert 'c2fdft_model.__main__' in loaded
    assert {'torch', 'numpy', 'basicsr'} & set(loaded) == set()


def test_the_version_is_the_packages(capsys):
    assert main(['--version']) == 0
    assert capsys.readouterr().out == f'c2fdft {__version__}\n'


def test_an_unknown_command_is_named_with_the_nearest(capsys):
    assert main(['restroe', 'a.png']) == 2
    error = capsys.readouterr().err
    assert 'no command \'restroe\' (did you mean "restore"?)' in error


@pytest.mark.parametrize(
    ('raised', 'code', 'told'),
    [
        (
            C2FDFTError('weights.pth: of another network'),
            2,
            'error: weights.pth: of another network',
        ),
        (
            FileNotFoundError(2, 'No such file', 'x.csv'),
            2,
            "error: [Errno 2] No such file: 'x.csv'",
        ),
        (KeyboardInterrupt(), 130, 'interrupted'),
    ],
)
def test_what_a_command_raises_for_its_user_is_one_line(raised, code, told, monkeypatch, capsys):
    def fail(arguments):
        raise raised

    module = SimpleNamespace(main=fail)
    monkeypatch.setattr(command_line.importlib, 'import_module', lambda name: module)
    assert main(['restore']) == code
    assert capsys.readouterr().err.strip() == told


def test_a_fault_of_the_program_shows_where_it_is(monkeypatch):
    def fail(arguments):
        raise AssertionError('impossible')

    module = SimpleNamespace(main=fail)
    monkeypatch.setattr(command_line.importlib, 'import_module', lambda name: module)
    with pytest.raises(AssertionError, match='impossible'):
        main(['restore'])


def test_every_door_in_scripts_calls_a_command(project_root):
    doors = {
        path.name: found[1]
        for path in (project_root / 'scripts').glob('*.py')
        if (found := re.match(r'from c2fdft_model\.commands\.(\S+) import main', path.read_text()))
    }
    assert len(doors) == 11
    assert set(doors.values()) <= {module for module, _ in COMMANDS.values()}


@pytest.mark.parametrize('name', ['train', 'test'])
def test_a_missing_option_file_is_one_line(name, capsys):
    assert main([name, '-opt', 'options/nowhere.yml']) == 2
    assert capsys.readouterr().err == 'error: -opt options/nowhere.yml: no such option file.\n'


def test_options_that_cannot_be_used_are_one_line(tmp_path, project_root, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['c2fdft'])
    file = project_root / 'options' / 'demo_coarse.yml'
    data = [f'datasets:train:{key}=nowhere.lmdb' for key in ('dataroot_lq', 'dataroot_gt')]
    assert main(['train', '-opt', str(file), '--force_yml', *data]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith('error: ')
    assert 'nowhere.lmdb' in error[-1]
    assert 'Traceback' not in '\n'.join(error)

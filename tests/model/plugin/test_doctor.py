"""`python -m c2fdft_arch`: what it reports, its exit code, and the copying of option files."""

from __future__ import annotations

import subprocess
import sys

import pytest

from c2fdft_arch import __version__
from c2fdft_model.__main__ import main
from c2fdft_model.plugin import doctor
from c2fdft_model.plugin.option_files import UNCHANGED, WRITTEN, copy_options, option_folder


def examine(environment, cwd, *flags):
    command = [sys.executable, *flags, '-m', 'c2fdft_arch']
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope='module')
def healthy(tmp_path_factory):
    environment = {'PATH': '/usr/bin:/bin', 'OMP_NUM_THREADS': '1'}
    return examine(environment, tmp_path_factory.mktemp('anywhere'))


@pytest.mark.subprocess
def test_sound_installation_exits_with_zero(healthy):
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    assert 'All is well.' in healthy.stdout


@pytest.mark.subprocess
@pytest.mark.parametrize(
    'fact',
    [
        f'c2fdft:       {__version__}',
        'hook:         in place',
        'c2fdft_autoload.pth',
        'torch:',
        'torchvision:',
        'BasicSR:      1.4.2 in ',
        'DFT, ',
        'NoisePredictor, ',
        'C2FDFTModel',
        'PatchCyclePairedDataset',
        'SSIMLoss',
        'patched:      faults of BasicSR',
        'accept_adamw              applied',
        'BasicSR #663',
        'extras:',
        'options:',
    ],
)
def test_report_names(fact, healthy):
    assert fact in healthy.stdout


def test_second_copy_of_basicsr_is_named(monkeypatch, tmp_path):
    (tmp_path / 'basicsr').mkdir()
    (tmp_path / 'basicsr' / '__init__.py').touch()
    monkeypatch.chdir(tmp_path)
    report = doctor.Report()
    assert doctor._examine_basicsr(report)
    assert f'  not used: another copy in {tmp_path / "basicsr"}' in report.lines


@pytest.mark.subprocess
def test_off_switch_is_a_problem_with_a_remedy(clean_environment, tmp_path):
    done = examine({**clean_environment, 'C2FDFT_AUTOLOAD': '0'}, tmp_path)
    assert done.returncode == 1
    assert 'PROBLEM  C2FDFT_AUTOLOAD=0 switches the hook off' in done.stdout
    assert 'remedy: unset C2FDFT_AUTOLOAD' in done.stdout


@pytest.mark.subprocess
def test_broken_basicsr_is_a_problem_with_its_cause(clean_environment, tmp_path):
    package = tmp_path / 'basicsr'
    package.mkdir()
    (package / '__init__.py').write_text('from .version import __version__\n')
    done = examine({**clean_environment, 'PYTHONPATH': str(tmp_path)}, tmp_path)
    assert done.returncode == 1
    assert "PROBLEM  import basicsr: No module named 'basicsr.version'" in done.stdout
    assert 'pip install --no-build-isolation -e .' in done.stdout


def test_missing_startup_file_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor.autoload, 'installed_hook', lambda: None)
    monkeypatch.setattr(doctor.sys, 'path', [])
    report = doctor.Report()
    doctor._examine_hook(report)
    ((what, remedy),) = report.problems
    assert 'no start-up file' in what
    assert 'pip install -e .' in remedy


@pytest.mark.parametrize(
    ('error', 'advice'),
    [
        ("No module named 'basicsr'", 'bash scripts/setup_env.sh'),
        ("No module named 'pytorch_msssim'", 'pip install pytorch_msssim'),
        ("No module named 'torchvision'", 'pip install torch torchvision'),
        ("No module named 'distutils'", 'pip install setuptools'),
        ('operator torchvision::nms does not exist', 'torch and torchvision do not fit'),
        ('libGL.so.1: cannot open shared object file', 'opencv-python-headless'),
        ('something never seen before', 'C2FDFT_AUTOLOAD=0'),
    ],
)
def test_remedy_fits_the_error(error, advice):
    assert advice in doctor.remedy_for(error)


def test_leaf_that_failed_is_a_problem_with_its_cause(monkeypatch):
    failure = "c2fdft_model.losses: ModuleNotFoundError: No module named 'pytorch_msssim'"
    monkeypatch.setattr(doctor.registration, 'failures', [failure])
    report = doctor.Report()
    assert doctor._examine_basicsr(report)
    assert report.problems == [(failure, 'install what is missing: `pip install pytorch_msssim`')]


def test_options_are_copied_into_a_checkout(tmp_path, capsys):
    (tmp_path / 'basicsr').mkdir()
    assert main(['options', str(tmp_path)]) == 0
    source = option_folder()
    files = [*source.rglob('*.yml'), source / 'schema.json']
    names = sorted(path.relative_to(source) for path in files)
    assert (tmp_path / 'options' / 'derain_fine.yml').is_file()
    for name in names:
        assert (tmp_path / 'options' / name).read_bytes() == (source / name).read_bytes()
    assert capsys.readouterr().out.count('wrote ') == len(names)


def test_the_options_folder_itself_may_be_named(tmp_path):
    folder = tmp_path / 'options'
    folder.mkdir()
    assert copy_options(folder)[folder / 'derain_fine.yml'] == WRITTEN
    assert (folder / 'derain_fine.yml').is_file()


def test_copying_again_changes_nothing(tmp_path):
    copy_options(tmp_path)
    assert set(copy_options(tmp_path).values()) == {UNCHANGED}


def test_changed_option_file_is_left_alone_and_named(tmp_path, capsys):
    copy_options(tmp_path)
    changed = tmp_path / 'options' / 'derain_fine.yml'
    changed.write_text('name: mine\n')
    assert main(['options', str(tmp_path)]) == 1
    assert changed.read_text() == 'name: mine\n'
    assert f'LEFT ALONE {changed}' in capsys.readouterr().out


def test_changed_option_file_is_overwritten_with_force(tmp_path):
    copy_options(tmp_path)
    changed = tmp_path / 'options' / 'derain_fine.yml'
    changed.write_text('name: mine\n')
    assert main(['options', '--force', str(tmp_path)]) == 0
    assert changed.read_bytes() == (option_folder() / 'derain_fine.yml').read_bytes()


def test_target_that_is_no_folder_is_an_error(tmp_path, capsys):
    assert main(['options', str(tmp_path / 'nowhere')]) == 2
    assert 'nowhere is not a folder' in capsys.readouterr().err

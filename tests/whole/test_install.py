"""Wheel and editable installs into environments of their own, and the set-up script."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from c2fdft_arch import __version__
from c2fdft_arch.dft import DFT
from c2fdft_arch.native.compiler import sources

STARTUP_FILES = ['c2fdft_autoload.pth', 'c2fdft_autoload.start']
SHOW_STATE = """
import sys, pathlib
import c2fdft_arch
from c2fdft_model.plugin.option_files import option_folder
print(sum(hasattr(finder, 'c2fdft_hook') for finder in sys.meta_path))
print(pathlib.Path(c2fdft_arch.__file__).parent)
print(option_folder())
import basicsr
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY
print('DFT' in ARCH_REGISTRY, 'C2FDFTModel' in MODEL_REGISTRY,
      'PatchCyclePairedDataset' in DATASET_REGISTRY)
"""


def run(command, environment, **settings):
    done = subprocess.run(command, env=environment, capture_output=True, text=True, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def environment():
    dropped = {'C2FDFT_AUTOLOAD', 'PYTHONPATH', 'PYTHONDONTWRITEBYTECODE'}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, 'OMP_NUM_THREADS': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1'}


@pytest.fixture(scope='module')
def source(tmp_path_factory, project_root) -> Path:
    """A copy of what is packaged, so that building leaves nothing in the source tree."""
    copy = tmp_path_factory.mktemp('source')
    ignored = shutil.ignore_patterns('__pycache__')
    for name in ('c2fdft_arch', 'c2fdft_model', 'options'):
        shutil.copytree(project_root / name, copy / name, ignore=ignored)
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md'):
        if (project_root / name).exists():
            shutil.copy(project_root / name, copy)
    return copy


@pytest.fixture(scope='module')
def wheel(tmp_path_factory, source, environment) -> Path:
    folder = tmp_path_factory.mktemp('wheel')
    options = ['--no-deps', '--no-build-isolation', '--wheel-dir', str(folder)]
    run([sys.executable, '-m', 'pip', 'wheel', *options, str(source)], environment)
    return next(folder.glob('*.whl'))


def make_environment(folder: Path) -> tuple[Path, Path]:
    """A virtual environment that sees this one's packages but not its start-up files.

    Returns its interpreter and its site-packages.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next(folder.glob('lib/python*/site-packages'))
    parents = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (packages / 'parent.pth').write_text('\n'.join(parents) + '\n')
    return folder / 'bin' / 'python', packages


def install(python: Path, environment: dict, *what: str) -> None:
    pip = [sys.executable, '-m', 'pip', '--python', str(python)]
    options = [
        '--no-deps',
        '--no-build-isolation',
        '--ignore-installed',
        '--no-warn-script-location',
    ]
    run([*pip, 'install', *options, *what], environment)


@pytest.fixture(scope='module')
def from_wheel(tmp_path_factory, wheel, environment):
    python, packages = make_environment(tmp_path_factory.mktemp('from_wheel'))
    install(python, environment, str(wheel))
    return python, packages


@pytest.fixture(scope='module')
def editable(tmp_path_factory, source, environment):
    python, packages = make_environment(tmp_path_factory.mktemp('editable'))
    install(python, environment, '--editable', str(source))
    return python, packages


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.subprocess
def test_wheel_states_the_version(wheel):
    assert wheel.name == f'c2fdft-{__version__}-py3-none-any.whl'


@pytest.mark.subprocess
def test_wheel_puts_the_startup_files_into_site_packages(wheel):
    assert set(STARTUP_FILES) <= contents(wheel)


@pytest.mark.subprocess
def test_wheel_holds_every_module_option_file_and_kernel(wheel, source):
    modules = {
        path.relative_to(source).as_posix()
        for package in ('c2fdft_arch', 'c2fdft_model')
        for path in (source / package).rglob('*.py')
    }
    options = {
        f'c2fdft_model/plugin/{path.relative_to(source).as_posix()}'
        for path in (source / 'options').rglob('*.yml')
    }
    kernels = {f'c2fdft_arch/native/csrc/{path.name}' for path in sources()}
    assert modules
    assert options
    assert modules | options | kernels <= contents(wheel)


@pytest.mark.subprocess
def test_wheel_holds_nothing_else(wheel):
    tops = {name.split('/')[0] for name in contents(wheel)}
    expected = {'c2fdft_arch', 'c2fdft_model', f'c2fdft-{__version__}.dist-info', *STARTUP_FILES}
    assert tops == expected


@pytest.mark.subprocess
def test_wheel_install_registers_without_an_import_line(from_wheel, environment, tmp_path):
    python, packages = from_wheel
    hooks, package, options, *_, registered = run(
        [python, '-c', SHOW_STATE], environment, cwd=tmp_path
    ).split('\n')[:-1]
    assert hooks == '1'
    assert Path(package) == packages / 'c2fdft_arch'
    assert Path(options) == packages / 'c2fdft_model' / 'plugin' / 'options'
    assert registered == 'True True True'


@pytest.mark.subprocess
def test_editable_install_registers_without_an_import_line(editable, environment, tmp_path, source):
    hooks, package, options, *_, registered = run(
        [editable[0], '-c', SHOW_STATE], environment, cwd=tmp_path
    ).split('\n')[:-1]
    assert hooks == '1'
    assert Path(package) == source / 'c2fdft_arch'
    assert Path(options) == source / 'options'
    assert registered == 'True True True'


@pytest.mark.subprocess
def test_startup_files_of_an_editable_install_come_after_its_path(editable):
    names = sorted(path.name for path in editable[1].glob('*.pth'))
    (path_file,) = (name for name in names if name.startswith('__editable__'))
    assert names.index('c2fdft_autoload.pth') > names.index(path_file)
    assert (editable[1] / 'c2fdft_autoload.start').is_file()


@pytest.mark.subprocess
def test_editable_install_adds_a_path_and_no_import_finder(editable, source):
    (path_file,) = editable[1].glob('__editable__*.pth')
    assert path_file.read_text().split() == [str(source)]


@pytest.mark.subprocess
def test_doctor_of_a_wheel_install_is_content(from_wheel, environment, tmp_path):
    told = run([from_wheel[0], '-m', 'c2fdft_arch'], environment, cwd=tmp_path)
    assert str(from_wheel[1] / 'c2fdft_autoload.pth') in told


@pytest.mark.subprocess
def test_option_files_come_out_of_a_wheel_install(from_wheel, environment, tmp_path, source):
    run([from_wheel[0], '-m', 'c2fdft_arch', 'options', str(tmp_path)], environment, cwd=tmp_path)
    for path in (source / 'options').rglob('*.yml'):
        copied = tmp_path / 'options' / path.relative_to(source / 'options')
        assert copied.read_bytes() == path.read_bytes()


@pytest.mark.subprocess
@pytest.mark.parametrize('kind', ['wheel', 'editable'])
def test_uninstalling_takes_the_startup_files_along(kind, wheel, source, environment, tmp_path):
    python, packages = make_environment(tmp_path)
    install(
        python, environment, *([str(wheel)] if kind == 'wheel' else ['--editable', str(source)])
    )
    assert all((packages / name).is_file() for name in STARTUP_FILES)
    pip = [sys.executable, '-m', 'pip', '--python', str(python)]
    run([*pip, 'uninstall', '--yes', 'c2fdft'], environment)
    assert not any((packages / name).exists() for name in STARTUP_FILES)


@pytest.mark.subprocess
@pytest.mark.parametrize(
    'chosen', [['--weights', 'tiny.pth'], ['--model', 'derain'], ['--model', 'denoise']]
)
def test_the_command_of_a_wheel_install_restores_a_photograph(
    chosen, from_wheel, environment, tmp_path
):
    network = DFT(dim=8, num_blocks=[1, 1, 1, 1], heads=[1, 2, 2, 4])
    torch.save({'params': network.state_dict()}, tmp_path / 'tiny.pth')
    photograph = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / 'photo.png'), photograph)
    command = from_wheel[0].parent / 'c2fdft'
    files = ['photo.png', 'restored.png', *chosen, '--precision', 'fp32']
    told = run([command, 'restore', *files], environment, cwd=tmp_path)
    assert '1 restored' in told
    restored = cv2.imread(str(tmp_path / 'restored.png'))
    assert restored.shape == photograph.shape
    assert (restored != photograph).any()


@pytest.mark.subprocess
def test_the_package_of_a_wheel_install_runs_as_a_module(from_wheel, environment, tmp_path):
    told = run([from_wheel[0], '-m', 'c2fdft_model', '--version'], environment, cwd=tmp_path)
    assert told.split() == ['c2fdft', __version__]


def set_up(project_root, **variables: str):
    command = ['/bin/bash', str(project_root / 'scripts' / 'setup_env.sh')]
    return subprocess.run(command, env=variables, capture_output=True, text=True)


def test_set_up_uses_an_existing_environment(project_root):
    done = set_up(project_root, PYTHON=sys.executable, PATH=os.environ['PATH'])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'{sys.prefix} has everything' in done.stdout


def test_set_up_refuses_an_interpreter_it_cannot_use(project_root):
    done = set_up(project_root, PYTHON='/bin/false', PATH=os.environ['PATH'])
    assert done.returncode == 1
    assert 'PYTHON=/bin/false is not a CPython 3.10 to 3.13' in done.stderr


def test_set_up_says_so_when_there_is_no_suitable_python(project_root, tmp_path):
    for name in ('bash', 'dirname'):
        (tmp_path / name).symlink_to(shutil.which(name))
    copy = tmp_path / 'scripts' / 'setup_env.sh'
    copy.parent.mkdir()
    shutil.copy(project_root / 'scripts' / 'setup_env.sh', copy)
    done = set_up(tmp_path, PATH=str(tmp_path))
    assert done.returncode == 1
    assert 'no CPython 3.10 to 3.13' in done.stderr
    assert not (tmp_path / '.venv').exists()


def test_set_up_does_not_clear_an_environment_of_another_python(project_root, tmp_path):
    (tmp_path / 'scripts').mkdir()
    shutil.copy(project_root / 'scripts' / 'setup_env.sh', tmp_path / 'scripts')
    python = tmp_path / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    # Runs, but neither the version check nor anything else that is given on standard input.
    python.write_text('#!/bin/sh\n[ "$1" = - ] && exit 1\necho Python 3.9.9\n')
    python.chmod(0o755)
    done = set_up(tmp_path, PATH=os.environ['PATH'])
    assert done.returncode == 1
    assert '.venv holds Python 3.9.9' in done.stderr
    assert python.is_file()


def test_patched_setup_of_basicsr_does_not_rely_on_locals(
    basicsr_sdist, install_environment, tmp_path
):
    tree = tmp_path / 'basicsr-1.4.2'
    shutil.copytree(basicsr_sdist, tree)
    install_environment.patch_setup(tree)
    code = """
import runpy
setup = runpy.run_path('setup.py', run_name='not main')
setup['get_version'].__globals__['locals'] = lambda: {}  # what Python 3.13 makes of it
print(setup['get_version']())
"""
    done = run([sys.executable, '-c', code], dict(os.environ), cwd=tree)
    assert done.strip() == '1.4.2'


def test_patching_an_unknown_setup_is_refused(install_environment, tmp_path):
    (tmp_path / 'setup.py').write_text('print("another version")\n')
    with pytest.raises(ValueError, match='does not contain'):
        install_environment.patch_setup(tmp_path)

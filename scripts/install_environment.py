"""Installs into the running interpreter's environment what the project needs and is missing.

Standard library only. Quick when there is nothing to do. Called by setup_env.sh.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASICSR = 'basicsr==1.4.2'
PYTHON = sys.version_info[:2]
PIP = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
# In BasicSR's setup.py. From Python 3.13 on, exec in a function leaves locals() as they are.
PATCHED_LINES = {
    "exec(compile(f.read(), version_file, 'exec'))": (
        "exec(compile(f.read(), version_file, 'exec'), globals())"
    ),
    "return locals()['__version__']": "return globals()['__version__']",
}


def say(text: str) -> None:
    print(f'[set-up] {text}', flush=True)


def pip(*arguments: str) -> None:
    """Run pip in this environment; ends the program if it fails."""
    command = [*PIP, *arguments]
    if sys.stdout.isatty():  # pip shows its progress bars on a terminal only
        code = subprocess.run(command).returncode
    else:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                if not line.startswith('Requirement already satisfied'):
                    print(line, end='', flush=True)
        code = process.returncode
    if code:
        sys.exit(f'[set-up] error: {" ".join(command)} failed; see its message above')


def version_of(name: str) -> tuple[int, ...] | None:
    """Return the installed version of a distribution as numbers, or None."""
    try:
        text = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return tuple(int(number) for number in re.findall(r'\d+', text)[:3])


def requirements(extras: list[str]) -> list[str]:
    """Return the requirements that pyproject.toml states, those of the extras included."""
    tomllib = importlib.import_module('tomllib' if PYTHON >= (3, 11) else 'pip._vendor.tomli')
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    of_extras = project['optional-dependencies']
    unknown = sorted(set(extras) - set(of_extras))
    if unknown:
        known = ', '.join(of_extras)
        sys.exit(f'[set-up] error: no extra called {", ".join(unknown)}; there are {known}')
    return project['dependencies'] + [name for extra in extras for name in of_extras[extra]]


def is_met(requirement: str) -> bool:
    """Whether a requirement, a name with perhaps `>=` and a version, is installed."""
    name, _, least = requirement.partition('>=')
    have = version_of(name)
    return have is not None and have >= tuple(int(number) for number in (least or '0').split('.'))


def installed_from_here() -> bool:
    """Whether the package in this environment is this source tree, its start-up files included."""
    try:
        distribution = importlib.metadata.distribution('c2fdft')
    except importlib.metadata.PackageNotFoundError:
        return False
    address = json.loads(distribution.read_text('direct_url.json') or '{}').get('url')
    if not any(entry.name == 'c2fdft' for entry in distribution.entry_points):
        return False  # installed before there was the command
    startup_files = (ROOT / 'c2fdft_model' / 'plugin').glob('c2fdft_autoload.*')
    placed = {path: Path(str(distribution.locate_file(path.name))) for path in startup_files}
    return address == ROOT.as_uri() and all(
        copy.is_file() and copy.read_bytes() == path.read_bytes() for path, copy in placed.items()
    )


def install_tools() -> None:
    """Have a pip that knows editable wheels, and what builds packages without isolation."""
    pip_version, setuptools = version_of('pip') or (), version_of('setuptools') or ()
    if pip_version < (22,) or setuptools < (64,) or version_of('wheel') is None:
        pip('install', '--upgrade', 'pip', 'setuptools', 'wheel')


def install_torch() -> None:
    """Install torch and torchvision together: apart, they may not fit each other."""
    if version_of('torch') is not None and version_of('torchvision') is not None:
        return
    say('installing torch and torchvision (with CUDA, about 3 GB to download) …')
    index = os.environ.get('TORCH_INDEX_URL')
    pip('install', *(['--index-url', index] if index else []), 'torch>=2.1', 'torchvision')


def unpack_basicsr(folder: Path) -> Path:
    """Download BasicSR's source distribution with pip and return its unpacked tree in `folder`.

    pip prepares a package's metadata even if it only downloads it, which fails on Python 3.13; what
    it has unpacked by then is kept, and is the same tree.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / 'download'
    options = ['--no-clean', '--no-deps', '--no-build-isolation', '--no-binary', 'basicsr']
    done = subprocess.run(
        [*PIP, 'download', *options, '--dest', str(target), BASICSR],
        env={**os.environ, 'TMPDIR': str(folder)},
        capture_output=True,
        text=True,
    )
    for archive in target.glob('basicsr-*.tar.gz'):
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, 'data_filter', lambda member, path: member)
            tar.extractall(folder / 'unpacked')
        return next((folder / 'unpacked').glob('basicsr-*'))
    for setup in folder.glob('pip-*/basicsr*/setup.py'):
        return setup.parent
    raise FileNotFoundError(f'pip could not download {BASICSR}:\n{done.stdout}{done.stderr}')


def patch_setup(tree: Path) -> None:
    """Edit the two lines of BasicSR's setup.py that fail on Python 3.13 (BasicSR #749).

    Raises ValueError if they are not there.
    """
    setup = tree / 'setup.py'
    text = setup.read_text(encoding='utf-8')
    for faulty, patched in PATCHED_LINES.items():
        if faulty not in text and patched not in text:
            raise ValueError(f'{setup} does not contain `{faulty}`; it cannot be patched')
        text = text.replace(faulty, patched)
    setup.write_text(text, encoding='utf-8')


def install_basicsr() -> None:
    """Install BasicSR after torch and without build isolation, which would fetch a second torch."""
    if version_of('basicsr') is not None:
        return
    say(f'installing {BASICSR} from its source distribution …')
    if PYTHON < (3, 13):
        pip('install', '--no-build-isolation', BASICSR)
        return
    say('its setup.py fails on Python 3.13 (BasicSR #749): two lines of it are patched in a copy')
    with tempfile.TemporaryDirectory(prefix='c2fdft-basicsr-') as folder:
        tree = unpack_basicsr(Path(folder))
        patch_setup(tree)
        pip('install', '--no-build-isolation', str(tree))


def write_basicsr_wheel(folder: str) -> None:
    """Build BasicSR's wheel, which is for any Python, in `folder`."""
    with tempfile.TemporaryDirectory(prefix='c2fdft-basicsr-') as temporary:
        tree = unpack_basicsr(Path(temporary))
        patch_setup(tree)
        pip('wheel', '-q', '--no-deps', '--no-build-isolation', '-w', folder, str(tree))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--extras', default='', help='extras of the project, separated by commas')
    add('--basicsr-wheel', metavar='FOLDER', help="only build BasicSR's wheel there (gpu_kit.sh)")
    arguments = parser.parse_args()
    extras = [name for name in arguments.extras.split(',') if name]
    if arguments.basicsr_wheel:
        write_basicsr_wheel(arguments.basicsr_wheel)
        return
    if version_of('pip') is None:  # it installs the rest, and reads TOML for Python 3.10
        subprocess.run([sys.executable, '-m', 'ensurepip', '--upgrade'], check=True)
    if all(map(is_met, requirements(extras))) and installed_from_here():
        say(f'{sys.prefix} has everything')
        return
    start = time.monotonic()
    say(f'preparing {sys.prefix}')
    install_tools()
    install_torch()
    install_basicsr()
    say(f'installing the project in place, with {", ".join(extras) or "no extras"} …')
    target = f'{ROOT}[{",".join(extras)}]' if extras else str(ROOT)
    pip('install', '--no-build-isolation', '-e', target)
    if subprocess.run([sys.executable, '-m', 'c2fdft_arch'], cwd=ROOT).returncode:
        sys.exit('[set-up] error: the installation has a problem; see above')
    say(f'done in {time.monotonic() - start:.0f} s')


if __name__ == '__main__':
    main()

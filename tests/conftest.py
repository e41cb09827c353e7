"""Settings and fixtures that every test file shares."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

# Before torch is imported: the tests use tiny tensors, for which threads only cost time.
os.environ.setdefault('OMP_NUM_THREADS', '1')

ROOT = Path(__file__).resolve().parent.parent
# Git-ignored; the download survives from one run of the tests to the next.
BASICSR_CACHE = ROOT / '.cache' / 'basicsr-1.4.2'


@pytest.fixture(scope='session')
def project_root() -> Path:
    """The folder of the source tree."""
    return ROOT


@pytest.fixture
def clean_environment() -> dict[str, str]:
    """The environment for a subprocess: no switch of ours, no added path, one thread, no GPU."""
    dropped = {'C2FDFT_AUTOLOAD', 'PYTHONPATH', 'PYTHONSTARTUP', 'PYTHONWARNINGS', 'PYTHONHOME'}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment['OMP_NUM_THREADS'] = '1'
    environment['CUDA_VISIBLE_DEVICES'] = ''
    return environment


@pytest.fixture(scope='session')
def install_environment() -> ModuleType:
    """The module scripts/install_environment.py."""
    path = ROOT / 'scripts' / 'install_environment.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def basicsr_sdist(install_environment) -> Path:
    """BasicSR 1.4.2's source distribution, unpacked. Copy it before writing into it."""
    if not (BASICSR_CACHE / 'basicsr' / 'train.py').is_file():
        with tempfile.TemporaryDirectory() as folder:
            tree = install_environment.unpack_basicsr(Path(folder))
            BASICSR_CACHE.parent.mkdir(exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=BASICSR_CACHE.parent)) / 'tree'
            shutil.copytree(tree, partial)
            with contextlib.suppress(OSError):  # another process was first
                partial.rename(BASICSR_CACHE)
            shutil.rmtree(partial.parent)
    return BASICSR_CACHE


@pytest.fixture(params=['fp32', 'bf16'])
def precision(request, monkeypatch) -> str:
    """Each precision for which there are kernels in C++ on this machine.

    Those for bf16 also where AMX is faster and serves instead.
    """
    import torch

    from c2fdft_arch.native import bindings

    monkeypatch.setattr(bindings, 'has_matrix_units', lambda: False)
    dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16}[request.param]
    if bindings.kernels(dtype, torch.device('cpu')) is None:
        pytest.skip('no kernels for this dtype')
    return request.param


@pytest.fixture(autouse=True)
def _threads_are_put_back():
    """Sums depend on their number: a test that sets it would change the results of others."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def threads():
    """Sets the number of threads for a test."""
    import torch

    return torch.set_num_threads

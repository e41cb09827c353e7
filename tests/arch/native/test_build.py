"""The library of kernels: compiled once, kept where nobody else can change it, never harmful."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import filelock
import pytest
import torch

from c2fdft_arch.native import build, compiler
from c2fdft_arch.native.bindings import kernels
from helpers.kernels import CPU, needs_kernels
from helpers.networks import tiny_input, tiny_network

HAS_COMPILER = shutil.which(os.environ.get('CXX', 'c++')) is not None
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason='there is no C++ compiler')
# Stands in for the C++ compiler: notes that it was called, and "compiles" a library that is there.
COMPILER = """#!/bin/sh
for word; do case $word in --version) echo "{version}"; exit 0;; esac; done
echo compiled >> "{log}"
{pause}
while [ $# -gt 0 ]; do [ "$1" = -o ] && target=$2; shift; done
cp "{library}" "$target"
"""


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """As in a new process with an empty cache, below `tmp_path`."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv(build.SWITCH, raising=False)
    build.compiled_library.cache_clear()
    yield tmp_path / 'cache' / 'c2fdft'
    build.compiled_library.cache_clear()


class FakeCompiler:
    """A compiler that gives the library of this machine, or another file, and counts its calls."""

    def __init__(self, folder, monkeypatch):
        self.path, self.log = folder / 'fake-c++', folder / 'log'
        self.real = build.compiled_library()[1]
        self.write()
        monkeypatch.setenv('CXX', str(self.path))

    def write(self, library=None, pause='', version='fake 1.0'):
        library = library or self.real
        text = COMPILER.format(library=library, log=self.log, pause=pause, version=version)
        self.path.write_text(text)
        self.path.chmod(0o755)

    @property
    def calls(self):
        return self.log.read_text().count('compiled') if self.log.exists() else 0


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return FakeCompiler(tmp_path, monkeypatch)


def find():
    """What a new process finds: the library, or None, and its path or the reason."""
    build.compiled_library.cache_clear()
    return build.compiled_library()


def suits_kernels():
    switched_on = os.environ.get(build.SWITCH, '1').lower() not in ('0', 'off', 'false', 'no')
    capability = torch.backends.cpu.get_cpu_capability()
    return HAS_COMPILER and switched_on and capability in build.INSTRUCTIONS


@pytest.mark.skipif(not suits_kernels(), reason='no compiler, or neither AVX2 nor AVX-512')
def test_where_a_compiler_and_avx2_are_there_are_kernels():
    library, why = build.compiled_library()
    assert library is not None, why
    assert kernels(torch.float32, CPU) is not None


@pytest.mark.parametrize('value', ['0', 'off', 'False'])
def test_switch_turns_them_off(value, monkeypatch, anew):
    monkeypatch.setenv(build.SWITCH, value)
    assert find() == (None, f'{build.SWITCH}={value} switches them off')
    assert kernels(torch.float32, CPU) is None
    with torch.no_grad():
        assert tiny_network()(*tiny_input()).isfinite().all()


@needs_kernels
def test_they_are_compiled_once_and_kept_for_their_user_alone(fake, anew):
    library, path = find()
    assert library is not None, path
    assert (find()[1], fake.calls) == (path, 1)
    assert os.stat(anew).st_mode & 0o777 == 0o700
    assert sorted(os.listdir(anew)) == ['compile.lock', os.path.basename(path)]


@needs_kernels
def test_another_compiler_or_version_compiles_anew(fake, anew, monkeypatch):
    paths = {find()[1]}
    fake.write(version='fake 2.0')
    paths.add(find()[1])
    monkeypatch.setenv(compiler.MORE_FLAGS, '-O1')
    paths.add(find()[1])
    assert len(paths) == fake.calls == 3


@needs_kernels
def test_without_a_compiler_what_was_compiled_for_the_machine_serves(fake, anew, monkeypatch):
    _, path = find()
    monkeypatch.setenv('CXX', '/no/such/compiler')
    assert find()[0] is not None and find()[1] == path
    monkeypatch.setattr(compiler, 'cpu_flags', lambda: {'another', 'machine'})
    assert find() == (
        None,
        'no C++ compiler: /no/such/compiler is not found (the variable CXX names another)',
    )


@needs_kernels
def test_with_a_compiler_that_fails_what_was_compiled_for_the_machine_serves(fake, anew):
    _, path = find()
    fake.path.write_text('#!/bin/sh\ncase $1 in --version) echo new; exit;; esac\nexit 1\n')
    assert find()[1] == path


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    'cut short': lambda content: content[:300_000],
    'empty': lambda content: b'',
    'one bit': flipped,
    'without a seal': lambda content: content[:-32],
}


def replace(path, content):
    """As another process would: this one has the library loaded, and its file must stay."""
    copy = Path(f'{path}.new')
    copy.write_bytes(content)
    copy.replace(path)


@needs_kernels
@pytest.mark.parametrize('damage', DAMAGES)
def test_library_that_is_damaged_is_compiled_again(damage, fake, anew):
    _, path = find()
    whole = Path(path).read_bytes()
    replace(path, DAMAGES[damage](whole))
    library, again = find()
    assert library is not None and again == path
    assert Path(path).read_bytes() == whole and fake.calls == 2
    assert find()[1] == path and fake.calls == 2


@needs_kernels
def test_library_of_another_name_is_not_ours(fake, anew):
    _, path = find()
    foreign = Path(path).read_bytes()
    fake.write(version='fake 2.0')
    _, other = find()
    replace(other, foreign)
    assert find()[1] == other
    assert Path(other).read_bytes() != foreign and fake.calls == 3


@needs_kernels
def test_folder_that_others_may_write_to_is_refused(fake, anew):
    _, path = find()
    anew.chmod(0o770)
    library, why = find()
    assert library is None
    assert f'others may write to {anew} (mode 0770)' in why and 'XDG_CACHE_HOME' in why


@needs_kernels
def test_folder_of_another_user_is_refused(fake, anew, monkeypatch):
    find()
    if os.getuid() == 0:
        os.chown(anew, 12345, -1)
    else:
        monkeypatch.setattr(os, 'getuid', lambda: 12345)
    library, why = find()
    assert library is None and f'{anew} belongs to another user' in why


@needs_kernels
def test_user_without_home_and_name_has_a_folder_among_temporary_files(
    fake, anew, monkeypatch, tmp_path
):
    def nobody(uid):
        raise KeyError(uid)

    for name in ('HOME', 'XDG_CACHE_HOME'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, 'getpwuid', nobody)
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    folder = tmp_path / f'c2fdft-{os.getuid()}'
    assert os.path.dirname(find()[1]) == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@needs_kernels
def test_place_that_is_no_folder_is_passed_over_and_named(fake, anew, monkeypatch, tmp_path):
    anew.parent.write_text('a file')
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    assert Path(find()[1]).parent == tmp_path / f'c2fdft-{os.getuid()}'
    (tmp_path / 'file').write_text('')
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'file'))
    library, why = find()
    assert library is None
    assert 'no folder to keep them in' in why and f'{anew}: Not a directory' in why


@needs_kernels
def test_processes_that_start_together_compile_once(fake, anew):
    fake.write(pause='sleep 0.5')
    fork = multiprocessing.get_context('fork')
    processes = [fork.Process(target=find) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert fake.calls == 1


@needs_kernels
def test_what_a_killed_compilation_left_behind_is_removed(fake, anew):
    anew.mkdir(parents=True, mode=0o700)
    leftover = anew / '.kernels-1.0123abcd.tmp.so'
    leftover.touch()
    _, path = find()
    assert sorted(os.listdir(anew)) == ['compile.lock', os.path.basename(path)]


@needs_kernels
@pytest.mark.parametrize('error', [OSError(errno.ENOLCK, 'No locks available'), filelock.Timeout])
def test_disk_without_locks_is_compiled_on_and_a_lock_for_ever_is_named(
    error, fake, anew, monkeypatch
):
    def refuse(self, timeout=None):
        raise error if isinstance(error, OSError) else error(self.lock_file)

    monkeypatch.setattr(filelock.FileLock, 'acquire', refuse)
    library, why = find()
    if isinstance(error, OSError):
        assert library is not None and fake.calls == 1
    else:
        assert library is None and f'{anew}/compile.lock has been locked for over 2400 s' in why


@pytest.mark.parametrize(
    'variable, expected',
    [
        ('CXX', "the variable CXX=c++ ': No closing quotation"),
        (compiler.MORE_FLAGS, f"the variable {compiler.MORE_FLAGS}=c++ ': No closing quotation"),
    ],
)
@needs_kernels
def test_variables_with_a_lone_quote_are_named(variable, expected, anew, monkeypatch):
    monkeypatch.setenv(variable, "c++ '")
    assert find() == (None, expected)


@needs_kernels
@pytest.mark.parametrize(
    'script, expected',
    [
        ('echo "x.h: note" >&2; echo "x.h:1: error: no such" >&2; exit 1', 'x.h:1: error: no such'),
        (r'printf "caf\351 1.0\n"', 'not a library of these kernels'),
        ('case $1 in --version) exit 0;; esac; kill -9 $$', 'failed: no message'),
    ],
    ids=['fails', 'output not UTF-8, no file', 'is killed'],
)
def test_odd_compiler_is_named_and_does_no_harm(script, expected, anew, monkeypatch, tmp_path):
    odd = tmp_path / 'odd'
    odd.write_text(f'#!/bin/sh\n{script}\n')
    odd.chmod(0o755)
    monkeypatch.setenv('CXX', str(odd))
    library, why = find()
    assert library is None and expected in why


@needs_kernels
def test_compiler_that_does_not_end_is_ended_with_what_it_started(
    fake, anew, monkeypatch, tmp_path
):
    fake.write(pause=f'sleep 300 & echo $! > {tmp_path}/started; wait')
    monkeypatch.setattr(compiler, 'COMPILE_SECONDS', 3)
    assert find() == (None, f'{fake.path} took over 3 s')
    started = int((tmp_path / 'started').read_text())
    deadline = time.monotonic() + 240
    while is_running(started) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(started)


def is_running(process):
    with contextlib.suppress(OSError):
        return Path(f'/proc/{process}/stat').read_text().split()[2] != 'Z'
    return False


@needs_kernels
def test_compiler_that_may_not_be_run_is_named(anew, monkeypatch, tmp_path):
    monkeypatch.setenv('CXX', str(tmp_path))
    assert find() == (None, f'{tmp_path} cannot be run: Permission denied')


@needs_kernels
@needs_compiler
@pytest.mark.parametrize(
    'source, expected',
    [
        ('void nothing(void) {}', 'not a library of these kernels'),
        (
            '__attribute__((constructor)) static void f(void) { *(volatile int*)0 = 1; }',
            'ends a process (SIGSEGV)',
        ),
    ],
    ids=['without the functions', 'crashes when it is loaded'],
)
def test_compiler_of_wrong_libraries_leaves_nothing(source, expected, fake, anew, tmp_path):
    library = tmp_path / 'wrong.so'
    command = ['c++', '-x', 'c++', '-shared', '-fPIC', '-o', str(library), '-']
    subprocess.run(command, input=source.encode(), check=True)
    fake.write(library)
    found, why = find()
    assert found is None and expected in why
    assert os.listdir(anew) == ['compile.lock']


def test_other_processors_are_not_tried(monkeypatch, anew):
    monkeypatch.setattr(build.platform, 'machine', lambda: 'arm64')
    assert 'arm64' in find()[1]


def test_processor_without_wide_vectors_is_not_tried(monkeypatch, anew):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'DEFAULT')
    monkeypatch.setattr(build.platform, 'machine', lambda: 'x86_64')
    assert 'neither AVX2 nor AVX-512' in find()[1]

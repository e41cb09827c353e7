"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from c2fdft_arch.common import atomic_write
from c2fdft_arch.common.atomic_write import (
    open_to_append,
    remove_leftovers,
    replacing,
    write_bytes,
)


@pytest.fixture
def names_in_order(monkeypatch):
    """Makes the random part of temporary names foreseeable: 00000000, 00000001, ..."""
    numbers = iter(range(100))
    monkeypatch.setattr(atomic_write.secrets, 'token_hex', lambda size: f'{next(numbers):08x}')


def test_a_file_is_written_and_nothing_else_is_left(tmp_path):
    write_bytes(tmp_path / 'new' / 'image.png', b'whole')
    assert (tmp_path / 'new' / 'image.png').read_bytes() == b'whole'
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['image.png']


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / 'image.png'
    path.write_bytes(b'old')
    with replacing(path) as temporary:
        temporary.write_bytes(b'new')
        assert path.read_bytes() == b'old'
    assert path.read_bytes() == b'new'


@pytest.mark.parametrize('error', [ValueError, OSError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file_and_leaves_nothing(error, tmp_path):
    path = tmp_path / 'image.png'
    path.write_bytes(b'old')
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_bytes(b'half')
        raise error
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_target_that_cannot_be_replaced_leaves_nothing(tmp_path):
    folder = tmp_path / 'taken'
    folder.mkdir()
    with pytest.raises(OSError):
        write_bytes(folder, b'content')
    assert list(tmp_path.iterdir()) == [folder]


def test_the_new_file_is_hidden_and_has_the_ending(tmp_path):
    with replacing(tmp_path / 'image.png') as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith('.image.')
        assert temporary.suffix == '.png'


def test_a_planted_link_is_not_followed(tmp_path, names_in_order):
    victim = tmp_path / 'victim'
    victim.write_bytes(b'precious')
    (tmp_path / '.image.00000000.tmp.png').symlink_to(victim)
    write_bytes(tmp_path / 'image.png', b'whole')
    assert victim.read_bytes() == b'precious'
    assert (tmp_path / 'image.png').read_bytes() == b'whole'


def test_the_file_of_another_writer_is_left_alone(tmp_path, names_in_order):
    other = tmp_path / '.image.00000000.tmp.png'
    other.write_bytes(b"another writer's")
    with replacing(tmp_path / 'image.png') as temporary:
        assert temporary != other
    assert other.read_bytes() == b"another writer's"


@pytest.mark.parametrize(
    'name',
    ['n' * 251 + '.png', 'ü' * 125 + '.png', 'n' + 'ü' * 125 + '.png', 'n.' + 's' * 253, 'n' * 255],
)
def test_names_as_long_as_file_systems_allow(name, tmp_path):
    write_bytes(tmp_path / name, b'whole')
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(('umask', 'mode'), [(0o022, 0o644), (0o077, 0o600)])
def test_the_mode_is_that_of_a_file_opened_for_writing(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / 'image.png', b'whole')
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'image.png').stat().st_mode) == mode


def test_a_durable_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    events = []
    replace, sync = os.replace, os.fsync

    def recorded_replace(source, target):
        events.append('replace')
        replace(source, target)

    def recorded_sync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        events.append('sync folder' if is_folder else 'sync file')
        sync(descriptor)

    monkeypatch.setattr(os, 'replace', recorded_replace)
    monkeypatch.setattr(os, 'fsync', recorded_sync)
    write_bytes(tmp_path / 'net.pth', b'whole', durable=True)
    assert events == ['sync file', 'replace', 'sync folder']


def test_leftovers_of_killed_writers_are_removed_and_other_files_kept(tmp_path, names_in_order):
    leftover = atomic_write._create_beside(tmp_path / 'image.png')
    without_ending = atomic_write._create_beside(tmp_path / 'lock')
    kept = [
        tmp_path / name for name in ('image.png', '.hidden.tmp', '.x.tmp.png', 'a.0a0a0a0a.tmp')
    ]
    for path in kept:
        path.touch()
    remove_leftovers(tmp_path)
    assert not leftover.exists()
    assert not without_ending.exists()
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize('failing', ['writing', 'replacing', 'creating'])
def test_an_error_names_the_file_that_was_to_be_written(tmp_path, failing):
    path = tmp_path / 'file.bin'
    if failing == 'replacing':
        (path / 'inside').mkdir(parents=True)
    if failing == 'creating':
        path = tmp_path / ('n' * 300) / 'file.bin'
    with pytest.raises(OSError) as caught, replacing(path) as temporary:
        if failing == 'writing':
            raise OSError(28, 'No space left on device')
        temporary.write_bytes(b'x')
    assert str(caught.value).endswith(f"'{path}'")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith('.')] == []


def test_names_that_the_locale_has_no_letters_for_are_written(tmp_path):
    code = """
import os, sys
from c2fdft_arch.common.atomic_write import write_bytes
write_bytes(os.path.join(sys.argv[1], os.fsdecode(b'\\xc3\\xbc\\xe9.png')), b'whole')
"""
    ascii_only = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    command = [sys.executable, '-c', code, str(tmp_path)]
    subprocess.run(command, env={**os.environ, **ascii_only}, check=True)
    assert os.listdir(os.fsencode(tmp_path)) == [b'\xc3\xbc\xe9.png']


def test_what_is_appended_stays_and_a_link_is_not_followed(tmp_path):
    for line in ('a', 'b'):
        with open_to_append(tmp_path / 'file') as file:
            file.write(line)
    assert (tmp_path / 'file').read_text() == 'ab'
    (tmp_path / 'link').symlink_to(tmp_path / 'file')
    with pytest.raises(OSError, match='symbolic links'):
        open_to_append(tmp_path / 'link')

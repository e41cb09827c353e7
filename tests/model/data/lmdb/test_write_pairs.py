"""Pairs go into LMDBs whole, once, under keys BasicSR can use, whatever interrupts the writer."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from urllib.parse import unquote

import lmdb
import numpy as np
import pytest
from basicsr.data.data_util import paired_paths_from_lmdb
from basicsr.utils import FileClient, imfrombytes

from c2fdft_model.data.lmdb import write_pairs as pair_writer
from c2fdft_model.data.lmdb import writer as lmdb_writer
from c2fdft_model.data.lmdb.plan import StoreOptions, sub_images
from c2fdft_model.data.lmdb.verify import verify_pairs
from c2fdft_model.data.lmdb.write_pairs import write_pairs
from c2fdft_model.data.lmdb.writer import LmdbWriteError
from c2fdft_model.data.lmdb_contents import pair_lmdbs
from c2fdft_model.data.pair_sources import PairSource
from c2fdft_model.images.image_io import ImageReadError, decode_rgb, read_rgb
from helpers.lmdbs import NAMES, content, sources_of, targets
from helpers.paired_data import encode_png, pattern, write_rgb


@pytest.mark.parametrize('encoding', ['png', 'raw'])
def test_basicsr_reads_what_was_written(tmp_path, folders, encoding):
    sources = sources_of(folders)
    paths = targets(tmp_path)
    write_pairs(sources, *paths, StoreOptions(encoding=encoding))
    listed = paired_paths_from_lmdb([str(path) for path in paths], ['lq', 'gt'])
    client = FileClient('lmdb', db_paths=[str(path) for path in paths], client_keys=['lq', 'gt'])
    assert len(listed) == len(NAMES)
    for pair in listed:
        number = NAMES.index(unquote(pair['gt_path']))
        for side, truth in (('gt', pattern(number, 20 + number, 30)),):
            image = imfrombytes(client.get(pair[f'{side}_path'], side))
            assert np.array_equal(image[..., ::-1], truth)
        image = imfrombytes(client.get(pair['lq_path'], 'lq'))
        assert np.array_equal(255 - image[..., ::-1], pattern(number, 20 + number, 30))


def test_the_data_set_pairs_what_was_written(tmp_path, folders):
    paths = targets(tmp_path)
    write_pairs(sources_of(folders), *paths)
    assert sorted(unquote(pair.name) for pair in pair_lmdbs(*paths)) == sorted(NAMES)


def test_sixteen_bits_stay_sixteen_bits(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (16, 20, 3), dtype=np.uint16)
    for side in ('bad', 'clean'):
        (tmp_path / side).mkdir()
        (tmp_path / side / 'deep.png').write_bytes(encode_png(deep))
    for encoding in ('png', 'raw'):
        options = StoreOptions(encoding=encoding)
        paths = tmp_path / encoding / 'a.lmdb', tmp_path / encoding / 'b.lmdb'
        sources = sources_of((tmp_path / 'bad', tmp_path / 'clean'))
        write_pairs(sources, *paths, options)
        assert verify_pairs(sources, *paths, options) == []
        assert np.array_equal(decode_rgb(content(paths[1])['deep'], 'deep'), deep)


def test_sub_images_are_crops_of_their_image(tmp_path, folders):
    sources = sources_of(folders)
    paths = targets(tmp_path)
    options = StoreOptions(16, 8)
    write_pairs(sources, *paths, options)
    stored = content(paths[1])
    for source in sources:
        whole = read_rgb(source.gt)
        for image in sub_images(source, options):
            assert np.array_equal(decode_rgb(stored.pop(image.key), ''), image.crop(whole))
    assert stored == {}


def test_a_second_run_finds_everything_there(tmp_path, folders):
    paths = targets(tmp_path)
    write_pairs(sources_of(folders), *paths)
    before = [path.stat().st_mtime_ns for path in (paths[0] / 'data.mdb', paths[1] / 'data.mdb')]
    summary = write_pairs(sources_of(folders), *paths)
    assert (summary.entries, summary.already_there) == (6, 6)
    after = [path.stat().st_mtime_ns for path in (paths[0] / 'data.mdb', paths[1] / 'data.mdb')]
    assert before == after


def test_lmdbs_of_other_images_are_not_overwritten(tmp_path, folders):
    paths = targets(tmp_path)
    write_pairs(sources_of(folders), *paths)
    kept = content(paths[0])
    with pytest.raises(LmdbWriteError, match=r'input\.lmdb exists.*--overwrite'):
        write_pairs(sources_of(folders)[:3], *paths)
    assert content(paths[0]) == kept
    write_pairs(sources_of(folders)[:3], *paths, overwrite=True)
    assert len(content(paths[0])) == 3


def test_unreadable_image_is_named_and_the_rest_is_kept(tmp_path, folders, monkeypatch):
    monkeypatch.setattr(pair_writer, 'COMMIT_BYTES', 1)
    sources = sources_of(folders)
    broken = folders[1] / 'with space.png'
    whole = broken.read_bytes()
    stamp = os.stat(broken)
    broken.write_bytes(whole[:-60])
    paths = targets(tmp_path)
    with pytest.raises(ImageReadError, match=r'with space\.png: truncated'):
        write_pairs(sources, *paths, threads=1)
    assert not paths[0].exists()
    broken.write_bytes(whole)
    os.utime(broken, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    summary = write_pairs(sources_of(folders), *paths)
    assert 0 < summary.already_there < 6
    assert verify_pairs(sources, *paths) == []


def test_file_whose_header_lies_about_its_size_is_named(tmp_path, folders):
    source = sources_of(folders)[0]
    lying = PairSource(source.name, (99, 99), '', source.lq, source.gt, source.load)
    with pytest.raises(ImageReadError, match='is 30 x 21, its header says 99 x 99'):
        write_pairs([lying], *targets(tmp_path))


def test_partial_lmdb_of_other_images_is_started_over(tmp_path, folders, monkeypatch):
    sources = sources_of(folders)
    paths = targets(tmp_path)
    monkeypatch.setattr(lmdb_writer.LmdbWriter, 'publish', lambda *arguments: None)
    write_pairs(sources[:4], *paths)
    monkeypatch.undo()
    assert write_pairs(sources, *paths).already_there == 0
    assert verify_pairs(sources, *paths) == []


def test_images_larger_than_the_map_make_it_grow(tmp_path, folders, monkeypatch):
    monkeypatch.setattr(lmdb_writer, 'MAP_SIZE', 2**15)
    sources = sources_of(folders)
    write_pairs(sources, *targets(tmp_path), StoreOptions(encoding='raw'))
    assert verify_pairs(sources, *targets(tmp_path), StoreOptions(encoding='raw')) == []


WRITER = """
import sys
from c2fdft_model.data.lmdb import write_pairs as pair_writer
from c2fdft_model.data.lmdb.plan import StoreOptions
from c2fdft_model.data.pair_sources import file_sources
from c2fdft_model.data.pairing import pair_folders
pair_writer.COMMIT_BYTES = 1
bad, clean, lq, gt = sys.argv[1:]
sources = file_sources(bad, clean, pair_folders(bad, clean))
pair_writer.write_pairs(sources, lq, gt, StoreOptions(16, 8), threads=2)
"""


def start_writer(folders, paths, **options) -> subprocess.Popen:
    arguments = [str(path) for path in (*folders, *paths)]
    return subprocess.Popen(
        [sys.executable, '-c', WRITER, *arguments], stderr=subprocess.PIPE, text=True, **options
    )


def test_killed_writer_loses_nothing_and_doubles_nothing(tmp_path):
    for number in range(60):
        clean = pattern(number, 64, 96)
        write_rgb(tmp_path / 'clean' / f'{number}.png', clean)
        write_rgb(tmp_path / 'bad' / f'{number}.png', 255 - clean)
    folders, paths = (tmp_path / 'bad', tmp_path / 'clean'), targets(tmp_path)
    partial = paths[1].with_name('target.lmdb.partial') / 'data.mdb'
    kills, seen = 0, 0
    while kills < 4:
        writer = start_writer(folders, paths)
        while writer.poll() is None and not (partial.exists() and _entries(partial) > seen + 150):
            time.sleep(0.005)
        if writer.poll() is not None:
            break
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert not paths[1].exists()
        kills, seen = kills + 1, _entries(partial)
    assert kills > 0
    sources = sources_of(folders)
    summary = write_pairs(sources, *paths, StoreOptions(16, 8))
    assert summary.already_there >= min(seen, summary.entries) - 1
    assert summary.entries == 60 * 7 * 11
    assert verify_pairs(sources, *paths, StoreOptions(16, 8)) == []
    assert len(content(paths[0])) == len(content(paths[1])) == summary.entries


def _entries(data: Path) -> int:
    try:
        with lmdb.open(str(data.parent), readonly=True, lock=False) as environment:
            return environment.stat()['entries']
    except lmdb.Error:  # just being created
        return 0


def test_full_disk_is_explained_and_the_next_run_goes_on(tmp_path, folders):
    paths = targets(tmp_path)

    def limit_files_to_16_kib():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, 2**14))

    writer = start_writer(folders, paths, preexec_fn=limit_files_to_16_kib)
    error = writer.communicate()[1]
    assert writer.returncode != 0
    assert 'LmdbWriteError' in error
    assert 'input.lmdb.partial: cannot write' in error
    assert 'run the same command again' in error
    assert not paths[0].exists()
    assert not paths[1].exists()
    sources = sources_of(folders)
    write_pairs(sources, *paths, StoreOptions(16, 8))
    assert verify_pairs(sources, *paths, StoreOptions(16, 8)) == []


def test_crash_between_the_two_names_is_mended(tmp_path, folders, monkeypatch):
    paths = targets(tmp_path)
    publish = lmdb_writer.LmdbWriter.publish

    def publish_one(self):
        if self.path.name == 'target.lmdb':
            raise KeyboardInterrupt
        publish(self)

    monkeypatch.setattr(lmdb_writer.LmdbWriter, 'publish', publish_one)
    with pytest.raises(KeyboardInterrupt):
        write_pairs(sources_of(folders), *paths)
    monkeypatch.undo()
    assert paths[0].exists()
    assert not paths[1].exists()
    assert write_pairs(sources_of(folders), *paths).already_there == 6
    assert verify_pairs(sources_of(folders), *paths) == []


def test_two_writers_of_one_lmdb_are_refused(tmp_path, folders):
    paths = targets(tmp_path)
    with (
        contextlib.closing(lmdb_writer.LmdbWriter(paths[0], 'digest')),
        pytest.raises(LmdbWriteError, match=r'input\.lmdb is being written by another'),
    ):
        write_pairs(sources_of(folders), *paths)
    assert write_pairs(sources_of(folders), *paths).already_there == 0


def test_former_lmdbs_stay_until_both_new_ones_are_whole(tmp_path, folders):
    paths = targets(tmp_path)
    write_pairs(sources_of(folders)[:2], *paths)
    former = [content(path) for path in paths]
    sources = sources_of(folders)
    Path(sources[-1].lq).write_bytes(b'no image')
    with pytest.raises(ImageReadError):
        write_pairs(sources, *paths, overwrite=True)
    assert [content(path) for path in paths] == former
    paths[0].with_name('.input.lmdb.0000.former').mkdir()  # of a run that was killed
    write_pairs(sources[:3], *paths, overwrite=True)
    assert [len(content(path)) for path in paths] == [3, 3]
    assert not list(paths[0].parent.glob('.*.former'))


def test_a_disk_without_locks_is_written_to_with_a_warning(tmp_path, folders, monkeypatch, capsys):
    def refuse(self):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(lmdb_writer.filelock.FileLock, '_acquire', refuse)
    paths = targets(tmp_path)
    write_pairs(sources_of(folders), *paths)
    assert 'has no locks' in capsys.readouterr().err
    assert verify_pairs(sources_of(folders), *paths) == []


def test_a_full_disk_alone_is_answered_by_making_room(tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=0)  # as of /proc and other disks of the system's own
    monkeypatch.setattr(lmdb_writer.shutil, 'disk_usage', lambda _: usage)
    for number, is_full in ((errno.ENOSPC, True), (errno.EROFS, False), (errno.EACCES, False)):
        with (
            pytest.raises(LmdbWriteError) as caught,
            lmdb_writer._write_errors_explained(tmp_path / 'x.lmdb.partial'),
        ):
            raise OSError(number, os.strerror(number))
        assert os.strerror(number) in str(caught.value)
        assert ('make room' in str(caught.value)) == is_full


def test_a_partial_lmdb_that_is_a_link_is_not_written_through(tmp_path, folders):
    paths = targets(tmp_path)
    paths[0].parent.mkdir()
    (tmp_path / 'elsewhere').mkdir()
    paths[0].with_name('input.lmdb.partial').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(LmdbWriteError, match=r'input\.lmdb\.partial is a link'):
        write_pairs(sources_of(folders), *paths)
    assert list((tmp_path / 'elsewhere').iterdir()) == []


def test_name_without_lmdb_is_refused(tmp_path, folders):
    with pytest.raises(LmdbWriteError, match=r'must end in \.lmdb'):
        write_pairs(sources_of(folders), tmp_path / 'input', tmp_path / 'target.lmdb')

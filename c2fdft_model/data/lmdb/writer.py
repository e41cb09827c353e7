"""One LMDB that grows as `NAME.lmdb.partial` and gets its name when it is whole and on the disk.

An LMDB that was begun is continued if it is of the same images; one process writes it at a time.
BasicSR's `LmdbMaker` can do neither, and its keys may hold no dot; the format is the same.
"""

import errno
import glob
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock
import lmdb

from c2fdft_arch.common import atomic_write
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model.data.lmdb.plan import StoreOptions, SubImage

MAP_SIZE = 2**28
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_FORMER = '.former'
_FINGERPRINT, _META, _ORIGINS = 'fingerprint.txt', 'meta_info.txt', 'origins.tsv'


class LmdbWriteError(C2FDFTError, OSError):
    """An LMDB that cannot be written; the text says why and what to do."""


class LmdbWriter:
    """One LMDB on its way from `NAME.lmdb.partial` to `NAME.lmdb`.

    A finished one of other images is left alone until `publish`, and then only replaced with
    `overwrite`. Raises LmdbWriteError if there is one that may not be replaced, or if another
    process writes it.
    """

    def __init__(self, path: str | Path, digest: str, overwrite: bool = False) -> None:
        self.path = Path(path)
        if self.path.suffix != '.lmdb':
            raise LmdbWriteError(f'{path}: the name of an LMDB must end in .lmdb.')
        self.partial = self.path.with_name(self.path.name + '.partial')
        self._environment: lmdb.Environment | None = None
        self._lock = _lock(self.path)
        try:
            if self._is_finished(digest, overwrite):
                self._remove_former()
            else:
                self._environment = self._open_partial(digest)
        except BaseException:
            self._lock.release()
            raise

    def _is_finished(self, digest: str, overwrite: bool) -> bool:
        if not os.path.lexists(self.path):
            return False
        if _read(self.path / _FINGERPRINT) == digest and (self.path / _META).is_file():
            return True
        if not overwrite:
            raise LmdbWriteError(
                f'{self.path} exists, and is not of these images stored in this way. Remove it, '
                'name another output, or replace it with --overwrite.'
            )
        return False

    def _open_partial(self, digest: str) -> lmdb.Environment:
        if self.partial.is_symlink():
            raise LmdbWriteError(f'{self.partial} is a link, which is not written through.')
        if _read(self.partial / _FINGERPRINT) != digest:
            shutil.rmtree(self.partial, ignore_errors=True)
        with _write_errors_explained(self.partial):
            _write_lines(self.partial / _FINGERPRINT, [digest])
            # Nobody else writes or reads it, and some disks of networks have no locks.
            return lmdb.open(str(self.partial), map_size=MAP_SIZE, lock=False)

    def stored(self, keys: set[str]) -> set[str]:
        """Those of the keys that are stored already; all, if the LMDB is finished."""
        return keys if self._environment is None else keys & _keys(self._environment)

    def put(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Store entries for good, all or none; does nothing if the LMDB is finished."""
        while self._environment is not None:
            try:
                with (
                    _write_errors_explained(self.partial),
                    self._environment.begin(write=True) as transaction,
                ):
                    for key, data in entries:
                        transaction.put(key.encode(), data)
                return
            except lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()['map_size'])

    def finish(self, images: Sequence[SubImage], origins: list[str], options: StoreOptions) -> None:
        """Write the list of images; everything is then on the disk.

        Raises LmdbWriteError if it does not hold exactly these images.
        """
        if self._environment is None:
            return
        keys = _keys(self._environment)
        if keys != {image.key for image in images}:
            raise LmdbWriteError(
                f'{self.partial}: {len(keys)} entries are stored, {len(images)} were to be. '
                'Remove it and run the same command again.'
            )
        level = options.level if options.encoding == 'png' else 0
        lines = [f'{i.key}.{options.suffix} ({i.height},{i.width},3) {level}' for i in images]
        with _write_errors_explained(self.partial):
            _write_lines(self.partial / _ORIGINS, origins)
            _write_lines(self.partial / _META, lines)
            self._environment.sync(True)

    def publish(self) -> None:
        """Give the finished LMDB its name, in the place of a former one."""
        if self._environment is None:
            return
        self._environment.close()
        self._environment = None
        former = self.path.with_name(f'.{self.path.name}.{secrets.token_hex(4)}{_FORMER}')
        with _write_errors_explained(self.path):
            if os.path.lexists(self.path):
                os.rename(self.path, former)
            os.rename(self.partial, self.path)
            atomic_write.sync_folder(self.path.parent)
        self._remove_former()

    def _remove_former(self) -> None:
        """Remove LMDBs that this one has replaced, now or in a run that was killed then."""
        for former in self.path.parent.glob(f'.{glob.escape(self.path.name)}.*{_FORMER}'):
            if former.is_symlink():
                former.unlink()
            shutil.rmtree(former, ignore_errors=True)

    def close(self) -> None:
        """Close the LMDB; what was put stays."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None
        self._lock.release()


def _lock(path: Path) -> filelock.BaseFileLock:
    """Keep other processes from writing this LMDB; the system releases it with the process."""
    lock = filelock.FileLock(path.with_name(f'.{path.name}.lock'), timeout=0)
    with _write_errors_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise LmdbWriteError(
                f'{path} is being written by another process; wait for it, or name another output.'
            ) from None
        except (NotImplementedError, OSError) as error:
            if getattr(error, 'errno', errno.ENOSYS) not in _NO_LOCKS:
                raise
            print(
                f'warning: {path.parent}: this disk has no locks ({error}); run one command at a '
                'time that writes there.',
                file=sys.stderr,
            )
    return lock


def _keys(environment: lmdb.Environment) -> set[str]:
    with environment.begin() as transaction, transaction.cursor() as cursor:
        return {bytes(key).decode() for key in cursor.iternext(values=False)}


@contextmanager
def _write_errors_explained(path: Path) -> Iterator[None]:
    """Turn a failure to write into an error that says what is left and what to do."""
    try:
        yield
    except (lmdb.MapFullError, LmdbWriteError):
        raise
    except (lmdb.Error, OSError) as error:
        folder = next(place for place in path.absolute().parents if place.exists())
        free = shutil.disk_usage(folder).free / 2**30
        number = getattr(error, 'errno', None)  # LMDB's own errors have none
        is_full = free < 0.01 if number is None else number in FULL_DISK
        cure = f'make room ({free:.2f} GiB are free on this disk) and ' if is_full else ''
        raise LmdbWriteError(
            f'{path}: cannot write ({error}). What was written is kept: {cure}run the same command '
            'again to continue.'
        ) from error


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding='utf-8').strip()
    except OSError:
        return None


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    content = ''.join(line + '\n' for line in lines)
    atomic_write.write_bytes(path, content.encode(errors='surrogateescape'), durable=True)

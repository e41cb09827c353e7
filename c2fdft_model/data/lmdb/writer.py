"""One LMDB that grows as `NAME.lmdb.partial` and gets its name when it is whole and on the disk.

An LMDB that was begun is continued if it is of the same images. BasicSR's `LmdbMaker` can do
neither, and its keys may hold no dot; the format is the same.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb

from c2fdft_arch.common import atomic_write
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model.data.lmdb.plan import StoreOptions, SubImage

MAP_SIZE = 2**28
_FINGERPRINT, _META, _ORIGINS = 'fingerprint.txt', 'meta_info.txt', 'origins.tsv'


class LmdbWriteError(C2FDFTError, OSError):
    """An LMDB that cannot be written; the text says why and what to do."""


class LmdbWriter:
    """One LMDB on its way from `NAME.lmdb.partial` to `NAME.lmdb`.

    Raises LmdbWriteError if there is a finished one of other images.
    """

    def __init__(self, path: str | Path, digest: str, overwrite: bool = False) -> None:
        self.path = Path(path)
        if self.path.suffix != '.lmdb':
            raise LmdbWriteError(f'{path}: the name of an LMDB must end in .lmdb.')
        self.partial = self.path.with_name(self.path.name + '.partial')
        finished = self._is_finished(digest, overwrite)
        self._environment = None if finished else self._open_partial(digest)

    def _is_finished(self, digest: str, overwrite: bool) -> bool:
        if not self.path.exists():
            return False
        if _read(self.path / _FINGERPRINT) == digest and (self.path / _META).is_file():
            return True
        if not overwrite:
            raise LmdbWriteError(
                f'{self.path} exists, and is not of these images stored in this way. Remove it, '
                'name another output, or replace it with --overwrite.'
            )
        shutil.rmtree(self.path)
        return False

    def _open_partial(self, digest: str) -> lmdb.Environment:
        if _read(self.partial / _FINGERPRINT) != digest:
            shutil.rmtree(self.partial, ignore_errors=True)
        with _write_errors_explained(self.partial):
            _write_lines(self.partial / _FINGERPRINT, [digest])
            return lmdb.open(str(self.partial), map_size=MAP_SIZE)

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
        """Write the list of images, and give the LMDB its name.

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
            self.close()
            os.rename(self.partial, self.path)
            atomic_write.sync_folder(self.path.parent)

    def close(self) -> None:
        """Close the LMDB; what was put stays."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None


def _keys(environment: lmdb.Environment) -> set[str]:
    with environment.begin() as transaction, transaction.cursor() as cursor:
        return {bytes(key).decode() for key in cursor.iternext(values=False)}


@contextmanager
def _write_errors_explained(path: Path) -> Iterator[None]:
    """Turn a failure to write into an error that says what is left and what to do."""
    try:
        yield
    except lmdb.MapFullError:
        raise
    except (lmdb.Error, OSError) as error:
        folder = next(place for place in path.parents if place.exists())
        free = shutil.disk_usage(folder).free / 2**30
        reason = 'the disk is full' if free < 0.01 else str(error)
        raise LmdbWriteError(
            f'{path}: cannot write ({reason}); {free:.2f} GiB are free on this disk. What was '
            'written is kept: make room and run the same command again to continue.'
        ) from error


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding='utf-8').strip()
    except OSError:
        return None


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    content = ''.join(line + '\n' for line in lines)
    atomic_write.write_bytes(path, content.encode(), durable=True)

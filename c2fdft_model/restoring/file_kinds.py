"""What a file is that was taken for a checkpoint and is none: a web page, a pointer, an archive."""

import re
import zipfile
from pathlib import Path

LOOKED_AT = 4096
"""Bytes at the start of a file that tell what it is."""

GIT_LFS = b'version https://git-lfs'
ARCHIVES = {
    b'\x1f\x8b': 'gzip', b'BZh': 'bzip2', b'\xfd7zXZ': 'xz', b'7z\xbc\xaf': '7z', b'Rar!': 'RAR',
    b'\x28\xb5\x2f\xfd': 'zstd',
}  # fmt: skip
IMAGES = {b'\x89PNG': 'PNG', b'\xff\xd8\xff': 'JPEG', b'GIF8': 'GIF', b'BM': 'BMP'}
CHECKPOINT_ENDINGS = ('.pth', '.pt', '.ckpt', '.bin')
PICKLE = b'\x80'


def kind_of(path: Path) -> str:
    """What is known of a file that PyTorch cannot read, and what to do; empty if nothing is.

    The text continues the file's name: `is a saved web page …`. Raises OSError.
    """
    size = path.stat().st_size
    with open(path, 'rb') as file:
        start = file.read(LOOKED_AT)
    if not start:
        return 'is empty: the download or the copy failed; get it again'
    if start.startswith(GIT_LFS):
        return (
            'is a Git-LFS pointer, which stands for the file: run `git lfs pull` in its '
            'repository, or download the file itself'
        )
    if not start.strip(b'\0'):
        return f'begins with {len(start):,} zero bytes: it was never written; get it again'
    if start.startswith(b'PK'):
        return _zip(path, size)
    return _text(start, size) or _archive(start) or _other(start)


def _text(start: bytes, size: int) -> str:
    try:
        # A character may be cut at the end.
        text = start.decode('utf-8-sig', 'strict' if size == len(start) else 'ignore').strip()
    except UnicodeDecodeError:
        return ''
    if re.search(r'<(!doctype html|html|head|body)\b', text, re.IGNORECASE):
        title = re.search(r'<title[^>]*>\s*(.*?)\s*</title>', text, re.IGNORECASE | re.DOTALL)
        named = f' ("{" ".join(title[1].split())[:80]}")' if title and title[1] else ''
        return (
            f'is a saved web page{named}, not the file that the page offers: download that one '
            'and check its size'
        )
    if text.startswith(('<?xml', '{', '[')):
        return f"is a server's answer ({' '.join(text.split())[:80]}): the download failed"
    if text.isprintable() or all(c.isprintable() or c.isspace() for c in text):
        return f'is a text file ("{" ".join(text.split())[:40]}")'
    return ''


def _archive(start: bytes) -> str:
    kinds = [name for magic, name in ARCHIVES.items() if start.startswith(magic)]
    if start[257:262] == b'ustar':
        kinds.append('tar')
    return f'is packed ({kinds[0]}): unpack it and give the .pth file in it' if kinds else ''


def _zip(path: Path, size: int) -> str:
    """PyTorch's own files are zip archives too; empty for one of them."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return f'is cut short at {size:,} bytes: get it again'
    if inside := [name for name in names if name.endswith(CHECKPOINT_ENDINGS)]:
        return f'is a zip archive: unpack it and give what is in it ({inside[0]})'
    if any('/code/' in name for name in names):
        return 'is a TorchScript program, not weights: give the checkpoint that it was made from'
    return '' if any(name.endswith('data.pkl') for name in names) else 'is a zip archive'


def _other(start: bytes) -> str:
    if start[8:10] == b'{"':  # a whole one has been read
        return 'is a safetensors file that is cut short: get it again'
    for magic, name in IMAGES.items():
        if start.startswith(magic):
            return f'is an image ({name})'
    if start.startswith(b'%PDF'):
        return 'is a PDF document'
    return '' if start.startswith(PICKLE) else 'has no format that PyTorch writes'

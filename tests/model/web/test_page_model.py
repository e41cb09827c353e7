"""What becomes of one uploaded file, without a browser."""

from __future__ import annotations

import socket
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from c2fdft_arch.dft import DFT
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.images.image_files import read_image
from c2fdft_model.web import server
from c2fdft_model.web.examples import PHOTOGRAPHS, write_examples
from c2fdft_model.web.page_model import PageError, PageModel, restore_upload
from c2fdft_model.web.server import ServerError, check_port


@pytest.fixture(scope='module')
def model() -> PageModel:
    network = DFT(dim=8, num_blocks=[1, 1, 1, 1], heads=[1, 2, 2, 4])
    return PageModel('tiny', network.eval(), DiffusionOptions())


def restore(model: PageModel, upload: Path, folder: Path, **limits):
    steps: list[int] = []
    limits.setdefault('megapixels', 1)
    restorer = model.restorer(2, 0)
    done = restore_upload(upload, folder, restorer, lambda: steps.append(1), **limits)
    return done, len(steps)


def write_photograph(path: Path, height: int = 30, width: int = 44) -> Path:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def test_the_result_is_named_after_the_upload_and_has_its_size(model, tmp_path):
    upload = write_photograph(tmp_path / 'holiday.png')
    done, steps = restore(model, upload, tmp_path)
    assert done.file == tmp_path / 'holiday_restored.png'
    assert read_image(done.file).colour.shape == done.before.shape == done.after.shape
    assert steps == 2


def test_what_the_page_shows_is_small(model, tmp_path):
    upload = write_photograph(tmp_path / 'wide.png', 8, 2000)
    done, _ = restore(model, upload, tmp_path)
    assert done.before.shape == done.after.shape == (6, 1600, 3)
    assert read_image(done.file).colour.shape == (8, 2000, 3)


def test_a_model_is_sampled_as_it_was_trained_where_nobody_asks_for_another_number():
    network = DFT(dim=8, num_blocks=[1, 1, 1, 1], heads=[1, 2, 2, 4])
    model = PageModel('tiny', network, DiffusionOptions(sampling_timesteps=(999, 500, 20)))
    assert model.calls == 3
    assert model.restorer(3, 0).process.timesteps == [999, 500, 20]
    assert len(model.restorer(5, 0).process.timesteps) == 5


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds hardly anything."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack('>I', zlib.crc32(kind + data))
        return struct.pack('>I', len(data)) + kind + data + checksum

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    data = chunk(b'IDAT', zlib.compress(b''))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + data + chunk(b'IEND', b'')


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('letter.jpg', b'%PDF-1.7\n1 0 obj', 'letter.jpg: not an image'),
        ('letter.pdf', b'%PDF-1.7\n1 0 obj', 'letter.pdf: the name ends like no image'),
        ('photo.png', b'', 'photo.png: the file is empty'),
        (
            'photo.png',
            png_of_size(1001, 1000),
            'photo.png has 1001 x 1000 pixels: the page',
        ),
        ('photo.png', png_of_size(40000, 40000), 'photo.png has 40000 x 40000 pixels: the page'),
        ('photo.png', png_of_size(10, 10), 'photo.png: truncated or damaged image'),
    ],
    ids=['PDF as JPEG', 'PDF', 'empty', 'too large', 'far too large', 'cut short'],
)
def test_what_cannot_be_restored_is_named_without_its_folder(
    model, tmp_path, name, content, message
):
    upload = tmp_path / name
    upload.write_bytes(content)
    with pytest.raises(PageError) as raised:
        restore(model, upload, tmp_path)
    assert message in str(raised.value)
    assert str(tmp_path) not in str(raised.value)
    assert '\n' not in str(raised.value)


def test_too_little_memory_is_said(model, tmp_path, monkeypatch):
    from c2fdft_model.restoring import restorer

    monkeypatch.setattr(restorer, 'available_memory_mb', lambda device: 0.0)
    upload = write_photograph(tmp_path / 'a.png')
    with pytest.raises(PageError, match='a.png: .* are needed and 0.0 GB are free'):
        restore(model, upload, tmp_path)


def test_examples_are_degraded_photographs(tmp_path):
    written = write_examples(tmp_path)
    assert [path.name for path in written] == list(PHOTOGRAPHS)
    assert all(cv2.imread(str(path)).shape == (256, 256, 3) for path in written)


def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f'--port {port} cannot be listened on'):
            check_port('127.0.0.1', port)
    with pytest.raises(ServerError, match='from 1 to 65535'):
        check_port('127.0.0.1', 70000)
    with pytest.raises(ServerError, match='--host 192.0.2.1'):
        check_port('192.0.2.1', port)


def test_the_policy_lets_nothing_in_from_elsewhere():
    assert 'http' not in server.POLICY
    assert '*' not in server.POLICY

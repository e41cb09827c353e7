"""The page in headless Chromium: upload, wait, download, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from c2fdft_arch.dft import DFT
from c2fdft_model.__main__ import main

webdriver = pytest.importorskip('selenium.webdriver')
CHROMIUM, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason='no chromium: apt-get install chromium chromium-driver'
    ),
]
FLAGS = (
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-component-update',
    '--disable-background-networking',
    '--disable-sync',
    '--window-size=1280,900',
)
PATIENCE = 120
START = 300
"""Seconds for the server, which may have to compile the kernels."""
MEGABYTES = 1


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Weights and uploads."""
    folder = tmp_path_factory.mktemp('page')
    torch.manual_seed(0)
    network = DFT(dim=8, num_blocks=[1, 1, 1, 1], heads=[1, 2, 2, 4])
    torch.save({'params': network.state_dict()}, folder / 'tiny.pth')
    pixels = np.random.default_rng(0).integers(0, 256, (70, 97, 3), np.uint8)
    exif = Image.Exif()
    exif[0x010F] = 'A camera'
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / 'holiday photo.jpg', exif=exif, quality=90)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(folder / 'deep.png')
    (folder / 'letter.jpg').write_bytes(b'%PDF-1.7\n1 0 obj')
    (folder / 'huge.png').write_bytes(bytes(MEGABYTES * 2**20 + 1))
    return folder


@pytest.fixture(scope='module')
def server(folder) -> Iterator[tuple[subprocess.Popen, str]]:
    """The command, running, and its address."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    options = ['--weights', 'tiny.pth', '--port', str(port), '--megabytes', str(MEGABYTES)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'TMPDIR': str(folder)}
    command = [sys.executable, '-m', 'c2fdft_model', 'page', '--device', 'cpu', *options]
    with (
        open(folder / 'page.log', 'w+', encoding='utf-8') as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,
    ):
        address = f'http://127.0.0.1:{port}/'
        log_file = folder / 'page.log'
        told = wait(lambda: address in log_file.read_text() or process.poll(), START)
        assert told is True, log_file.read_text()
        yield process, address
        process.kill()


@pytest.fixture(scope='module')
def browser(server, folder, tmp_path_factory) -> Iterator:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f'--user-data-dir={tmp_path_factory.mktemp("profile")}']:
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL'})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.get(server[1])
    try:
        yield Page(driver)
    finally:
        driver.quit()


def wait(condition: Callable, seconds: float = PATIENCE):
    """What the condition gives as soon as it is true; None if it does not become so in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    return None


class Page:
    """What a person does with the page."""

    def __init__(self, driver) -> None:
        self.driver = driver
        assert wait(lambda: self.find('#upload input[type=file]'))

    def find(self, selector: str) -> list:
        return self.driver.find_elements('css selector', selector)

    def reload(self) -> Page:
        self.driver.refresh()
        return Page(self.driver)

    def upload(self, path: Path) -> None:
        self.find('#upload input[type=file]')[0].send_keys(str(path))

    def set_number(self, selector: str, value: int) -> None:
        field = self.find(f'{selector} input[type=number]')[0]
        field.send_keys('\ue009a\ue000', str(value), '\ue004')  # Ctrl-A, the number, Tab

    def press(self) -> None:
        self.find('#restore')[0].click()

    def uploaded(self) -> bool:
        return bool(wait(lambda: self.find('#upload a')))

    def result(self) -> bytes:
        """The downloaded file, after waiting for it."""
        links = wait(lambda: self.find('#result a'))
        assert links, self.driver.find_element('css selector', 'body').text
        with urllib.request.urlopen(links[0].get_attribute('href')) as answer:
            return answer.read()

    def message(self) -> str:
        shown = wait(lambda: [found.text for found in self.find('.toast-body') if found.text])
        return ' '.join(shown or [])


def restored_by_command(folder: Path, name: str, *options: str) -> bytes:
    target = folder / f'by_command{Path(name).suffix}'
    files = [str(folder / name), str(target), '--weights', str(folder / 'tiny.pth')]
    assert main(['restore', *files, '--overwrite', '--device', 'cpu', *options]) == 0
    return target.read_bytes()


def test_the_page_offers_examples_and_loads_nothing_from_elsewhere(browser, server, project_root):
    assert wait(lambda: 'noisy_coffee.png' in browser.driver.page_source)
    entries = browser.driver.get_log('performance')
    messages = [json.loads(entry['message'])['message'] for entry in entries]
    asked = [m for m in messages if m['method'] == 'Network.requestWillBeSent']
    urls = {message['params']['request']['url'] for message in asked}
    web = {url for url in urls if url.startswith(('http', 'ws'))}
    assert len(web) > 10
    assert {url for url in web if not url.startswith(server[1])} == set()
    with urllib.request.urlopen(server[1]) as answer:
        assert "default-src 'self'" in answer.headers['content-security-policy']


def test_a_photograph_is_restored_as_the_command_does_it(browser, folder, project_root):
    page = browser.reload()
    page.upload(folder / 'holiday photo.jpg')
    assert page.uploaded()
    page.press()
    assert page.result() == restored_by_command(folder, 'holiday photo.jpg')
    assert wait(lambda: '4 calls of tiny' in page.driver.page_source)
    assert page.find('#slider img')
    screenshot = project_root / 'results' / 'tests' / 'page.png'
    screenshot.parent.mkdir(parents=True, exist_ok=True)
    assert page.driver.save_screenshot(str(screenshot))


def test_calls_and_seed_are_those_of_the_page_and_every_call_is_told(browser, folder):
    page = browser.reload()
    page.upload(folder / 'deep.png')
    assert page.uploaded()
    page.set_number('#calls', 40)
    page.set_number('#seed', 7)
    page.press()
    assert wait(lambda: 'network call' in page.driver.page_source)
    assert page.result() == restored_by_command(folder, 'deep.png', '--steps', '40', '--seed', '7')


def test_an_example_is_restored(browser):
    page = browser.reload()
    chosen = wait(lambda: page.driver.find_elements('xpath', '//*[text()="rainy_cat.png"]'))
    chosen[0].click()
    assert page.uploaded()
    page.set_number('#calls', 1)
    page.press()
    assert page.result().startswith(b'\x89PNG')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('letter.jpg', 'letter.jpg: not an image file'),
        (None, 'Drop a photograph first.'),
    ],
)
def test_what_is_no_photograph_is_said_on_the_page(browser, folder, name, message):
    page = browser.reload()
    if name:
        page.upload(folder / name)
        assert page.uploaded()
    page.press()
    assert message in page.message()


def test_an_upload_that_is_too_large_is_refused_on_the_page(browser, folder):
    page = browser.reload()
    page.upload(folder / 'huge.png')
    assert 'exceed the maximum allowed size' in page.message()


def test_the_port_of_a_running_page_is_in_use(server, folder, capsys):
    port = server[1].rstrip('/').rpartition(':')[2]
    assert main(['page', '--weights', str(folder / 'tiny.pth'), '--port', port]) == 2
    assert f'--port {port} cannot be listened on' in capsys.readouterr().err


def test_ctrl_c_closes_the_page_and_leaves_nothing(server, folder, browser):
    server[0].send_signal(signal.SIGINT)
    assert server[0].wait(PATIENCE) == 0
    assert list(folder.glob('c2fdft-page-*')) == []

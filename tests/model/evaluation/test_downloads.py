"""Servers that do not answer are given up after a few seconds in all."""

from __future__ import annotations

import http.server
import socket
import threading
import time

import pytest

from c2fdft_model.evaluation import downloads
from helpers.silent_server import silent_server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')


@pytest.fixture
def http_server():
    """The address of a server that knows no file, and what it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', asked
    server.shutdown()
    server.server_close()


def test_a_server_that_accepts_and_never_answers_is_given_up():
    started = time.monotonic()
    with silent_server() as url, pytest.raises(OSError, match='answer within|timed out'):
        downloads.await_answer(f'{url}/weights.pth', 0.3)
    assert 0.2 < time.monotonic() - started < 2


def test_a_name_that_nobody_looks_up_is_given_up(monkeypatch):
    over = threading.Event()

    def wait(*_, **__):
        over.wait(20)
        raise OSError('no such name')

    monkeypatch.setattr(socket, 'getaddrinfo', wait)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r'weights\.test does not answer within 0\.2 s'):
        downloads.await_answer('http://weights.test/weights.pth', 0.2)
    assert time.monotonic() - started < 2
    over.set()


def test_any_answer_is_one(http_server):
    url, asked = http_server
    downloads.await_answer(f'{url}/weights.pth', 5)
    assert asked == ['/weights.pth']


def test_a_server_that_refuses_is_an_error_at_once():
    with socket.create_server(('127.0.0.1', 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(OSError, match='refused'):
        downloads.await_answer(f'http://127.0.0.1:{port}/weights.pth', 5)


def test_the_time_limit_of_silence_ends_with_the_download():
    before = socket.getdefaulttimeout()
    with pytest.raises(ValueError), downloads.limited_silence():
        assert socket.getdefaulttimeout() == downloads.SILENCE_TIMEOUT
        raise ValueError
    assert socket.getdefaulttimeout() == before

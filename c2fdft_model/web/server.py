"""Serving the page on this machine, with nothing that comes from elsewhere. Needs gradio."""

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model.web.examples import write_examples
from c2fdft_model.web.page_model import PageModel

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "media-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'none'"
)
"""What a browser may load for the page: only what this server gives."""


class ServerError(C2FDFTError, OSError):
    """The page cannot be served; the message says why and what to do."""


class ContentSecurityPolicy:
    """ASGI middleware that adds `POLICY` to every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and its answer back with one header more."""

        async def send_with_policy(message: Any) -> None:
            if message['type'] == 'http.response.start':
                header = (b'content-security-policy', POLICY.encode())
                message = {**message, 'headers': [*message.get('headers', []), header]}
            await send(message)

        await self.app(scope, receive, send_with_policy if scope['type'] == 'http' else send)


def serve(
    models: Sequence[PageModel],
    host: str,
    port: int,
    megabytes: int,
    megapixels: int,
    ready: Callable[[str], object],
    stop: threading.Event | None = None,
) -> None:
    """Serve the page until Ctrl-C, or until `stop` is set; `ready` is called with its address.

    Uploads and results lie in a temporary folder that is removed at the end. Raises ServerError for
    a host or port that cannot be had.
    """
    check_port(host, port)
    with _temporary_folder() as folder:
        from starlette.middleware import Middleware

        from c2fdft_model.web.page import Limits, build_page, theme

        page = build_page(models, folder, write_examples(folder), Limits(megabytes, megapixels))
        page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            inbrowser=False,
            ssr_mode=False,
            pwa=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=megabytes * 2**20,
            allowed_paths=[str(folder)],
            theme=theme(),
            app_kwargs={'middleware': [Middleware(ContentSecurityPolicy)]},
        )
        try:
            ready(f'http://{"127.0.0.1" if host == "0.0.0.0" else host}:{port}/')
            (stop or threading.Event()).wait()
        finally:
            page.close(verbose=False)


def check_port(host: str, port: int) -> None:
    """Raise ServerError unless this port of this machine can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError as error:
            raise ServerError(f'--port {port}: give a number from 1 to 65535.') from error
        except OSError as error:
            raise ServerError(
                f'--host {host} --port {port} cannot be listened on ({error.strerror}): give '
                'another --port.'
            ) from error


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for uploads and results, which gradio learns of before it is imported."""
    with tempfile.TemporaryDirectory(prefix='c2fdft-page-') as name:
        os.environ['GRADIO_TEMP_DIR'] = str(Path(name) / 'uploads')
        os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
        os.environ['HF_HUB_DISABLE_TELEMETRY'] = '1'
        yield Path(name)

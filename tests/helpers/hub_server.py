"""A hub of models on the loopback address: as much of one as huggingface_hub asks for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = '0123456789abcdef0123456789abcdef01234567'


class HubHandler(BaseHTTPRequestHandler):
    """Answers HEAD and GET of `/USER/NAME/resolve/REVISION/FILE` from a folder of repositories."""

    root: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f'{self.command} {path}')
        parts = path.strip('/').split('/')
        if len(parts) != 5 or parts[2] != 'resolve':
            return self._refuse('EntryNotFound')
        user, name, _, revision, file = parts
        repository = self.root / user / name
        if not repository.is_dir():
            return self._refuse('RepoNotFound')
        if revision not in ('main', COMMIT):
            return self._refuse('RevisionNotFound')
        if not (repository / file).is_file():
            return self._refuse('EntryNotFound')
        content = (repository / file).read_bytes()
        self.send_response(200)
        self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header('X-Repo-Commit', COMMIT)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _refuse(self, code: str) -> None:
        body = json.dumps({'error': code}).encode()
        self.send_response(401 if code == 'RepoNotFound' else 404)
        self.send_header('X-Error-Code', code)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing on the terminal."""


@contextlib.contextmanager
def hub_of(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the folders USER/NAME below `root`: the hub's address, and what it is asked for."""
    asked: list[str] = []
    handler = type('Handler', (HubHandler,), {'root': root, 'asked': asked})
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{server.server_port}', asked
    finally:
        server.shutdown()
        server.server_close()

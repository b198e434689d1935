"""A static web server for one machine: a bundle, a page, and the headers that threads need.

`SharedArrayBuffer`, and with it WebAssembly threads, exists only on a page that is isolated from
other origins (Cross-Origin-Opener-Policy, Cross-Origin-Embedder-Policy), which a file:// URL or a
plain server cannot give.  The standard library's server is enough: it serves one person, and one
dependency less is one reason less for an installation to fail.  It is not for the open internet.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, MutableMapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from hearth.errors import StorageError

ISOLATION: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HEADERS: Final = ISOLATION | {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

MIME_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".wgsl": "text/plain; charset=utf-8",
}
_BINARY: Final = "application/octet-stream"


class Server:
    """Serves `routes` from the moment it is made until `close`; a context manager.

    A route maps a URL path to a file, to bytes, or, when it ends in `/`, to a folder.  The longest
    route wins.  `blobs`, if given, is a mailbox at `/blob/NAME` that a page may read (GET) and
    write (POST); without it every POST is refused.
    """

    def __init__(
        self,
        routes: Mapping[str, Path | bytes],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        blobs: MutableMapping[str, bytes] | None = None,
    ) -> None:
        handler = type("Handler", (_Handler,), {"routes": dict(routes), "blobs": blobs})
        try:
            self._http = (_HTTPv6 if ":" in host else ThreadingHTTPServer)((host, port), handler)
        except OSError as error:
            raise StorageError(
                f"cannot listen on {host}:{port}",
                why=error.strerror or str(error),
                remedy="choose another --port; 0 takes any free one",
            ) from error
        self._http.daemon_threads = True
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._http.server_port}/"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Blocks until the server is closed or the program is interrupted."""
        while self._thread.is_alive():
            self._thread.join(timeout=1)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _HTTPv6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open: one batch is one request
    # Head and body in one packet: in two, each answer waits 40 ms for a delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    routes: dict[str, Path | bytes]
    blobs: MutableMapping[str, bytes] | None

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.blobs is not None and path.startswith("/blob/"):
            blob = self.blobs.get(path.removeprefix("/blob/"))
            return self._missing() if blob is None else self._send(blob, _BINARY)
        found = find(self.routes, path)
        if found is None:
            return self._missing()
        if isinstance(found, bytes):
            return self._send(found, mime_type(path))
        try:
            return self._send(found.read_bytes(), mime_type(found.name))
        except OSError:
            return self._missing()

    do_HEAD = do_GET  # noqa: N815  the base class finds it by this name

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.blobs is None or not path.startswith("/blob/"):
            # The body is not read, so the connection cannot be used again.
            self.close_connection = True
            return self._reply(HTTPStatus.METHOD_NOT_ALLOWED, b"nothing can be posted here\n")
        length = int(self.headers.get("Content-Length", "0"))
        self.blobs[path.removeprefix("/blob/")] = self.rfile.read(length)
        return self._reply(HTTPStatus.NO_CONTENT, b"")

    def _missing(self) -> None:
        self._reply(HTTPStatus.NOT_FOUND, f"there is no {self.path}\n".encode())

    def _send(self, body: bytes, mime: str) -> None:
        self._reply(HTTPStatus.OK, body, mime)

    def _reply(self, status: HTTPStatus, body: bytes, mime: str = MIME_TYPES[".txt"]) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", mime)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Nothing: the terminal belongs to the progress bar."""


def find(routes: Mapping[str, Path | bytes], path: str) -> Path | bytes | None:
    """What `path` stands for: the longest matching route, never a file outside of its folder."""
    candidates = [r for r in routes if path == r or (r.endswith("/") and path.startswith(r))]
    for route in sorted(candidates, key=len, reverse=True):
        target = routes[route]
        if isinstance(target, bytes) or not route.endswith("/"):
            return target
        if "\0" in path:
            return None
        rest = PurePosixPath(path.removeprefix(route))
        file = (target / rest).resolve()
        if not file.is_relative_to(target.resolve()):
            return None
        file = file / "index.html" if file.is_dir() else file
        if file.is_file():
            return file
    return None


def mime_type(name: str) -> str:
    """The media type of a file name; browsers compile WebAssembly only under its own."""
    return MIME_TYPES.get(PurePosixPath(name).suffix.lower(), _BINARY)

"""A web server over a dictionary, with or without the headers of cross-origin isolation.

Unlike `hearth.serve` it can serve what no honest server would: wrong bytes, half a file, a page
in place of a missing one, a status of its own.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hearth.serve import ISOLATION, mime_type


@dataclass(frozen=True, slots=True)
class Reply:
    """`missing_bytes` are announced but never sent: a download that breaks off."""

    body: bytes
    status: int = 200
    mime: str | None = None
    missing_bytes: int = 0


class Site:
    """Serves `pages` (path → reply) until `close`; the dictionary may change meanwhile."""

    def __init__(self, pages: dict[str, Reply], *, isolated: bool) -> None:
        self.pages = pages
        handler = type("Handler", (_Handler,), {"pages": pages, "isolated": isolated})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def add_folder(self, prefix: str, folder: Path) -> None:
        """Adds the files of a folder under `prefix`, which ends in a slash."""
        for file in folder.iterdir():
            self.pages[prefix + file.name] = Reply(file.read_bytes())

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    pages: dict[str, Reply]
    isolated: bool

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        reply = self.pages.get(path, Reply(b"there is no such page", 404, "text/plain"))
        self.send_response(reply.status)
        for name, value in ISOLATION.items() if self.isolated else ():
            self.send_header(name, value)
        # A page on another port may use these files, as on a content delivery network.
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Type", reply.mime or mime_type(path))
        self.send_header("Content-Length", str(len(reply.body) + reply.missing_bytes))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Nothing."""

"""The local server: headers for threads, media types, and no way out of the folder."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hearth.errors import StorageError
from hearth.serve import Server, find


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>hello</h1>")
    (folder / "program.wasm").write_bytes(b"\0asm")
    (folder / "hearth.js").write_text("export {};")
    (folder / "sub" / "a b.txt").write_text("ä")
    return folder


@pytest.fixture
def server(site: Path) -> Iterator[Server]:
    with Server({"/": site, "/extra.json": b"{}"}) as running:
        yield running


def request(
    server: Server, path: str, method: str = "GET", body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    connection.request(method, path, body)
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


def test_every_answer_isolates_the_page(server: Server) -> None:
    for path in ("/", "/program.wasm", "/missing"):
        _, headers, _ = request(server, path)
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "mime"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/program.wasm", "application/wasm"),
        ("/hearth.js", "text/javascript; charset=utf-8"),
        ("/extra.json", "application/json"),
        ("/sub/a%20b.txt?x=1", "text/plain; charset=utf-8"),
    ],
)
def test_files_have_the_type_that_browsers_insist_on(server: Server, path: str, mime: str) -> None:
    status, headers, body = request(server, path)
    assert (status, headers["Content-Type"]) == (200, mime)
    assert len(body) == int(headers["Content-Length"])


@pytest.mark.parametrize(
    "path",
    ["/missing", "/sub", "/../secret.txt", "/%2e%2e/secret.txt", "/sub/../../secret.txt",
     "//etc/passwd", "/sub/%00", "/blob/a"],
)  # fmt: skip
def test_nothing_outside_of_the_folder_is_served(server: Server, path: str) -> None:
    assert request(server, path)[0] == 404


def test_a_link_out_of_the_folder_is_not_followed(server: Server, site: Path) -> None:
    (site / "link").symlink_to(site.parent / "secret.txt")
    assert request(server, "/link")[0] == 404


def test_nothing_can_be_posted_to_a_plain_server(server: Server) -> None:
    assert request(server, "/hearth.js", "POST", b"x" * 100_000)[0] == 405


def test_a_mailbox_takes_and_gives_bytes(site: Path) -> None:
    box: dict[str, bytes] = {"in": b"\1\2"}
    with Server({"/": site}, blobs=box) as server:
        assert request(server, "/blob/in")[2] == b"\1\2"
        assert request(server, "/blob/out", "POST", b"\3" * 100_000)[0] == 204
        assert request(server, "/blob/none")[0] == 404
    assert box["out"] == b"\3" * 100_000


def test_head_has_no_body(server: Server) -> None:
    status, headers, body = request(server, "/program.wasm", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "4", b"")


def test_a_port_in_use_is_a_clear_error(server: Server) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    with pytest.raises(StorageError, match="choose another --port"):
        Server({}, port=port)


def test_an_address_of_ipv6_is_served(site: Path) -> None:
    with Server({"/": site}, host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert request(server, "/")[0] == 200


def test_the_longest_route_wins(tmp_path: Path) -> None:
    routes: dict[str, Path | bytes] = {"/": b"page", "/bundle/": tmp_path, "/bundle/x": b"x"}
    (tmp_path / "y").write_text("")
    assert find(routes, "/bundle/x") == b"x"
    assert find(routes, "/bundle/y") == tmp_path / "y"

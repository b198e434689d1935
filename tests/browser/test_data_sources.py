"""A person's data in a real Chromium: folders of pictures, archives, a camera."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import CDPSession, Page

from tests.browser.pages import READ, attempt, failure

pytestmark = pytest.mark.chromium

PICTURES, SIDE = 10_000, 48
HEAP_BYTES = 4_000_000  # 8,000 pictures of 48 x 48 x 3 bytes would be 55 MB
# A folder of the origin's private files: the same handles as a folder that a person chooses.
FOLDER = """
const root = await navigator.storage.getDirectory();
const folder = async (...names) => {
  let at = root;
  for (const name of names) at = await at.getDirectoryHandle(name, { create: true });
  return at;
};
const put = async (at, name, content) => {
  const writable = await (await at.getFileHandle(name, { create: true })).createWritable();
  await writable.write(content);
  await writable.close();
};
const picture = async (fill, width = 48, height = 48) => {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = fill;
  context.fillRect(0, 0, width, height);
  return canvas.convertToBlob();
};
"""


@pytest.fixture
def page(data_page: Page) -> Page:
    return data_page


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """A picture [height, width, 3] of bytes as a PNG file, every row without a filter."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1)), pixels.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.astype(np.uint8).tobytes())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def held_bytes(session: CDPSession) -> float:
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    usage: dict[str, Any] = session.send("Runtime.getHeapUsage")
    return float(usage["usedSize"] + usage.get("backingStorageSize", 0))


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """Ten thousand pictures in folders of their classes: red, green and blue ones."""
    for k, name in enumerate(("ash", "birch", "cedar")):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[:, :, k] = 255
        (tmp_path / name).mkdir()
        first = tmp_path / name / f"{k}.png"
        first.write_bytes(png(pixels))
        for i in range(k + 3, PICTURES, 3):
            (tmp_path / name / f"{i}.png").hardlink_to(first)  # faster than to write them
    return tmp_path


@pytest.mark.slow
def test_ten_thousand_pictures_of_a_folder_train_in_bounded_memory(page: Page, trees: Path) -> None:
    page.evaluate("document.body.innerHTML = '<input type=file webkitdirectory>'")
    page.set_input_files("input", trees)
    opened = """
        const images = await data.imageFolder(document.querySelector("input").files,
          { size: given.side, cacheBytes: 1_000_000 });
        // The model takes four numbers: one of each channel, and 1.
        const [plane, size] = [given.side ** 2, 3 * given.side ** 2];
        const small = {
          length: images.length,
          async batch(indices, signal) {
            const { x, y } = await images.batch(indices, signal);
            return { x: Float32Array.from({ length: 4 * indices.length }, (_, i) =>
              i % 4 === 3 ? 1 : x[Math.floor(i / 4) * size + i % 4 * plane]), y };
          },
        };
        const loader = new hearth.DataLoader(small, { batchSize: 50, shuffle: true, seed: 3 });
        globalThis.trainer = await Trainer.load("/bundle/", { backend: "wasm", threads: 1 });
        const events = trainer.fit(loader, { schedule: () => 0.3 })[Symbol.asyncIterator]();
        globalThis.trainUntil = async (step) => {
          let last;
          while (trainer.step < step) {
            const { value, done } = await events.next();
            if (done) break;
            if (value.kind === "steps") last = value.steps.at(-1);
          }
          return last;
        };
        return [[...images.labels], images.files.length, loader.length];"""
    labels, files, steps = attempt(page, READ + opened, {"side": SIDE})
    assert (files, steps) == (PICTURES, 200)
    assert [labels.count(k) for k in range(3)] == [3334, 3333, 3333]
    session = page.context.new_cdp_session(page)
    attempt(page, "return trainUntil(40)")  # code is optimized, the cache is full
    before = held_bytes(session)
    last = attempt(page, "return trainUntil(200)")
    assert last["step"] == steps
    assert held_bytes(session) - before < HEAP_BYTES
    assert last["loss"] < 0.9  # three classes: ln 3 = 1.1 without learning


def test_pictures_are_what_their_files_say(page: Page) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, 6, 3))
    wide = np.repeat(pixels, 2, axis=1)
    given = {
        "square": base64.b64encode(png(pixels)).decode(),
        "wide": base64.b64encode(png(wide)).decode(),
    }
    bodies = """
        const file = (name) => fetch(`data:image/png;base64,${given[name]}`).then((r) => r.blob());
        const square = await file("square"), wide = await file("wide");
        const files = (blob) => [{ path: "a/1.png", open: async () => blob }];
        const read = async (blob, options) => Array.from((await (await data.imageFolder(
          files(blob), { size: 6, ...options })).batch(Uint32Array.of(0))).x);
        return [await read(square, {}), await read(square, { channels: 1 }),
          await read(square, { mean: [0.1, 0.2, 0.3], std: 0.5 }),
          await read(wide, { resize: "contain" }), await read(wide, { resize: "stretch" }),
          await read(wide, { resize: "cover" })];"""
    colour, grey, scaled, contained, stretched, covered = (
        np.array(values) for values in attempt(page, READ + bodies, given)
    )
    chw = pixels.transpose(2, 0, 1) / 255
    np.testing.assert_allclose(colour.reshape(3, 6, 6), chw, atol=1e-7)
    luma = np.round(pixels @ [0.299, 0.587, 0.114]) / 255  # ITU-R 601-2
    np.testing.assert_allclose(grey.reshape(6, 6), luma, atol=1e-7)
    mean = np.array([0.1, 0.2, 0.3])[:, None, None]
    np.testing.assert_allclose(scaled.reshape(3, 6, 6), (chw - mean) / 0.5, atol=1e-6)
    assert np.all(contained.reshape(3, 6, 6)[:, [0, 5]] == 0)  # black borders above and below
    assert np.all(contained.reshape(3, 6, 6)[:, 2:4].max(axis=(0, 1)) > 0)
    np.testing.assert_allclose(stretched.reshape(3, 6, 6), chw, atol=0.2)
    middle = np.repeat(chw, 2, axis=2)[:, :, 3:9]
    np.testing.assert_allclose(covered.reshape(3, 6, 6), middle, atol=1e-7)


def test_folders_are_classes_however_they_are_chosen(page: Page, tmp_path: Path) -> None:
    for path in (
        "photos/cat/1.png",
        "photos/cat/deep/2.png",
        "photos/dog/3.png",
        "photos/note.txt",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(png(np.full((4, 4, 3), len(path))) if "png" in path else b"")
    page.evaluate(
        """() => { document.body.innerHTML = '<input type=file webkitdirectory id=choose>';
        globalThis.chosen = () => document.querySelector("#choose").files; }"""
    )
    page.set_input_files("#choose", tmp_path / "photos")
    listed = attempt(
        page,
        READ
        + FOLDER
        + """
        const show = (images) => [images.classes, [...images.labels], images.length];
        const list = await data.imageFolder(chosen(), { size: 4 });
        const drop = new DataTransfer();
        for (const file of chosen()) drop.items.add(file);
        let refused = "";
        const loose = Array.from(chosen(), (file) => new File([file], file.name));
        await data.imageFolder(loose, { size: 4 }).catch((error) => { refused = error.message; });
        const files = await data.listFiles(chosen());
        const other = await data.imageFolder(files,
          { size: 4, under: "photos", classes: ["dog", "cat", "eel"] });
        const bare = await data.imageFolder(loose, { size: 4, labelled: false });
        const dropped = await data.imageFolder(drop, { size: 4 });
        return [show(list), show(other), show(dropped), refused, bare.length, bare.labels ?? null];
        """,
    )
    assert listed[0] == [["cat", "dog"], [0, 0, 1], 3]
    assert listed[1] == [["dog", "cat", "eel"], [1, 1, 0], 3]
    assert listed[2] == listed[0]
    assert "lies in no class folder" in listed[3]
    assert listed[4:] == [3, None]


def test_a_broken_picture_is_an_error_with_its_name_or_is_skipped(page: Page) -> None:
    setting = (
        READ
        + FOLDER
        + """
        const at = await folder("broken", "a");
        await put(at, "1.png", await picture("red"));
        await put(at, "2.png", "no picture");
        await put(await folder("broken", "b"), "3.png", "no picture either");
        const heard = [];
        const images = await data.imageFolder(await folder("broken"),
          { size: 2, broken: given, onWarning: (message) => heard.push(message) });"""
    )
    name, message = failure(page, setting + "await images.batch(Uint32Array.of(0, 1));", "throw")
    assert name == "InvalidInputError"
    assert "a/2.png cannot be decoded" in message
    x, y, heard, good = attempt(
        page,
        setting
        + """
        const { x, y } = await images.batch(Uint32Array.of(1, 0, 1));
        const good = await images.readable();
        return [[...x], [...y], heard, [...good.indices]];""",
        "skip",
    )
    assert x == [1, 1, 1, 1, *[0] * 8] * 3  # red, in place of what is broken
    assert y == [0, 0, 0]
    assert heard == ["skipped: a/2.png cannot be decoded as a picture"]
    assert good == [0]
    name, message = failure(page, setting + "await images.batch(Uint32Array.of(2));", "skip")
    assert (name, "b/3.png" in message) == ("InvalidInputError", True)


def test_python_s_zip_archives_are_read_by_range(page: Page) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, name in enumerate(("cat", "dog")):
            for i in range(3):
                archive.writestr(f"all/{name}/{i}.png", png(np.full((8, 8, 3), 60 * k + 20 * i)))
        with archive.open("all/big.csv", "w", force_zip64=True) as table:
            table.write(b"a,b\n" + b"1,2\n" * 1000)
    body = """
        const archive = await (await fetch(`data:application/zip;base64,${given}`)).blob();
        const images = await data.imageFolder(archive, { size: 1, channels: 1 });
        const { x, y } = await images.batch(Uint32Array.of(5, 0, 4));
        const files = await data.openZip(archive);
        const csv = files.find(({ path }) => path.endsWith("big.csv"));
        const table = await data.readTable(await csv.open(), { target: "b" });
        return [[...x].map((v) => Math.round(255 * v)), [...y], table.dataset.length];"""
    given = base64.b64encode(file.getvalue()).decode()
    assert attempt(page, READ + body, given) == [[100, 0, 80], [1, 0, 1], 1000]


def test_a_camera_and_a_canvas_fill_a_data_set_by_class(page: Page) -> None:
    counts, labels, pixels, ended, full, after = attempt(
        page,
        READ
        + """
        const captured = new data.CaptureDataset(
          { classes: ["camera", "canvas"], size: 8, limitBytes: 8 * 8 * 3 * 7 });
        const camera = await data.openWebcam();
        await captured.record(camera.video, "camera", { frames: 4, intervalMs: 20 });
        const stop = new AbortController();
        setTimeout(() => stop.abort(), 30);
        const canvas = document.createElement("canvas");
        Object.assign(canvas, { width: 20, height: 10 });
        const context = canvas.getContext("2d");
        context.fillStyle = "#0000ff";
        context.fillRect(0, 0, 20, 10);
        const ended = await captured.record(canvas, 1,
          { intervalMs: 1000, signal: stop.signal });
        captured.add(canvas, "canvas");
        const loader = new hearth.DataLoader(captured, { batchSize: 6 });
        let pixels;
        for await (const { x } of loader.epoch(0)) {
          pixels = [x.subarray(0, 192).some((v) => v > 0), [...x.subarray(5 * 192, 6 * 192)]];
        }
        const labels = [...captured.labels], counts = captured.counts;
        let full = "";
        try { for (;;) captured.add(canvas, 1); } catch (error) { full = error.name; }
        captured.clear(1);
        captured.remove(0);
        camera.stop();
        return [counts, labels, pixels, ended, full, captured.counts];""",
    )
    assert (counts, labels, ended) == ([4, 2], [0, 0, 0, 0, 1, 1], 1)
    assert pixels == [True, [0] * 128 + [1] * 64]
    assert (full, after) == ("OutOfMemoryError", [3, 0])


def test_a_camera_that_is_refused_says_so(page: Page) -> None:
    name, message = failure(
        page,
        READ
        + """
        navigator.mediaDevices.getUserMedia = () =>
          Promise.reject(new DOMException("Permission denied", "NotAllowedError"));
        await data.openWebcam();""",
    )
    assert (name, "Permission denied" in message) == ("BackendError", True)

"""What the browser runtime does with bad bundles and bad devices, in a real Chromium.

Each ends in an error of its class or in the next backend, and in a page that still works.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright
from wasmtime import wat2wasm

from tests.browser import least_squares as fixture
from tests.browser.pages import (
    BATCH,
    FIXTURE,
    GIVEN,
    attempt,
    change_manifest,
    chromium,
    failure,
    load,
    open_page,
    replace_file,
    site,
)
from tests.browser.site_server import Reply, Site

pytestmark = pytest.mark.chromium

HALF = (FIXTURE / "weights.safetensors").read_bytes()[:140]
PAGE = Reply(b"<!doctype html><title>Home</title>", mime="text/html")
BAD_FILES = (
    ("manifest.json", Reply(b"gone", 404), "BundleFormatError", "HTTP 404"),
    ("manifest.json", PAGE, "BundleFormatError", "web page"),
    ("manifest.json", Reply(b'{"format": "onnx"}'), "BundleFormatError", "not a Hearth bundle"),
    (
        "manifest.json",
        Reply(b'{"format": "hearth-bundle", "version": 9}'),
        "BundleFormatError",
        "newer Hearth",
    ),
    ("manifest.json", Reply(b"{}", missing_bytes=50), "BundleFormatError", "broke off"),
    ("weights.safetensors", Reply(HALF), "BundleFormatError", "140 bytes instead of 276"),
    ("weights.safetensors", Reply(HALF, missing_bytes=136), "BundleFormatError", "broke off"),
    ("weights.safetensors", Reply(b"x" * 276), "BundleFormatError", "SHA-256 differs"),
    ("simd.wasm", Reply(b"gone", 404), "BundleFormatError", "HTTP 404"),
    ("relaxed.wasm", PAGE, "BundleFormatError", "is not the file"),
    ("golden.safetensors", Reply(b"", 500), "BundleFormatError", "HTTP 500"),
)
NOTHING = b"""
// kernel: nothing
@group(0) @binding(0) var<storage, read_write> none: array<f32>;
@group(1) @binding(0) var<uniform> sizes: vec4<u32>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) i: u32) {
  if (i < sizes.x) { none[i] = 1.0; }
}
"""


def test_every_bad_bundle_ends_in_its_error_and_the_page_goes_on(
    browser: Browser, served: Site
) -> None:
    page = open_page(browser, served)
    for file, reply, name, words in BAD_FILES:
        if file == "simd.wasm":  # only loaded where there is no relaxed SIMD
            continue
        good = served.pages[f"/bundle/{file}"]
        served.pages[f"/bundle/{file}"] = reply
        found, message = failure(page, 'await Trainer.load("/bundle/", { backend: "wasm" });')
        assert (found, words in message) == (name, True), f"{file}: {found}: {message}"
        served.pages[f"/bundle/{file}"] = good
    load(page)
    page.close()


def test_bad_addresses_and_options_are_refused(browser: Browser, served: Site) -> None:
    page = open_page(browser, served)
    cases = (
        ('Trainer.load("http://127.0.0.1:9/bundle/")', "StorageError", "cannot fetch"),
        ('Trainer.load("http://")', "InvalidInputError", "not the address"),
        ('Trainer.load("/nowhere/")', "BundleFormatError", "HTTP 404"),
        ('Trainer.load("/bundle/", { backend: "cuda" })', "InvalidInputError", "option backend"),
        ('Trainer.load("/bundle/", { seed: -5 })', "InvalidInputError", "option seed"),
        ('Trainer.load("/bundle/", { workerUrl: "/nowhere.js" })', "BackendError", "worker"),
    )
    for call, name, words in cases:
        found, message = failure(page, f"await {call};")
        assert (found, words in message) == (name, True), f"{call}: {found}: {message}"
    page.close()


def test_a_kernel_with_wrong_numbers_is_caught_and_the_cpu_takes_over(
    browser: Browser, served: Site
) -> None:
    good = (FIXTURE / "kernels.wgsl").read_bytes()
    replace_file(served, "kernels.wgsl", good.replace(b"2.0 * sum", b"0.0 * sum"))
    page = open_page(browser, served)
    load(page, "webgpu")
    device, warnings = attempt(page, "return [trainer.device, trainer.warnings];")
    assert device["backend"] == "wasm"
    assert "wrong numbers" in warnings[0]
    step = attempt(page, BATCH + "return (await trainer.trainBatch(x, y)).step;", GIVEN)
    assert step == 1
    page.close()


def test_a_kernel_that_does_not_compile_is_shown_with_its_line(
    browser: Browser, served: Site
) -> None:
    good = (FIXTURE / "kernels.wgsl").read_bytes()
    replace_file(served, "kernels.wgsl", good.replace(b"let label = y[i / 3u];", b"let label = y;"))
    change_manifest(served, {"wasm": None})
    page = open_page(browser, served)
    name, message = failure(page, 'await Trainer.load("/bundle/", { backend: "webgpu" });')
    assert name == "BackendError"
    for words in ("kernel residual", "line ", "let label = y;"):
        assert words in message
    page.close()


def test_a_broken_webassembly_variant_is_skipped_for_the_next(
    browser: Browser, served: Site
) -> None:
    replace_file(served, "relaxed.wasm", (FIXTURE / "relaxed.wasm").read_bytes()[:-9])
    page = open_page(browser, served)
    load(page)
    device, warnings = attempt(page, "return [trainer.device, trainer.warnings];")
    assert device["adapter"] == "simd128"
    assert "refuses relaxed.wasm" in warnings[0]
    page.close()


def test_auto_does_not_take_a_software_adapter(browser: Browser, served: Site) -> None:
    page = open_page(browser, served)
    load(page, "auto")
    device: dict[str, Any] = attempt(page, "return trainer.device;")
    assert device["backend"] == "wasm"
    assert attempt(page, "return trainer.warnings;") == []
    page.close()


def test_a_runtime_from_another_origin_starts_its_worker(browser: Browser, served: Site) -> None:
    with site(isolated=False) as other:
        page = open_page(browser, served)
        device = attempt(
            page,
            """
            const { Trainer: Other } = await import(given + "hearth.js");
            const trainer = await Other.load(given + "bundle/", { backend: "wasm" });
            return trainer.device;""",
            other.url,
        )
        assert device["backend"] == "wasm"
        page.close()


def test_an_engine_runs_on_the_page_itself_without_a_worker(browser: Browser, served: Site) -> None:
    page = open_page(browser, served)
    steps = attempt(
        page,
        BATCH
        + """
        const trainer = await Trainer.load("/bundle/", { worker: false, backend: given.backend });
        await trainer.trainBatch(x, y);
        return [(await trainer.trainBatch(x, y)).step, trainer.device.backend];""",
        GIVEN | {"backend": "webgpu"},
    )
    assert steps == [2, "webgpu"]
    page.close()


def test_a_tensor_without_elements_at_the_end_of_memory_runs_on_webgpu(
    browser: Browser, served: Site
) -> None:
    manifest = json.loads((FIXTURE / "manifest.json").read_bytes())
    # The only program, so that its slots end where the arena ends.
    predict, empty = manifest["programs"]["predict"], len(manifest["buffers"])
    predict["slots"].append([0])
    predict["steps"].append({"kernel": 1, "buffers": [empty]})
    tensor = {"dtype": "float32", "shape": [0]}
    predict["outputs"].append({"name": "none", "role": "output", "buffer": empty} | tensor)
    nothing = {"name": "nothing", "workgroups": [{"extent": 0, "per": 64}]}
    changes = {
        "buffers": [*manifest["buffers"], {"slot": 2} | tensor],
        "kernels": [manifest["kernels"][0], nothing],
        "programs": {"predict": predict},
    }
    change_manifest(served, changes | {"golden": None, "wasm": None})
    replace_file(served, "kernels.wgsl", (FIXTURE / "kernels.wgsl").read_bytes() + NOTHING)
    page = open_page(browser, served)
    load(page, "webgpu")
    outputs = attempt(
        page,
        """
        const { logits, none } = await trainer.run("predict", { x: new Float32Array(4) });
        return [[...logits], [...none]];""",
    )
    assert outputs == [[0.5, -0.25, 0.125], []]
    page.close()


def test_training_survives_a_gpu_process_that_crashes(playwright: Playwright, served: Site) -> None:
    with chromium(playwright) as own:
        page = open_page(own, served)
        load(page, "webgpu")
        attempt(page, BATCH + "await trainer.trainBatch(x, y);", GIVEN)
        own.new_browser_cdp_session().send("Browser.crashGpuProcess")
        step, warnings = attempt(
            page,
            BATCH
            + """
            for (let i = 0; !trainer.warnings.length || i < 20; i++) await trainer.trainBatch(x, y);
            return [trainer.step, trainer.warnings];""",
            GIVEN,
        )
        assert step > 20
        assert "training goes on with" in warnings[-1]


def test_a_gpu_lost_before_anything_was_trained_is_an_error_and_the_page_loads_again(
    playwright: Playwright, served: Site
) -> None:
    with chromium(playwright) as own:
        page = open_page(own, served)
        load(page, "webgpu")
        own.new_browser_cdp_session().send("Browser.crashGpuProcess")
        call = "for (let i = 0; i < 1000; i++) await trainer.predict([0, 0, 0, 0]);"
        name, message = failure(page, call)
        assert name == "DeviceLostError", message
        for _ in range(5):  # more than there are staging buffers
            for call in ("exportWeights()", "predict([0, 0, 0, 0])"):
                assert failure(page, f"return trainer.{call};")[0] == "DeviceLostError"
        attempt(page, "await trainer.dispose();")
        load(page, "wasm")
        assert attempt(page, BATCH + "return (await trainer.trainBatch(x, y)).step;", GIVEN) == 1


def test_a_helper_thread_that_breaks_off_does_not_hang_the_page(browser: Browser) -> None:
    text = fixture.wat(relaxed=False, threads=True)
    place = "(local $i i32) (local $label i32)\n"
    assert text.count(place) == 1
    trap = text.replace(place, place + "(if (local.get $thread) (then (unreachable)))\n")
    with site(isolated=True) as served:
        replace_file(served, "threads.wasm", bytes(wat2wasm(trap)))
        page = open_page(browser, served)
        load(page, "wasm", 3)
        device, warnings = attempt(page, "return [trainer.device, trainer.warnings];")
        assert (device["threads"], device["adapter"]) == (1, "simd128, relaxed-simd")
        assert "helper thread broke off" in warnings[0]
        page.close()

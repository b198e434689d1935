"""A page looks into a step, and at what the model looks at: PyTorch's hooks see the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

import hearth
from hearth.bundle.read import read_manifest
from hearth.bundle.safetensors import decode_safetensors
from hearth.functions import attribution
from hearth.runtime.inspection import Summary
from tests.browser.pages import attempt, failure, open_page, site
from tests.inspection.net import (
    EXAMPLE,
    NAMES,
    TOLERANCE,
    Net,
    assert_describes,
    batch,
    by_hooks,
    net_step,
)

pytestmark = [pytest.mark.chromium, pytest.mark.slow]

PLAIN = """
const plain = (value) => ArrayBuffer.isView(value) ? [...value]
  : Array.isArray(value) ? value.map(plain)
  : value && typeof value === "object"
    ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]))
  : value;
const { trainer } = globalThis;
const x = Float32Array.from(given.x), y = Int32Array.from(given.y);
"""
CLASSES = [2, 0, 1]
RATE, STEPS = 0.25, 3


class Opened(NamedTuple):
    """A page whose trainer has taken two steps, and the model with the weights that it has now."""

    page: Page
    model: Net


@pytest.fixture(scope="module")
def step() -> hearth.TrainStep:
    return net_step()


@pytest.fixture(scope="module")
def bundle(step: hearth.TrainStep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    programs = hearth.explain(step.model, EXAMPLE[0])
    folder = tmp_path_factory.mktemp("inspection") / "dist"
    hearth.compile(step, *EXAMPLE, inspect=True, explain=programs).save(folder, runtime=False)
    return folder


@pytest.fixture(scope="module", params=["wasm", "webgpu"])
def opened(
    request: pytest.FixtureRequest, browser: Browser, bundle: Path, step: hearth.TrainStep
) -> Iterator[Opened]:
    with site(isolated=False) as served:
        served.add_folder("/net/", bundle)
        page = open_page(browser, served)
        body = 'globalThis.trainer = await Trainer.load("/net/", { backend: given, threads: 1 });'
        attempt(page, body, request.param)
        # A backend that falls back would be tested twice on the other.
        device, warnings = attempt(page, "return [trainer.device.backend, trainer.warnings];")
        assert device == request.param, warnings
        twice = "await trainer.trainBatch(x, y); await trainer.trainBatch(x, y);"
        call(page, twice)
        yield Opened(page, trained(page, step.model))
        page.close()


def call(page: Page, body: str, size: int = 5, **more: Any) -> Any:
    x, y = batch(size)
    return attempt(page, PLAIN + body, {"x": x.flatten().tolist(), "y": y.tolist(), **more})


def weights_of(page: Page) -> dict[str, torch.Tensor]:
    file = attempt(page, "return [...await globalThis.trainer.exportWeights()];")
    weights = decode_safetensors(bytes(file)).tensors
    return {name: torch.tensor(array).double() for name, array in weights.items()}


def trained(page: Page, model: Net) -> Net:
    """The model in float64 with the weights of the page; it must not work in place."""
    found = copy.deepcopy(model).double().eval()
    found.load_state_dict(weights_of(page))
    return found


def summary_of(found: dict[str, Any]) -> Summary:
    return Summary(**{**found, "histogram": np.array(found["histogram"])})


def test_a_page_sees_what_hooks_see(opened: Opened) -> None:
    page, model = opened
    names = ["activation/pair[1]", "activation_gradient/act#2"]
    found = call(page, "return plain(await trainer.inspect(x, y, given.options));",
                 options={"values": names})  # fmt: skip
    x, y = batch()
    seen = by_hooks(model, x, y)
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert set(layers) == {*NAMES, "relu()"}
    for name, (theirs, number) in NAMES.items():
        tensor = seen[theirs][number]
        assert_describes(summary_of(layers[name]["activation"]), tensor)
        assert tensor.grad is not None
        assert_describes(summary_of(layers[name]["gradient"]), tensor.grad)
    fired = seen["features.1"][0]
    shares = (fired == 0).double().mean((0, 2, 3))
    np.testing.assert_allclose(layers["features.1"]["silent"], shares, atol=1e-6)
    warned = {(w["layer"], w["kind"]): w for w in found["warnings"]}
    dead = warned["features.1", "silent"]
    assert dead["units"] == (shares == 1).nonzero().flatten().tolist()
    assert 1 in dead["units"]
    assert dead["message"] == f"features.1: {len(dead['units'])} of 4 units never fire"
    assert 5 in warned["act#1", "saturated"]["units"]
    assert list(found["values"]) == names
    wanted = (seen["pair[1]"][0], seen["act"][1].grad)
    for values, want in zip(found["values"].values(), wanted, strict=True):
        scale = want.abs().max().item()
        np.testing.assert_allclose(values, want.detach().flatten(), rtol=0, atol=TOLERANCE * scale)


def test_updates_are_those_of_the_next_step_which_looking_does_not_take(opened: Opened) -> None:
    page, model = opened
    start = attempt(page, "return [...await globalThis.trainer.exportCheckpoint()];")
    found = call(page, "return plain(await trainer.inspect(x, y));")
    assert attempt(page, "return [...await globalThis.trainer.exportCheckpoint()];") == start
    call(page, "await trainer.trainBatch(x, y);")
    after = weights_of(page)
    attempt(page, "await globalThis.trainer.loadCheckpoint(Uint8Array.from(given));", start)
    before = dict(model.named_parameters())
    assert [view["name"] for view in found["parameters"]] == list(before)
    for view in found["parameters"]:
        old = before[view["name"]].detach()
        assert_describes(summary_of(view["value"]), old)
        moved = (after[view["name"]] - old).norm().item()
        assert view["update"]["norm"] == pytest.approx(moved, rel=1e-3)
        assert view["ratio"] == pytest.approx(moved / old.norm().item(), rel=1e-3)


def explained(page: Page, method: str, **options: Any) -> torch.Tensor:
    body = "return plain(await trainer.explain(given.method, x, given.options));"
    found = call(page, body, size=len(CLASSES), method=method,
                 options={"class": CLASSES, **options})  # fmt: skip
    return torch.tensor(found, dtype=torch.float64)


def test_a_page_explains_the_weights_of_now(opened: Opened) -> None:
    page, model = opened
    images, classes = batch(len(CLASSES))[0].double(), torch.tensor(CLASSES)
    looks = {
        "saliency": attribution.saliency(model),
        "guided_backpropagation": attribution.guided_backpropagation(model),
        "grad_cam": attribution.grad_cam(model, model.features[0]),
        "integrated_gradients": attribution.integrated_gradients(model),
        "occlusion": attribution.occlusion(model, (1, 1), (1, 1)),
    }
    for method, look in looks.items():
        want = look(images, classes).detach()
        assert want.abs().max() > 0, method
        assert_near(explained(page, method), want, method)
    climb = attribution.activation_maximization(model)
    want = images
    for _ in range(STEPS):
        want = climb(want, classes, torch.tensor(RATE).double()).images
    found = explained(page, "activation_maximization", rate=RATE, steps=STEPS)
    assert_near(found, want.detach(), "activation_maximization")


def assert_near(found: torch.Tensor, want: torch.Tensor, name: str) -> None:
    scale = want.abs().max().item()
    np.testing.assert_allclose(found, want.flatten(), rtol=0, atol=2.0**-12 * scale, err_msg=name)


def test_what_the_bundle_cannot_tell_is_refused(opened: Opened) -> None:
    page = opened.page
    given = {"x": [0.0] * 16, "y": [0]}
    for body, message in (
        ('trainer.inspect(x, y, { values: ["activation/act"] })', "no values"),
        ("trainer.inspect(x)", "0 targets given"),
        ('trainer.explain("lime", x, { class: 0 })', "compile it with explain="),
        ('trainer.explain("train", x, { class: 0 })', "compile it with explain="),
        ('trainer.explain("saliency", x.slice(1), { class: 0 })', "are no images of 16"),
        ('trainer.explain("saliency", x, { class: [0, 1] })', "2 classes for 1 images"),
        ('trainer.explain("saliency", x, { class: 3 })', "3"),
        ('trainer.explain("activation_maximization", x, { class: 0, steps: 0.5 })', "steps"),
    ):
        name, said = failure(page, f"{PLAIN} await {body};", given)
        assert (name, message in said) == ("InvalidInputError", True), said


COMPILED = """
const compile = GPUDevice.prototype.createComputePipelineAsync;
const compiled = [];
GPUDevice.prototype.createComputePipelineAsync = function (descriptor) {
  compiled.push(descriptor.label);
  return compile.call(this, descriptor);
};
const x = Float32Array.from(given.x), y = Int32Array.from(given.y);
const trainer = await Trainer.load("/net/", {
  backend: "webgpu", worker: false, gpuKernels: "general",
});
const compiledSoFar = () => compiled.splice(0);
const all = [compiledSoFar()];
const calls = [
  () => trainer.trainBatch(x, y), () => trainer.inspect(x, y), () => trainer.inspect(x, y),
  () => trainer.explain("saliency", x, { class: 0 }), () => trainer.predict(x),
];
for (const call of calls) {
  await call();
  all.push(compiledSoFar());
}
const { backend } = trainer.device;
await trainer.dispose();
return { backend, all };
"""


def test_a_gpu_compiles_what_looks_inside_when_it_is_first_asked_for(
    browser: Browser, bundle: Path
) -> None:
    with site(isolated=False) as served:
        served.add_folder("/net/", bundle)
        page = open_page(browser, served)
        x, y = batch(3)
        given = {"x": x.flatten().tolist(), "y": y.tolist()}
        found = attempt(page, COMPILED, given)
        page.close()
    assert found["backend"] == "webgpu"
    load, train, inspect, again, explain, predict = map(set, found["all"])
    manifest = read_manifest(bundle)
    names = [kernel.name for kernel in manifest.kernels]
    used = {
        name: {names[step.kernel] for step in program.steps}
        for name, program in manifest.programs.items()
    }
    at_load = set().union(*(used[name] for name in ("train", "gradients", "evaluate", "predict")))
    assert load == at_load
    assert used["inspect"] & at_load  # shared, so that their being compiled again would be seen
    assert inspect == used["inspect"] - at_load
    assert explain == used["saliency"] - at_load - inspect
    assert (train, again, predict) == (set(), set(), set())
    assert all(len(labels) == len(set(labels)) for labels in found["all"])


HELD = """
const x = Float32Array.from(given.x), y = Int32Array.from(given.y);
const trainer = await Trainer.load("/net/", {
  backend: "webgpu", worker: false, gpuKernels: "general",
});
// From now on no pipeline is ready before it is let go.
const compile = GPUDevice.prototype.createComputePipelineAsync;
let release, asked = 0;
const held = new Promise((resolve) => { release = resolve; });
GPUDevice.prototype.createComputePipelineAsync = async function (descriptor) {
  asked++;
  await held;
  return compile.call(this, descriptor);
};
let seen;
const losses = [];
const looking = trainer.inspect(x, y).then((found) => { seen = found; });
for await (const event of trainer.fit([{ x, y }], { epochs: 5 })) {
  if (event.kind === "steps") losses.push(...event.steps.map(({ loss }) => loss));
}
const early = seen !== undefined;
release();
await looking;
const { loss } = await trainer.trainBatch(x, y);
const { backend } = trainer.device;
await trainer.dispose();
return { backend, asked, early, losses, looked: seen.loss, next: loss };
"""


def test_training_goes_on_while_what_looks_inside_compiles(browser: Browser, bundle: Path) -> None:
    with site(isolated=False) as served:
        served.add_folder("/net/", bundle)
        page = open_page(browser, served)
        x, y = batch(3)
        found = attempt(page, HELD, {"x": x.flatten().tolist(), "y": y.tolist()})
        page.close()
    assert found["backend"] == "webgpu"
    assert (len(found["losses"]), found["early"], found["asked"] > 0) == (5, False, True)
    # It looks at the step after those that were taken meanwhile.
    assert found["looked"] == pytest.approx(found["next"], rel=1e-5)

"""What Chromium's compiler says of WGSL modules, without running them: that takes seconds each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from playwright.sync_api import Browser, Page

from tests.browser.site_server import Reply, Site

_SAYS = """
async (modules) => {
  const adapter = await navigator.gpu.requestAdapter();
  const requiredFeatures = ["subgroups"].filter((name) => adapter.features.has(name));
  const device = await adapter.requestDevice({ requiredFeatures });
  device.pushErrorScope("validation");
  const made = Object.entries(modules).map(([label, code]) =>
    [label, device.createShaderModule({ label, code })]);
  const said = [];
  for (const [label, module] of made) {
    const { messages } = await module.getCompilationInfo();
    said.push(...messages.map(({ message }) => `${label}: ${message}`));
  }
  await device.popErrorScope();
  device.destroy();
  return said;
}
"""


@contextmanager
def gpu_page(browser: Browser) -> Iterator[Page]:
    """An empty page in which WebGPU is."""
    served = Site({"/index.html": Reply(b"<!doctype html><title>kernels</title>")}, isolated=False)
    try:
        page = browser.new_page()
        page.goto(served.url + "index.html")
        yield page
        page.close()
    finally:
        served.close()


def messages(page: Page, modules: Mapping[str, str]) -> list[str]:
    """Errors and warnings, each with the name of its module."""
    said: list[str] = page.evaluate(_SAYS, dict(modules))
    return said

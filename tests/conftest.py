"""What all tests share: devices that can be waived by name, and a table of what really ran.

A test that needs a device carries its marker.  A device that is missing fails the test, because a
green run must mean that the kernels ran; `--without=NAME` waives it, visibly, as skipped.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

DEVICES = ("wasm", "webgpu", "chromium")

# Vulkan loaders and Chromium want a private folder for sockets; a bare machine has none.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
# Before any import of torch: a second thread of PyTorch waits actively, and where two processes of
# pytest share two cores, small steps take ten times as long with it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Minutes each: what two processes share file by file must begin with these to end together.
LONGEST = (
    "architectures/test_architectures.py",
    "database/test_webgpu.py",
    "database/test_forward.py",
    "training/test_200_steps_on_mnist.py",
    "database/test_modules.py",
    "driver/test_training_agrees_with_pytorch.py",
    "database/test_backward.py",
    "browser/test_wgsl_in_chromium.py",
    "driver/test_memory_bytes.py",
    "generated/test_networks.py",
)

# No test asserts a time, so neither does hypothesis; in CI the same commit gives the same cases.
settings.register_profile(
    "hearth",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("hearth")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without",
        action="append",
        default=[],
        choices=DEVICES,
        help="waive a device that this machine does not have",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for name in config.getoption("--without"):
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"{name} is waived by --without={name}"))
    ranks = {Path(__file__).parent / file: rank for rank, file in enumerate(LONGEST)}
    assert all(file.is_file() for file in ranks), "LONGEST names a file that is not there"
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> object:
    report = yield
    report.devices = [name for name in DEVICES if item.get_closest_marker(name)] or ["none"]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for device in getattr(report, "devices", ()):
                counts[device, outcome] += 1
    terminalreporter.section("what ran on which device")
    terminalreporter.write_line(f"{'device':<10}{'passed':>8}{'failed':>8}{'skipped':>8}")
    for device in (*DEVICES, "none"):
        failed = counts[device, "failed"] + counts[device, "error"]
        row = (counts[device, "passed"], failed, counts[device, "skipped"])
        terminalreporter.write_line(f"{device:<10}" + "".join(f"{n:>8}" for n in row))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real data sets, for tests that need them."""
    folder = Path(os.environ.get("HEARTH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"there is no data folder {folder}")
    return folder

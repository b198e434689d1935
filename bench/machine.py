"""What a run was measured on: processor, system, browser, versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.prepare import ROOT


def machine(browser: str) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "browser": f"Chromium {browser}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **npm_versions(),
    }


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def processor() -> str:
    """The model as Linux calls it, with family and number, which hypervisors do not hide."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return platform.processor() or platform.machine()
    fields: dict[str, str] = {}
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    known = {"model name": "", "cpu family": "family ", "model": "model "}
    return ", ".join(before + fields[name] for name, before in known.items() if name in fields)


def npm_versions() -> dict[str, str]:
    packages = json.loads((ROOT / "bench" / "package.json").read_text())["dependencies"]
    return {name: packages[name] for name in sorted(packages)}

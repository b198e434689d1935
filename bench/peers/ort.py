"""ONNX Runtime Web training 1.19.2, on WASM; its training sessions are made by its Python package.

That package, onnxruntime-training 1.19.2, is from before NumPy 2: it gets an environment of its
own under build/bench, which sees the torch of this one.  There is none for Python above 3.11.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.browser import MODULES, PageSession, Rig
from bench.peers import Peer
from bench.prepare import BUILD, ROOT, Case, make_once

ENVIRONMENT: Final = BUILD / "onnxruntime"
PYTHON: Final = ENVIRONMENT / "bin" / "python"
PACKAGES: Final = ("onnxruntime-training==1.19.2", "onnx==1.16.2", "numpy==1.26.4")


def prepare(case: Case) -> None:
    sources = [ROOT / "bench" / "workloads.py", Path(__file__).with_name("ort_artifacts.py")]
    make_once(ENVIRONMENT, [Path(__file__)], install)
    make_once(artifacts_folder(case), sources, partial(_export, case))


def artifacts_folder(case: Case) -> Path:
    return BUILD / case.workload.name / "onnxruntime"


def install() -> None:
    venv.create(ENVIRONMENT, with_pip=True)
    command = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES]
    subprocess.run(command, check=True)
    # Looked up last, so that the older NumPy of this environment is found first.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = ENVIRONMENT / "lib" / version / "site-packages"
    (packages / "torch.pth").write_text(sysconfig.get_paths()["purelib"])


def _export(case: Case) -> None:
    command = [str(PYTHON), "-m", "bench.peers.ort_artifacts", case.workload.name,
               str(artifacts_folder(case))]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True,
                          check=False)  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(f"onnxruntime-training: {lines[-1] if lines else 'failed'}")


def open_page(threads: int, case: Case, rig: Rig) -> PageSession:
    folders = {
        "/ort/": MODULES / "onnxruntime-web" / "dist",
        "/artifacts/": artifacts_folder(case),
    }
    options: dict[str, Any] = {"backend": "wasm", "threads": threads}
    return PageSession(rig, case, "ort", options, folders)


PEERS = (
    Peer("ort wasm", partial(open_page, 1), prepare),
    Peer("ort wasm 2T", partial(open_page, 2), prepare),
)

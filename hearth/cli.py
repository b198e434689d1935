"""The command line: a verb for each public function, as `hearth --help` lists them.

Each command is a thin layer over a public function; what it prints is for people.  Exit codes: 0
done, 1 a check or verification failed, 2 an error (also of usage), 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import hearth
from hearth.entry_point import load_step
from hearth.errors import HearthError

RUNNERS: Final = ("chromium:wasm", "chromium:webgpu", "wasm", "webgpu", "reference")
BACKENDS: Final = ("webgpu", "wasm")
ACCURACIES: Final = ("fast", "strict")
PRECISIONS: Final = ("float32", "float16", "int8", "int8-dynamic")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except HearthError as error:
        print(f"hearth: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hearth: interrupted", file=sys.stderr)
        return 130
    return code


def _check(options: argparse.Namespace) -> int:
    report = hearth.check(*load_step(options.step))
    print(report)
    return 0 if report.ok else 1


def _compile(options: argparse.Namespace) -> int:
    step, inputs, targets = load_step(options.step)
    explain = None
    if options.explain is not None:
        images = inputs[0] if isinstance(inputs, tuple) else inputs
        explain = hearth.explain(step.model, images, options.explain or None)
    compiled = hearth.compile(
        step, inputs, targets, backends=tuple(options.backends), accuracy=options.accuracy,
        memory_bytes=options.memory_bytes, memory_batch=options.memory_batch,
        inspect=False if options.inspect is None else options.inspect or True, explain=explain,
    )  # fmt: skip
    compiled.save(options.output)
    size = sum(f.stat().st_size for f in Path(options.output).iterdir())
    kernels = len(compiled.manifest.kernels)
    print(f"{options.output}: {kernels} kernels, {size:,} bytes")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from hearth.driver.verify import verify_on
    from hearth.progress import counter

    step, bundle = None, options.target
    if not Path(options.target).is_dir():
        step, inputs, targets = load_step(options.target)
        bundle = hearth.compile(step, inputs, targets)
    elif options.step is not None:
        step = load_step(options.step)[0]
    runners = options.runner or ["wasm"]
    with counter(f"verifying on {', '.join(runners)}", options.cases) as count:
        reports = verify_on(
            bundle, runners, options.cases, step=step, seed=options.seed, progress=count
        )
    print("\n\n".join(map(str, reports)))
    return 0 if all(report.ok for report in reports) else 1


def _train(options: argparse.Namespace) -> int:
    from hearth.training import train_bundle

    train_bundle(
        options.bundle,
        data=options.data,
        runner=options.runner,
        epochs=options.epochs,
        batch_size=options.batch_size,
        accumulate=options.accumulate,
        learning_rate=options.lr,
        seed=options.seed,
        threads=options.threads,
        resume=options.resume,
        output=options.output,
        checkpoint=options.checkpoint,
    )
    return 0


def _export(options: argparse.Namespace) -> int:
    from hearth.exporting import export_trained

    step = load_step(options.step)[0] if options.step is not None else None
    report = export_trained(
        options.bundle, options.weights, options.output,
        precision=options.precision, data=options.data, step=step,
    )  # fmt: skip
    print(report)
    return 0


def _delta(options: argparse.Namespace) -> int:
    hearth.save_delta(options.before, options.after, options.output)
    print(f"{options.output}: {Path(options.output).stat().st_size:,} bytes")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from hearth.bundle.read import read_bundle
    from hearth.inspection import describe, kernel_source, wasm_source

    bundle = read_bundle(options.bundle)
    if options.kernel is not None:
        source = wasm_source if options.target == "wasm" else kernel_source
        print(source(bundle, options.kernel), end="")
    else:
        print(describe(bundle, options.batch))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from hearth.benchmark import bench_bundle

    report = bench_bundle(
        options.bundle,
        options.runner or ["wasm", "chromium:wasm", "chromium:webgpu"],
        options.batch,
        seconds=options.seconds,
        threads=options.threads,
    )
    for line in report:
        print(line, flush=True)
    return 0


def _serve(options: argparse.Namespace) -> int:
    from hearth.serve import Server
    from hearth.site import bundle_site

    routes = bundle_site(options.bundle, data=options.data, page=options.page)
    with Server(routes, host=options.host, port=options.port) as server:
        print(f"{server.url} serves {options.bundle}; stop with Ctrl-C", flush=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            print()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hearth", description="Compile PyTorch training steps into browser bundles."
    )
    parser.add_argument("--version", action="version", version=f"hearth {hearth.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_check(commands)
    _add_compile(commands)
    _add_verify(commands)
    _add_train(commands)
    _add_export(commands)
    _add_delta(commands)
    _add_inspect(commands)
    _add_bench(commands)
    _add_serve(commands)
    return parser


def _add_check(commands: Any) -> None:
    check = _command(commands, "check", _check, "list everything that cannot be compiled yet")
    check.add_argument("step", metavar="MODULE:FUNCTION", help=_STEP_HELP)


def _add_compile(commands: Any) -> None:
    compile_ = _command(commands, "compile", _compile, "compile a training step into a bundle")
    compile_.add_argument("step", metavar="MODULE:FUNCTION", help=_STEP_HELP)
    compile_.add_argument("-o", "--output", metavar="DIR", default="dist", help="bundle folder")
    compile_.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=BACKENDS, help="default: both"
    )
    compile_.add_argument(
        "--accuracy", choices=ACCURACIES, default="fast", help="of WebAssembly convolutions (fast)"
    )
    compile_.add_argument(
        "--memory-bytes", type=_positive, help="recompute values so that the step fits"
    )
    compile_.add_argument("--memory-batch", type=_positive, default=32, help="of this size (32)")
    compile_.add_argument(
        "--inspect", nargs="*", metavar="MODULE", help="lets a page look into all modules, or these"
    )
    compile_.add_argument(
        "--explain", nargs="?", const="", metavar="LAYER",
        help="lets a page ask what the model looks at; Grad-CAM by the last convolution, or LAYER",
    )  # fmt: skip


def _add_verify(commands: Any) -> None:
    verify = _command(commands, "verify", _verify, "compare a bundle with PyTorch in float64")
    verify.add_argument("target", metavar="BUNDLE|MODULE:FUNCTION")
    verify.add_argument("--step", metavar="MODULE:FUNCTION", help="the model, if not in the bundle")
    verify.add_argument(
        "--runner", choices=RUNNERS, action="append", help="may be given several times (wasm)"
    )
    verify.add_argument("--cases", type=_positive, default=100, help="random cases (100)")
    verify.add_argument("--seed", type=int, default=0, help="of the cases (0)")


def _add_train(commands: Any) -> None:
    train = _command(commands, "train", _train, "train a bundle and bring the weights back")
    train.add_argument("bundle", metavar="BUNDLE")
    train.add_argument("--data", metavar="PATH", help=_DATA_HELP)
    train.add_argument("--runner", choices=RUNNERS, default=RUNNERS[0])
    train.add_argument("--epochs", type=_positive, default=5, help="passes over the data (5)")
    train.add_argument("--batch-size", type=_positive, default=64, help="samples per step (64)")
    train.add_argument(
        "--accumulate", type=_positive, default=1,
        help="batches per step, of a TrainStep(..., accumulate=True) (1)",
    )  # fmt: skip
    train.add_argument("--lr", type=float, help="learning rate; default: as compiled")
    train.add_argument("--seed", type=int, default=0, help="of shuffling and Dropout (0)")
    train.add_argument("--threads", type=_positive, help=_THREADS_HELP)
    train.add_argument("--resume", metavar="FILE", help="continue the run of a checkpoint")
    train.add_argument("-o", "--output", metavar="FILE", default="trained.safetensors")
    train.add_argument("--checkpoint", metavar="FILE", help="also write the whole run")


def _add_export(commands: Any) -> None:
    export = _command(
        commands, "export", _export, "write trained weights as ONNX or in fewer bytes"
    )
    export.add_argument("bundle", metavar="BUNDLE")
    export.add_argument("weights", metavar="WEIGHTS", help="what `hearth train` or a page wrote")
    export.add_argument("-o", "--output", metavar="FILE", required=True, help=".safetensors, .onnx")
    export.add_argument("--precision", choices=PRECISIONS, default="float32", help="(float32)")
    export.add_argument("--data", metavar="PATH", help=_DATA_HELP)
    export.add_argument("--step", metavar="MODULE:FUNCTION", help="the model, if not in the bundle")


def _add_delta(commands: Any) -> None:
    delta = _command(commands, "delta", _delta, "write the difference of two files of weights")
    delta.add_argument("before", metavar="BEFORE", help="weights, or a checkpoint")
    delta.add_argument("after", metavar="AFTER", help="weights, or a checkpoint")
    delta.add_argument("-o", "--output", metavar="FILE", default="delta.safetensors")


def _add_inspect(commands: Any) -> None:
    inspect = _command(commands, "inspect", _inspect, "print kernels, bytes, dispatches, memory")
    inspect.add_argument("bundle", metavar="BUNDLE")
    inspect.add_argument("--batch", type=_positive, default=64, help="batch size (64)")
    inspect.add_argument("--kernel", metavar="NAME", help="print the code of one kernel")
    inspect.add_argument("--target", choices=BACKENDS, default=BACKENDS[0], help="of --kernel")


def _add_bench(commands: Any) -> None:
    bench = _command(commands, "bench", _bench, "time the training steps of a bundle")
    bench.add_argument("bundle", metavar="BUNDLE")
    bench.add_argument(
        "--runner", choices=RUNNERS, action="append",
        help="may be given several times (wasm, chromium:wasm and chromium:webgpu)",
    )  # fmt: skip
    bench.add_argument("--batch", type=_positive, nargs="+", default=[1, 32], help="(1 32)")
    bench.add_argument("--seconds", type=float, default=1.0, help="of each measurement (1)")
    bench.add_argument("--threads", type=_positive, help=_THREADS_HELP)


def _add_serve(commands: Any) -> None:
    serve = _command(commands, "serve", _serve, "serve a bundle with the headers threads need")
    serve.add_argument("bundle", metavar="BUNDLE")
    serve.add_argument("--data", metavar="PATH", help=_DATA_HELP)
    serve.add_argument("--page", metavar="DIR", help="your own page; default: the demo page")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000, help="0 takes any free port (8000)")


_STEP_HELP: Final = "a function (of a module or FILE.py) that returns (TrainStep, inputs, targets)"
_THREADS_HELP: Final = "of WebAssembly; default: 1 in wasmtime, up to 4 in Chromium"
_DATA_HELP: Final = (
    "a folder with MNIST's IDX files, a .npz or a .csv; default: $HEARTH_DATA, "
    "else the digits of scikit-learn"
)


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    command.set_defaults(run=run)
    return command


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


if __name__ == "__main__":
    sys.exit(main())

"""The command line: ``glassgrad demo | tutorial | compare | bench | ladder | where | info``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys

from .errors import ArgumentError, GlassgradError

COMMANDS = {
    "demo": "train on real digits and watch gradients vanish, explode and be cured (under a minute)",
    "tutorial": "a lesson that asks, measures, draws and proves its claims; without a number: the list",
    "compare": "every op, NumPy reference against C++ kernels: largest error in ulps",
    "bench": "kernels and training steps against NumPy and PyTorch, timed in turn",
    "ladder": "climb from a naive kernel to the production one, timed and checked",
    "where": "every file and line of an op",
    "info": "version, instruction set, threads, allocator, and what is missing",
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="glassgrad",
        description="An autograd engine made of glass.",
        epilog="\n".join(f"  {name:8} {what}" for name, what in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command", choices=COMMANDS, metavar="command", help="one of those below; each has its own --help"
    )
    args = parser.parse_args(argv[:1] or ["--help"])
    try:
        return _run(args.command, argv[1:])
    except GlassgradError as error:
        print(f"glassgrad: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("glassgrad: stopped", file=sys.stderr)
        return 130  # what a shell reports for Ctrl-C


def _run(command: str, argv: list[str]) -> int:
    if command == "demo":
        from .demo import main as demo

        return demo(argv)
    if command == "tutorial":
        from .school import main as tutorial

        return tutorial(argv)
    if command == "bench":
        from .bench import main as bench

        return bench(argv)
    if command == "ladder":
        from .ladder import main as ladder

        return ladder(argv)
    return {"compare": _compare, "where": _where, "info": _info}[command](argv)


def _parser(command: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"glassgrad {command}", description=COMMANDS[command])


# ------------------------------------------------------------------------------------------------------------- compare


def _compare(argv: list[str]) -> int:
    parser = _parser("compare")
    parser.add_argument("ops", nargs="*", metavar="OP", help="op names, for instance softmax; default: all")
    parser.add_argument("--backend", default="cpp", help="what to hold against the reference (default: cpp)")
    parser.add_argument(
        "--model",
        metavar="MODULE:FUNCTION",
        help="instead of ops: a function that returns (model, *inputs); 'cnn' and 'mlp' are built in",
    )
    args = parser.parse_args(argv)
    from . import backends

    backends.get(args.backend)
    return _compare_model(args.model, args.backend) if args.model else _compare_ops(args.ops, args.backend)


def _compare_ops(names: list[str], backend: str) -> int:
    from .compare import table

    print(f"largest error against the NumPy reference in float64, in ulps; backend {backend}")
    print(f"{'op':26}{'forward':>16}{'':8}{'backward':>16}{'':8}")
    print(f"{'':26}{'float32':>12}{'float64':>12}{'float32':>12}{'float64':>12}   kernel")
    failed, count = [], 0
    for row in table(names or None, backend):
        cells = [*row.forward.values(), *row.backward.values()]
        numbers = "".join(f"{'-' if e is None else f'{e:.2f}':>12}" for e in cells)
        kernel = "native" if row.native else ("view" if row.op.is_view else "NumPy")
        print(
            f"{row.op.name:26}{numbers}   {kernel}{'' if row.ok else f'   FAILS: more than {row.op.ulps:g} ulps'}",
            flush=True,
        )
        count += 1
        if not row.ok:
            failed.append(row.op.name)
    print(f"{count - len(failed)} of {count} ops agree" + (f"; not: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _compare_model(target: str, backend: str) -> int:
    from .compare import compare_model

    model, *inputs = _load(target)
    steps = compare_model(model, *inputs, backend=backend)
    bad = [step for step in steps if not step.ok]
    worst = sorted(steps, key=lambda step: -step.error)[:5]
    print(f"{target}: {len(steps)} kernel calls, forward and backward, each on {backend} and on the reference")
    print("largest errors (ulps):")
    for step in worst:
        print(f"  {step.error:10.2f}  call {step.number:4}  {step.op.name:24} {' '.join(map(str, step.shapes))}")
    if bad:
        first = bad[0]
        print(f"first divergent op: call {first.number}, {first.op.name}, {first.error:.1f} ulps on {first.shapes}")
        return 1
    print("no op diverges")
    return 0


def _load(target: str):
    if target in ("cnn", "mlp"):
        return _built_in(target)
    module, _, name = target.partition(":")
    if not name:
        raise ArgumentError(f"--model: got {target!r}; expected MODULE:FUNCTION, or one of cnn, mlp.")
    sys.path.insert(0, "")  # as `python -m` does: a module in the current folder can be named
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(
            f"--model: got {target!r}, which cannot be loaded ({error}); expected MODULE:FUNCTION."
        ) from None
    made = factory()
    if not isinstance(made, tuple) or len(made) < 2:
        raise ArgumentError(f"--model: {target} returned {type(made).__name__}; expected a tuple (model, input, ...).")
    return made


def _built_in(name: str):
    from . import nn
    from .creation import randn
    from .random import manual_seed

    manual_seed(0)
    if name == "mlp":
        return nn.Sequential(
            nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, 10), nn.LogSoftmax(-1)
        ), randn(16, 64)
    layers = [
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    ]
    return nn.Sequential(*layers, nn.LogSoftmax(-1)), randn(16, 1, 8, 8)


# --------------------------------------------------------------------------------------------------------------- where


def _where(argv: list[str]) -> int:
    parser = _parser("where")
    parser.add_argument("op", help="an op's name, for instance softmax")
    name = parser.parse_args(argv).op
    from .locate import places

    for place in places(name):
        print(f"{place.what:22} {place.file}:{place.line}")
    return 0


# ---------------------------------------------------------------------------------------------------------------- info


def _info(argv: list[str]) -> int:
    _parser("info").parse_args(argv)
    for key, value in info().items():
        print(f"{key:12} {value}")
    return 0


def info() -> dict[str, str]:
    """What this installation is and has."""
    import platform

    import numpy as np

    from . import __version__, backends
    from .backends import cpp

    lines = {
        "glassgrad": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "backend": backends.current().name,
    }
    if cpp.BACKEND is None:
        lines["kernels"] = f"missing: {cpp.WHY_MISSING}; everything runs on the NumPy reference"
    else:
        facts = cpp.BACKEND.info()
        memory = facts["allocator"]
        lines["isa"] = f"{facts['isa']} (this CPU also runs: {', '.join(cpp.supported())}; GLASSGRAD_ISA= chooses)"
        lines["compiler"] = f"g++ {facts['compiler']}"
        lines["threads"] = str(facts["threads"])
        lines["allocator"] = (
            f"{memory['in_use'] / 2**20:.1f} MiB in use, {memory['cached'] / 2**20:.1f} MiB cached, "
            f"{memory['hits']} hits, {memory['misses']} misses"
        )
        fallbacks = ", ".join(f"{name} {n}x" for name, n in facts["fallbacks"].items())
        lines["fallbacks"] = fallbacks or "none so far (ops that ran on the reference for want of a kernel)"
    lines["cuda"] = "not built"
    extras = {"matplotlib": "viz", "tqdm": "tutorials", "sklearn": "tutorials"}
    missing = [f'{m} (pip install "glassgrad[{e}]")' for m, e in extras.items() if importlib.util.find_spec(m) is None]
    lines["missing"] = ", ".join(missing) or "nothing"
    return lines

"""``glassgrad demo``: four short trainings on real digits, each beside its theory, as pictures and one page."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import platform
import shlex
import sys
import time
from pathlib import Path

from ..errors import ArgumentError

NEEDED = {"matplotlib": "matplotlib", "tqdm": "tqdm", "sklearn": "scikit-learn"}  # module: package


def main(argv: list[str] | None = None) -> int:
    """Run the demo; the command line is in ``--help``. Returns 0 when everything was written."""
    parser = argparse.ArgumentParser(
        prog="glassgrad demo",
        description="Train on real digits and watch gradients vanish, explode and be cured: pictures, report.html and results.json.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("glassgrad-demo"),
        metavar="DIR",
        help="where to write (default: glassgrad-demo)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random weights and batches (default: 0)")
    parser.add_argument("--fast", action="store_true", help="40 steps per training: seconds, but nothing gets learned")
    args = parser.parse_args(argv)
    check_packages()
    make_folder(args.out)
    results, steps, samples = run(args.seed, args.fast)
    results["command"] = " ".join(["glassgrad demo", *map(shlex.quote, sys.argv[1:] if argv is None else argv)])
    _write(args.out, results, steps, samples)
    return 0


def make_folder(path: Path) -> None:
    """Make the folder that ``--out`` names, unless it is there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"--out: got {str(path)!r}, which cannot be made a folder ({error.strerror}); expected one."
        ) from None


def check_packages() -> None:
    """Name what data and pictures need and this installation lacks."""
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ArgumentError(
            f'got no {", ".join(missing)}; expected them for data and pictures. pip install "glassgrad[tutorials]"'
        )


def run(seed: int = 0, fast: bool = False):
    """All measurements: (what goes into results.json, the steps of the small expression, ten images to show)."""
    from tqdm import tqdm

    from . import trainings

    start = time.perf_counter()
    settings = trainings.Settings(seed, fast)
    digits = trainings.Digits()
    results: dict = {"seed": seed, "fast": fast, "images": len(digits.images)}
    claims = []
    acts = (
        (trainings.thermometer, "8 networks, 30 layers", 8 * settings.draws),
        (trainings.relu_depth, "ReLU: Xavier, He", 2 * settings.steps(1000)),
        (trainings.sigmoid_batchnorm, "sigmoid: batch norm", 2 * settings.steps(800)),
        (trainings.exploding, "exploding: clipping", 2 * settings.steps(600)),
    )
    for act, text, total in acts:
        with tqdm(total=total, desc=f"{text:22}", disable=None, leave=True) as bar:
            results[act.__name__], found = act(digits, settings, bar.update)
        claims += [(act.__name__, claim) for claim in found]
    results["expression"], found, steps = trainings.expression(lambda: None)
    claims += [("expression", claim) for claim in found]
    results["claims"] = [{"act": act} | claim.judged(fast).as_dict() for act, claim in claims]
    results["versions"] = _versions()
    results["seconds"] = time.perf_counter() - start
    samples = digits.images[:10].reshape(-1, 8, 8) + digits.mean.reshape(8, 8)
    return results, steps, samples


def _versions() -> dict[str, str]:
    import numpy as np

    from .. import __version__, backends

    backend = backends.current()
    isa = backend.info().get("isa")
    return {
        "glassgrad": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "backend": f"{backend.name} ({isa})" if isa else backend.name,
    }


def _write(folder: Path, results: dict, steps: list, samples) -> None:
    from . import pictures, report

    start = time.perf_counter()
    paths = pictures.pngs(results, steps, folder)
    drawings = pictures.svgs(results, steps)
    results["seconds"] += time.perf_counter() - start
    (folder / "report.html").write_text(report.page(results, drawings, samples), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(plain(results), indent=1, allow_nan=False), encoding="utf-8")
    text = report.table(results["claims"])
    text += f"\n\n{folder / 'report.html'}  open it in a browser"
    text += f"\n{folder / 'results.json'}  every number"
    text += f"\n{folder}/*.png  {', '.join(path.stem for path in paths)}\n{results['seconds']:.1f} s, {results['versions']['backend']} backend"
    encoding = sys.stdout.encoding or "ascii"  # a terminal that cannot show "√" gets "?" instead of an error
    print(text.encode(encoding, "replace").decode(encoding))


def plain(x):
    """What JSON can hold, to six digits. JSON has no infinity and no NaN: those become text."""
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(value) for value in x]
    if isinstance(x, float):
        return float(f"{x:.6g}") if math.isfinite(x) else str(x)
    return x

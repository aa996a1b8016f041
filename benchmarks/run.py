"""Measures training, encoding, input, peak, memory, accuracy, and prints one table in Markdown.

Each contender has its own process; they take turns in many rounds, see ``workers.py``. A ratio is
computed in each round; the table has the median of the ratios. If something cannot be measured, for
instance because a package of the extra ``bench`` is missing, its row has the reason.

Builds of PyTorch differ by more than its settings. ``--pytorch`` names interpreters of environments
that have other builds (with numpy, scipy, opencv-python and tqdm); the fastest build counts.

With ``--gpu``, it measures on one NVIDIA GPU: training in float32 and float16, with XLA and without
the staging area; encoding; and the feed. The first lines say what is missing if there is none.

python benchmarks/run.py [--gpu] [--group all] [--rounds 9] [--quick] [--output table.md]
    [--pytorch /environments/cuda/bin/python ...]
"""

import argparse
import dataclasses
import pathlib
import shutil
import sys
import tempfile
import time

# Replaces this script's folder, where modules would be found under other names.
sys.path[0] = str(pathlib.Path(__file__).parents[1])

from benchmarks import machine  # noqa: E402
from benchmarks.files import GPU, QUICK, Files, Sizes  # noqa: E402
from benchmarks.gpu_groups import GPU_GROUPS, list_lacks  # noqa: E402
from benchmarks.groups import GROUPS  # noqa: E402
from benchmarks.table import format_rows  # noqa: E402
from benchmarks.workers import NotMeasured  # noqa: E402


def main():
    """Measure the groups that the command line names, and print the results."""
    args = parse_arguments()
    sizes = QUICK if args.quick else GPU if args.gpu else Sizes()
    if args.rounds is not None:
        sizes = dataclasses.replace(sizes, rounds=args.rounds)
    if args.batch_sizes is not None:
        sizes = dataclasses.replace(sizes, gpu_batch_sizes=tuple(args.batch_sizes))
    facts = machine.describe()
    if args.gpu:
        facts += list_lacks()
    facts.append(f"Medians of {sizes.rounds} rounds")
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        files = Files(sizes, directory, [sys.executable, *args.pytorch])
        if not args.gpu:
            facts += machine.describe_builds(files.pytorch_builds)
        for name, measure in (GPU_GROUPS if args.gpu else GROUPS).items():
            if args.group in (name, "all"):
                start = time.monotonic()
                try:
                    rows += measure(files)
                except NotMeasured as reason:
                    rows.append((name, f"not measured: {reason}", ""))
                print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    lines = [*(f"- {fact}" for fact in facts), "", format_rows(rows)]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if args.output is not None:
        args.output.write_text(text, encoding="utf-8")


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="measure on one NVIDIA GPU")
    parser.add_argument("--batch_sizes", type=_positive, nargs="+", help="of training on a GPU")
    parser.add_argument(
        "--pytorch",
        nargs="+",
        default=[],
        metavar="PYTHON",
        help="interpreters of environments with other builds of PyTorch",
    )
    parser.add_argument("--group", choices=[*GROUPS, "all"], default="all")
    parser.add_argument("--rounds", type=_positive, help="default 9; 5 with --gpu, 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that all runs")
    parser.add_argument("--output", type=pathlib.Path, help="file that also gets the table")
    args = parser.parse_args()
    if args.gpu and args.group not in (*GPU_GROUPS, "all"):
        parser.error(f"--gpu measures the groups {', '.join(GPU_GROUPS)}")
    if args.gpu and args.pytorch:
        parser.error("--pytorch goes without --gpu")
    for python in args.pytorch:
        if shutil.which(python) is None:
            parser.error(f"--pytorch: {python} is no program: name an interpreter")
    if args.batch_sizes is not None and not args.gpu:
        parser.error("--batch_sizes goes with --gpu")
    return args


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


if __name__ == "__main__":
    main()

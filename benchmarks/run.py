"""Measures training, encoding, input, peak, memory, accuracy, and prints one table in Markdown.

Each contender has its own process; they take turns in many rounds, see ``workers.py``. A ratio is
computed in each round; the table has the median of the ratios. If something cannot be measured, for
instance because a package of the extra ``bench`` is missing, its row has the reason.

python benchmarks/run.py [--group all] [--rounds 9] [--quick] [--output table.md]
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile
import time

# Replaces this script's folder, where modules would be found under other names.
sys.path[0] = str(pathlib.Path(__file__).parents[1])

from benchmarks import groups, machine  # noqa: E402
from benchmarks.files import QUICK, Files, Sizes  # noqa: E402
from benchmarks.table import format_rows  # noqa: E402
from benchmarks.workers import NotMeasured  # noqa: E402


def main():
    """Measure the groups that the command line names, and print the results."""
    args = parse_arguments()
    sizes = QUICK if args.quick else Sizes()
    if args.rounds is not None:
        sizes = dataclasses.replace(sizes, rounds=args.rounds)
    facts = [*machine.describe(), f"Medians of {sizes.rounds} rounds"]
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        files = Files(sizes, directory)
        for name, measure in groups.GROUPS.items():
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
    parser.add_argument("--group", choices=[*groups.GROUPS, "all"], default="all")
    parser.add_argument("--rounds", type=_positive, help="default 9, or 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that all runs")
    parser.add_argument("--output", type=pathlib.Path, help="file that also gets the table")
    return parser.parse_args()


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


if __name__ == "__main__":
    main()

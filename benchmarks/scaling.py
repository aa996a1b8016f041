"""Measures synchronous training by clusters on this machine, against one process.

All take the same number of images per step: with N workers, each takes 1/N of them. They run in
turn, so that a busy moment of the machine meets all. A speed is the median of the log lines of a
run, without the first one; the ratios are of the same round. The time of the CPU, of all processes
together, is the difference between a long and a short run, so that no start counts; other programs
hardly change it.

python benchmarks/scaling.py [--workers 1 2 4] [--batch_size 64] [--steps 30] [--rounds 3]
"""

import argparse
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile

# Replaces this script's folder, where modules would be found under other names.
ROOT = pathlib.Path(__file__).parents[1]
sys.path[0] = str(ROOT)

from benchmarks import machine  # noqa: E402
from datasets import synthetic  # noqa: E402

IMAGES_PER_ID = 4
STEPS_PER_LINE = 5
SPEED = re.compile(r"^(?:chief: )?.* step \d+/\d+, .* ([\d.]+) images/s", re.MULTILINE)


def main():
    """Measure, and print a table."""
    args = parse_arguments()
    contenders = {"one process": None, **{f"{n} workers": n for n in args.workers}}
    speeds = {name: [] for name in contenders}
    costs = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "market1501")
        synthetic.draw_market1501(data, num_identities=40, images_per_camera=4)
        for number in range(args.rounds):
            for name, num_workers in contenders.items():
                log_dir = os.path.join(folder, f"{name}-{number}")
                _, start = measure(args, num_workers, data, f"{log_dir}-start", args.steps // 5)
                speed, whole = measure(args, num_workers, data, log_dir, args.steps)
                num_images = (args.steps - args.steps // 5) * args.batch_size
                speeds[name].append(speed)
                costs[name].append(1000 * (whole - start) / num_images)
                print(
                    f"round {number + 1}, {name}: {speed:.1f} images/s, {costs[name][-1]:.2f} ms "
                    "of the CPU per image",
                    flush=True,
                )
    print("\n".join(machine.describe()))
    print(f"\n| {args.batch_size} images per step | images/s | to one process | CPU per image |")
    print("| --- | --- | --- | --- |")
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(values, speeds["one process"], strict=True)]
        print(
            f"| {name} | {statistics.median(values):.1f} | {statistics.median(ratios):.2f} | "
            f"{statistics.median(costs[name]):.1f} ms |"
        )


def measure(args, num_workers, data, log_dir, num_steps):
    """Train with the package's network; return images per second, and seconds of the CPU."""
    batch_size = args.batch_size // (num_workers or 1)
    command = [
        str(ROOT / "train_market1501.py"),
        "--mode=train",
        f"--dataset={data}",
        f"--log_dir={log_dir}",
        f"--batch_size={batch_size}",
        f"--num_images_per_id={min(IMAGES_PER_ID, batch_size)}",
        f"--number_of_steps={num_steps}",
        f"--log_every_n_steps={STEPS_PER_LINE}",
        "--seed=1",
    ]
    if num_workers is not None:
        own = [f"--num_workers={num_workers}", f"--num_ps={args.num_ps}", "--num_restarts=0"]
        command = ["-m", "deep_reid.launch", *own, "--", *command]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} has failed:\n{done.stdout[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [line for line in done.stdout.splitlines() if not line.startswith(("worker", "ps"))]
    speeds = [float(speed) for speed in SPEED.findall("\n".join(lines))]
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return statistics.median(speeds[1:] or speeds), seconds


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--num_ps", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()

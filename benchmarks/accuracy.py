"""What a narrower type costs in accuracy: the scripts train and score, with several seeds."""

import json
import pathlib
import statistics
import subprocess
import sys

from benchmarks.table import Table
from benchmarks.workers import NotMeasured
from datasets import synthetic

ROOT = pathlib.Path(__file__).parents[1]
PRECISIONS = ("float32", "bfloat16")
# By their names in the table, those of the file of scores.
SCORES = {"rank-1": "rank1", "mAP (standard)": "mAP_standard"}


def measure_accuracy(sizes, directory):
    """Train runs that differ in precision and seed alone, and score each by the official protocol.

    Scored in the precision that they were trained in. The triplet loss is learned soonest.

    Parameters
    ----------
    sizes : benchmarks.sizes.Sizes
    directory : str

    Returns
    -------
    list of benchmarks.table.Row
    """
    data = pathlib.Path(directory) / "accuracy"
    synthetic.draw_market1501(data / "images", num_identities=sizes.num_scored_identities)
    steps, seeds = sizes.scored_steps, range(1, sizes.num_seeds + 1)
    table = Table(f"accuracy after {steps} steps of {sizes.scored_batch_size}")
    for precision in PRECISIONS:
        with table.instead_of_failure(precision):
            scores = [_train_and_score(sizes, data, precision, seed) for seed in seeds]
            for name, key in SCORES.items():
                values = [score[key] for score in scores]
                spread = f"{min(values):.3f} .. {max(values):.3f}, {len(seeds)} seeds"
                table.add(f"{name}, {precision}", f"{statistics.median(values):.3f}", spread)
    return table.rows


def _train_and_score(sizes, data, precision, seed):
    run_id = f"{precision}-{seed}"
    settings = [f"--log_dir={data / 'runs'}", f"--run_id={run_id}", f"--precision={precision}"]
    _run_script(
        data,
        f"--dataset_dir={data / 'images'}",
        *settings,
        f"--seed={seed}",
        "--loss_mode=triplet",
        f"--batch_size={sizes.scored_batch_size}",
        f"--number_of_steps={sizes.scored_steps}",
    )
    metrics_file = data / f"{run_id}.json"
    _run_script(data, "--mode=test", *settings, f"--metrics_file={metrics_file}")
    return json.loads(metrics_file.read_text(encoding="utf-8"))


def _run_script(cwd, *argv):
    command = [sys.executable, str(ROOT / "train_market1501.py"), *argv]
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if run.returncode:
        raise NotMeasured(run.stderr.strip().splitlines()[-1])

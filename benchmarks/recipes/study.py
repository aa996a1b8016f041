"""Trains recipes over seeds and splits, and scores them on identities left out.

Each training writes checkpoints at the same steps, and each is scored. A line of JSON for each
score goes to ``scores.jsonl`` in the output folder; what is there is not trained again, so the
study can be stopped and started. ``benchmarks.recipes.table`` makes the table and the plot.

python -m benchmarks.recipes.study --dataset=DIR --output=DIR [--configurations NAME ...]
"""

import argparse
import itertools
import json
import logging
import pathlib
import sys
import tempfile
import time

from benchmarks.recipes.configurations import CONFIGURATIONS
from datasets.custom import Custom
from deep_reid import cli

SCORES_FILENAME = "scores.jsonl"
_SCORES = {"rank1": "rank1", "mAP": "mAP_standard"}


def main(argv=None):
    """Train and score what is not there yet."""
    args = parse_arguments(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    done = {key_of(line) for line in read_scores(args.output)}
    height, width = args.image_shape
    # Trainings on other images, or on more at a time, are not to be compared.
    data = f"{args.title or args.dataset.name}, {height} x {width}, {args.batch_size} images a step"
    # Seeds vary slowest: after the first round there is a score of everything.
    for seed, split, name in itertools.product(
        args.seeds, args.splits, args.configurations or CONFIGURATIONS
    ):
        key = (data, name, split, seed, args.steps)
        if key in done:
            continue
        with tempfile.TemporaryDirectory(prefix=".run-", dir=args.output) as folder:
            lines = measure(args, name, split, seed, pathlib.Path(folder))
        facts = dict(zip(KEY, key, strict=True))
        text = "".join(json.dumps({**facts, **line}) + "\n" for line in lines)
        with open(args.output / SCORES_FILENAME, "a", encoding="utf-8") as file:
            file.write(text)


KEY = ("data", "configuration", "split", "seed", "steps")


def key_of(line):
    """Return what names the training that a score is of."""
    return tuple(line[name] for name in KEY)


def read_scores(output):
    """Return the scores of complete trainings."""
    path = output / SCORES_FILENAME
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def measure(args, name, split, seed, folder):
    """Train one configuration in a folder, and return the scores of its checkpoints."""
    common = [f"--log_dir={folder}", "--run_id=run"]
    start = time.perf_counter()
    run(
        "--mode=train",
        *common,
        f"--dataset={args.dataset}",
        *([f"--name_pattern={args.name_pattern}"] if args.name_pattern else []),
        f"--num_validation={args.num_validation}",
        f"--split_seed={split}",
        f"--seed={seed}",
        f"--number_of_steps={args.steps}",
        f"--batch_size={args.batch_size}",
        "--image_shape",
        *map(str, args.image_shape),
        f"--eval_every={args.score_every}",
        f"--eval_log_dir={folder}/eval",
        "--max_checkpoints_to_keep=1000",
        "--save_interval_secs=100000",
        "--save_summaries_secs=100000",
        "--no-monitor_losses",
        *CONFIGURATIONS[name],
    )
    seconds = time.perf_counter() - start
    lines = []
    for step in range(args.score_every, args.steps + 1, args.score_every):
        metrics = folder / "metrics.json"
        for precise in args.precise_batch_norm:
            flags = [f"--precise_batch_norm={precise}"] if precise else []
            checkpoint = f"--checkpoint={folder}/run/model.ckpt-{step}"
            run("--mode=test", checkpoint, *common[:1], f"--metrics_file={metrics}", *flags)
            scores = json.loads(metrics.read_text(encoding="utf-8"))
            found = {key: scores[known] for key, known in _SCORES.items()}
            lines.append({"step": step, "precise": precise, **found, "seconds": seconds})
    best = lines[-1]
    print(
        f"{name}, split {split}, seed {seed}: {best['rank1']:.3f} / {best['mAP']:.3f}", flush=True
    )
    return lines


def run(*argv):
    """Run a mode in this process."""
    logging.getLogger().handlers.clear()
    code = cli.main(Custom, list(argv))
    if code:
        sys.exit(code)


def parse_arguments(argv):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", type=pathlib.Path, required=True, help="folder, as for train_custom.py")
    add("--title", help="name of the data set in the table. None: that of the folder")
    add("--name_pattern", help="as for train_custom.py")
    add("--output", type=pathlib.Path, required=True, help="folder of the scores")
    add("--configurations", nargs="+", choices=CONFIGURATIONS, metavar="NAME",
        help=f"some of {'; '.join(CONFIGURATIONS)}. None: all")  # fmt: skip
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of weights and batches")
    add("--splits", type=int, nargs="+", default=[1234], help="seeds of the identities left out")
    add("--num_validation", default="0.5", help="identities left out: a number or a share")
    add("--steps", type=int, default=400, help="of each training")
    add("--score_every", type=int, default=100, help="steps")
    add("--batch_size", type=int, default=64, help="images per step")
    add("--image_shape", type=int, nargs=2, default=[128, 64], help="height and width")
    add("--precise_batch_norm", type=int, nargs="+", default=[0],
        help="batches to set batch norm anew from; 0: as it was trained")  # fmt: skip
    args = parser.parse_args(argv)
    if args.steps % args.score_every:
        parser.error("--steps must be a multiple of --score_every")
    return args


if __name__ == "__main__":
    main()

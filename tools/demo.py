"""A tour of some minutes: draws a data set, trains, evaluates, tests, freezes, uses the graph.

Runs the commands that a user types, and ends with a table. All files are in output/demo. The
command is `make demo`.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
# Replaces this script's folder.
sys.path[0] = str(ROOT)

from deep_reid.system.tables import align  # noqa: E402

OUTPUT = pathlib.Path("output", "demo")
DATA_DIR = OUTPUT / "data"
LOG_DIR = OUTPUT / "train"
EVAL_LOG_DIR = OUTPUT / "eval"
FROZEN_GRAPH = OUTPUT / "market1501.pb"
RUN_ID = "demo"
SAVE_INTERVAL_SECS = 20
# So short a run leaves batch norm's averages near their start values.
PRECISE = "--precise_batch_norm=25"

# With the default loss, the first scores rise slowly. With the triplet loss, they rise within some
# minutes.
BATCH_SIZE = 32
TRAIN_ARGS = ["--loss_mode=triplet", f"--batch_size={BATCH_SIZE}", "--seed=1"]


def main():
    """Run all steps; stop at the first that fails."""
    args = parse_arguments()
    os.chdir(ROOT)
    shutil.rmtree(OUTPUT, ignore_errors=True)
    draw(args.num_identities)
    evaluation = start_evaluation()
    try:
        seconds = train(args.number_of_steps)
        scores = wait_for_scores(evaluation, args.number_of_steps)
    finally:
        stop(evaluation)
    tests = [test(), test(PRECISE)]
    run_script("--mode=freeze", f"--output={FROZEN_GRAPH}", PRECISE)
    num_features = use_frozen_graph()
    print_table(args, seconds, scores, tests, num_features)


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--num_identities", type=int, default=120)
    parser.add_argument("--number_of_steps", type=int, default=500)
    return parser.parse_args()


def draw(num_identities):
    """Draw a data set in the layout of Market-1501."""
    run_command(
        "-m", "datasets.synthetic", "--layout=market1501", f"--output_dir={DATA_DIR}",
        f"--num_identities={num_identities}", "--num_test_identities=10",
    )  # fmt: skip


def train(number_of_steps):
    """Train from the first step to the last; return the seconds."""
    start = time.monotonic()
    run_script(
        "--mode=train", *TRAIN_ARGS, f"--number_of_steps={number_of_steps}",
        f"--save_interval_secs={SAVE_INTERVAL_SECS}", "--max_checkpoints_to_keep=100",
        "--log_every_n_steps=20",
    )  # fmt: skip
    return time.monotonic() - start


def start_evaluation():
    """Start the evaluation in another process, as in a second terminal."""
    settings = "--mode=eval", f"--eval_log_dir={EVAL_LOG_DIR}", "--eval_interval_secs=2"
    return subprocess.Popen(script_command(*settings))


def wait_for_scores(evaluation, last_step):
    """Wait until the last checkpoint is evaluated; return all scores, in order."""
    path = EVAL_LOG_DIR / RUN_ID / "metrics.jsonl"
    while True:
        lines = path.read_text().splitlines() if path.exists() else []
        scores = [json.loads(line) for line in lines]
        if scores and scores[-1]["step"] >= last_step:
            return scores
        if evaluation.poll() is not None:
            sys.exit(f"evaluation ended with code {evaluation.returncode}")
        time.sleep(0.5)


def stop(process):
    """End a process as Ctrl-C does."""
    process.send_signal(signal.SIGINT)
    process.wait()


def test(*settings):
    """Score the last checkpoint on the test set; return the scores."""
    path = OUTPUT / "test_metrics.json"
    run_script("--mode=test", f"--metrics_file={path}", *settings)
    return json.loads(path.read_text())


def use_frozen_graph():
    """Encode some images with the frozen graph, as a tracker does; return the features' shape."""
    from deep_reid import Encoder  # imports TensorFlow, which takes seconds

    files = sorted((DATA_DIR / "query").glob("*.jpg"))[:8]
    with Encoder(FROZEN_GRAPH) as encoder:
        features = encoder([cv2.imread(str(file)) for file in files])
    lengths = np.linalg.norm(features, axis=1)
    if not np.allclose(lengths, 1.0, atol=1e-5):
        sys.exit(f"features of the frozen graph have lengths {lengths}, not 1")
    return features.shape


def print_table(args, seconds, scores, tests, features_shape):
    """Print the results, and the command that shows them in TensorBoard."""
    first, last = scores[0], scores[-1]
    images_per_second = args.number_of_steps * BATCH_SIZE / seconds
    rows = [
        ("steps", f"{args.number_of_steps} of {BATCH_SIZE} images"),
        ("data", f"{args.num_identities} drawn identities, a tenth of them for validation"),
        ("images/s", f"{images_per_second:.0f}, start-up included, while the evaluation runs"),
        ("checkpoints evaluated", f"{len(scores)}, while training went on"),
        ("rank-1 before -> after", f"{first['Precision@1']:.3f} -> {last['Precision@1']:.3f}"),
        ("rank-5 before -> after", f"{first['Precision@5']:.3f} -> {last['Precision@5']:.3f}"),
        ("", "of the validation, where batch norm's averages still lag behind the weights"),
        *(
            (f"test: {title}", " -> ".join(f"{scores[name]:.3f}" for scores in tests))
            for title, name in (("rank-1", "rank1"), ("mAP", "mAP_standard"))
        ),
        ("", f"without -> with {PRECISE}, which the frozen graph has, too"),
        ("frozen graph", f"{FROZEN_GRAPH}: features of shape {features_shape}, of length 1"),
        ("to watch", f"{pathlib.Path(sys.executable).parent}/tensorboard --logdir {OUTPUT}"),
    ]
    print("\n" + align(rows, left=(0, 1)))


def script_command(*argv):
    """Return the command of the training script with the demo's directories."""
    return [
        sys.executable, "train_market1501.py", f"--dataset_dir={DATA_DIR}", f"--log_dir={LOG_DIR}",
        f"--run_id={RUN_ID}", *argv,
    ]  # fmt: skip


def run_script(*argv):
    """Run the training script to its end."""
    run_command(*script_command(*argv)[1:])


def run_command(*argv):
    """Show a command and run it to its end; stop the demo if it fails."""
    print(f"\n$ python {' '.join(argv)}", flush=True)
    code = subprocess.run([sys.executable, *argv], check=False).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()

"""The driver process of test_kills.py, which kills a run at each change to the disk."""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from kills import kill_at_each_change

from deep_reid.compat import slim, tf
from deep_reid.config import RunConfig
from deep_reid.evaluation import projector
from deep_reid.evaluation.best import BestCheckpoint
from deep_reid.runs import checkpoints, folder, labels, records, saving
from deep_reid.runs.run import Run

CONFIG = RunConfig(image_shape=(32, 16, 3), seed=1)
CLASS_NAMES = ["anna", "bob"]
KEPT = 2


def save(run, steps, done):
    with tf.Graph().as_default(), tf.Session() as session:
        weight = slim.model_variable("weight", (100,), initializer=tf.zeros_initializer())
        step_var = tf.train.get_or_create_global_step()
        saver = saving.Saver(max_to_keep=KEPT)
        saver.recover_last_checkpoints(records.list_checkpoints(run.run_dir))
        for step in steps:
            weight.load(np.full(100, step, np.float32), session)
            step_var.load(step, session)
            saver.save(session, os.path.join(run.run_dir, "model.ckpt"), step)
            done(step)


def begin(path, done, run_id="run"):
    with Run.open(path, run_id) as run:
        run.begin(CONFIG, CLASS_NAMES)
        save(run, [0], done)


def go_on(path, done):
    with Run.open(path, "run") as run:
        run.begin(CONFIG, CLASS_NAMES)
        save(run, [10, 20, 30, 40], done)


def begin_and_go_on(path):
    begin(path, lambda step: None)
    go_on(path, lambda step: None)


def check_run(path, done):
    """What was saved is there, the run goes on, and then nothing else is there."""
    # A training of another run, and then one of this run, which sweeps.
    with Run.open(path, "other"):
        pass
    with Run.open(path, "run") as run:
        steps = [checkpoints.check_readable(x) for x in records.list_checkpoints(run.run_dir)]
        assert run.first_step == max([done or 0, *steps])
        assert steps == sorted(steps)
        assert len(steps) <= KEPT
        assert records.is_recorded(run.run_dir, records.list_unrecorded(run.run_dir)) or (
            not steps and not records.list_unrecorded(run.run_dir)
        )
    check_tidy(path)


def check_tidy(path, extra=()):
    assert set(os.listdir(path)) <= {"run", "latest_run"}
    for run_dir in [Path(path, "run")] if Path(path, "run").exists() else []:
        names = {folder.STATE_FILENAME, "lock", "config.json", "labels.json", *extra}
        recorded = {os.path.basename(x) for x in records.list_checkpoints(run_dir)}
        names |= {f"{x}.{end}" for x in recorded for end in ("index", "meta")}
        names |= {f"{x}.data-00000-of-00001" for x in recorded}
        assert set(os.listdir(run_dir)) <= names, sorted(set(os.listdir(run_dir)) - names)
        if (run_dir / "config.json").exists():
            assert RunConfig.load(run_dir) == CONFIG
            assert labels.load(run_dir) == CLASS_NAMES
    if Path(path, "latest_run").exists():
        assert Path(path, "latest_run").read_text() == "run\n"


def check_unnamed(path, done):
    with Run.open(path) as run:
        others = set(os.listdir(path)) - {"latest_run", run.run_id}
    assert len(others) <= 1
    for name in others:
        with Run.open(path, name) as run:
            assert done is None or run.checkpoint is not None
        assert folder.find_recorded_run(path) in (None, name)
        # What was killed before it wrote anything is gone now.
        assert not list(Path(path, name).glob(".*"))


def line(path, step, score):
    prefix = os.path.join(path, "run", f"model.ckpt-{step}")
    return {"step": step, "checkpoint": prefix, "Precision@1": score}


def keep_best(path, done):
    best = BestCheckpoint(os.path.join(path, "run"), "Precision@1")
    best.offer(line(path, 30, 0.5))
    done(30)
    best.offer(line(path, 40, 0.6))
    done(40)


def check_best(path, done):
    BestCheckpoint(os.path.join(path, "run"), "Precision@1")
    directory = os.path.join(path, "run", "best")
    if os.path.exists(directory):
        (kept,) = records.list_checkpoints(directory)
        assert checkpoints.check_readable(kept) >= (done or 0)
    else:
        assert done is None
    check_tidy(path, {"best"})


def evaluate(path, done, step=40):
    """Write for the projector as an evaluation does, which first sweeps."""
    run_dir, eval_dir = os.path.join(path, "run"), os.path.join(path, "run", "eval")
    for directory in (eval_dir, run_dir):
        saving.remove_leftovers_of_evaluation(directory)
    projector.write_sprite(eval_dir, np.zeros((2, 8, 4, 3), np.uint8))
    projector.write_features(eval_dir, step, np.full((2, 3), step), {"identity": ["1", "2"]})
    projector.copy_features(run_dir, eval_dir, step)


def check_projector(path, done):
    """The next evaluation, and the next training, leave nothing half-written."""
    evaluate(path, done, 50)
    check_shown(path)
    with Run.open(path, "run"):
        check_shown(path)
    check_tidy(path, {"eval", "projector", "projector_config.pbtxt"})


def check_shown(path):
    for directory in (Path(path, "run"), Path(path, "run", "eval")):
        assert "step 50" in (directory / "projector_config.pbtxt").read_text()
        names = {"features.tsv", "metadata.tsv", "sprite.png"}
        assert set(os.listdir(directory / "projector")) == names
        assert not list(directory.glob(".*"))


SCENARIOS = {
    "write for the projector": (
        lambda path: begin(path, lambda step: None),
        evaluate,
        check_projector,
    ),
    "begin": (lambda path: None, begin, check_run),
    "begin without a name": (
        lambda path: None,
        lambda path, done: begin(path, done, None),
        check_unnamed,
    ),
    "go on": (lambda path: begin(path, lambda step: None), go_on, check_run),
    "keep the best": (begin_and_go_on, keep_best, check_best),
}

if __name__ == "__main__":
    prepare, work, check = SCENARIOS[sys.argv[1]]
    changes = kill_at_each_change(
        lambda number: tempfile.mkdtemp(prefix=f"{number}-", dir=sys.argv[2]), prepare, work, check
    )
    sys.stdout.write("".join(f"change {event} {name}\n" for event, name in changes))

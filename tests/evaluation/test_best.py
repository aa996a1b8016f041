"""The copy of the best checkpoint: whole at any moment, and kept over restarts."""

import ctypes
import json
import logging
import os
import shutil
import threading
import types

import pytest
from saved import save

from deep_reid.compat import tf
from deep_reid.config import RunConfig
from deep_reid.errors import MissingPathError, RunError, UsageError
from deep_reid.evaluation import best, score_log
from deep_reid.evaluation.best import BestCheckpoint
from deep_reid.runs import checkpoints, folder, records
from deep_reid.runs.run import Run

pytestmark = pytest.mark.usefixtures("graph")


@pytest.fixture
def run_dir(tmp_path):
    """A run with checkpoints of the steps 1, 2 and 3."""
    RunConfig((32, 16, 3), seed=1).save(tmp_path / "run")
    (tmp_path / "run" / "labels.json").write_text('{"a": 0}')
    save(tmp_path / "run", [1, 2, 3])
    return tmp_path / "run"


def line(run_dir, step, score):
    time = "2100-01-01T00:00:00+00:00"
    checkpoint = str(run_dir / f"model.ckpt-{step}")
    return {"step": step, "Precision@1": score, "checkpoint": checkpoint, "time": time}


def kept_step(run_dir):
    record = json.loads((run_dir / "best" / "score.json").read_text())
    prefix = records.resolve_checkpoint(run_dir / "best")
    assert prefix == str(run_dir / "best" / f"model.ckpt-{record['step']}")
    assert checkpoints.is_readable(prefix)
    assert checkpoints.step_of(prefix) == record["step"]
    return record["step"]


def hidden(run_dir):
    return [name for name in os.listdir(run_dir) if name.startswith(".best")]


def test_the_best_is_kept_with_all_that_it_takes_to_use_it(run_dir):
    BestCheckpoint(run_dir, "Precision@1").offer(line(run_dir, 2, 0.5))
    assert kept_step(run_dir) == 2
    assert set(os.listdir(run_dir / "best")) == {
        "checkpoint", "config.json", "labels.json", "score.json", "model.ckpt-2.index",
        "model.ckpt-2.meta", "model.ckpt-2.data-00000-of-00001",
    }  # fmt: skip
    assert RunConfig.load(run_dir / "best") == RunConfig.load(run_dir)
    assert json.loads((run_dir / "best" / "score.json").read_text()) == line(run_dir, 2, 0.5)
    assert os.stat(run_dir / "best").st_mode & 0o777 == os.stat(run_dir).st_mode & 0o777


def test_it_is_replaced_by_a_better_one_alone(run_dir, caplog):
    caplog.set_level(logging.INFO)
    kept = BestCheckpoint(run_dir, "Precision@1")
    steps = []
    for step, score in ((1, 0.5), (2, 0.5), (3, 0.4), (2, 0.6)):
        kept.offer(line(run_dir, step, score))
        steps.append(kept_step(run_dir))
    assert steps == [1, 1, 1, 2]
    assert len(list((run_dir / "best").glob("*.index"))) == 1
    assert not hidden(run_dir)
    assert caplog.text.count("is the best so far, by Precision@1") == 2


def test_the_score_is_remembered_over_a_restart(run_dir):
    BestCheckpoint(run_dir, "Precision@1").offer(line(run_dir, 1, 0.5))
    kept = BestCheckpoint(run_dir, "Precision@1")
    kept.offer(line(run_dir, 2, 0.5))
    assert kept_step(run_dir) == 1
    kept.offer(line(run_dir, 3, 0.7))
    assert kept_step(run_dir) == 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"Precision@1": "x"}'])
def test_a_damaged_record_is_replaced_by_the_next(run_dir, content, caplog):
    BestCheckpoint(run_dir, "Precision@1").offer(line(run_dir, 1, 0.5))
    (run_dir / "best" / "score.json").write_text(content)
    BestCheckpoint(run_dir, "Precision@1").offer(line(run_dir, 2, 0.1))
    assert kept_step(run_dir) == 2
    assert "score.json is damaged" in caplog.text


@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_a_checkpoint_that_vanishes_leaves_the_one_before(run_dir, ending, caplog):
    kept = BestCheckpoint(run_dir, "Precision@1")
    kept.offer(line(run_dir, 1, 0.5))
    (run_dir / f"model.ckpt-2.{ending}").unlink()
    kept.offer(line(run_dir, 2, 0.6))
    assert kept_step(run_dir) == 1
    assert "model.ckpt-2 is the best so far, but could not be kept" in caplog.text
    assert not hidden(run_dir)
    kept.offer(line(run_dir, 3, 0.55))  # better than what is kept
    assert kept_step(run_dir) == 3


def test_a_full_disk_leaves_the_one_before(run_dir, monkeypatch, caplog):
    kept = BestCheckpoint(run_dir, "Precision@1")
    kept.offer(line(run_dir, 1, 0.5))

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    kept.offer(line(run_dir, 2, 0.6))
    assert kept_step(run_dir) == 1
    assert "No space left on device" in caplog.text
    assert not hidden(run_dir)


def test_a_run_that_is_gone_is_no_error(run_dir, caplog):
    kept = BestCheckpoint(run_dir, "Precision@1")
    shutil.rmtree(run_dir)
    kept.offer(line(run_dir, 1, 0.5))
    assert "could not be kept" in caplog.text


@pytest.mark.parametrize("can_exchange", [True, False])
def test_whoever_looks_finds_a_whole_one(run_dir, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace())
    kept = BestCheckpoint(run_dir, "Precision@1")
    kept.offer(line(run_dir, 1, 0.01))
    seen, has_ended = [], threading.Event()

    def look():
        while not has_ended.is_set():
            try:
                descriptor = os.open(run_dir / "best", os.O_RDONLY)  # this one, whatever comes
            except FileNotFoundError:
                seen.append(None)
                continue
            names = sorted(os.listdir(descriptor))
            os.close(descriptor)
            seen.append(len(names) if names else "removed")

    looker = threading.Thread(target=look)
    looker.start()
    for number in range(2, 40):
        kept.offer(line(run_dir, 1 + number % 3, number / 100))
    has_ended.set()
    looker.join()
    assert not hidden(run_dir)
    assert json.loads((run_dir / "best" / "score.json").read_text())["Precision@1"] == 0.39
    if can_exchange:
        assert None not in seen


def test_an_evaluation_that_was_killed_leaves_nothing(run_dir):
    BestCheckpoint(run_dir, "Precision@1").offer(line(run_dir, 1, 0.5))
    shutil.copytree(run_dir / "best", run_dir / ".best-old")
    (run_dir / ".best-new").mkdir()
    BestCheckpoint(run_dir, "Precision@1")
    assert not hidden(run_dir)
    assert kept_step(run_dir) == 1


def test_a_best_that_was_put_aside_comes_back(run_dir):
    BestCheckpoint(run_dir, "Precision@1").offer(line(run_dir, 1, 0.5))
    os.rename(run_dir / "best", run_dir / ".best-aside")
    BestCheckpoint(run_dir, "Precision@1")
    assert kept_step(run_dir) == 1


def test_what_was_evaluated_before_is_caught_up_on(run_dir, tmp_path):
    log = score_log.ScoreLog(tmp_path)
    for step, score in ((1, 0.5), (2, 0.9), (3, 0.7), (9, 1.0)):
        log.append(line(run_dir, step, score))
    kept = BestCheckpoint(run_dir, "Precision@1")
    kept.catch_up(score_log.ScoreLog(tmp_path))
    assert kept_step(run_dir) == 2


def test_the_folder_is_not_taken_for_a_run_or_for_the_runs_checkpoint(run_dir):
    BestCheckpoint(run_dir, "Precision@1").offer(line(run_dir, 1, 0.5))
    assert records.resolve_checkpoint(run_dir) == str(run_dir / "model.ckpt-3")
    assert folder.find_latest_run(run_dir) is None
    assert folder.find_latest_run(run_dir.parent) == "run"
    assert len(records.list_checkpoints(run_dir)) == 3
    for path in [*run_dir.glob("model.ckpt*"), run_dir / "checkpoint"]:
        path.unlink()
    with pytest.raises(MissingPathError):
        records.resolve_checkpoint(run_dir)


def test_it_may_be_moved(run_dir, tmp_path):
    BestCheckpoint(run_dir, "Precision@1").offer(line(run_dir, 1, 0.5))
    shutil.move(run_dir / "best", tmp_path / "release")
    assert tf.train.latest_checkpoint(tmp_path / "release") == str(
        tmp_path / "release" / "model.ckpt-1"
    )


def test_two_evaluations_do_not_keep_the_best_of_one_run(run_dir):
    with best.keeping_best(run_dir, "Precision@1") as kept:
        kept.offer(line(run_dir, 2, 0.9))
        message = "is being evaluated with keep_best by process .*: stop it, or leave keep_best out"
        with pytest.raises(RunError, match=message), best.keeping_best(run_dir, "Precision@1"):
            pass
        assert kept_step(run_dir) == 2
    with best.keeping_best(run_dir, "Precision@1") as kept:
        kept.offer(line(run_dir, 1, 0.5))
    assert kept_step(run_dir) == 2


def test_a_run_that_is_yet_to_begin_is_still_new_then(tmp_path):
    with best.keeping_best(tmp_path / "log" / "run", "Precision@1"):
        # What is wrong from the start on leaves no new run.
        with pytest.raises(UsageError), Run.open(tmp_path / "log", "run") as run:
            run.begin(RunConfig((32, 16, 3), network="deep_sort"))
            raise UsageError("wrong")
        assert not (tmp_path / "log" / "run").exists()

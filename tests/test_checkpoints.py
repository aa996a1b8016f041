"""Forgiving checkpoint paths, waiting for checkpoints, and restoring with a report."""

import functools
import itertools
import logging
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from saved import save

from deep_reid import checkpoints, runs
from deep_reid.compat import slim, tf
from deep_reid.errors import DataError, MissingPathError

pytestmark = pytest.mark.usefixtures("graph")


@pytest.fixture
def run_dir(tmp_path):
    """A run with checkpoints of the steps 0, 9 and 10 in a log directory of its own."""
    runs.start_run(tmp_path / "log", "run")
    save(tmp_path / "log" / "run", [0, 9, 10])
    return tmp_path / "log" / "run"


class TestResolveCheckpoint:
    @pytest.mark.parametrize(
        "ending", ["", ".index", ".meta", ".data-00000-of-00001"], ids=["prefix", "i", "m", "d"]
    )
    @pytest.mark.parametrize("step", [9, 10])
    @pytest.mark.parametrize("convert", [str, Path])
    def test_a_prefix_or_any_file_of_a_checkpoint_is_that_checkpoint(
        self, run_dir, ending, step, convert
    ):
        path = convert(f"{run_dir}/model.ckpt-{step}{ending}")
        assert checkpoints.resolve_checkpoint(path) == str(run_dir / f"model.ckpt-{step}")

    @pytest.mark.parametrize("part", [".", "checkpoint", ".."], ids=["run", "checkpoint", "log"])
    def test_a_directory_is_its_latest_checkpoint(self, run_dir, part):
        prefix = checkpoints.resolve_checkpoint(run_dir / part)
        assert os.path.samefile(f"{prefix}.index", run_dir / "model.ckpt-10.index")

    @pytest.mark.parametrize("path", [".", "checkpoint", "model.ckpt-10", "model.ckpt-10.index"])
    def test_paths_relative_to_the_working_directory(self, run_dir, monkeypatch, path):
        monkeypatch.chdir(run_dir)
        prefix = checkpoints.resolve_checkpoint(path)
        assert os.path.abspath(prefix) == str(run_dir / "model.ckpt-10")

    def test_a_log_directory_is_the_run_recorded_as_its_latest(self, run_dir):
        save(run_dir.parent / "younger", [77])
        prefix = checkpoints.resolve_checkpoint(run_dir.parent)
        assert prefix == str(run_dir / "model.ckpt-10")

    def test_a_directory_may_be_moved(self, run_dir, tmp_path):
        moved = tmp_path / "moved"
        shutil.move(run_dir, moved)
        for path in (moved, moved / "checkpoint"):
            assert checkpoints.resolve_checkpoint(path) == str(moved / "model.ckpt-10")

    def test_without_its_record_the_highest_step_of_a_directory_counts(self, run_dir):
        (run_dir / "checkpoint").unlink()  # as published checkpoints come
        assert checkpoints.resolve_checkpoint(run_dir) == str(run_dir / "model.ckpt-10")

    def test_a_latest_checkpoint_that_was_deleted_is_passed_over(self, run_dir):
        (run_dir / "model.ckpt-10.index").unlink()
        assert checkpoints.resolve_checkpoint(run_dir) == str(run_dir / "model.ckpt-9")

    @pytest.mark.parametrize("ending", ["", ".meta"])
    def test_a_checkpoint_of_the_old_format_is_one_file(self, tmp_path, ending):
        with tf.Session() as session:
            weights = tf.get_variable("weights", initializer=[1.0, 2.0])
            session.run(weights.initializer)
            saver = tf.train.Saver(write_version=tf.train.SaverDef.V1)
            prefix = saver.save(session, str(tmp_path / "model.ckpt"), global_step=7)
        assert os.path.isfile(prefix)
        assert checkpoints.resolve_checkpoint(prefix + ending) == prefix
        assert checkpoints.variable_shapes(prefix + ending) == {"weights": [2]}

    def test_a_checkpoint_that_does_not_exist_is_refused_with_those_near(self, run_dir):
        message = r"model\.ckpt-11 does not exist: .*model\.ckpt-9, model\.ckpt-10"
        with pytest.raises(MissingPathError, match=message):
            checkpoints.resolve_checkpoint(run_dir / "model.ckpt-11")

    @pytest.mark.parametrize("ending", [".index", ".meta", ".data-00000-of-00001"])
    def test_so_is_a_file_of_one(self, run_dir, ending):
        with pytest.raises(MissingPathError, match=r"model\.ckpt-10"):
            checkpoints.resolve_checkpoint(f"{run_dir}/model.ckpt-11{ending}")

    @pytest.mark.parametrize("path", ["missing", "missing/model.ckpt-1", "missing/checkpoint"])
    def test_a_path_to_nowhere_says_that_there_is_nothing(self, tmp_path, path):
        with pytest.raises(MissingPathError, match="holds none either"):
            checkpoints.resolve_checkpoint(tmp_path / path)

    def test_an_empty_directory_says_so(self, tmp_path):
        with pytest.raises(MissingPathError, match="holds no checkpoint"):
            checkpoints.resolve_checkpoint(tmp_path)

    def test_a_run_without_checkpoints_says_so(self, tmp_path):
        runs.start_run(tmp_path, "young")
        with pytest.raises(MissingPathError, match="holds no checkpoint"):
            checkpoints.resolve_checkpoint(tmp_path)


class TestListCheckpoints:
    def test_the_oldest_comes_first(self, run_dir):
        expected = [str(run_dir / f"model.ckpt-{step}") for step in (0, 9, 10)]
        assert checkpoints.list_checkpoints(run_dir) == expected
        assert checkpoints.list_checkpoints(str(run_dir)) == expected

    def test_checkpoints_that_lack_a_file_are_left_out(self, run_dir):
        (run_dir / "model.ckpt-9.index").unlink()
        steps = [checkpoints.step_of(prefix) for prefix in checkpoints.list_checkpoints(run_dir)]
        assert steps == [0, 10]

    def test_nothing_where_there_is_nothing(self, tmp_path):
        assert checkpoints.list_checkpoints(tmp_path) == []
        assert checkpoints.list_checkpoints(tmp_path / "missing") == []


class TestWaitForCheckpoints:
    def test_each_one_comes_once_the_oldest_first(self, run_dir):
        waiting = checkpoints.wait_for_checkpoints(run_dir, interval_secs=0.02, timeout_secs=0.2)
        assert list(waiting) == [str(run_dir / f"model.ckpt-{step}") for step in (0, 9, 10)]

    def test_one_that_was_deleted_before_its_turn_is_left_out(self, run_dir):
        waiting = checkpoints.wait_for_checkpoints(run_dir, interval_secs=0.02, timeout_secs=0.1)
        assert next(waiting) == str(run_dir / "model.ckpt-0")
        (run_dir / "model.ckpt-9.index").unlink()
        assert list(waiting) == [str(run_dir / "model.ckpt-10")]

    def test_new_ones_are_found_while_it_waits(self, tmp_path):
        run_dir = tmp_path / "later"
        waiting = checkpoints.wait_for_checkpoints(run_dir, interval_secs=0.02, timeout_secs=20)
        writer = threading.Timer(0.2, save, (run_dir, [1, 2]))
        writer.start()
        steps = [checkpoints.step_of(prefix) for prefix in itertools.islice(waiting, 2)]
        writer.join()
        assert steps == [1, 2]

    def test_ends_after_the_timeout_although_the_interval_is_longer(self, tmp_path):
        started_at = time.monotonic()
        waiting = checkpoints.wait_for_checkpoints(tmp_path, interval_secs=60, timeout_secs=0.2)
        assert list(waiting) == []
        assert 0.2 <= time.monotonic() - started_at < 10

    def test_the_callers_work_with_a_checkpoint_does_not_count_as_waiting(self, tmp_path):
        save(tmp_path, [1])
        waiting = checkpoints.wait_for_checkpoints(tmp_path, interval_secs=0.02, timeout_secs=1)
        next(waiting)
        time.sleep(1.1)
        writer = threading.Timer(0.1, save, (tmp_path, [1, 2]))
        writer.start()
        assert next(waiting) == str(tmp_path / "model.ckpt-2")
        writer.join()


class TestStepOf:
    def test_the_variable_counts_and_not_the_name(self, tmp_path):
        (prefix,) = save(tmp_path, [12])
        for path in tmp_path.glob("model.ckpt-12.*"):
            path.rename(path.with_name(path.name.replace("-12", "-99")))
        assert checkpoints.step_of(str(tmp_path / "model.ckpt-99")) == 12

    def test_without_the_variable_the_name_counts(self, tmp_path):
        (prefix,) = save(tmp_path, [12], with_step=False)
        assert checkpoints.step_of(prefix) == 12

    def test_without_either_it_is_zero(self, tmp_path):
        (prefix,) = save(tmp_path, [None], with_step=False)
        assert checkpoints.step_of(prefix) == 0


def test_shapes_of_the_variables_of_a_checkpoint(run_dir):
    expected = {"weights": [2], "global_step": []}
    assert checkpoints.variable_shapes(run_dir) == expected
    assert checkpoints.variable_shapes(run_dir / "model.ckpt-9.index") == expected


class TestRestore:
    VALUES = {"a": [1.0, 2.0], "b/weights": [[3.0, 4.0]], "b/Adam": [0.5], "old": [9.0]}

    @pytest.fixture
    def prefix(self, tmp_path):
        return save(tmp_path / "from", [5], self.VALUES)[0]

    def create(self, **shapes):
        return [
            slim.model_variable(name.replace("__", "/"), shape, initializer=tf.zeros_initializer())
            for name, shape in shapes.items()
        ]

    def test_the_plan_says_what_becomes_of_each_variable(self, prefix):
        variables = self.create(a=(2,), b__weights=(1, 3), new=(2, 2))
        plan = checkpoints.plan_restore(prefix, variables)
        assert plan.checkpoint_path == prefix
        assert plan.restored == (variables[0],)
        assert plan.missing == ("new",)
        assert plan.mismatched == ("b/weights ([1, 2] in the checkpoint, [1, 3] here)",)
        assert plan.unused == ("b/Adam", "global_step", "old")

    def test_a_plan_may_be_made_from_any_form_of_path(self, prefix):
        variables = self.create(a=(2,))
        for path in (f"{prefix}.index", os.path.dirname(prefix)):
            assert checkpoints.plan_restore(path, variables).checkpoint_path == prefix

    def test_the_init_fn_restores_what_the_plan_says_and_nothing_else(self, prefix):
        variables = self.create(a=(2,), b__weights=(1, 3), new=(2,))
        init_fn = checkpoints.plan_restore(prefix, variables).create_init_fn()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            init_fn(session)
            a, b, new = session.run(variables)
        assert a.tolist() == [1.0, 2.0]
        assert not b.any()
        assert not new.any()

    def test_the_init_fn_works_in_a_finalized_graph(self, prefix, graph):
        variables = self.create(a=(2,))
        init_fn = checkpoints.plan_restore(prefix, variables).create_init_fn()
        graph.finalize()
        with tf.Session() as session:
            init_fn(session)
            assert session.run(variables[0]).tolist() == [1.0, 2.0]

    def test_a_checkpoint_that_has_nothing_of_the_network_is_refused(self, prefix):
        plan = checkpoints.plan_restore(prefix, self.create(other=(2,), a=(7,)))
        with pytest.raises(DataError, match="none of the network's variables"):
            plan.create_init_fn()

    def test_a_plan_is_complete_when_nothing_keeps_its_start_value(self, prefix):
        plan = checkpoints.plan_restore(prefix, self.create(a=(2,), b__weights=(1, 2)))
        plan.check_complete()
        assert len(plan.restored) == 2

    @pytest.mark.parametrize(
        "shapes, message",
        [
            ({"a": (2,), "new": (2,)}, "lacks new; other shapes: none"),
            ({"a": (3,)}, r"lacks none; other shapes: a \(\[2\] in the checkpoint, \[3\] here\)"),
            ({f"n{i}": () for i in range(7)}, r"lacks n0, n1, n2, n3, n4 and 2 more"),
        ],
    )
    def test_an_incomplete_plan_says_what_is_missing(self, prefix, shapes, message):
        with pytest.raises(DataError, match=message):
            checkpoints.plan_restore(prefix, self.create(**shapes)).check_complete()

    def test_the_report_names_what_keeps_its_start_value(self, prefix, caplog):
        caplog.set_level(logging.INFO)
        variables = self.create(a=(2,), b__weights=(1, 3), new=(2, 2))
        plan = checkpoints.plan_restore(prefix, variables)
        plan.log_report()
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert warnings == ["2 variables are left at their start values"]
        assert caplog.messages[0] == f"Variables from {prefix}:"
        assert caplog.messages[1:-1] == [
            "                            variables",
            "restored                            1",
            f"skipped: shape                      1  {plan.mismatched[0]}",
            "skipped: not in checkpoint          1  new",
            "skipped: excluded                   0",
            "unused in checkpoint                3  b/Adam, global_step, old",
        ]

    def test_model_variables_that_were_not_asked_for_are_excluded(self, prefix):
        variables = self.create(a=(2,), b__weights=(1, 2))
        plan = checkpoints.plan_restore(prefix, variables[:1])
        assert plan.excluded == ("b/weights",)
        assert plan.unused == ("b/Adam", "global_step", "old")

    def test_the_report_warns_of_nothing_where_all_is_there(self, prefix, caplog):
        checkpoints.plan_restore(prefix, self.create(a=(2,))).log_report()
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]

    def test_a_model_is_restored_from_a_session_of_any_graph(self, prefix):
        with tf.Graph().as_default() as other_graph:
            (a,) = self.create(a=(2,))
        with tf.Session(graph=other_graph) as session:
            assert checkpoints.restore_model(session, os.path.dirname(prefix)) == prefix
            assert session.run(a).tolist() == [1.0, 2.0]

    def test_a_model_is_restored_whole_or_not_at_all(self, prefix):
        self.create(a=(2,), new=(1,))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            with pytest.raises(DataError, match="lacks new"):
                checkpoints.restore_model(session, prefix)
            assert not session.run("a:0").any()

    def test_variables_that_are_not_of_the_model_are_left_alone(self, prefix):
        (a,) = self.create(a=(2,))
        other = tf.get_variable("other", initializer=7.0)
        with tf.Session() as session:
            session.run(other.initializer)
            checkpoints.restore_model(session, prefix)
            np.testing.assert_array_equal(session.run(a), [1.0, 2.0])
            assert session.run(other) == 7.0

    @pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001"])
    @pytest.mark.parametrize("content", [b"", b"no checkpoint", None], ids=["empty", "text", "no"])
    def test_a_checkpoint_that_is_damaged_is_named(self, prefix, ending, content):
        self.create(a=(2,))
        Path(prefix + ending).unlink()
        if content is not None:
            Path(prefix + ending).write_bytes(content)
        with tf.Session() as session, pytest.raises(DataError, match=r"model\.ckpt-5"):
            checkpoints.restore_model(session, prefix)

    def test_a_file_that_is_no_checkpoint_is_named(self, tmp_path):
        self.create(a=(2,))
        (tmp_path / "model.pb").write_bytes(b"a frozen graph" * 10)
        with tf.Session() as session, pytest.raises(DataError, match=r"model\.pb"):
            checkpoints.restore_model(session, tmp_path / "model.pb")

    @pytest.mark.parametrize("function", ["plan_restore", "restore_model"])
    def test_a_missing_checkpoint_is_named(self, tmp_path, function):
        calls = {
            "plan_restore": functools.partial(checkpoints.plan_restore, variables=[]),
            "restore_model": functools.partial(checkpoints.restore_model, tf.Session()),
        }
        with pytest.raises(MissingPathError, match="nowhere"):
            calls[function](checkpoint_path=tmp_path / "nowhere")

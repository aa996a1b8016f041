"""What a graph takes from a checkpoint, with a report of what it does not."""

import functools
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from saved import save

from deep_reid.compat import slim, tf
from deep_reid.errors import DataError, MissingPathError
from deep_reid.runs import restoring

pytestmark = pytest.mark.usefixtures("graph")


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
        plan = restoring.plan_restore(prefix, variables)
        assert plan.checkpoint_path == prefix
        assert list(plan.restored.values()) == [variables[0]]
        assert plan.missing == ("new",)
        assert plan.mismatched == ("b/weights ([1, 2] in the checkpoint, [1, 3] here)",)
        assert plan.unused == ("b/Adam", "global_step", "old")

    def test_a_plan_may_be_made_from_any_form_of_path(self, prefix):
        variables = self.create(a=(2,))
        for path in (f"{prefix}.index", os.path.dirname(prefix)):
            assert restoring.plan_restore(path, variables).checkpoint_path == prefix

    def test_the_init_fn_restores_what_the_plan_says_and_nothing_else(self, prefix):
        variables = self.create(a=(2,), b__weights=(1, 3), new=(2,))
        init_fn = restoring.plan_restore(prefix, variables).create_init_fn()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            init_fn(session)
            a, b, new = session.run(variables)
        assert a.tolist() == [1.0, 2.0]
        assert not b.any()
        assert not new.any()

    def test_the_init_fn_works_in_a_finalized_graph(self, prefix, graph):
        variables = self.create(a=(2,))
        init_fn = restoring.plan_restore(prefix, variables).create_init_fn()
        graph.finalize()
        with tf.Session() as session:
            init_fn(session)
            assert session.run(variables[0]).tolist() == [1.0, 2.0]

    def test_a_checkpoint_that_has_nothing_of_the_network_is_refused(self, prefix):
        plan = restoring.plan_restore(prefix, self.create(other=(2,), a=(7,)))
        with pytest.raises(DataError, match="none of the network's variables"):
            plan.create_init_fn()

    def test_a_plan_is_complete_when_nothing_keeps_its_start_value(self, prefix):
        plan = restoring.plan_restore(prefix, self.create(a=(2,), b__weights=(1, 2)))
        plan.check_complete()
        assert len(plan.restored) == 2

    @pytest.mark.parametrize(
        "shapes, message",
        [
            ({"a": (2,), "new": (2,)}, r"network: it lacks new\. Name"),
            ({"a": (3,)}, r"network: other shapes: a \(\[2\] in the checkpoint, \[3\] here\)"),
            ({f"n{i}": () for i in range(7)}, r"lacks n0, n1, n2, n3, n4 and 2 more"),
        ],
    )
    def test_an_incomplete_plan_says_what_is_missing(self, prefix, shapes, message):
        with pytest.raises(DataError, match=message):
            restoring.plan_restore(prefix, self.create(**shapes)).check_complete()

    def test_the_report_names_what_keeps_its_start_value(self, prefix, caplog):
        caplog.set_level(logging.INFO)
        variables = self.create(a=(2,), b__weights=(1, 3), new=(2, 2))
        plan = restoring.plan_restore(prefix, variables)
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
        plan = restoring.plan_restore(prefix, variables[:1])
        assert plan.excluded == ("b/weights",)
        assert plan.unused == ("b/Adam", "global_step", "old")

    def test_the_report_warns_of_nothing_where_all_is_there(self, prefix, caplog):
        restoring.plan_restore(prefix, self.create(a=(2,))).log_report()
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]

    def test_a_model_is_restored_from_a_session_of_any_graph(self, prefix):
        with tf.Graph().as_default() as other_graph:
            (a,) = self.create(a=(2,))
        with tf.Session(graph=other_graph) as session:
            assert restoring.restore_model(session, os.path.dirname(prefix)) == prefix
            assert session.run(a).tolist() == [1.0, 2.0]

    def test_a_model_is_restored_whole_or_not_at_all(self, prefix):
        self.create(a=(2,), new=(1,))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            with pytest.raises(DataError, match="lacks new"):
                restoring.restore_model(session, prefix)
            assert not session.run("a:0").any()

    def test_variables_that_are_not_of_the_model_are_left_alone(self, prefix):
        (a,) = self.create(a=(2,))
        other = tf.get_variable("other", initializer=7.0)
        with tf.Session() as session:
            session.run(other.initializer)
            restoring.restore_model(session, prefix)
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
            restoring.restore_model(session, prefix)

    def test_a_file_that_is_no_checkpoint_is_named(self, tmp_path):
        self.create(a=(2,))
        (tmp_path / "model.pb").write_bytes(b"a frozen graph" * 10)
        with tf.Session() as session, pytest.raises(DataError, match=r"model\.pb"):
            restoring.restore_model(session, tmp_path / "model.pb")

    @pytest.mark.parametrize("function", ["plan_restore", "restore_model"])
    def test_a_missing_checkpoint_is_named(self, tmp_path, function):
        calls = {
            "plan_restore": functools.partial(restoring.plan_restore, variables=[]),
            "restore_model": functools.partial(restoring.restore_model, tf.Session()),
        }
        with pytest.raises(MissingPathError, match="nowhere"):
            calls[function](checkpoint_path=tmp_path / "nowhere")

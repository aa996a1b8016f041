"""Forgiving checkpoint paths, and waiting for checkpoints."""

import itertools
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from saved import save

from deep_reid.compat import tf
from deep_reid.errors import DataError, MissingPathError
from deep_reid.runs import checkpoints, folder, records, watching

pytestmark = pytest.mark.usefixtures("graph")


@pytest.fixture
def run_dir(tmp_path):
    """A run with checkpoints of the steps 0, 9 and 10 in a log directory of its own."""
    save(tmp_path / "log" / "run", [0, 9, 10])
    folder.record_latest_run(tmp_path / "log", "run")
    return tmp_path / "log" / "run"


class TestNamingDamaged:
    def test_one_that_a_training_deletes_is_named_as_that(self, run_dir):
        prefix = str(run_dir / "model.ckpt-9")
        for path in records.list_files(prefix):
            os.unlink(path)
        with pytest.raises(DataError, match="model.ckpt-9 has been deleted meanwhile"):
            checkpoints.check_readable(prefix)

    @pytest.mark.parametrize("kind", [tf.errors.UnavailableError, tf.errors.AbortedError])
    def test_a_server_that_is_lost_is_no_damage(self, run_dir, kind):
        with pytest.raises(kind), checkpoints.naming_damaged(str(run_dir / "model.ckpt-9")):
            raise kind(None, None, "Socket closed")


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
        assert records.resolve_checkpoint(path) == str(run_dir / f"model.ckpt-{step}")

    @pytest.mark.parametrize("part", [".", "checkpoint", ".."], ids=["run", "checkpoint", "log"])
    def test_a_directory_is_its_latest_checkpoint(self, run_dir, part):
        prefix = records.resolve_checkpoint(run_dir / part)
        assert os.path.samefile(f"{prefix}.index", run_dir / "model.ckpt-10.index")

    @pytest.mark.parametrize("path", [".", "checkpoint", "model.ckpt-10", "model.ckpt-10.index"])
    def test_paths_relative_to_the_working_directory(self, run_dir, monkeypatch, path):
        monkeypatch.chdir(run_dir)
        prefix = records.resolve_checkpoint(path)
        assert os.path.abspath(prefix) == str(run_dir / "model.ckpt-10")

    def test_a_log_directory_is_the_run_recorded_as_its_latest(self, run_dir):
        save(run_dir.parent / "younger", [77])
        prefix = records.resolve_checkpoint(run_dir.parent)
        assert prefix == str(run_dir / "model.ckpt-10")

    def test_a_directory_may_be_moved(self, run_dir, tmp_path):
        moved = tmp_path / "moved"
        shutil.move(run_dir, moved)
        for path in (moved, moved / "checkpoint"):
            assert records.resolve_checkpoint(path) == str(moved / "model.ckpt-10")

    def test_without_its_record_the_highest_step_of_a_directory_counts(self, run_dir):
        (run_dir / "checkpoint").unlink()  # as published checkpoints come
        assert records.resolve_checkpoint(run_dir) == str(run_dir / "model.ckpt-10")

    def test_a_latest_checkpoint_that_was_deleted_is_passed_over(self, run_dir):
        (run_dir / "model.ckpt-10.index").unlink()
        assert records.resolve_checkpoint(run_dir) == str(run_dir / "model.ckpt-9")

    @pytest.mark.parametrize("ending", ["", ".meta"])
    def test_a_checkpoint_of_the_old_format_is_one_file(self, tmp_path, ending):
        with tf.Session() as session:
            weights = tf.get_variable("weights", initializer=[1.0, 2.0])
            session.run(weights.initializer)
            saver = tf.train.Saver(write_version=tf.train.SaverDef.V1)
            prefix = saver.save(session, str(tmp_path / "model.ckpt"), global_step=7)
        assert os.path.isfile(prefix)
        assert records.resolve_checkpoint(prefix + ending) == prefix
        assert checkpoints.variable_shapes(prefix + ending) == {"weights": [2]}

    def test_a_checkpoint_that_does_not_exist_is_refused_with_those_near(self, run_dir):
        message = r"model\.ckpt-11 does not exist: .*model\.ckpt-9, model\.ckpt-10"
        with pytest.raises(MissingPathError, match=message):
            records.resolve_checkpoint(run_dir / "model.ckpt-11")

    @pytest.mark.parametrize("ending", [".index", ".meta", ".data-00000-of-00001"])
    def test_so_is_a_file_of_one(self, run_dir, ending):
        with pytest.raises(MissingPathError, match=r"model\.ckpt-10"):
            records.resolve_checkpoint(f"{run_dir}/model.ckpt-11{ending}")

    @pytest.mark.parametrize("path", ["missing", "missing/model.ckpt-1", "missing/checkpoint"])
    def test_a_path_to_nowhere_says_that_there_is_nothing(self, tmp_path, path):
        with pytest.raises(MissingPathError, match="holds none either"):
            records.resolve_checkpoint(tmp_path / path)

    def test_an_empty_directory_says_so(self, tmp_path):
        with pytest.raises(MissingPathError, match="holds no checkpoint"):
            records.resolve_checkpoint(tmp_path)

    def test_an_empty_name_is_none(self):
        with pytest.raises(MissingPathError, match="the name of a checkpoint is empty"):
            records.resolve_checkpoint("")

    def test_a_run_without_checkpoints_says_so(self, tmp_path):
        (tmp_path / "young").mkdir()
        folder.record_latest_run(tmp_path, "young")
        with pytest.raises(MissingPathError, match="holds no checkpoint"):
            records.resolve_checkpoint(tmp_path)


class TestListCheckpoints:
    def test_the_oldest_comes_first(self, run_dir):
        expected = [str(run_dir / f"model.ckpt-{step}") for step in (0, 9, 10)]
        assert records.list_checkpoints(run_dir) == expected
        assert records.list_checkpoints(str(run_dir)) == expected

    def test_checkpoints_that_lack_a_file_are_left_out(self, run_dir):
        (run_dir / "model.ckpt-9.index").unlink()
        steps = [checkpoints.step_of(prefix) for prefix in records.list_checkpoints(run_dir)]
        assert steps == [0, 10]

    def test_nothing_where_there_is_nothing(self, tmp_path):
        assert records.list_checkpoints(tmp_path) == []
        assert records.list_checkpoints(tmp_path / "missing") == []


class TestWaitForCheckpoints:
    def test_each_one_comes_once_the_oldest_first(self, run_dir):
        waiting = watching.wait_for_checkpoints(run_dir, interval_secs=0.02, timeout_secs=0.2)
        assert list(waiting) == [str(run_dir / f"model.ckpt-{step}") for step in (0, 9, 10)]

    def test_one_that_was_deleted_before_its_turn_is_left_out(self, run_dir):
        waiting = watching.wait_for_checkpoints(run_dir, interval_secs=0.02, timeout_secs=0.1)
        assert next(waiting) == str(run_dir / "model.ckpt-0")
        (run_dir / "model.ckpt-9.index").unlink()
        assert list(waiting) == [str(run_dir / "model.ckpt-10")]

    def test_new_ones_are_found_while_it_waits(self, tmp_path):
        run_dir = tmp_path / "later"
        waiting = watching.wait_for_checkpoints(run_dir, interval_secs=0.02, timeout_secs=20)
        writer = threading.Timer(0.2, save, (run_dir, [1, 2]))
        writer.start()
        steps = [checkpoints.step_of(prefix) for prefix in itertools.islice(waiting, 2)]
        writer.join()
        assert steps == [1, 2]

    def test_ends_after_the_timeout_although_the_interval_is_longer(self, tmp_path):
        started_at = time.monotonic()
        waiting = watching.wait_for_checkpoints(tmp_path, interval_secs=60, timeout_secs=0.2)
        assert list(waiting) == []
        assert 0.2 <= time.monotonic() - started_at < 10

    def test_the_callers_work_with_a_checkpoint_does_not_count_as_waiting(self, tmp_path):
        save(tmp_path, [1])
        waiting = watching.wait_for_checkpoints(tmp_path, interval_secs=0.02, timeout_secs=1)
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


class TestRecord:
    """Records are read and written without TensorFlow, but in TensorFlow's form."""

    NAMES = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1, max_size=12
    )

    def create_state(self, names):
        state = tf.train.generate_checkpoint_state_proto("", "none", ["none"])
        state.Clear()
        state.model_checkpoint_path = names[-1]
        state.all_model_checkpoint_paths.extend(names)
        return state

    @given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), time=st.floats(0, 2e9))
    def test_what_tensorflow_writes_is_read(self, names, time):
        state = self.create_state(names)
        state.all_model_checkpoint_timestamps.extend([time] * len(names))
        state.last_preserved_timestamp = time
        with tempfile.TemporaryDirectory() as folder:
            for as_utf8 in (False, True):
                text = text_format.MessageToString(state, as_utf8=as_utf8)
                Path(folder, "checkpoint").write_text(text, encoding="utf-8", newline="\n")
                assert records.is_recorded(folder, names)

    @given(names=st.lists(NAMES, min_size=1, max_size=4))
    def test_what_is_written_is_what_tensorflow_writes(self, names):
        with tempfile.TemporaryDirectory() as folder:
            records.write_state(folder, [os.path.join(folder, name) for name in names])
            text = Path(folder, "checkpoint").read_text(encoding="utf-8")
        assert text == text_format.MessageToString(self.create_state(names), as_utf8=True)

    @pytest.mark.parametrize(
        "text",
        ["", "x", 'model_checkpoint_path: "a', "model_checkpoint_path: a", 'model: "a"',
         'model_checkpoint_path: "a" }', 'model_checkpoint_path: "\\q"', 'model_checkpoint_path: 3',
         'model_checkpoint_path: "a"\nbinary \x00'],
    )  # fmt: skip
    def test_what_tensorflow_does_not_read_is_no_record(self, tmp_path, text):
        (tmp_path / "checkpoint").write_text(text)
        assert records.read_state(tmp_path) is None


@pytest.mark.parametrize("name", ["a" * 300 + "/b", "a/" * 3000 + "b", "model.ckpt-1/x"])
def test_a_path_that_cannot_exist_is_a_missing_checkpoint(tmp_path, name):
    (tmp_path / "model.ckpt-1").write_bytes(b"")
    with pytest.raises(MissingPathError, match="does not exist"):
        records.resolve_checkpoint(tmp_path / name)

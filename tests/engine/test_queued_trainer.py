"""QueuedTrainer: training steps and evaluations on data from a queue, with real sessions."""

import contextlib
import glob
import itertools
import logging
import os
import signal
import threading

import numpy as np
import pytest
from linear_model import LinearModel, feed_threads, ones, read_events, weight_in
from tensorflow.python.lib.io import file_io

from deep_reid import queued_trainer, samplers
from deep_reid.compat import slim, tf
from deep_reid.engine.callbacks import Callbacks
from deep_reid.errors import DataError, MissingPathError, RunError, UsageError
from deep_reid.queued_trainer import QueuedTrainer
from deep_reid.runs import checkpoints, records, saving

pytestmark = pytest.mark.usefixtures("graph")


class TestRun:
    def test_trains_the_number_of_steps_and_saves_the_last(self, tmp_path):
        model = LinearModel()
        loss = model.run(ones(100), tmp_path, number_of_steps=7)
        assert loss == 1.0
        latest = tf.train.latest_checkpoint(tmp_path / "run")
        assert checkpoints.step_of(latest) == 7
        assert weight_in(latest) == 7.0
        assert not feed_threads()

    def test_every_row_is_trained_on_once_and_in_order(self, tmp_path):
        model = LinearModel()
        rows = np.arange(20, dtype=np.float32).reshape(5, 4)
        model.run(((row,) for row in rows), tmp_path, save_summaries_secs=1e-6)
        assert list(read_events(tmp_path / "run")["fed"].values()) == [1.5, 5.5, 9.5, 13.5, 17.5]

    def test_a_finite_feed_ends_training_and_what_was_learned_is_saved(self, tmp_path):
        model = LinearModel()
        model.run(ones(5), tmp_path)
        assert weight_in(tf.train.latest_checkpoint(tmp_path / "run")) == 5.0

    def test_an_error_in_the_generator_reaches_the_caller(self, tmp_path):
        def feed():
            yield from ones(3)
            raise ZeroDivisionError("in the reader of frame 3")

        model = LinearModel()
        with pytest.raises(ZeroDivisionError, match="in the reader of frame 3") as caught:
            model.run(feed(), tmp_path)
        assert "feed" in [entry.name for entry in caught.traceback]
        assert not feed_threads()

    def test_a_failed_run_saves_no_final_checkpoint(self, tmp_path):
        def feed():
            yield from ones(3)
            raise OSError("disk gone")

        with pytest.raises(OSError, match="disk gone"):
            LinearModel().run(feed(), tmp_path)
        saved = records.list_checkpoints(tmp_path / "run")
        assert [checkpoints.step_of(path) for path in saved] == [0]

    def test_a_checkpoint_holds_all_variables_of_the_step_in_its_name(self, tmp_path):
        LinearModel().run(ones(200), tmp_path, save_interval_secs=0.01, max_checkpoints_to_keep=100)
        saved = records.list_checkpoints(tmp_path / "run")
        assert len(saved) > 2
        for path in saved:
            step = int(path.rpartition("-")[2])
            assert (checkpoints.step_of(path), weight_in(path)) == (step, float(step))

    def test_an_end_of_range_error_in_the_generator_is_no_clean_end(self, tmp_path):
        def feed():
            yield from ones(3)
            raise tf.errors.OutOfRangeError(None, None, "record 3 of 3")

        with pytest.raises(tf.errors.OutOfRangeError, match="record 3 of 3"):
            LinearModel().run(feed(), tmp_path)

    def test_no_error_of_the_step_is_swallowed(self, tmp_path):
        model = LinearModel()
        with tf.control_dependencies([model.train_op]):
            check = tf.Assert(tf.train.get_global_step() < 3, ["step three"])
        with tf.control_dependencies([check]):
            model.train_op = tf.identity(model.train_op)
        with pytest.raises(tf.errors.InvalidArgumentError, match="step three"):
            model.run(ones(100), tmp_path)
        assert not feed_threads()

    def test_an_unbound_local_error_is_raised_as_any_other(self, tmp_path):
        def feed():
            yield from ones(1)
            raise UnboundLocalError("a bug in the feed")

        with pytest.raises(UnboundLocalError, match="a bug in the feed"):
            LinearModel().run(feed(), tmp_path)

    def test_ctrl_c_ends_the_threads_and_is_passed_on(self, tmp_path):
        def feed():
            yield from ones(3)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            LinearModel().run(feed(), tmp_path)
        assert not feed_threads()

    def test_ctrl_c_saves_what_was_learned(self, tmp_path):
        def feed():
            yield from ones(3)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            LinearModel(queue_capacity=1).run(feed(), tmp_path)
        latest = tf.train.latest_checkpoint(tmp_path / "run")
        assert weight_in(latest) == checkpoints.step_of(latest)

    def test_a_step_that_is_interrupted_is_saved(self, tmp_path):
        model = LinearModel()

        def interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            return np.float32(0.0)

        with tf.control_dependencies([model.train_op]):
            third = tf.cond(
                tf.equal(tf.train.get_global_step().read_value(), 3),
                lambda: tf.py_func(interrupt, [], tf.float32),
                lambda: tf.constant(0.0),
            )
        model.train_op = third + model.train_op
        with pytest.raises(KeyboardInterrupt):
            model.run(ones(10**6), tmp_path)
        latest = tf.train.latest_checkpoint(tmp_path / "run")
        assert checkpoints.step_of(latest) >= 3
        assert weight_in(latest) == checkpoints.step_of(latest)

    def test_a_new_session_after_an_abort_is_fed_again(self, tmp_path):
        """TF-Slim makes a new session when a server of a distributed training was restarted."""
        asked_in_first_session = iter(["before the first step", "after it"])

        def abort_first_session():
            if next(asked_in_first_session, None) == "after it":
                raise tf.errors.AbortedError(None, None, "a server was restarted")

        callbacks = Callbacks(should_stop=abort_first_session)
        LinearModel().run(ones(10**6), tmp_path, number_of_steps=3, callbacks=callbacks)
        assert weight_in(tf.train.latest_checkpoint(tmp_path / "run")) == 3.0

    def test_a_step_that_does_not_count_is_no_division_by_zero(self, tmp_path):
        model = LinearModel()
        model.train_op = tf.identity(model.mean)
        model.run(ones(5), tmp_path, number_of_steps=9, log_every_n_steps=1)

    def test_zero_turns_lines_summaries_and_checkpoints_off(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        LinearModel().run(
            ones(30), tmp_path, number_of_steps=5, log_every_n_steps=0, save_summaries_secs=0,
            save_interval_secs=0,
        )  # fmt: skip
        assert [line.split(",")[0] for line in caplog.messages if line.startswith("step ")] == [
            "step 5/5"
        ]
        assert "fed" not in read_events(tmp_path / "run")
        saved = records.list_checkpoints(tmp_path / "run")
        assert [checkpoints.step_of(path) for path in saved] == [0, 5]

    @pytest.mark.parametrize(
        ("kwargs", "match"),
        [
            ({"number_of_steps": 0}, "must be a whole number of at least 1"),
            ({"numer_of_steps": 3}, "knows no setting numer_of_steps: leave it out"),
            ({"trace_every_n_steps": 5}, "not supported"),
            ({"sync_optimizer": object()}, "not supported, as its thread would wait for ever"),
            ({"is_chief": False, "run_id": None}, "need run_id"),
        ],
    )
    def test_settings_that_would_be_ignored_are_refused(self, tmp_path, kwargs, match):
        with pytest.raises(UsageError, match=match):
            LinearModel().run(ones(1), tmp_path, **kwargs)
        assert not list(tmp_path.iterdir())

    def test_a_damaged_checkpoint_to_start_from_is_named(self, tmp_path):
        LinearModel().run(ones(9), tmp_path, number_of_steps=3, run_id="old")
        data_file = tmp_path / "old" / "model.ckpt-3.data-00000-of-00001"
        data_file.write_bytes(data_file.read_bytes()[:5])
        with (
            tf.Graph().as_default(),
            pytest.raises(DataError, match="model.ckpt-3 cannot be restored"),
        ):
            LinearModel().run(ones(9), tmp_path, restore_path=tmp_path / "old")

    @pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
    def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
        self, tmp_path, ending, caplog
    ):
        LinearModel().run(ones(9), tmp_path, number_of_steps=3)
        with tf.Graph().as_default():
            LinearModel().run(ones(9), tmp_path, number_of_steps=5)
        path = tmp_path / "run" / f"model.ckpt-5.{ending}"
        path.write_bytes(path.read_bytes()[:5])
        with tf.Graph().as_default():
            LinearModel().run(ones(9), tmp_path, number_of_steps=7)
        assert [line for line in caplog.messages if "skipped" in line] == [
            line for line in caplog.messages if "model.ckpt-5 is skipped" in line
        ]
        assert caplog.text.count("model.ckpt-5 is skipped") == 1
        saved = records.list_checkpoints(tmp_path / "run")
        assert [weight_in(path) for path in saved] == [0.0, 3.0, 7.0]

    def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_from_scratch(self, tmp_path):
        LinearModel().run(ones(9), tmp_path, number_of_steps=3)
        for path in (tmp_path / "run").glob("*.index"):
            path.write_bytes(b"")
        before = sorted(os.listdir(tmp_path / "run"))
        message = r"all checkpoints in .*run are damaged or gone \(model.ckpt-3, model.ckpt-0\)"
        with tf.Graph().as_default(), pytest.raises(DataError, match=message):
            LinearModel().run(ones(9), tmp_path)
        assert sorted(os.listdir(tmp_path / "run")) == before

    def test_a_run_that_was_cut_off_before_it_learned_anything_begins_anew(self, tmp_path):
        LinearModel().run(ones(9), tmp_path, number_of_steps=3)
        for path in (tmp_path / "run").glob("model.ckpt-3.*"):
            path.unlink()
        (tmp_path / "run" / "model.ckpt-0.index").write_bytes(b"")
        (tmp_path / "run" / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-0"')
        with tf.Graph().as_default():
            LinearModel().run(ones(9), tmp_path, number_of_steps=2)
        assert weight_in(tf.train.latest_checkpoint(tmp_path / "run")) == 2.0

    @pytest.mark.parametrize("content", [None, b"", b"\x00\xff garbage {"])
    def test_a_run_without_its_record_of_checkpoints_goes_on_from_the_newest(
        self, tmp_path, content
    ):
        LinearModel().run(ones(9), tmp_path, number_of_steps=3)
        (tmp_path / "run" / "checkpoint").unlink()
        if content is not None:
            (tmp_path / "run" / "checkpoint").write_bytes(content)
        with tf.Graph().as_default():
            LinearModel().run(ones(9), tmp_path, number_of_steps=4)
        saved = records.list_checkpoints(tmp_path / "run")
        assert [weight_in(path) for path in saved] == [0.0, 3.0, 4.0]

    def test_what_a_killed_training_left_of_a_checkpoint_is_removed(self, tmp_path):
        LinearModel().run(ones(9), tmp_path, number_of_steps=3)
        before = set(os.listdir(tmp_path / "run"))
        (tmp_path / "run" / ".saving-x").mkdir()
        (tmp_path / "run" / ".saving-x" / "model.ckpt-9.index").write_bytes(b"half")
        for name in ("model.ckpt-9.data-00000-of-00001", "model.ckpt-9.meta"):
            (tmp_path / "run" / name).write_bytes(b"half")
        (tmp_path / "run" / "model.ckpt-9.data-00000-of-00001.tempstate123").write_bytes(b"half")
        for name in ("checkpoint.tmp0123", "graph.pbtxt.tmp0123"):
            (tmp_path / "run" / name).write_bytes(b"half")
        (tmp_path / "run" / "notes.meta").write_bytes(b"not ours")
        saving.remove_leftovers(tmp_path / "run")
        assert set(os.listdir(tmp_path / "run")) == {*before, "notes.meta"}

    @pytest.mark.parametrize(
        "error",
        [
            tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
            tf.errors.OutOfRangeError(None, None, "File too large"),
            tf.errors.InternalError(None, None, "Input/output error"),
            OSError(5, "Input/output error"),
            KeyboardInterrupt(),
        ],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.parametrize("is_new", [True, False])
    def test_what_a_failed_training_left_is_removed_too(self, tmp_path, monkeypatch, error, is_new):
        """TensorFlow leaves its temporary file where it cannot write a small one."""
        write, failed = file_io.write_string_to_file, []

        def fail(path, content):
            write(path, content[: len(content) // 2])
            failed.append(path)
            raise error

        if not is_new:
            LinearModel().run(ones(9), tmp_path, number_of_steps=3)
        before = {*glob.glob(f"{tmp_path}/run/*"), *glob.glob(f"{tmp_path}/run/.*")}
        monkeypatch.setattr(file_io, "write_string_to_file", fail)
        with contextlib.suppress(Exception, KeyboardInterrupt), tf.Graph().as_default():
            LinearModel().run(ones(9), tmp_path, number_of_steps=4)
        assert failed
        left = {*glob.glob(f"{tmp_path}/run/*"), *glob.glob(f"{tmp_path}/run/.*")} - before
        assert not [path for path in left if ".tmp" in path or "/." in path]

    def test_a_run_that_is_through_leaves_its_last_checkpoint_alone(self, tmp_path):
        LinearModel().run(ones(9), tmp_path, number_of_steps=3)
        path = tmp_path / "run" / "model.ckpt-3.index"
        inode = path.stat().st_ino
        with tf.Graph().as_default():
            LinearModel().run(ones(9), tmp_path, number_of_steps=3)
        assert path.stat().st_ino == inode

    def test_the_same_run_goes_on_where_it_stopped(self, tmp_path):
        LinearModel().run(ones(100), tmp_path, number_of_steps=3)
        with tf.Graph().as_default():
            LinearModel().run(ones(100), tmp_path, number_of_steps=5)
        latest = tf.train.latest_checkpoint(tmp_path / "run")
        assert (checkpoints.step_of(latest), weight_in(latest)) == (5, 5.0)

    def test_a_run_that_is_through_trains_no_further(self, tmp_path, caplog):
        LinearModel().run(ones(100), tmp_path, number_of_steps=3)
        with tf.Graph().as_default():
            LinearModel().run(ones(100), tmp_path, number_of_steps=3)
        assert weight_in(tf.train.latest_checkpoint(tmp_path / "run")) == 3.0
        assert "Nothing to train" in caplog.text

    def test_restore_path_starts_a_new_run_with_weights_but_at_step_0(self, tmp_path):
        LinearModel().run(ones(100), tmp_path, number_of_steps=3, run_id="old")
        with tf.Graph().as_default():
            LinearModel().run(
                ones(100), tmp_path, number_of_steps=2, restore_path=tmp_path / "old", run_id="new"
            )
        latest = tf.train.latest_checkpoint(tmp_path / "new")
        assert (checkpoints.step_of(latest), weight_in(latest)) == (2, 5.0)

    def test_restore_path_does_not_roll_back_a_newer_run(self, tmp_path, caplog):
        LinearModel().run(ones(100), tmp_path, number_of_steps=3, run_id="old")
        with tf.Graph().as_default():
            LinearModel().run(ones(100), tmp_path, number_of_steps=10, run_id="new")
        with tf.Graph().as_default():
            LinearModel().run(
                ones(100), tmp_path, number_of_steps=12, restore_path=tmp_path / "old", run_id="new"
            )
        assert weight_in(tf.train.latest_checkpoint(tmp_path / "new")) == 12.0
        assert "is not used: this run has a checkpoint of its own" in caplog.text

    def test_old_checkpoints_are_deleted(self, tmp_path):
        model = LinearModel()
        model.run(slow(ones(40)), tmp_path, save_interval_secs=0.02, max_checkpoints_to_keep=2)
        assert len(glob.glob(str(tmp_path / "run" / "*.index"))) == 2

    def test_without_a_run_id_each_run_has_a_directory_of_its_own(self, tmp_path):
        for _ in range(2):
            with tf.Graph().as_default():
                LinearModel().run(ones(2), tmp_path, run_id=None)
        assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2

    def test_summaries_come_with_the_step_and_take_no_batch_of_their_own(self, tmp_path):
        model = LinearModel()
        model.run(ones(10), tmp_path, save_summaries_secs=1e-6)
        events = read_events(tmp_path / "run")
        assert list(events["fed"]) == list(range(1, 11))
        assert set(events["queue/share_filled"]) == set(range(1, 11))
        assert all(0.0 <= share <= 1.0 for share in events["queue/share_filled"].values())

    @pytest.mark.parametrize("interval", [0, 3600])
    def test_the_last_step_has_a_summary_unless_there_are_none(self, tmp_path, interval):
        LinearModel().run(ones(9), tmp_path, number_of_steps=7, save_summaries_secs=interval)
        steps = list(read_events(tmp_path / "run").get("fed", ()))
        assert steps == ([1, 7] if interval else [])

    def test_the_log_has_a_line_every_n_steps_with_step_loss_speed_and_time_left(
        self, tmp_path, caplog
    ):
        caplog.set_level(logging.INFO)
        LinearModel().run(ones(100), tmp_path, number_of_steps=7, log_every_n_steps=3)
        lines = [line for line in caplog.messages if line.startswith("step ")]
        assert [line.split(",")[0] for line in lines] == ["step 3/7", "step 6/7", "step 7/7"]
        assert all("loss 1.0000" in line and "images/s" in line for line in lines)
        assert lines[-1].endswith("0:00:00 left")

    def test_a_feed_with_too_few_arrays_says_so(self, tmp_path):
        with pytest.raises(RunError, match="gave 2 arrays, but there are 1 placeholders"):
            LinearModel().run(iter([(np.ones(4), np.ones(4))]), tmp_path)

    def test_what_run_itself_hands_to_slim_cannot_be_set(self, tmp_path):
        with pytest.raises(UsageError, match="init_fn, train_step_fn cannot be set"):
            LinearModel().run(ones(1), tmp_path, train_step_fn=None, init_fn=None)
        assert not list(tmp_path.iterdir())

    def test_an_error_over_a_batch_can_be_explained(self, tmp_path):
        placeholder = tf.placeholder(tf.float32, (None,))
        positive = tf.check_numerics(tf.log(placeholder), "log")
        trainer = QueuedTrainer(
            [positive],
            [placeholder],
            explain_error=lambda batch: ValueError(f"row {np.argmin(batch[0])} is not positive"),
        )
        (values,) = trainer.get_input_vars(2)
        tf.train.get_or_create_global_step()
        batches = itertools.repeat((np.array([1.0, -1.0]),))
        with pytest.raises(ValueError, match="row 1 is not positive") as caught:
            slim.model_variable("unused", ())
            trainer.run(batches, tf.reduce_sum(values), tmp_path)
        assert isinstance(caught.value.__cause__, tf.errors.InvalidArgumentError)


def slow(feed):
    for batch in feed:
        threading.Event().wait(0.02)
        yield batch


class TestConstructor:
    @pytest.mark.parametrize("kwargs", [{"num_enqueue_threads": 0}, {"queue_capacity": 1.5}])
    def test_counts_are_at_least_one(self, kwargs):
        with pytest.raises(UsageError, match="must be a whole number of at least 1"):
            QueuedTrainer([tf.placeholder(tf.float32, (None,))], **kwargs)

    @pytest.mark.parametrize("batch_size", [0, -1, 1.5])
    def test_a_batch_has_rows(self, batch_size):
        trainer = QueuedTrainer([tf.placeholder(tf.float32, (None,))])
        with pytest.raises(UsageError, match="batch_size .* must be a whole number of at least 1"):
            trainer.get_input_vars(batch_size)

    def test_shapes_must_be_known(self):
        with pytest.raises(ValueError, match="must be known"):
            QueuedTrainer([tf.placeholder(tf.float32, (None, None))])

    def test_batches_keep_their_order_through_four_threads(self):
        """P x K batches must come out of the queue as they went in."""
        placeholder = tf.placeholder(tf.int64, (None,))
        trainer = QueuedTrainer([placeholder], num_enqueue_threads=4, queue_capacity=10)
        (values,) = trainer.get_input_vars(8)
        batches = ((np.full(8, index),) for index in range(200))
        with tf.Session() as session:
            threads = trainer.start_feed(session, batches)
            seen = [session.run(values) for _ in range(200)]
            threads.stop()
        assert all(len(np.unique(batch)) == 1 for batch in seen)
        assert [batch[0] for batch in seen] == list(range(200))

    def test_a_batch_may_be_larger_than_the_queue(self):
        placeholder = tf.placeholder(tf.int64, (None,))
        trainer = QueuedTrainer([placeholder], queue_capacity=3)
        (values,) = trainer.get_input_vars(10)
        with tf.Session() as session:
            threads = trainer.start_feed(session, iter([(np.arange(10),)]))
            np.testing.assert_array_equal(session.run(values), np.arange(10))
            threads.stop()

    @pytest.mark.parametrize(
        "sizes", [(4, 4, 4), (1,) * 12, (3, 5, 4), (12,), (11, 1), (2, 9, 0, 1)]
    )
    def test_batches_of_any_size_are_cut_and_joined(self, sizes):
        rows = np.arange(12)
        ends = np.cumsum(sizes)
        batches = [
            (rows[end - size : end], [str(row) for row in rows[end - size : end]])
            for end, size in zip(ends, sizes, strict=True)
        ]
        placeholders = [tf.placeholder(tf.int64, (None,)), tf.placeholder(tf.string, (None,))]
        trainer = QueuedTrainer(placeholders, num_enqueue_threads=2)
        tensors = trainer.get_input_vars(4)
        assert [tensor.get_shape().as_list() for tensor in tensors] == [[4], [4]]
        with tf.Session() as session:
            threads = trainer.start_feed(session, batches)
            seen = [session.run(tensors) for _ in range(3)]
            with pytest.raises(tf.errors.OutOfRangeError):
                session.run(tensors)
            threads.raise_error()
            threads.stop()
        assert threads.num_rows == 12
        np.testing.assert_array_equal(np.concatenate([numbers for numbers, _ in seen]), rows)
        names = np.concatenate([names for _, names in seen])
        assert names.astype(str).tolist() == [str(row) for row in rows]

    def test_rows_that_fill_no_batch_at_the_end_are_left_out(self):
        placeholder = tf.placeholder(tf.int64, (None,))
        trainer = QueuedTrainer([placeholder])
        (values,) = trainer.get_input_vars(4)
        with tf.Session() as session:
            threads = trainer.start_feed(session, [(np.arange(3),), (np.arange(3),)])
            assert session.run(values).tolist() == [0, 1, 2, 0]
            with pytest.raises(tf.errors.OutOfRangeError):
                session.run(values)
            threads.stop()

    def test_arrays_of_a_batch_must_have_as_many_rows(self):
        placeholders = [tf.placeholder(tf.int64, (None,)) for _ in range(2)]
        trainer = QueuedTrainer(placeholders)
        tensors = trainer.get_input_vars(2)
        with tf.Session() as session:
            threads = trainer.start_feed(session, [(np.arange(2), np.arange(3))])
            with pytest.raises(tf.errors.OutOfRangeError):
                session.run(tensors)
            with pytest.raises(RunError, match="arrays of 2 and 3 rows in one batch"):
                threads.raise_error()
            threads.stop()

    def test_batches_of_one_size_are_taken_in_turn(self):
        trainer = QueuedTrainer([tf.placeholder(tf.int64, (None,))])
        first, second = (trainer.get_input_vars(2) for _ in range(2))
        with tf.Session() as session:
            threads = trainer.start_feed(session, [(np.arange(4),), (np.arange(4, 6),)])
            seen = [session.run(values)[0].tolist() for values in (first, second, first)]
            threads.stop()
        assert seen == [[0, 1], [2, 3], [4, 5]]

    def test_whole_batches_of_one_size_wait_in_the_queue(self):
        """No row is copied in or out: the ops that would do so do not run."""
        trainer = QueuedTrainer([tf.placeholder(tf.int64, (None,))])
        (values,) = trainer.get_input_vars(4)
        metadata = tf.RunMetadata()
        with tf.Session() as session:
            threads = trainer.start_feed(session, [(np.arange(4),)])
            options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
            session.run(values, options=options, run_metadata=metadata)
            threads.stop()
        nodes = {node.node_name for device in metadata.step_stats.dev_stats
                 for node in device.node_stats}  # fmt: skip
        graph = tf.get_default_graph()
        run = {graph.get_operation_by_name(name).type for name in nodes
               if name in {op.name for op in graph.get_operations()}}  # fmt: skip
        assert "QueueDequeueV2" in run
        assert "QueueDequeueManyV2" not in run

    def test_the_queue_holds_as_many_whole_batches_as_fit(self):
        trainer = QueuedTrainer([tf.placeholder(tf.int64, (None,))], queue_capacity=11)
        trainer.get_input_vars(4)
        capacity = tf.get_default_graph().get_operation_by_name("inputs").get_attr("capacity")
        assert capacity == 2

    @pytest.mark.parametrize("staging_device", [None, "/cpu:0"])
    @pytest.mark.parametrize("batch_size", [1, 6, 24])
    def test_batches_of_several_sizes_take_the_next_rows_each(self, batch_size, staging_device):
        """Also where a batch is larger than the queue."""
        placeholder = tf.placeholder(tf.int64, (None,))
        trainer = QueuedTrainer(
            [placeholder, placeholder * 10], [placeholder], 3, 5, staging_device=staging_device
        )
        sizes = (4, 2, 4, 7)
        takes = [trainer.get_input_vars(size) for size in sizes]
        rows = np.arange(24)
        with tf.Session() as session:
            feed = trainer.start_feed(session, [[part] for part in rows.reshape(-1, batch_size)])
            start = 0
            for index in (0, 1, 3, 2, 1, 1):
                feed.wait_for_batch()
                values, tens = session.run(takes[index])
                expected = rows[start : start + sizes[index]]
                np.testing.assert_array_equal(values, expected)
                np.testing.assert_array_equal(tens, 10 * expected)
                start += sizes[index]
            with pytest.raises(tf.errors.OutOfRangeError):
                session.run(takes[0])  # three rows are left
            feed.raise_error()
            feed.stop()
        assert not feed_threads()

    def test_a_feed_that_nothing_takes_from_is_refused(self):
        trainer = QueuedTrainer([tf.placeholder(tf.int64, (None,))])
        with tf.Session() as session, pytest.raises(UsageError, match="call get_input_vars"):
            trainer.start_feed(session, [])

    def test_the_samplers_are_found_under_their_old_names(self):
        for name in (
            "run_in_batches",
            "iterate_forever",
            "random_shuffle_forever",
            "random_sample_identities_forever",
        ):
            assert getattr(queued_trainer, name) is getattr(samplers, name)


class Evaluation:
    """Evaluates the mean of the data plus the checkpoint's weight."""

    def __init__(self, batch_size=4):
        placeholder = tf.placeholder(tf.float32, (None,))
        self.trainer = QueuedTrainer([placeholder])
        (values,) = self.trainer.get_input_vars(batch_size)
        weight = slim.model_variable("weight", ())
        self.value, self.update = tf.metrics.mean(values + weight)
        self.summary = tf.summary.scalar("score", self.value)
        self.calls = []

    def evaluate(self, dataset, directory, **kwargs):
        kwargs = {"timeout_secs": 0.05, "eval_interval_secs": 0.01, **kwargs}
        return self.trainer.evaluate(
            dataset,
            directory / "train",
            directory / "eval",
            run_id="run",
            eval_op=self.update,
            final_op=self.value,
            summary_op=self.summary,
            on_evaluation=lambda path, step, value: self.calls.append((step, float(value))),
            **kwargs,
        )


@pytest.fixture
def trained(tmp_path):
    """A run with checkpoints at the steps 2, 5 and 9; their weights equal their steps."""
    directory = tmp_path / "train" / "run"
    directory.mkdir(parents=True)
    with tf.Graph().as_default(), tf.Session() as session:
        weight = slim.model_variable("weight", ())
        step = tf.train.get_or_create_global_step()
        saver = tf.train.Saver()
        for number in (2, 5, 9):
            weight.load(number, session)
            step.load(number, session)
            saver.save(session, str(directory / "model.ckpt"), global_step=step)
    return tmp_path


DATASET = [np.repeat([0.0, 1.0], 4).astype(np.float32)]


class TestEvaluate:
    def test_each_checkpoint_is_evaluated_over_all_batches_the_oldest_first(self, trained):
        evaluation = Evaluation()
        assert evaluation.evaluate(DATASET, trained) == 9.5
        assert evaluation.calls == [(2, 2.5), (5, 5.5), (9, 9.5)]

    def test_events_are_written_at_the_steps_of_the_checkpoints(self, trained):
        Evaluation().evaluate(DATASET, trained)
        assert read_events(trained / "eval" / "run")["score"] == {2: 2.5, 5: 5.5, 9: 9.5}

    @pytest.mark.parametrize(("number", "steps"), [(1, [9]), (2, [5, 9]), (3, [2, 5, 9])])
    def test_a_number_of_evaluations_takes_the_newest(self, trained, number, steps):
        evaluation = Evaluation()
        evaluation.evaluate(DATASET, trained, max_num_evaluations=number)
        assert [step for step, _ in evaluation.calls] == steps

    def test_known_checkpoints_do_not_count_among_the_newest(self, trained):
        evaluation = Evaluation()
        evaluation.evaluate(
            DATASET, trained, max_num_evaluations=1, is_evaluated=lambda path, step: step == 9
        )
        assert [step for step, _ in evaluation.calls] == [5]

    def test_a_damaged_one_does_not_count_among_the_newest(self, trained):
        (trained / "train" / "run" / "model.ckpt-9.index").write_bytes(b"cut")
        evaluation = Evaluation()
        evaluation.evaluate(DATASET, trained, max_num_evaluations=1)
        assert [step for step, _ in evaluation.calls] == [5]

    def test_without_a_checkpoint_it_waits_and_then_gives_up(self, tmp_path):
        assert Evaluation().evaluate(DATASET, tmp_path) is None

    def test_an_error_in_the_data_is_raised_and_nothing_counts_as_evaluated(self, trained):
        class Broken(list):
            def __getitem__(self, rows):
                if rows.start:
                    raise OSError("image 7 is gone")
                return super().__getitem__(rows)

        evaluation = Evaluation()
        with pytest.raises(OSError, match="image 7 is gone"):
            evaluation.evaluate([Broken(range(8))], trained)
        assert evaluation.calls == []
        assert "score" not in read_events(trained / "eval" / "run")
        assert not feed_threads()

    def test_rows_that_fill_no_batch_are_not_left_out_silently(self, trained):
        with pytest.raises(RunError, match="8 rows are no multiple of the batch size"):
            Evaluation(batch_size=3).evaluate(DATASET, trained)

    def test_a_checkpoint_that_vanishes_is_passed_over(self, trained, monkeypatch, caplog):
        restore = tf.train.Saver.restore

        def delete_then_restore(saver, session, path):
            if path.endswith("-5"):
                for filename in glob.glob(path + ".*"):
                    os.unlink(filename)
            return restore(saver, session, path)

        monkeypatch.setattr(tf.train.Saver, "restore", delete_then_restore)
        evaluation = Evaluation()
        evaluation.evaluate(DATASET, trained)
        assert [step for step, _ in evaluation.calls] == [2, 9]
        assert "was deleted before it was evaluated" in caplog.text

    def test_a_checkpoint_of_another_network_is_an_error(self, trained):
        evaluation = Evaluation()
        slim.model_variable("another", ())
        with pytest.raises(DataError, match=r"model.ckpt-2 cannot be restored .*another"):
            evaluation.evaluate(DATASET, trained)

    @pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
    def test_a_damaged_checkpoint_is_passed_over_and_named_once(self, trained, ending, caplog):
        path = trained / "train" / "run" / f"model.ckpt-5.{ending}"
        path.write_bytes(path.read_bytes()[:3])
        evaluation = Evaluation()
        evaluation.evaluate(DATASET, trained)
        assert [step for step, _ in evaluation.calls] == [2, 9]
        assert caplog.text.count("model.ckpt-5 is skipped") == 1

    def test_one_that_is_damaged_after_it_was_found_is_passed_over(
        self, trained, monkeypatch, caplog
    ):
        restore = saving.Saver.restore

        def damage_then_restore(saver, session, path):
            if path.endswith("-5"):
                with open(f"{path}.data-00000-of-00001", "wb") as file:
                    file.write(b"cut")
            return restore(saver, session, path)

        monkeypatch.setattr(saving.Saver, "restore", damage_then_restore)
        evaluation = Evaluation()
        evaluation.evaluate(DATASET, trained)
        assert [step for step, _ in evaluation.calls] == [2, 9]
        assert "model.ckpt-5 was damaged before it was evaluated" in caplog.text

    @pytest.mark.parametrize("content", [b"", b"\x00\xff garbage {", b'model_checkpoint_path: ""'])
    def test_a_damaged_record_is_waited_out(self, trained, content, caplog):
        path = trained / "train" / "run" / "checkpoint"
        good = path.read_bytes()
        path.write_bytes(content)
        writer = threading.Timer(0.3, path.write_bytes, (good,))
        writer.start()
        evaluation = Evaluation()
        evaluation.evaluate(DATASET, trained, timeout_secs=20, max_num_evaluations=3)
        writer.join()
        assert [step for step, _ in evaluation.calls] == [2, 5, 9]
        assert caplog.text.count("is damaged: waiting until the training writes it again") == 1

    def test_checkpoints_that_are_known_are_left_out(self, trained):
        evaluation = Evaluation()
        evaluation.evaluate(DATASET, trained, is_evaluated=lambda path, step: step != 5)
        assert [step for step, _ in evaluation.calls] == [5]

    def test_a_data_set_that_fills_no_batch_is_no_score(self, trained):
        with pytest.raises(RunError, match=r"3 rows are fewer than a batch \(4\)"):
            Evaluation().evaluate([np.zeros(3)], trained)

    def test_init_op_runs_before_each_evaluation(self, trained):
        evaluation = Evaluation()
        counter = tf.get_variable("counter", (), tf.int32, tf.zeros_initializer(), trainable=False,
                                  collections=[tf.GraphKeys.LOCAL_VARIABLES])  # fmt: skip
        evaluation.value = tf.identity(counter)
        evaluation.evaluate(DATASET, trained, init_op=counter.assign_add(1))
        assert [value for _, value in evaluation.calls] == [1.0, 1.0, 1.0]


def test_a_resumed_run_does_not_write_its_last_checkpoint_again(tmp_path):
    LinearModel().run(ones(100), tmp_path, number_of_steps=3)
    path = tmp_path / "run" / "model.ckpt-3.index"
    written_at = path.stat().st_mtime_ns
    with tf.Graph().as_default():
        LinearModel().run(ones(100), tmp_path, number_of_steps=5)
    assert path.stat().st_mtime_ns == written_at
    saved = records.list_checkpoints(tmp_path / "run")
    assert [checkpoints.step_of(path) for path in saved] == [0, 3, 5]


def test_an_evaluation_that_never_starts_leaves_nothing_behind(tmp_path):
    Evaluation().evaluate(DATASET, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_to_restore_that_is_not_there_leaves_nothing_behind(tmp_path):
    with pytest.raises(MissingPathError):
        LinearModel().run(ones(1), tmp_path / "log", restore_path=tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())

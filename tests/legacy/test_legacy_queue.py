"""`QueuedTrainer`, called as code written for the original calls it."""

import glob
import itertools
import os

import numpy as np
import pytest

from deep_reid import metrics, queued_trainer
from deep_reid.compat import slim, tf
from deep_reid.errors import ReidError, RunError, UsageError

pytestmark = pytest.mark.usefixtures("graph")


def scale(image_var):
    return tf.map_fn(
        lambda x: tf.cast(x, tf.float32) / 255.0, image_var, back_prop=False, dtype=tf.float32
    )


def read_events(directory):
    values = {}
    for filename in sorted(glob.glob(os.path.join(str(directory), "events.*"))):
        for event in tf.train.summary_iterator(filename):
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    values.setdefault(value.tag, {})[event.step] = value.simple_value
    return values


class OldTrainer:
    """A trainer of images and labels, put together by hand as in old scripts."""

    def __init__(self, batch_size=4, **kwargs):
        image_var = tf.placeholder(tf.uint8, (None, 4, 2, 3))
        label_var = tf.placeholder(tf.int64, (None,))
        enqueue_vars = [scale(image_var), label_var]
        input_vars = [image_var, label_var]
        self.trainer = queued_trainer.QueuedTrainer(enqueue_vars, input_vars, **kwargs)
        self.images, self.labels = self.trainer.get_input_vars(batch_size)

    def create_train_op(self):
        logits = slim.fully_connected(slim.flatten(self.images), 3, activation_fn=None, scope="fc")
        tf.losses.sparse_softmax_cross_entropy(self.labels, logits)
        tf.summary.scalar("fed", tf.reduce_mean(self.images))
        return slim.learning.create_train_op(
            tf.losses.get_total_loss(), tf.train.GradientDescentOptimizer(0.1)
        )


def feed(num_batches, batch_size=4):
    random = np.random.RandomState(0)
    for _ in range(num_batches):
        images = random.randint(0, 256, (batch_size, 4, 2, 3)).astype(np.uint8)
        yield [images, random.randint(0, 3, batch_size)]


class TestConstructor:
    def test_what_is_enqueued_is_made_of_what_is_fed(self):
        """By position: preprocessed tensors first, then their placeholders."""
        x = tf.placeholder(tf.uint8, (None, 2))
        trainer = queued_trainer.QueuedTrainer([tf.cast(x, tf.float32) / 255.0], [x])
        (values,) = trainer.get_input_vars(3)
        assert (values.dtype, values.get_shape().as_list()) == (tf.float32, [3, 2])
        with tf.Session() as session:
            threads = trainer.start_feed(session, [[np.full((3, 2), 255, np.uint8)]])
            np.testing.assert_array_equal(session.run(values), np.ones((3, 2)))
            threads.stop()

    def test_without_input_vars_the_enqueued_ones_are_fed(self):
        x, y = tf.placeholder(tf.int64, (None, 5)), tf.placeholder(tf.int64, (None, 3))
        trainer = queued_trainer.QueuedTrainer([x, y])
        tensors = trainer.get_input_vars(1)
        assert [tensor.get_shape().as_list() for tensor in tensors] == [[1, 5], [1, 3]]

    def test_all_by_keyword(self):
        x = tf.placeholder(tf.float32, (None,))
        queued_trainer.QueuedTrainer(
            enqueue_vars=(2.0 * x,), input_vars=(x,), num_enqueue_threads=1, queue_capacity=8
        )

    def test_two_tensors_may_be_made_of_one_placeholder(self):
        x = tf.placeholder(tf.float32, (None,))
        trainer = queued_trainer.QueuedTrainer([x, -x], [x])
        tensors = trainer.get_input_vars(2)
        with tf.Session() as session:
            threads = trainer.start_feed(session, [[np.array([1.0, 2.0])]])
            np.testing.assert_array_equal(session.run(tensors), [[1, 2], [-1, -2]])
            threads.stop()


class TestBadUse:
    """One clear line each."""

    @pytest.fixture
    def x(self):
        return tf.placeholder(tf.float32, (None,), name="x")

    def test_input_vars_that_are_no_placeholders(self, x):
        with pytest.raises(UsageError, match=r"input_vars: \S+ is no placeholder"):
            queued_trainer.QueuedTrainer([x], [x + 1.0])
        with pytest.raises(UsageError, match="is no placeholder"):
            queued_trainer.QueuedTrainer([x + 1.0])

    def test_a_placeholder_that_nothing_feeds(self, x):
        y = tf.placeholder(tf.float32, (None,), name="labels")
        with pytest.raises(UsageError, match="need the placeholder labels.*add it to input_vars"):
            queued_trainer.QueuedTrainer([x + 1.0, y], [x])

    def test_a_placeholder_for_nothing(self, x):
        y = tf.placeholder(tf.float32, (None,), name="y")
        with pytest.raises(UsageError, match="no tensor of enqueue_vars is computed from y"):
            queued_trainer.QueuedTrainer([x + 1.0], [x, y])

    @pytest.mark.parametrize("variables", [[], None, 3, [np.zeros(3)], ["x"]])
    def test_what_is_no_list_of_tensors(self, variables):
        with pytest.raises(UsageError, match="enqueue_vars"):
            queued_trainer.QueuedTrainer(variables)

    def test_a_tensor_that_is_no_list(self, x):
        with pytest.raises(UsageError, match=r"must be a list of tensors: use \[tensor\]"):
            queued_trainer.QueuedTrainer(x)

    def test_a_tensor_without_a_batch(self):
        with pytest.raises(ValueError, match="must be known"):
            queued_trainer.QueuedTrainer([tf.placeholder(tf.float32, ())])

    @pytest.mark.parametrize(
        "batch, match",
        [
            ([np.zeros(2)], "gave 1 arrays, but there are 2 placeholders"),
            ([np.zeros(2)] * 3, "gave 3 arrays, but there are 2 placeholders"),
            ([np.zeros(2), np.zeros(3)], "arrays of 2 and 3 rows"),
            ({"x": np.zeros(2), "y": np.zeros(2)}, "gave a dict, but"),
            ([np.zeros(2), 7], "gave 7 in a batch, which has no rows"),
        ],
    )
    def test_batches_that_do_not_fit(self, batch, match, x):
        y = tf.placeholder(tf.float32, (None,))
        trainer = queued_trainer.QueuedTrainer([x, y])
        tensors = trainer.get_input_vars(2)
        with tf.Session() as session:
            threads = trainer.start_feed(session, [batch])
            with pytest.raises(tf.errors.OutOfRangeError):
                session.run(tensors)
            with pytest.raises(RunError, match=match):
                threads.raise_error()
            threads.stop()

    def test_rows_of_another_shape_are_the_feeds_error(self, tmp_path):
        old = OldTrainer()
        batches = [[np.zeros((4, 5, 5, 3), np.uint8), np.zeros(4)]]
        with pytest.raises(ValueError, match=r"Cannot feed value of shape \(4, 5, 5, 3\)"):
            old.trainer.run(iter(batches), old.create_train_op(), str(tmp_path))

    @pytest.mark.parametrize(
        "dataset, match",
        [
            ([np.zeros((8, 4, 2, 3))], "has 1 columns, but there are 2 input_vars"),
            ([np.zeros((8, 4, 2, 3)), np.zeros(7)], "columns of 8 and 7 rows"),
            (iter([1, 2]), "must be|use a list with one column"),
            ([np.zeros((8, 4, 2, 3)), 3], "column of type int"),
            ([np.zeros((3, 4, 2, 3)), np.zeros(3)], "3 rows are fewer than a batch"),
            ([np.zeros((6, 4, 2, 3)), np.zeros(6)], "6 rows are no multiple of the batch size"),
        ],
    )
    def test_data_sets_that_do_not_fit(self, dataset, match, tmp_path):
        with pytest.raises(ReidError, match=match):
            OldTrainer().trainer.evaluate(dataset, str(tmp_path), str(tmp_path / "eval"))
        assert not list(tmp_path.iterdir())

    def test_nothing_takes_batches(self, x, tmp_path):
        trainer = queued_trainer.QueuedTrainer([x])
        with pytest.raises(UsageError, match="call get_input_vars before"):
            trainer.run(iter([]), tf.constant(0.0), str(tmp_path))
        with pytest.raises(UsageError, match="call get_input_vars before"):
            trainer.evaluate([np.zeros(4)], str(tmp_path), str(tmp_path))

    def test_another_size_when_the_queue_is_being_fed(self, x):
        trainer = queued_trainer.QueuedTrainer([x])
        trainer.get_input_vars(2)
        with tf.Session() as session:
            trainer.start_feed(session, []).stop()
        trainer.get_input_vars(2)
        with pytest.raises(UsageError, match="call get_input_vars for all sizes before"):
            trainer.get_input_vars(3)

    def test_an_eval_op_that_takes_more_than_a_batch(self, tmp_path, trained):
        old = OldTrainer()
        old.create_train_op()
        other, _ = old.trainer.get_input_vars(4)
        eval_op = [tf.reduce_mean(old.images), tf.reduce_mean(other)]
        dataset = [np.zeros((8, 4, 2, 3), np.uint8), np.zeros(8, np.int64)]
        with pytest.raises(RunError, match="eval_op takes more than the 4 rows of a batch"):
            old.trainer.evaluate(
                dataset, str(trained), str(tmp_path / "eval"), eval_op=eval_op,
                max_num_evaluations=1,
            )  # fmt: skip


class TestRun:
    def test_trains_without_a_log_dir(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        old = OldTrainer()
        old.trainer.run(feed(5), old.create_train_op())
        (run_dir,) = (tmp_path / "output" / "train").glob("[!l]*")
        assert os.path.exists(run_dir / "model.ckpt-5.index")

    def test_all_by_position(self, tmp_path):
        old = OldTrainer()
        train_op = old.create_train_op()
        old.trainer.run(feed(3), train_op, str(tmp_path), None, None, "first", 0)
        start = str(tmp_path / "first" / "model.ckpt-3")
        variables = slim.get_variables_to_restore(exclude=["global_step"])
        with tf.Graph().as_default():
            old = OldTrainer()
            train_op = old.create_train_op()
            variables = slim.get_variables_to_restore(exclude=["global_step"])
            old.trainer.run(feed(2), train_op, str(tmp_path), start, variables, "second", 2)
        assert os.path.exists(tmp_path / "second" / "model.ckpt-2.index")

    @pytest.mark.parametrize("max_to_keep, num_kept", [(0, 31), (3, 3)])
    def test_0_keeps_all_checkpoints(self, tmp_path, max_to_keep, num_kept):
        old = OldTrainer()
        old.trainer.run(
            feed(30),
            old.create_train_op(),
            str(tmp_path),
            run_id="run",
            max_checkpoints_to_keep=max_to_keep,
            save_interval_secs=1e-6,
        )
        kept = glob.glob(str(tmp_path / "run" / "model.ckpt-*.index"))
        recorded = tf.train.get_checkpoint_state(str(tmp_path / "run"))
        assert len(kept) == num_kept
        assert len(recorded.all_model_checkpoint_paths) == num_kept

    @pytest.mark.parametrize("number", [-1, 1.5, "5"])
    def test_fewer_than_none_cannot_be_kept(self, number, tmp_path):
        old = OldTrainer()
        with pytest.raises(UsageError, match="max_checkpoints_to_keep"):
            old.trainer.run(
                feed(1), old.create_train_op(), str(tmp_path), max_checkpoints_to_keep=number
            )

    def test_other_keywords_go_to_slim(self, tmp_path):
        old = OldTrainer()
        loss = old.trainer.run(
            feed(100), old.create_train_op(), str(tmp_path), run_id="run", number_of_steps=4,
            save_summaries_secs=1e-6, log_every_n_steps=1, session_config=tf.ConfigProto(),
        )  # fmt: skip
        assert np.isfinite(loss)
        assert sorted(read_events(tmp_path / "run")["fed"]) == [1, 2, 3, 4]

    def test_one_array_may_come_alone(self, tmp_path):
        """As the samplers give it."""
        x = tf.placeholder(tf.float32, (None, 2))
        trainer = queued_trainer.QueuedTrainer([x])
        (values,) = trainer.get_input_vars(3)
        weight = slim.model_variable("weight", (), initializer=tf.zeros_initializer())
        train_op = slim.learning.create_train_op(
            tf.reduce_mean(values) * weight, tf.train.GradientDescentOptimizer(1.0)
        )
        batches = queued_trainer.iterate_forever(3, np.ones((6, 2), np.float32))
        trainer.run(batches, train_op, str(tmp_path), run_id="run", number_of_steps=2)
        saved = tf.train.load_checkpoint(str(tmp_path / "run" / "model.ckpt-2"))
        assert saved.get_tensor("weight") == -2.0


@pytest.fixture
def trained(tmp_path):
    """The directory of checkpoints at the steps 2 and 5."""
    directory = tmp_path / "train"
    directory.mkdir()
    with tf.Graph().as_default(), tf.Session() as session:
        OldTrainer().create_train_op()
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver()
        for step in (2, 5):
            session.run(tf.train.get_global_step().assign(step))
            saver.save(session, str(directory / "model.ckpt"), global_step=step)
    return directory


class TestEvaluate:
    def test_columns_are_cut_into_batches_and_eval_op_runs_once_for_each(self, tmp_path, trained):
        old = OldTrainer(batch_size=4)
        old.create_train_op()
        seen = []
        eval_op = tf.py_func(lambda labels: seen.append(labels.tolist()) or 0, [old.labels],
                             tf.int64)  # fmt: skip
        images = np.zeros((12, 4, 2, 3), np.uint8)
        result = old.trainer.evaluate(
            [images, list(range(12))], str(trained), str(tmp_path / "eval"), eval_op=eval_op,
            final_op=tf.constant(7), eval_interval_secs=0.01, max_num_evaluations=2,
        )  # fmt: skip
        assert result == 7
        assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]] * 2

    def test_the_last_size_is_that_of_the_batches(self, tmp_path, trained):
        old = OldTrainer(batch_size=3)
        old.create_train_op()
        _, labels = old.trainer.get_input_vars(2)
        seen = []
        eval_op = tf.py_func(lambda labels: seen.append(labels.tolist()) or 0, [labels], tf.int64)
        dataset = (np.zeros((4, 4, 2, 3), np.uint8), np.arange(4))
        old.trainer.evaluate(
            dataset, str(trained), str(tmp_path / "eval"), eval_op=eval_op, max_num_evaluations=1
        )
        assert seen == [[0, 1], [2, 3]]

    def test_without_an_eval_op_it_ends(self, tmp_path, trained):
        old = OldTrainer()
        old.create_train_op()
        dataset = [np.zeros((4, 4, 2, 3), np.uint8), np.zeros(4)]
        value = old.trainer.evaluate(
            dataset, str(trained), str(tmp_path / "eval"), final_op=tf.constant(1.5),
            max_num_evaluations=1,
        )  # fmt: skip
        assert value == 1.5

    def test_without_a_summary_op_all_summaries_are_written(self, tmp_path, trained, caplog):
        old = OldTrainer()
        old.create_train_op()  # its summary would take one more batch
        value, update = tf.metrics.mean(tf.cast(old.labels, tf.float32))
        tf.summary.scalar("mean_label", value)
        tf.summary.scalar("twice", 2.0 * value)
        dataset = [np.zeros((8, 4, 2, 3), np.uint8), np.arange(8)]
        old.trainer.evaluate(
            dataset, str(trained), str(tmp_path / "eval"), eval_op=update, max_num_evaluations=2,
            eval_interval_secs=0.01,
        )  # fmt: skip
        events = read_events(tmp_path / "eval")
        assert events == {"mean_label": {2: 3.5, 5: 3.5}, "twice": {2: 7.0, 5: 7.0}}
        assert "not written, as they would need one more batch: fed" in caplog.text

    def test_arguments_may_be_given_by_position(self, tmp_path, trained):
        old = OldTrainer()
        old.create_train_op()
        value, update = tf.metrics.mean(old.labels)
        summary_op = tf.summary.scalar("score", value)
        dataset = [np.zeros((4, 4, 2, 3), np.uint8), np.full(4, 2)]
        result = old.trainer.evaluate(
            dataset, str(tmp_path), str(tmp_path / "eval"), "train", tf.no_op(), update,
            value, summary_op, slim.get_model_variables(), 0.01, 1,
        )  # fmt: skip
        assert result == 2.0
        assert read_events(tmp_path / "eval" / "train") == {"score": {5: 2.0}}

    def test_columns_of_indices_are_gathered_in_the_graph(self, tmp_path):
        """As the original's own eval_loop does: galleries are rows, of probes and of items."""
        data_x = np.random.RandomState(1).randint(0, 256, (9, 4, 2, 3)).astype(np.uint8)
        data_y = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
        num_galleries = 4
        probes = np.array([[0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8]])
        galleries = np.array([[1, 4, 7], [2, 5, 8], [0, 3, 6], [2, 3, 6]])
        probe_idx_var = tf.placeholder(tf.int64, (None, 3))
        gallery_idx_var = tf.placeholder(tf.int64, (None, 3))
        trainer = queued_trainer.QueuedTrainer([probe_idx_var, gallery_idx_var])
        data_x_var, data_y_var = tf.constant(data_x), tf.constant(data_y, tf.int64)
        probe_idx_var, gallery_idx_var = trainer.get_input_vars(batch_size=1)
        probe_idx_var = tf.squeeze(probe_idx_var)
        gallery_idx_var = tf.squeeze(gallery_idx_var)
        probe_x_var = scale(tf.gather(data_x_var, probe_idx_var))
        gallery_x_var = scale(tf.gather(data_x_var, gallery_idx_var))
        with tf.variable_scope("net"):
            weight = slim.model_variable("weight", (), initializer=tf.ones_initializer())
        names_to_values, names_to_updates = slim.metrics.aggregate_metric_map({
            f"Precision@{k}": metrics.streaming_mean_cmc_at_k(
                weight * slim.flatten(probe_x_var), tf.gather(data_y_var, probe_idx_var),
                weight * slim.flatten(gallery_x_var), tf.gather(data_y_var, gallery_idx_var), k)
            for k in (1, 2)
        })  # fmt: skip
        for name, value in names_to_values.items():
            tf.summary.scalar(name, value)
        directory = tmp_path / "train" / "run"
        directory.mkdir(parents=True)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            tf.train.Saver().save(session, str(directory / "model.ckpt"), global_step=6)
        trainer.evaluate(
            np.stack([probes, galleries]), str(tmp_path / "train"), str(tmp_path / "eval"),
            run_id="run", eval_op=list(names_to_updates.values()), max_num_evaluations=1,
        )  # fmt: skip
        flat = data_x.reshape(9, -1) / 255.0
        expected = {1: [], 2: []}
        for row in range(num_galleries):
            for i, probe in enumerate(probes[row]):
                distances = ((flat[galleries[row]] - flat[probe]) ** 2).sum(axis=1)
                for k, hits in expected.items():
                    hits.append(i in np.argsort(distances)[:k])
        events = read_events(tmp_path / "eval" / "run")
        assert events["Precision_1"][6] == pytest.approx(np.mean(expected[1]))
        assert events["Precision_2"][6] == pytest.approx(np.mean(expected[2]))


def test_batches_of_two_sizes_train_in_one_step(tmp_path):
    """Each takes the next rows, whichever runs first."""
    x = tf.placeholder(tf.float32, (None,))
    trainer = queued_trainer.QueuedTrainer([x])
    (large,) = trainer.get_input_vars(4)
    with tf.control_dependencies([large]):
        (small,) = trainer.get_input_vars(2)
    slim.model_variable("weight", ())
    tf.summary.scalar("large", tf.reduce_sum(large))
    tf.summary.scalar("small", tf.reduce_sum(small))
    step = tf.train.get_or_create_global_step()
    with tf.control_dependencies([large, small]), tf.control_dependencies([step.assign_add(1)]):
        train_op = tf.reduce_sum(large) + tf.reduce_sum(small)
    rows = (np.full(5, i, np.float32) for i in itertools.count())
    trainer.run(rows, train_op, str(tmp_path), run_id="run", number_of_steps=40,
                save_summaries_secs=1e-6)  # fmt: skip
    events = read_events(tmp_path / "run")
    sums = [events["large"][step] + events["small"][step] for step in range(1, 41)]
    stream = np.repeat(np.arange(100), 5)
    assert sums == [stream[6 * i : 6 * i + 6].sum() for i in range(40)]


def test_the_thread_safe_iterator_is_found_under_its_old_name():
    assert next(queued_trainer.ThreadSafeIterator(iter("ab"))) == "a"

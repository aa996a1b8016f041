"""What a training watches in itself: the first bad tensor by its name, collapse once."""

import logging

import numpy as np
import pytest

from deep_reid.compat import slim, tf
from deep_reid.engine import health
from deep_reid.engine.health import Health
from deep_reid.errors import RunError

pytestmark = pytest.mark.usefixtures("graph")


class TestNumbers:
    def check(self, graph, feed_dict):
        watcher = Health(graph)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            watcher.check(7, session.run(watcher.tensors, feed_dict))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_the_first_tensor_that_is_not_finite_is_named_with_the_step(self, graph, bad):
        x = tf.placeholder(tf.float32, (3,))
        for name, tensor in {"images": tf.ones(2), "features": x, "loss": tf.reduce_sum(x)}.items():
            health.watch_numbers(name, tensor)
        self.check(graph, {x: [1.0, 2.0, 3.0]})
        with pytest.raises(RunError, match=r"step 7: features is not finite .*--learning_rate"):
            self.check(graph, {x: [1.0, bad, 3.0]})

    def test_gradients_are_named_backwards_as_they_are_computed(self, graph):
        x = tf.placeholder(tf.float32, ())
        first, last = (tf.get_variable(name, (), tf.float32) for name in ("first", "last"))
        gradients = [(x, first), (x * 1.0, last), (None, last)]
        assert health.watch_gradients(gradients) is gradients
        with pytest.raises(RunError, match="gradient of last is not finite"):
            self.check(graph, {x: np.nan})

    def test_gradients_of_rows_are_watched(self, graph):
        table = tf.get_variable("table", (4, 2))
        x = tf.placeholder(tf.float32, ())
        (gradient,) = tf.gradients(x * tf.gather(table, [1, 2]), table)
        health.watch_gradients([(gradient, table)])
        with pytest.raises(RunError, match="gradient of table"):
            self.check(graph, {x: np.nan})

    def test_a_graph_that_watches_nothing_is_healthy(self, graph):
        self.check(graph, {})

    def test_what_is_watched_is_not_exported(self, graph, caplog):
        caplog.set_level(logging.WARNING)
        health.watch_numbers("images", tf.ones(2))
        health.watch_spread(tf.ones((2, 2)))
        tf.train.export_meta_graph(graph=graph)
        assert not caplog.messages


class TestSpread:
    def spread(self, graph, features):
        health.watch_spread(tf.constant(features, tf.float32))
        with tf.Session() as session:
            return session.run(Health(graph).tensors[1])

    def test_it_is_the_root_mean_square_distance(self, graph):
        features = np.random.default_rng(0).normal(size=(6, 5))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        squares = [np.sum((a - b) ** 2) for a in features for b in features]
        np.testing.assert_allclose(self.spread(graph, features), np.sqrt(np.mean(squares)), 1e-5)

    def test_equal_features_are_not_apart(self, graph):
        assert self.spread(graph, np.full((128, 128), 128**-0.5)) < health.COLLAPSE_DISTANCE / 10

    def test_no_gradient_comes_from_watching(self, graph):
        x = tf.get_variable("x", (4, 3))
        health.watch_spread(x)
        spread = Health(graph).tensors[1]
        assert tf.gradients(spread, x) == [None]


class TestCollapse:
    def run(self, graph, spreads):
        watcher = Health(graph)
        for step, spread in enumerate(spreads):
            watcher.check(step, [np.array([True]), np.float32(spread)])

    def test_is_warned_about_once_with_cures(self, graph, caplog):
        self.run(graph, [0.001] * (4 * health.COLLAPSE_STEPS))
        assert len(caplog.messages) == 1
        for part in ("collapsed", "ln 2", "--learning_rate", "--restore_path", "cosine-softmax"):
            assert part in caplog.text

    def test_is_not_warned_about_where_it_passes(self, graph, caplog):
        few = [0.001] * (health.COLLAPSE_STEPS - 1)
        self.run(graph, [*few, 0.5, *few, 0.5])
        assert not caplog.messages


def test_slim_hands_the_gradients_on(graph):
    x = tf.get_variable("x", (2,))
    slim.training.create_train_op(
        tf.reduce_sum(tf.square(x)),
        tf.train.GradientDescentOptimizer(0.1),
        global_step=tf.train.create_global_step(),
        transform_grads_fn=health.watch_gradients,
    )
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        x.load([np.nan, 1.0], session)
        watcher = Health(graph)
        with pytest.raises(RunError, match="gradient of x"):
            watcher.check(1, session.run(watcher.tensors))

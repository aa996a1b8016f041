"""Training and evaluation of TF-Slim: what old training scripts call."""

import numpy as np
import pytest
from slim_running import draw, initialize

from deep_reid.compat import slim, tf

X = draw(16, 3)
Y = X @ np.float32([1.0, -2.0, 0.5]) + 1


@pytest.fixture
def loss(graph):
    """A linear regression under slim's total loss, its weights `fc/weights` and `fc/biases`."""
    predictions = slim.fully_connected(
        tf.constant(X), 1, None, weights_initializer=tf.zeros_initializer(), scope="fc"
    )
    slim.losses.mean_squared_error(predictions[:, 0], tf.constant(Y))
    return slim.losses.get_total_loss()


def gradient_at_zero():
    """For the weights and the bias, while both are 0."""
    return -2 * X.T @ Y / len(X), -2 * Y.mean()


def values_after(train_op, num_steps=1):
    with tf.Session() as session:
        initialize(session)
        for _ in range(num_steps):
            session.run(train_op)
        weights, bias = session.run(tf.trainable_variables("fc"))
    return weights[:, 0], bias[0]


def clipped(gradient, norm=0.5):
    return gradient * norm / np.linalg.norm(gradient)


def summary_tags():
    with tf.Session() as session:
        initialize(session)
        written = tf.Summary.FromString(session.run(tf.summary.merge_all()))
    return {value.tag for value in written.value}


def scalar_events(directory):
    return {
        value.tag
        for path in directory.glob("events.*")
        for event in tf.train.summary_iterator(str(path))
        for value in event.summary.value
    }


CREATE_TRAIN_OP = {  # what is given, and what the gradients become
    "nothing": ({}, lambda w, b: (w, b)),
    "clip_gradient_norm": ({"clip_gradient_norm": 0.5}, lambda w, b: (clipped(w), clipped(b))),
    "gradient_multipliers": (
        {"gradient_multipliers": {"fc/weights": 0.1, "fc/biases": 3.0}},
        lambda w, b: (0.1 * w, 3 * b),
    ),
    "summarize_gradients": ({"summarize_gradients": True}, lambda w, b: (w, b)),
    "all of them": (
        {
            "clip_gradient_norm": 0.5,
            "gradient_multipliers": {"fc/biases": 0.0},
            "summarize_gradients": True,
        },
        lambda w, b: (clipped(w), 0 * b),
    ),
    "check_numerics=False": ({"check_numerics": False}, lambda w, b: (w, b)),
}


@pytest.mark.parametrize("given", CREATE_TRAIN_OP)
def test_create_train_op_steps_along_the_gradient(loss, given):
    settings, change = CREATE_TRAIN_OP[given]
    train_op = slim.learning.create_train_op(
        loss, tf.train.GradientDescentOptimizer(0.1), **settings
    )
    weights, bias = change(*gradient_at_zero())
    trained = values_after(train_op)
    np.testing.assert_allclose(trained[0], -0.1 * weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(trained[1], -0.1 * bias, rtol=1e-4, atol=1e-6)


def test_create_train_op_summarizes_gradients_and_their_norms(loss):
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    slim.learning.create_train_op(loss, optimizer, summarize_gradients=True)
    assert summary_tags() == {
        f"summarize_grads/fc/{name}_{kind}"
        for name in ("weights", "biases")
        for kind in ("gradient", "gradient_norm")
    }


def test_create_train_op_runs_the_updates_of_batch_norm_and_counts_steps(graph):
    x = slim.batch_norm(tf.constant(3 + X), decay=0.0, scope="bn")
    loss = tf.reduce_mean(slim.linear(x, 1) ** 2)
    train_op = slim.learning.create_train_op(loss, tf.train.AdamOptimizer())
    with tf.Session() as session:
        initialize(session)
        session.run(train_op)
        mean, step = session.run(
            [slim.get_variables_by_name("moving_mean")[0], slim.get_global_step()]
        )
    np.testing.assert_allclose(mean, (3 + X).mean(0), rtol=1e-4)
    assert step == 1


def test_create_train_op_trains_only_the_variables_that_are_given(loss):
    train_op = slim.learning.create_train_op(
        loss,
        tf.train.GradientDescentOptimizer(0.1),
        variables_to_train=slim.get_variables("fc/biases"),
    )
    weights, bias = values_after(train_op)
    assert not weights.any()
    assert bias != 0


def test_sparse_gradients_are_clipped_multiplied_and_summarized(graph):
    rows = slim.variable("rows", (4, 3), initializer=tf.ones_initializer())
    loss = tf.reduce_sum(tf.nn.embedding_lookup(rows, [1, 3]))
    train_op = slim.learning.create_train_op(
        loss,
        tf.train.GradientDescentOptimizer(1.0),
        clip_gradient_norm=1.0,
        gradient_multipliers={"rows": 2.0},
        summarize_gradients=True,
    )
    with tf.Session() as session:
        initialize(session)
        session.run([train_op, tf.summary.merge_all()])
        values = session.run(rows)
    assert (values[[0, 2]] == 1).all()
    np.testing.assert_allclose(values[[1, 3]], 1 - 1 / np.sqrt(6), rtol=1e-5)


def test_training_create_train_op_takes_a_function_that_changes_gradients(loss):
    train_op = slim.training.create_train_op(
        loss,
        tf.train.GradientDescentOptimizer(0.1),
        transform_grads_fn=slim.training.clip_gradient_norms_fn(0.5),
        summarize_gradients=True,
    )
    weights, _ = values_after(train_op)
    np.testing.assert_allclose(weights, -0.1 * clipped(gradient_at_zero()[0]), rtol=1e-4)


OPTIMIZE_LOSS = {
    "by name": ({"optimizer": "SGD"}, lambda w, b: (w, b)),
    "Adam by class": ({"optimizer": tf.train.AdamOptimizer}, lambda w, b: (np.sign(w), np.sign(b))),
    "a function": (
        {"optimizer": tf.train.GradientDescentOptimizer},
        lambda w, b: (w, b),
    ),
    "clip_gradients": (
        {"optimizer": "SGD", "clip_gradients": 0.5},
        lambda w, b: tuple(g * 0.5 / np.hypot(np.linalg.norm(w), b) for g in (w, b)),
    ),
    "adaptive_clipping_fn": (
        {"optimizer": "SGD", "clip_gradients": slim.adaptive_clipping_fn(static_max_norm=0.5)},
        lambda w, b: tuple(g * 0.5 / np.hypot(np.linalg.norm(w), b) for g in (w, b)),
    ),
    "learning_rate_decay_fn": (
        {
            "optimizer": "SGD",
            "learning_rate_decay_fn": lambda rate, step: tf.train.exponential_decay(
                rate, step + 1, 1, 0.5
            ),
        },
        lambda w, b: (w / 2, b / 2),
    ),
    "gradient_multipliers": (
        {"optimizer": "SGD", "gradient_multipliers": {"fc/biases:0": 0.25}},
        lambda w, b: (w, b / 4),
    ),
    "summaries": (
        {"optimizer": "SGD", "summaries": slim.OPTIMIZER_SUMMARIES, "clip_gradients": 1e6},
        lambda w, b: (w, b),
    ),
}


@pytest.mark.parametrize("given", OPTIMIZE_LOSS)
def test_optimize_loss_steps_along_the_gradient(loss, given):
    settings, change = OPTIMIZE_LOSS[given]
    train_op = slim.optimize_loss(loss, tf.train.get_or_create_global_step(), 0.1, **settings)
    weights, bias = change(*gradient_at_zero())
    trained = values_after(train_op)
    np.testing.assert_allclose(trained[0], -0.1 * weights, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(trained[1], -0.1 * bias, rtol=1e-3, atol=1e-6)


def test_optimize_loss_writes_its_summaries(loss):
    step = tf.train.get_or_create_global_step()
    slim.optimize_loss(
        loss,
        step,
        0.1,
        "SGD",
        clip_gradients=1.0,
        learning_rate_decay_fn=lambda rate, step: tf.train.exponential_decay(rate, step, 10, 0.5),
        summaries=slim.OPTIMIZER_SUMMARIES,
    )
    tags = " ".join(summary_tags())
    for part in ("learning_rate", "loss", "gradient_norm", "clipped_gradient", "fc/weights"):
        assert part in tags


def train(loss, directory, num_steps, **settings):
    train_op = slim.learning.create_train_op(loss, tf.train.GradientDescentOptimizer(0.1))
    return slim.learning.train(
        train_op, str(directory), number_of_steps=num_steps, log_every_n_steps=1, **settings
    )


def test_learning_train_lowers_the_loss_and_leaves_a_checkpoint_and_events(loss, tmp_path):
    tf.summary.scalar("error", loss)
    final = train(loss, tmp_path, 20, save_summaries_secs=0.001)
    assert final < 0.5 * np.mean(Y**2)
    assert tf.train.latest_checkpoint(tmp_path).endswith("model.ckpt-20")
    assert "error" in scalar_events(tmp_path)


def test_learning_train_calls_a_step_function_of_the_script(loss, tmp_path):
    steps = []

    def train_step(session, train_op, global_step, kwargs):
        value, should_stop = slim.learning.train_step(session, train_op, global_step, kwargs)
        steps.append(float(value))
        return value, should_stop or len(steps) == 3

    train(loss, tmp_path, 10, train_step_fn=train_step)
    assert len(steps) == 3
    assert steps == sorted(steps, reverse=True)


def test_learning_train_starts_from_the_values_that_init_fn_assigns(loss, tmp_path):
    init_fn = slim.assign_from_values_fn({"fc/weights": np.float32([[1], [-2], [0.5]])})
    saver = tf.train.Saver(max_to_keep=1)
    train(loss, tmp_path, 1, init_fn=init_fn, saver=saver, trace_every_n_steps=None)
    reader = tf.train.load_checkpoint(str(tmp_path))
    np.testing.assert_allclose(
        reader.get_tensor("fc/biases"), [0.2], rtol=1e-4
    )  # the gradient of the bias is -2 where the weights are right


@pytest.fixture
def checkpoints(graph, tmp_path):
    """A folder with `model.ckpt-1` and `model.ckpt-2` of a variable `w` that is 1, then 2."""
    w = slim.model_variable("w", (), initializer=tf.ones_initializer())
    step = slim.get_or_create_global_step()
    saver = tf.train.Saver()
    with tf.Session() as session:
        initialize(session)
        for number in (1, 2):
            session.run([w.assign(number), step.assign(number)])
            saver.save(session, str(tmp_path / "model.ckpt"), global_step=number)
    return tmp_path


def test_evaluate_once_returns_the_final_value_and_writes_summaries(checkpoints):
    (w,) = slim.get_model_variables()
    mean, update = slim.metrics.streaming_mean(w * tf.constant([1.0, 3.0]))
    tf.summary.scalar("average", mean)
    value = slim.evaluation.evaluate_once(
        "",
        str(checkpoints / "model.ckpt-2"),
        str(checkpoints / "eval"),
        num_evals=3,
        eval_op=update,
        final_op=mean,
        variables_to_restore=slim.get_variables_to_restore(),
    )
    assert value == pytest.approx(4)
    assert "average" in scalar_events(checkpoints / "eval")


def test_evaluation_loop_evaluates_the_newest_checkpoint(checkpoints):
    (w,) = slim.get_model_variables()
    count, update = slim.metrics.count(w * tf.ones([5]))
    value = slim.evaluation.evaluation_loop(
        "",
        str(checkpoints),
        str(checkpoints / "eval"),
        num_evals=2,
        eval_op=update,
        final_op=[count, w],
        max_number_of_evaluations=1,
        eval_interval_secs=0,
        summary_op=None,
    )
    assert value == [10, 2]


@pytest.mark.parametrize("module", [slim.evaluation, slim.train_eval, tf.train])
def test_checkpoints_iterator_yields_the_newest_and_stops_after_its_timeout(checkpoints, module):
    found = list(module.checkpoints_iterator(str(checkpoints), timeout=0))
    assert found == [str(checkpoints / "model.ckpt-2")]


def test_wait_for_new_checkpoint_gives_none_after_its_timeout(tmp_path):
    wait = slim.evaluation.wait_for_new_checkpoint
    assert wait(str(tmp_path), seconds_to_sleep=0, timeout=0) is None


def test_evaluate_repeatedly_runs_hooks(checkpoints):
    (w,) = slim.get_model_variables()
    value = slim.evaluation.evaluate_repeatedly(
        str(checkpoints),
        eval_ops=tf.no_op(),
        final_ops=w,
        hooks=[slim.evaluation.StopAfterNEvalsHook(2)],
        max_number_of_evaluations=1,
        eval_interval_secs=0,
    )
    assert value == 2


def test_monitored_training_of_slim_training(loss, tmp_path):
    train_op = slim.training.create_train_op(loss, tf.train.GradientDescentOptimizer(0.1))
    final = slim.training.train(
        train_op, str(tmp_path), hooks=[tf.train.StopAtStepHook(num_steps=5)]
    )
    assert final < np.mean(Y**2)
    assert tf.train.latest_checkpoint(tmp_path).endswith("-5")

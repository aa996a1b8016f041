"""Batch norm set anew: against a slow computation in NumPy, for all kinds of layers."""

import contextlib
import hashlib
import logging
import tempfile

import numpy as np
import pytest

from deep_reid import export
from deep_reid.compat import slim, tf
from deep_reid.errors import DataError, UsageError
from deep_reid.export import precise_batch_norm
from deep_reid.nets.dropout import dropout
from deep_reid.runs import checkpoints
from deep_reid.samplers import random_shuffle_forever
from tests import tiny

EPSILON = 0.001
SHAPE = (4, 3, 3)
NUM_BATCHES, BATCH_SIZE, SEED = 3, 6, 5


def slim_layer(inputs, is_training, **settings):
    return slim.batch_norm(inputs, is_training=is_training, decay=0.9, scope="norm", **settings)


def tf_layer(inputs, is_training, **settings):
    return tf.layers.batch_normalization(inputs, training=is_training, name="norm", **settings)


def keras_layer(inputs, is_training):
    import tf_keras

    return tf_keras.layers.BatchNormalization(name="norm")(inputs, training=is_training)


def handwritten_layer(inputs, is_training, *, fused=False):
    size = inputs.get_shape().as_list()[-1]
    with tf.variable_scope("norm"):
        mean, variance = (
            tf.get_variable(name, (size,), trainable=False, initializer=initializer)
            for name, initializer in (("m", tf.zeros_initializer()), ("v", tf.ones_initializer()))
        )
        gamma = tf.get_variable("gamma", (size,))
    if not is_training and fused:
        zeros = tf.zeros((size,))
        return tf.nn.fused_batch_norm(inputs, gamma, zeros, mean, variance, is_training=False)[0]
    if is_training:
        batch_mean, batch_variance = tf.nn.moments(
            inputs, list(range(inputs.get_shape().ndims - 1))
        )
        updates = [
            tf.assign(old, 0.9 * old + 0.1 * new)
            for old, new in ((mean, batch_mean), (variance, batch_variance))
        ]
        with tf.control_dependencies(updates):
            mean, variance = tf.identity(batch_mean), tf.identity(batch_variance)
    return tf.nn.batch_normalization(inputs, mean, variance, None, gamma, EPSILON)


LAYERS = {
    "slim": slim_layer,
    "slim, scaled": lambda x, t: slim_layer(x, t, scale=True),
    "slim, not centered": lambda x, t: slim_layer(x, t, center=False),
    "slim, not fused": lambda x, t: slim_layer(x, t, fused=False, scale=True),
    "slim, updates in place": lambda x, t: slim_layer(x, t, updates_collections=None),
    "slim, zero debias": lambda x, t: slim_layer(x, t, zero_debias_moving_mean=True),
    "slim, renorm": lambda x, t: slim_layer(x, t, renorm=True),
    "tf.layers": tf_layer,
    "tf.layers, not fused": lambda x, t: tf_layer(x, t, fused=False),
    "keras": keras_layer,
    "handwritten": handwritten_layer,
    "handwritten, fused": lambda x, t: handwritten_layer(x, t, fused=len(x.shape) == 4),
}
RANKS = {
    2: lambda x: tf.reduce_mean(x, [1, 2]),
    3: lambda x: tf.reshape(x, [-1, SHAPE[0] * SHAPE[1], SHAPE[2]]),
    4: lambda x: x,
    5: lambda x: x[:, tf.newaxis],
}


def create_factory(layer, reshape, is_training, *, with_dropout=False):
    """Settle a network: 7 channels, the layer, ReLU, mean, 5 features, the layer again."""

    def factory_fn(images):
        hidden = tf.tensordot(reshape(images), tf.get_variable("w1", (3, 7)), 1)
        with tf.variable_scope("first"):
            hidden = tf.nn.relu(layer(hidden, is_training))
        if with_dropout and is_training:
            hidden = dropout(hidden, 0.5)
        axes = list(range(1, hidden.get_shape().ndims - 1))
        pooled = tf.reduce_mean(hidden, axes) if axes else hidden
        with tf.variable_scope("second"):
            features = layer(tf.matmul(pooled, tf.get_variable("w2", (7, 5))), is_training)
        return tf.nn.l2_normalize(features, 1), None

    return factory_fn


def save_random(factory, path, seed=0, shape=SHAPE):
    """Save a checkpoint of a network, all of its variables random; return them by name."""
    random = np.random.default_rng(seed)
    with tf.Graph().as_default(), tf.Session() as session:
        factory(tf.placeholder(tf.float32, (None, *shape)))
        step = tf.train.create_global_step()
        values = {}
        for variable in tf.global_variables():
            if variable is step:
                continue
            value = random.uniform(0.5, 1.5, variable.get_shape().as_list()).astype(np.float32)
            if len(value.shape) > 1:
                value -= 1.0
            variable.load(value, session)
            values[variable.op.name] = value
        step.load(40, session)
        tf.train.Saver().save(session, str(path), write_state=False)
    return values


def draw_images(count=20, shape=SHAPE, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def read(path):
    reader = tf.train.load_checkpoint(str(path))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def create_precise(layer, rank, images, **settings):
    factories = (create_factory(layer, RANKS[rank], training) for training in (False, True))
    kwargs = dict(zip(("network_factory", "training_factory"), factories, strict=True))
    return export.PreciseBatchNorm(
        preprocess_fn=tiny.preprocess,
        images=images,
        **{"num_batches": NUM_BATCHES, "batch_size": BATCH_SIZE, "seed": SEED, **kwargs, **settings},
    )


def compute_slowly(values, batches, rank):
    """Compute population statistics of the network's two layers in NumPy, channel by channel."""

    def find(scope, name, default):
        found = [value for key, value in values.items() if key.startswith(scope) and name in key]
        return found[0].astype(float) if found else default

    def normalize(rows, scope, seen):
        seen[scope].append(rows)
        out = np.zeros_like(rows)
        for channel in range(rows.shape[1]):
            column = rows[:, channel]
            deviation = column - column.sum() / len(column)
            scaled = deviation / np.sqrt((deviation**2).sum() / len(column) + EPSILON)
            gamma = find(scope, "gamma", np.ones(rows.shape[1]))[channel]
            beta = find(scope, "beta", np.zeros(rows.shape[1]))[channel]
            out[:, channel] = scaled * gamma + beta
        return out

    seen = {"first": [], "second": []}
    for batch in batches:
        pixels = batch.reshape(len(batch), -1, 3).astype(float) / 255.0
        if rank == 2:
            pixels = pixels.mean(axis=1, keepdims=True)
        rows = pixels.reshape(-1, 3) @ values["w1"].astype(float)
        hidden = np.maximum(normalize(rows, "first", seen), 0.0)
        pooled = hidden.reshape(len(batch), -1, 7).mean(axis=1)
        normalize(pooled @ values["w2"].astype(float), "second", seen)
    return {scope: np.concatenate(rows) for scope, rows in seen.items()}


def averages_of(values, scope):
    """Return the two averages of a layer, by the order of their names: mean, then variance."""
    names = [
        name
        for name in sorted(values)
        if name.startswith(scope) and name.rpartition("/")[2] in MEANS + VARIANCES
    ]
    return [values[name] for name in names]


MEANS, VARIANCES = ["moving_mean", "m"], ["moving_variance", "v"]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rank", RANKS)
def test_the_averages_are_those_of_a_slow_computation(kind, rank, tmp_path):
    layer, images = LAYERS[kind], draw_images()
    precise = create_precise(layer, rank, images)
    values = save_random(precise.training_factory, tmp_path / "model.ckpt")
    precise.write(tmp_path / "model.ckpt", tmp_path / "precise.ckpt")
    written = read(tmp_path / "precise.ckpt")
    batches = random_shuffle_forever(BATCH_SIZE, images, seed=SEED)
    expected = compute_slowly(values, [next(batches) for _ in range(NUM_BATCHES)], rank)
    for scope, rows in expected.items():
        mean, variance = averages_of(written, scope)
        np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(variance, rows.var(axis=0), rtol=2e-4, atol=2e-5)
    kept = {name for name in values if name.rpartition("/")[2] not in MEANS + VARIANCES}
    assert all((written[name] == values[name]).all() for name in kept)
    assert checkpoints.step_of(str(tmp_path / "precise.ckpt")) == 40

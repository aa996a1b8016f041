"""The layers of TF-Slim, run and compared with NumPy."""

import numpy as np
import pytest
from slim_running import draw, initialize, run

from deep_reid.compat import slim, tf

ONES = {"weights_initializer": tf.ones_initializer(), "activation_fn": None}
IMAGES = draw(2, 6, 4, 3)
SERIES = draw(2, 6, 3)
VOLUMES = draw(2, 4, 4, 2, 3)
ROWS = draw(4, 6)
CLASSES = np.int64([2, 0, 1])
BATCH_NORM_EPSILON = 1e-3


def windows(x, *size, stride=1):
    """Windows that lie inside the images: batch, rows, columns, channels, then the window."""
    axes = tuple(range(1, 1 + len(size)))
    steps = (slice(None), *[slice(None, None, stride)] * len(size))
    return np.lib.stride_tricks.sliding_window_view(x, size, axes)[steps]


def window_sums(x, *size, stride=1):
    return windows(x, *size, stride=stride).sum(tuple(range(-len(size), 0)))


def convolved(x, num_outputs, *size, stride=1):
    """A convolution whose weights are all 1."""
    sums = window_sums(x, *size, stride=stride).sum(-1, keepdims=True)
    return np.repeat(sums, num_outputs, axis=-1)


def enlarged(x, num_outputs, factor):
    """A transposed convolution whose weights are all 1, its kernel as large as its stride."""
    for axis in range(1, x.ndim - 1):
        x = x.repeat(factor, axis)
    return np.repeat(x.sum(-1, keepdims=True), num_outputs, axis=-1)


def normalized(x, axes, epsilon):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def grouped(x, groups):
    split = x.reshape(*x.shape[:3], groups, -1)
    return normalized(split, (1, 2, 4), 1e-6).reshape(x.shape)


def expected_position(x):
    """The mean of column and row, from -1 to 1, by the softmax of each channel."""
    weights = softmax(x.reshape(len(x), -1, x.shape[-1]).swapaxes(1, 2))
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in x.shape[1:3]), indexing="ij")
    return np.stack([weights @ rows.ravel(), weights @ columns.ravel()], -1).reshape(len(x), -1)


def fully_connected(x, num_outputs):
    return np.repeat(x.sum(1, keepdims=True), num_outputs, axis=1)


LAYERS = {
    "avg_pool2d": (
        lambda x: slim.avg_pool2d(x, [2, 2]),
        lambda x: window_sums(x, 2, 2, stride=2) / 4,
        IMAGES,
    ),
    "avg_pool3d": (
        lambda x: slim.avg_pool3d(x, [2, 2, 2]),
        lambda x: window_sums(x, 2, 2, 2, stride=2) / 8,
        VOLUMES,
    ),
    "batch_norm": (
        lambda x: slim.batch_norm(x, is_training=True),
        lambda x: normalized(x, (0, 1, 2), BATCH_NORM_EPSILON),
        IMAGES,
    ),
    "batch_norm, fused": (
        lambda x: slim.batch_norm(x, is_training=True, fused=True),
        lambda x: normalized(x, (0, 1, 2), BATCH_NORM_EPSILON),
        IMAGES,
    ),
    "batch_norm, not fused": (
        lambda x: slim.batch_norm(x, is_training=True, fused=False, scale=True),
        lambda x: normalized(x, (0, 1, 2), BATCH_NORM_EPSILON),
        IMAGES,
    ),
    "batch_norm, zero_debias_moving_mean": (
        lambda x: slim.batch_norm(x, zero_debias_moving_mean=True, updates_collections=None),
        lambda x: normalized(x, (0, 1, 2), BATCH_NORM_EPSILON),
        IMAGES,
    ),
    "batch_norm, batch_weights": (
        lambda x: slim.batch_norm(x, batch_weights=tf.constant([1.0, 0.0])),
        lambda x: (x - x[:1].mean((1, 2))) / np.sqrt(x[:1].var((1, 2)) + BATCH_NORM_EPSILON),
        IMAGES,
    ),
    "batch_norm, rows": (
        lambda x: slim.batch_norm(x, activation_fn=tf.nn.relu),
        lambda x: np.maximum(normalized(x, 0, BATCH_NORM_EPSILON), 0),
        ROWS,
    ),
    "batch_norm, inference": (
        lambda x: slim.batch_norm(x, is_training=False),
        lambda x: x / np.sqrt(1 + BATCH_NORM_EPSILON),
        IMAGES,
    ),
    "bias_add": (
        lambda x: slim.bias_add(x, initializer=tf.constant_initializer([1.0, 2.0, 3.0])),
        lambda x: x + np.float32([1, 2, 3]),
        IMAGES,
    ),
    "bucketize": (
        lambda x: slim.bucketize(x, [-0.5, 0.5]),
        lambda x: np.digitize(x, [-0.5, 0.5]),
        ROWS,
    ),
    "conv1d": (
        lambda x: slim.conv1d(x, 2, 3, padding="VALID", **ONES),
        lambda x: convolved(x, 2, 3),
        SERIES,
    ),
    "conv2d": (
        lambda x: slim.conv2d(
            x, 5, [3, 2], padding="VALID", weights_initializer=tf.ones_initializer()
        ),
        lambda x: np.maximum(convolved(x, 5, 3, 2), 0),
        IMAGES,
    ),
    "conv2d, stride and normalizer": (
        lambda x: slim.conv2d(x, 5, 2, 2, normalizer_fn=slim.batch_norm, **ONES),
        lambda x: normalized(convolved(x, 5, 2, 2, stride=2), (0, 1, 2), BATCH_NORM_EPSILON),
        IMAGES,
    ),
    "conv2d, rate": (
        lambda x: slim.conv2d(x, 2, [2, 1], rate=2, padding="VALID", **ONES),
        lambda x: np.repeat((x[:, :-2] + x[:, 2:]).sum(-1, keepdims=True), 2, -1),
        IMAGES,
    ),
    "conv2d_in_plane": (
        lambda x: slim.conv2d_in_plane(x, [2, 2], padding="VALID", **ONES),
        lambda x: window_sums(x, 2, 2),
        IMAGES,
    ),
    "conv2d_transpose": (
        lambda x: slim.conv2d_transpose(x, 2, [2, 2], stride=2, **ONES),
        lambda x: enlarged(x, 2, 2),
        IMAGES,
    ),
    "conv3d": (
        lambda x: slim.conv3d(x, 2, [2, 2, 2], padding="VALID", **ONES),
        lambda x: convolved(x, 2, 2, 2, 2),
        VOLUMES,
    ),
    "conv3d_transpose": (
        lambda x: slim.conv3d_transpose(x, 2, [2, 2, 2], stride=2, **ONES),
        lambda x: enlarged(x, 2, 2),
        VOLUMES,
    ),
    "convolution": (
        lambda x: slim.convolution(x, 2, [2, 2], padding="VALID", **ONES),
        lambda x: convolved(x, 2, 2, 2),
        IMAGES,
    ),
    "dense_to_sparse": (
        lambda x: tf.sparse.to_dense(slim.dense_to_sparse(x), default_value=9),
        lambda x: np.where(x == 0, 9, x),
        np.int32([[1, 0, 2], [0, 3, 0]]),
    ),
    "dropout, inference": (
        lambda x: slim.dropout(x, 0.5, is_training=False),
        lambda x: x,
        ROWS,
    ),
    "elu": (
        lambda x: slim.elu(x, 2, weights_initializer=tf.ones_initializer()),
        lambda x: np.maximum(fully_connected(x, 2), np.expm1(np.minimum(fully_connected(x, 2), 0))),
        ROWS,
    ),
    "flatten": (slim.flatten, lambda x: x.reshape(2, -1), IMAGES),
    "fully_connected": (
        lambda x: slim.fully_connected(x, 3, biases_initializer=tf.ones_initializer(), **ONES),
        lambda x: fully_connected(x, 3) + 1,
        ROWS,
    ),
    "gdn": (slim.gdn, lambda x: x / np.sqrt(1 + 0.1 * x**2), IMAGES),
    "group_norm": (
        lambda x: slim.group_norm(x, groups=2),
        lambda x: grouped(x, 2),
        draw(2, 3, 4, 6),
    ),
    "images_to_sequence": (
        slim.images_to_sequence,
        lambda x: x.transpose(2, 0, 1, 3).reshape(4, 12, 3),
        IMAGES,
    ),
    "instance_norm": (
        slim.instance_norm,
        lambda x: normalized(x, (1, 2), 1e-6),
        IMAGES,
    ),
    "layer_norm": (
        slim.layer_norm,
        lambda x: normalized(x, (1, 2, 3), 1e-12),
        IMAGES,
    ),
    "legacy_fully_connected": (
        lambda x: slim.legacy_fully_connected(x, 2, weight_init=tf.ones_initializer()),
        lambda x: fully_connected(x, 2),
        ROWS,
    ),
    "linear": (
        lambda x: slim.linear(x, 2, weights_initializer=tf.ones_initializer()),
        lambda x: fully_connected(x, 2),
        ROWS,
    ),
    "max_pool2d": (
        lambda x: slim.max_pool2d(x, [3, 3], stride=1),
        lambda x: windows(x, 3, 3).max((-1, -2)),
        IMAGES,
    ),
    "max_pool3d": (
        lambda x: slim.max_pool3d(x, [2, 2, 2]),
        lambda x: windows(x, 2, 2, 2, stride=2).max((-1, -2, -3)),
        VOLUMES,
    ),
    "maxout": (
        lambda x: slim.maxout(x, num_units=3),
        lambda x: x.reshape(4, 3, 2).max(-1),
        ROWS,
    ),
    "one_hot_encoding": (
        lambda x: slim.one_hot_encoding(x, 4),
        lambda x: np.eye(4, dtype=np.float32)[x],
        CLASSES,
    ),
    "pool": (
        lambda x: slim.pool(x, [2, 2], "AVG"),
        lambda x: window_sums(x, 2, 2) / 4,
        IMAGES,
    ),
    "relu": (
        lambda x: slim.relu(x, 2, weights_initializer=tf.ones_initializer()),
        lambda x: np.maximum(fully_connected(x, 2), 0),
        ROWS,
    ),
    "relu6": (
        lambda x: slim.relu6(x, 2, weights_initializer=tf.constant_initializer(9.0)),
        lambda x: np.clip(9 * fully_connected(x, 2), 0, 6),
        ROWS,
    ),
    "repeat": (
        lambda x: slim.repeat(x, 2, slim.conv2d, 2, [1, 1], scope="conv", **ONES),
        lambda x: convolved(convolved(x, 2, 1, 1), 2, 1, 1),
        IMAGES,
    ),
    "separable_conv2d": (
        lambda x: slim.separable_conv2d(x, 4, [2, 2], 1, padding="VALID", **ONES),
        lambda x: convolved(x, 4, 2, 2),
        IMAGES,
    ),
    "separable_conv2d, depthwise only": (
        lambda x: slim.separable_conv2d(x, None, [2, 2], 1, padding="VALID", **ONES),
        lambda x: window_sums(x, 2, 2),
        IMAGES,
    ),
    "sequence_to_images": (
        lambda x: slim.sequence_to_images(slim.images_to_sequence(x), 6),
        lambda x: x,
        IMAGES,
    ),
    "softmax": (slim.softmax, softmax, ROWS),
    "spatial_softmax": (slim.spatial_softmax, expected_position, IMAGES),
    "stack": (
        lambda x: slim.stack(x, slim.fully_connected, [3, 2], scope="fc", **ONES),
        lambda x: fully_connected(fully_connected(x, 3), 2),
        ROWS,
    ),
    "unit_norm": (
        lambda x: slim.unit_norm(x, dim=1),
        lambda x: x / np.linalg.norm(x, axis=1, keepdims=True),
        ROWS,
    ),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_runs_and_gives_the_values_of_numpy(layer):
    build, expect, x = LAYERS[layer]
    np.testing.assert_allclose(run(build, x), expect(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["convolution1d", "convolution2d", "convolution3d", "convolution2d_in_plane",
             "convolution2d_transpose", "convolution3d_transpose", "separable_convolution2d"]
)  # fmt: skip
def test_the_long_name_of_a_layer_is_the_same_layer(name):
    assert getattr(slim, name) is getattr(slim, name.replace("olution", ""))


def test_dropout_in_training_keeps_some_values_and_scales_them():
    x = np.ones((40, 50), np.float32)
    dropped = run(lambda x: slim.dropout(x, 0.25, seed=1), x)
    assert set(np.unique(dropped)) == {0, 4}
    assert 0.2 < np.mean(dropped > 0) < 0.3


@pytest.mark.parametrize("fused", [None, True, False])
def test_batch_norm_follows_a_placeholder_and_updates_in_place(graph, fused):
    is_training = tf.placeholder(tf.bool, ())
    x = 3 + 2 * draw(8, 4, 4, 3)
    y = slim.batch_norm(
        tf.constant(x),
        is_training=is_training,
        updates_collections=None,
        decay=0.5,
        fused=fused,
        scope="bn",
    )
    (mean,) = slim.get_variables_by_name("moving_mean")
    assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.Session() as session:
        initialize(session)
        before = session.run(y, {is_training: False})
        np.testing.assert_allclose(before, x / np.sqrt(1 + BATCH_NORM_EPSILON), rtol=1e-4)
        trained = session.run(y, {is_training: True})
        np.testing.assert_allclose(
            trained, normalized(x, (0, 1, 2), BATCH_NORM_EPSILON), rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(session.run(mean), x.mean((0, 1, 2)) / 2, rtol=1e-4)


@pytest.mark.parametrize("is_training", [True, False, "placeholder"])
def test_batch_norm_puts_its_updates_into_the_collection(graph, is_training):
    given = tf.placeholder_with_default(True, ()) if is_training == "placeholder" else is_training
    slim.batch_norm(tf.constant(ROWS), is_training=given)
    assert len(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) == (0 if is_training is False else 2)


def test_batch_norm_with_renorm_runs():
    y = run(lambda x: slim.batch_norm(x, renorm=True), IMAGES)
    np.testing.assert_allclose(y, IMAGES, rtol=1e-2, atol=1e-2)


def test_scale_gradient_changes_the_gradient_and_not_the_value():
    def build(x):
        y = slim.scale_gradient(x, 0.25)
        return y, tf.gradients(y, x)[0]

    value, gradient = run(build, ROWS)
    np.testing.assert_array_equal(value, ROWS)
    np.testing.assert_array_equal(gradient, np.full_like(ROWS, 0.25))


def test_gdn_has_the_gradient_of_its_definition():
    gradient = run(lambda x: tf.gradients(slim.gdn(x), x)[0], IMAGES)
    np.testing.assert_allclose(gradient, (1 + 0.1 * IMAGES**2) ** -1.5, rtol=1e-3)


@pytest.mark.slow
def test_a_reversible_block_has_its_value_and_its_gradients():
    def build(x, y):
        def half(z):
            return slim.fully_connected(z, 6, **ONES)

        outputs = slim.rev_block(x, y, half, half)
        weights = tf.trainable_variables()
        return outputs, tf.gradients(outputs[0], weights[:1])[0]

    a, b = ROWS, draw(4, 6, seed=1)
    (y1, y2), gradient = run(build, a, b)
    np.testing.assert_allclose(y1, a + fully_connected(b, 6), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(y2, b + fully_connected(y1, 6), rtol=1e-4, atol=1e-4)
    assert gradient.shape == (6, 6)


def test_recompute_grad_gives_the_same_gradient():
    def build(x):
        def square(z):
            return z * tf.get_variable("w", (), initializer=tf.constant_initializer(3.0))

        with tf.variable_scope("f", use_resource=True):
            y = slim.recompute_grad(square)(x)
        return tf.gradients(y, x)[0]

    np.testing.assert_allclose(run(build, ROWS), np.full_like(ROWS, 3))

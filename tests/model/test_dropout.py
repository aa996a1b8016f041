"""Dropout: what is kept, how much, and that it follows seeds and arg scopes."""

import numpy as np
import pytest

from deep_reid.compat import slim, tf
from deep_reid.nets.dropout import dropout

pytestmark = pytest.mark.usefixtures("graph")
SHAPE = (101, 33, 31)  # in no dimension a multiple of what is drawn at once


def run(tensors):
    with tf.Session() as session:
        return session.run(tensors)


def test_elements_are_zero_or_scaled_up():
    inputs = np.random.default_rng(1).uniform(1.0, 2.0, SHAPE).astype(np.float32)
    outputs = run(dropout(tf.constant(inputs), 0.6))
    is_kept = outputs != 0.0
    np.testing.assert_allclose(outputs[is_kept], inputs[is_kept] / np.float32(0.6), rtol=1e-6)


@pytest.mark.parametrize("keep_prob", [0.1, 0.6, 0.9])
def test_elements_are_kept_with_the_probability_independently(keep_prob):
    is_kept = run(dropout(tf.ones(SHAPE), keep_prob)) != 0.0
    deviation = np.sqrt(keep_prob * (1 - keep_prob) / is_kept.size)
    assert abs(is_kept.mean() - keep_prob) < 4 * deviation
    # Nor do those depend on each other that are drawn at once.
    flat = is_kept.ravel()
    for distance in (1, 2, 3, 4, SHAPE[-1]):
        both = (flat[distance:] & flat[:-distance]).mean()
        assert abs(both - keep_prob**2) < 8 * deviation


def test_the_gradient_is_that_of_the_same_elements():
    inputs = tf.ones(SHAPE)
    outputs = dropout(inputs, 0.6)
    values, gradient = run([outputs, tf.gradients(outputs, inputs)[0]])
    np.testing.assert_array_equal(gradient, values)


def test_each_run_and_each_layer_draws_anew_and_follows_the_seed():
    draws = []
    for _ in range(2):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(1)
            layers = [dropout(tf.ones(SHAPE), 0.6) for _ in range(2)]
            draws.append([layer for _ in range(2) for layer in session.run(layers)])
    for first, second in zip(*draws, strict=True):
        np.testing.assert_array_equal(first, second)
    for number, layer in enumerate(draws[0]):
        assert not any(np.array_equal(layer, other) for other in draws[0][:number])


def test_it_obeys_the_arg_scope_of_slim():
    inputs = tf.ones(SHAPE)
    with slim.arg_scope([slim.dropout], is_training=False):
        assert dropout(inputs, 0.6) is inputs
        with slim.arg_scope([slim.dropout], is_training=True):
            assert dropout(inputs, 0.6) is not inputs
    assert dropout(inputs, 0.6) is not inputs


def test_whether_it_is_training_may_be_a_tensor():
    is_training = tf.placeholder(tf.bool, ())
    with slim.arg_scope([slim.dropout], is_training=is_training):
        outputs = dropout(tf.ones(SHAPE), 0.6)
    with tf.Session() as session:
        assert (session.run(outputs, {is_training: False}) == 1.0).all()
        assert (session.run(outputs, {is_training: True}) == 0.0).any()


def test_shapes_may_be_open():
    inputs = tf.placeholder(tf.float32, (None, 5))
    outputs = dropout(inputs, 0.6)
    assert outputs.get_shape().as_list() == [None, 5]
    with tf.Session() as session:
        for num_rows in (0, 1, 7):
            assert session.run(outputs, {inputs: np.ones((num_rows, 5))}).shape == (num_rows, 5)

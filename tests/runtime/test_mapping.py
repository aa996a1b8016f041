"""A function for each image of a batch, in one op."""

import numpy as np
import pytest

from deep_reid.compat import tf
from deep_reid.runtime.mapping import map_images

pytestmark = pytest.mark.usefixtures("graph")


def run(tensor, feed_dict=None):
    with tf.Session() as session:
        return session.run(tensor, feed_dict)


def test_each_row_has_its_own_result():
    images = np.arange(5 * 4 * 2 * 3, dtype=np.uint8).reshape(5, 4, 2, 3)
    factors = np.arange(5, dtype=np.float32)
    results = map_images(
        lambda image, factor: factor * tf.cast(image, tf.float32),
        [tf.constant(images), tf.constant(factors)],
        tf.float32,
        (4, 2, 3),
    )
    np.testing.assert_array_equal(run(results), factors[:, None, None, None] * images)


@pytest.mark.parametrize("num_rows", [0, 1, 300])
def test_a_batch_may_have_any_number_of_rows(num_rows):
    numbers = tf.placeholder(tf.int32, (None,))
    results = map_images(lambda number: tf.fill((2,), number), [numbers], tf.int32, (2,))
    assert results.get_shape().as_list() == [None, 2]
    rows = np.arange(num_rows)
    np.testing.assert_array_equal(run(results, {numbers: rows}), np.stack([rows, rows], axis=1))


def test_an_error_keeps_its_type():
    names = tf.constant(["no such file", "nor this"])
    with pytest.raises(tf.errors.NotFoundError, match="no such file"):
        run(map_images(tf.io.read_file, [names], tf.string, ()))

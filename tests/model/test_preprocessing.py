"""What the networks' preprocessing functions have in common."""

import numpy as np
import pytest

from deep_reid.compat import tf
from deep_reid.nets.preprocessing import mirror_in_training

pytestmark = pytest.mark.usefixtures("graph")
IMAGES = np.random.RandomState(0).randint(0, 256, (100, 4, 2, 3)).astype(np.uint8)


def mirror(images=IMAGES, num_runs=1):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(5)
        result = mirror_in_training(tf.constant(images), is_training=True)
        assert result.get_shape().as_list() == list(images.shape)
        return [session.run(result) for _ in range(num_runs)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_images_of_a_batch_are_mirrored_each_on_its_own(dtype, num_channels):
    images = IMAGES[..., :num_channels].astype(dtype)
    (result,) = mirror(images)
    assert result.dtype == dtype
    is_mirrored = (result == images[:, :, ::-1]).all(axis=(1, 2, 3))
    is_plain = (result == images).all(axis=(1, 2, 3))
    assert (is_mirrored ^ is_plain).mean() > 0.9  # some of one channel are symmetric
    assert 25 < is_mirrored.sum() < 75
    changes = np.count_nonzero(is_mirrored[1:] != is_mirrored[:-1])
    assert 25 < changes < 75


def test_a_seed_repeats_what_is_mirrored_and_runs_differ():
    first, second = mirror(num_runs=2)
    assert (first != second).any()
    np.testing.assert_array_equal(mirror(num_runs=2), [first, second])


def test_images_stay_as_they_are_outside_training():
    images = tf.constant(IMAGES)
    assert mirror_in_training(images, is_training=False) is images

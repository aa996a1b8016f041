"""Distances between all pairs of rows."""

import numpy as np
import pytest

from deep_reid import losses, metrics
from deep_reid.compat import tf
from deep_reid.config.loss_modes import LOSS_MODES
from deep_reid.distances import cosine_distance, measure_of_loss_mode, pdist

pytestmark = pytest.mark.usefixtures("graph")


def run(tensor):
    with tf.Session() as session:
        return session.run(tensor)


def plain_pdist(a, b):
    return np.array([[sum((x - y) ** 2 for x, y in zip(r, s, strict=True)) for s in b] for r in a])


def plain_cosine_distance(a, b):
    def cosine(r, s):
        return np.dot(r, s) / np.sqrt(np.dot(r, r) * np.dot(s, s))

    return np.array([[1.0 - cosine(r, s) for s in b] for r in a])


@pytest.fixture
def rows():
    random = np.random.RandomState(3)
    return random.normal(size=(5, 7)), random.normal(size=(4, 7))


MEASURES = [(pdist, plain_pdist), (cosine_distance, plain_cosine_distance)]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("measure, name", [(pdist, "pdist"), (cosine_distance, "cosine")])
def test_distances_are_those_of_the_original(reference, number, measure, name):
    features = reference[f"loss{number}_features"]
    half = len(features) // 2
    distances = run(measure(tf.constant(features[:half]), tf.constant(features[half:])))
    expected = reference[f"loss{number}_{name}"]
    np.testing.assert_allclose(distances, expected, rtol=1e-5, atol=1e-5 * expected.max())


@pytest.mark.parametrize("measure, plain", MEASURES)
class TestBothMeasures:
    def test_agrees_with_a_plain_loop(self, measure, plain, rows):
        a, b = rows
        np.testing.assert_allclose(run(measure(tf.constant(a), tf.constant(b))), plain(a, b))

    def test_one_argument_is_compared_with_itself(self, measure, plain, rows):
        a, _ = rows
        distances = run(measure(tf.constant(a)))
        np.testing.assert_allclose(distances, plain(a, a), atol=1e-12)
        np.testing.assert_allclose(np.diag(distances), 0.0, atol=1e-12)

    def test_number_of_rows_may_be_unknown_and_one(self, measure, plain, rows):
        a, b = (tf.placeholder(tf.float64, (None, 7)) for _ in range(2))
        with tf.Session() as session:
            distances = session.run(measure(a, b), {a: rows[0][:1], b: rows[1][:1]})
        np.testing.assert_allclose(distances, plain(rows[0][:1], rows[1][:1]))


def test_cosine_distance_does_not_depend_on_the_lengths_of_the_rows(rows):
    a, b = rows
    scales = np.array([[1e-3], [0.5], [2.0], [7.0], [1e3]])
    np.testing.assert_allclose(
        run(cosine_distance(tf.constant(scales * a), tf.constant(b))),
        run(cosine_distance(tf.constant(a), tf.constant(b))),
    )


def test_cosine_distance_goes_from_0_to_2():
    distances = run(cosine_distance([[2.0, 0.0]], [[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    np.testing.assert_allclose(distances, [[0.0, 1.0, 2.0]], atol=1e-7)


def test_a_row_of_zeros_is_far_from_everything_and_no_nan():
    np.testing.assert_array_equal(run(cosine_distance([[0.0, 0.0]], [[3.0, 0.0]])), [[1.0]])


def test_squared_distance_is_twice_the_cosine_distance_on_the_unit_sphere(rows):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows)
    a, b = tf.constant(a), tf.constant(b)
    np.testing.assert_allclose(run(pdist(a, b)), run(2.0 * cosine_distance(a, b)))


def test_features_are_ranked_by_what_they_are_trained_for():
    measures = {loss_mode: measure_of_loss_mode(loss_mode) for loss_mode in LOSS_MODES}
    assert measures == {"cosine-softmax": cosine_distance, "magnet": pdist, "triplet": pdist}


def test_losses_and_metrics_share_the_one_definition():
    assert losses.pdist is pdist
    assert metrics.pdist is pdist
    assert metrics.cosine_distance is cosine_distance

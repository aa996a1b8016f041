"""Losses: golden values, slow loops, edge cases, and what joins the total loss."""

import math

import numpy as np
import pytest

from deep_reid import losses
from deep_reid.compat import tf
from deep_reid.config.loss_modes import LOSS_MODES
from deep_reid.errors import UsageError

pytestmark = pytest.mark.usefixtures("graph")

TAGS = {
    "cosine-softmax": "cross_entropy_loss",
    "magnet": "magnet_loss",
    "triplet": "triplet_loss",
}


def run(tensors):
    with tf.Session() as session:
        return session.run(tensors)


def triplet(features, labels):
    return losses.softmargin_triplet_loss(features, labels, create_summaries=False)


def magnet(features, labels):
    return losses.magnet_loss(features, labels).loss


def value_and_gradient(loss_fn, features, labels):
    features = tf.constant(features, tf.float32)
    loss = loss_fn(features, tf.constant(labels))
    return run([loss, tf.gradients(loss, features)[0]])


def plain_triplet(features, labels):
    def distance(i, j):
        return math.sqrt(1e-5 + sum((features[i] - features[j]) ** 2))

    rows = range(len(labels))
    total = 0.0
    for i in rows:
        farthest = max(distance(i, j) for j in rows if labels[j] == labels[i])
        nearest = min(distance(i, j) for j in rows if labels[j] != labels[i])
        total += math.log1p(math.exp(farthest - nearest))
    return total / len(labels)


def plain_magnet(features, labels, margin):
    means = {y: np.mean([f for f, z in zip(features, labels, strict=True) if z == y], axis=0)
             for y in labels}  # fmt: skip

    def squared_distance(i, label):
        return sum((features[i] - means[label]) ** 2)

    rows = range(len(labels))
    variance = sum(squared_distance(i, labels[i]) for i in rows) / (len(labels) - 1)
    scale = 2 * (variance + 1e-4)
    total = 0.0
    for i in rows:
        exponents = {y: -squared_distance(i, y) / scale - margin * (y == labels[i]) for y in means}
        largest = max(exponents.values())
        own = math.exp(exponents[labels[i]] - largest)
        others = sum(math.exp(e - largest) for y, e in exponents.items() if y != labels[i])
        total += max(0.0, -math.log(1e-4 + own / (1e-4 + others)))
    return total / len(labels), means, variance


def draw_batch(seed, num_identities=5, num_images=3, size=6, spread=0.7):
    random = np.random.RandomState(seed)
    labels = np.repeat(random.permutation(100)[:num_identities], num_images)
    centers = np.repeat(random.normal(size=(num_identities, size)), num_images, axis=0)
    features = centers + spread * random.normal(size=centers.shape)
    order = random.permutation(len(labels))
    return features[order].astype(np.float32), labels[order]


@pytest.mark.parametrize("number", [0, 1, 2])
class TestGoldenValues:
    """Values to 1e-5; gradients to 1e-4 of the largest gradient, as small ones cancel out."""

    def check_gradient(self, gradient, expected):
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-4 * abs(expected).max())

    def test_the_triplet_loss_and_its_gradient_are_the_originals(self, reference, number):
        arrays = [reference[f"loss{number}_{name}"] for name in ("features", "labels")]
        value, gradient = value_and_gradient(triplet, *arrays)
        np.testing.assert_allclose(value, reference[f"loss{number}_triplet"], rtol=1e-5)
        self.check_gradient(gradient, reference[f"loss{number}_triplet_grad"])

    def test_the_magnet_loss_and_its_gradient_are_the_originals(self, reference, number):
        arrays = [reference[f"loss{number}_{name}"] for name in ("features", "labels")]
        value, gradient = value_and_gradient(magnet, *arrays)
        np.testing.assert_allclose(value, reference[f"loss{number}_magnet"], rtol=1e-5)
        self.check_gradient(gradient, reference[f"loss{number}_magnet_grad"])

    def test_magnet_means_variance_and_margin(self, reference, number):
        arrays = [tf.constant(reference[f"loss{number}_{name}"]) for name in ("features", "labels")]
        result = run(tuple(losses.magnet_loss(*arrays)))
        means = reference[f"loss{number}_magnet_means"]
        np.testing.assert_allclose(result[1], means, rtol=1e-5, atol=1e-5 * abs(means).max())
        np.testing.assert_allclose(result[2], reference[f"loss{number}_magnet_variance"], rtol=1e-5)
        loss = run(losses.magnet_loss(*arrays, margin=0.3)[0])
        np.testing.assert_allclose(loss, reference[f"loss{number}_magnet_margin03"], rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
class TestSlowLoops:
    def test_the_triplet_loss_is_that_of_plain_loops(self, seed):
        batch = draw_batch(seed)
        value, _ = value_and_gradient(triplet, *batch)
        np.testing.assert_allclose(value, plain_triplet(*batch), rtol=1e-5)

    @pytest.mark.parametrize("margin", [0.0, 1.0, 2.5])
    def test_the_magnet_loss_is_that_of_plain_loops_with_means_and_variance(self, seed, margin):
        features, labels = draw_batch(seed)
        loss, means, variance = run(
            tuple(losses.magnet_loss(tf.constant(features), tf.constant(labels), margin))
        )
        expected_loss, expected_means, expected_variance = plain_magnet(features, labels, margin)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(variance, expected_variance, rtol=1e-5)
        np.testing.assert_allclose(means, list(expected_means.values()), rtol=1e-4, atol=1e-5)

    def test_the_cosine_softmax_loss_is_that_of_plain_loops(self, seed):
        random = np.random.RandomState(seed)
        logits = 5.0 * random.normal(size=(7, 4)).astype(np.float32)
        labels = random.randint(0, 4, 7)
        value = run(losses.cosine_softmax_loss(tf.constant(logits), tf.constant(labels)))
        rows = zip(logits.astype(float), labels, strict=True)
        expected = [math.log(sum(math.exp(x - row[y]) for x in row)) for row, y in rows]
        np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)

    def test_neither_order_nor_numbers_of_the_labels_matter(self, seed):
        features, labels = draw_batch(seed)
        order = np.random.RandomState(seed).permutation(len(labels))
        for loss_fn in (triplet, magnet):
            value, _ = value_and_gradient(loss_fn, features, labels)
            permuted, _ = value_and_gradient(loss_fn, features[order], 7 * labels[order] + 3)
            np.testing.assert_allclose(permuted, value, rtol=1e-5)


class TestMagnet:
    def test_class_means_come_in_the_order_of_the_labels_given(self):
        features = tf.constant([[1.0], [3.0], [10.0]])
        labels, unique_labels = tf.constant([5, 5, 2]), tf.constant([2, 5])
        result = losses.magnet_loss(features, labels, unique_labels=unique_labels)
        assert run(result.class_means).tolist() == [[10.0], [2.0]]
        loss, same_loss = run([result.loss, losses.magnet_loss(features, labels).loss])
        assert loss == same_loss

    def test_far_classes_do_not_overflow(self):
        features = [[0.0], [0.01], [1e4], [1e4 + 0.01]]
        value, gradient = value_and_gradient(magnet, features, [0, 0, 1, 1])
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("loss_fn", [triplet, magnet])
class TestEdgeCases:
    @pytest.mark.parametrize(
        "features, labels",
        [
            ([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]], [4, 4, 4]),
            ([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], [0, 0, 1, 1]),
            ([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0]], [0, 0, 1, 1]),
            ([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 5.0]], [0, 1, 0, 1]),
            ([[1.0, 2.0], [2.0, 2.0], [3.0, 4.0]], [0, 1, 2]),
            ([[0.0, 0.0], [0.0, 0.0]], [0, 1]),
        ],
        ids=["one identity", "all rows equal", "equal within", "equal across", "single", "zero"],
    )  # fmt: skip
    def test_loss_and_gradients_are_finite(self, loss_fn, features, labels):
        value, gradient = value_and_gradient(loss_fn, features, labels)
        assert np.isfinite(value)
        assert value >= 0.0
        assert np.isfinite(gradient).all()

    def test_rows_that_are_well_apart_cost_nothing(self, loss_fn):
        far_apart = 100.0 * np.repeat(np.eye(4), 3, axis=0)
        value, _ = value_and_gradient(loss_fn, far_apart, np.repeat(range(4), 3))
        np.testing.assert_allclose(value, 0.0, atol=1e-6)

    def test_a_step_down_the_gradient_lowers_the_loss(self, loss_fn):
        features, labels = draw_batch(1)
        value, gradient = value_and_gradient(loss_fn, features, labels)
        step = 1e-2 * gradient / np.linalg.norm(gradient)
        assert value_and_gradient(loss_fn, features - step, labels)[0] < value


def test_one_identity_gives_no_triplet_and_nothing_to_learn():
    value, gradient = value_and_gradient(triplet, [[1.0], [2.0], [1e6]], [4, 4, 4])
    assert value == 0.0
    assert not gradient.any()


def test_triplet_without_a_positive_has_only_the_row_itself():
    value, _ = value_and_gradient(triplet, [[0.0], [3.0]], [0, 1])
    expected = math.log1p(math.exp(math.sqrt(1e-5) - math.sqrt(1e-5 + 9.0)))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def summaries():
    """Run all summaries of the graph; values by tag."""
    merged = tf.summary.merge_all()
    with tf.Session() as session:
        values = tf.Summary.FromString(session.run(merged)).value
    assert len({value.tag for value in values}) == len(values)
    return {value.tag: value.simple_value for value in values}


class TestTrainingLoss:
    @pytest.fixture
    def batch(self):
        features, labels = draw_batch(2, num_identities=4, num_images=2)
        labels = np.unique(labels, return_inverse=True)[1]
        logits = np.random.RandomState(0).normal(size=(8, 4)).astype(np.float32)
        return tf.constant(features), tf.constant(logits), tf.constant(labels)

    @pytest.fixture
    def values(self, batch):
        features, logits, labels = batch
        return run(
            {
                "cosine-softmax": losses.cosine_softmax_loss(logits, labels),
                "magnet": losses.magnet_loss(features, labels).loss,
                "triplet": triplet(features, labels),
            }
        )

    @pytest.mark.parametrize("loss_mode", LOSS_MODES)
    def test_the_loss_of_the_mode_is_the_only_one_in_the_total(self, loss_mode, batch, values):
        loss = losses.add_training_loss(loss_mode, *batch)
        assert tf.losses.get_losses() == [loss]
        assert tf.losses.get_regularization_losses() == []
        value, total = run([loss, tf.losses.get_total_loss()])
        np.testing.assert_allclose([value, total], values[loss_mode], rtol=1e-6)

    @pytest.mark.parametrize("loss_mode", LOSS_MODES)
    def test_each_loss_has_one_name_trained_on_or_as_a_monitor(self, loss_mode, batch, values):
        losses.add_training_loss(loss_mode, *batch)
        written = summaries()
        assert {tag for tag in written if tag.endswith("loss")} == set(TAGS.values())
        for mode, tag in TAGS.items():
            np.testing.assert_allclose(written[tag], values[mode], rtol=1e-6)

    @pytest.mark.parametrize("loss_mode", LOSS_MODES)
    def test_monitors_have_no_part_in_the_gradient(self, loss_mode, batch):
        features, logits, labels = batch
        losses.add_training_loss(loss_mode, *batch)
        sources = [logits] if loss_mode == "cosine-softmax" else [features]
        gradient = run(tf.gradients(tf.losses.get_total_loss(), sources)[0])
        alone = {
            "cosine-softmax": lambda: losses.cosine_softmax_loss(logits, labels),
            "magnet": lambda: losses.magnet_loss(features, labels).loss,
            "triplet": lambda: triplet(features, labels),
        }[loss_mode]
        np.testing.assert_allclose(gradient, run(tf.gradients(alone(), sources)[0]), rtol=1e-5)
        others = {"cosine-softmax": features}.get(loss_mode, logits)
        assert tf.gradients(tf.losses.get_total_loss(), others) == [None]

    @pytest.mark.parametrize("loss_mode", LOSS_MODES)
    def test_monitors_can_be_left_out(self, loss_mode, batch, values):
        losses.add_training_loss(loss_mode, *batch, monitor_losses=False)
        written = summaries()
        np.testing.assert_allclose(written[TAGS[loss_mode]], values[loss_mode], rtol=1e-6)
        assert {tag for tag in written if tag.endswith("loss")} == {TAGS[loss_mode]}
        # What tells how the training itself does is no monitor.
        assert "classification_accuracy" in written
        assert ("triplet/share_solved" in written) == (loss_mode == "triplet")

    def test_accuracy_is_the_share_of_rows_whose_own_logit_is_largest(self, batch):
        features, _, labels = batch
        logits = tf.one_hot([0, 0, 0, 0, 0, 0, 0, 0], 4)
        losses.add_training_loss("cosine-softmax", features, logits, labels)
        share = np.mean(run(labels) == 0)
        assert 0.0 < share < 1.0
        assert summaries()["classification_accuracy"] == share

    @pytest.mark.parametrize("loss_mode", ["magnet", "triplet"])
    def test_without_logits_nothing_of_a_classifier_is_written(self, loss_mode, batch):
        features, _, labels = batch
        losses.add_training_loss(loss_mode, features, None, labels)
        written = summaries()
        assert TAGS[loss_mode] in written
        assert not {"classification_accuracy", "cross_entropy_loss"} & set(written)

    @pytest.mark.parametrize("labels_type", [tf.int32, tf.int64])
    def test_labels_may_be_of_either_type(self, labels_type, batch):
        features, logits, labels = batch
        losses.add_training_loss("triplet", features, logits, tf.cast(labels, labels_type))
        assert np.isfinite(list(summaries().values())).all()

    def test_triplet_summaries_say_how_far_and_how_many(self):
        features = tf.constant([[0.0], [3.0], [10.0], [19.0]])
        losses.softmargin_triplet_loss(features, tf.constant([0, 0, 1, 1]))
        written = summaries()
        assert written["triplet/farthest_positive"] == pytest.approx((3 + 3 + 9 + 9) / 4, rel=1e-4)
        assert written["triplet/nearest_negative"] == pytest.approx((10 + 7 + 7 + 16) / 4, rel=1e-4)
        assert written["triplet/share_solved"] == 0.75

    def test_no_summaries_where_none_are_wanted(self, batch):
        triplet(batch[0], batch[2])
        assert tf.summary.merge_all() is None

    @pytest.mark.parametrize("loss_mode", ["softmax", "", None])
    def test_an_unknown_loss_mode_is_refused_with_the_list_of_right_ones(self, loss_mode, batch):
        with pytest.raises(UsageError, match="cosine-softmax, magnet, triplet"):
            losses.add_training_loss(loss_mode, *batch)
        assert tf.losses.get_losses() == []

    def test_cosine_softmax_without_logits_is_refused(self, batch):
        with pytest.raises(UsageError, match="needs logits"):
            losses.add_training_loss("cosine-softmax", batch[0], None, batch[2])

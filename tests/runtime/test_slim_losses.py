"""The losses of TF-Slim, run and compared with NumPy."""

import math

import numpy as np
import pytest
from slim_running import draw, run

from deep_reid.compat import slim, tf

PREDICTIONS = draw(4, 3)
LABELS = draw(4, 3, seed=1)
PROBABILITIES = 1 / (1 + np.exp(-PREDICTIONS))
BITS = np.float32([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
CLASSES = np.int32([2, 0, 1, 2])
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]
ROW_WEIGHTS = np.float32([[1], [0], [2], [0]])
UNIT_ROWS = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (PREDICTIONS, LABELS)]
EMBEDDINGS = draw(6, 4)
PAIRS = np.int32([0, 0, 1, 1, 2, 2])


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def cross_entropy(logits, labels):
    return -(labels * log_softmax(logits)).sum(-1)


def binary_cross_entropy(logits, labels):
    probabilities = 1 / (1 + np.exp(-logits))
    return -labels * np.log(probabilities) - (1 - labels) * np.log(1 - probabilities)


def mean_pairwise_squared_error(predictions, labels):
    """For each row, the mean over all pairs of elements; then the sum over the rows."""
    errors = predictions - labels
    differences = errors[:, :, None] - errors[:, None, :]
    return (differences**2).mean((1, 2)).sum()


def distances(x):
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))


def semihard_triplets(labels, x, margin=1.0):
    """Squared distances; the negative is the nearest one that is farther than the positive."""
    d = distances(x) ** 2
    losses = []
    for a, p in np.argwhere((labels[:, None] == labels[None]) & ~np.eye(len(x), dtype=bool)):
        negatives = d[a, labels != labels[a]]
        farther = negatives[negatives > d[a, p]]
        losses.append(margin + d[a, p] - (farther.min() if len(farther) else negatives.max()))
    return np.maximum(losses, 0).mean()


def lifted_structure(labels, x, margin=1.0):
    d = distances(x)
    same = labels[:, None] == labels[None]
    losses = []
    for a, b in np.argwhere(np.triu(same, 1)):
        negatives = sum(np.exp(margin - d[i, ~same[i]]).sum() for i in (a, b))
        losses.append(max(0, np.log(negatives) + d[a, b]) ** 2)
    return np.mean(losses) / 2


def n_pairs(labels, anchors, positives):
    same = np.float32(labels[:, None] == labels[None])
    squares = (anchors**2).sum(1).mean() + (positives**2).sum(1).mean()
    entropies = cross_entropy(anchors @ positives.T, same / same.sum(1, keepdims=True))
    return entropies.mean() + 0.25 * 0.002 * squares


def contrastive(labels, anchors, positives):
    d = np.sqrt(((anchors - positives) ** 2).sum(1))
    return np.mean(labels * d**2 + (1 - labels) * np.maximum(1 - d, 0) ** 2)


LOSSES = {
    "absolute_difference": (
        slim.losses.absolute_difference,
        lambda p, t: np.abs(p - t).mean(),
        (PREDICTIONS, LABELS),
    ),
    "absolute_difference, a weight": (
        lambda p, t: slim.losses.absolute_difference(p, t, weights=0.5),
        lambda p, t: np.abs(p - t).mean() / 2,
        (PREDICTIONS, LABELS),
    ),
    "absolute_difference, weights of rows": (
        slim.losses.absolute_difference,
        lambda p, t, w: (np.abs(p - t) * w).sum() / 6,
        (PREDICTIONS, LABELS, ROW_WEIGHTS),
    ),
    "compute_weighted_loss": (
        slim.losses.compute_weighted_loss,
        lambda losses, w: (losses * w).sum() / 6,
        (PREDICTIONS, ROW_WEIGHTS),
    ),
    "contrastive_loss": (
        slim.losses.contrastive_loss,
        contrastive,
        (np.float32([1, 0, 0, 1]), 0.3 * PREDICTIONS, 0.3 * LABELS),
    ),
    "cosine_distance": (
        lambda p, t: slim.losses.cosine_distance(p, t, axis=1),
        lambda p, t: 1 - (p * t).sum(1).mean(),
        UNIT_ROWS,
    ),
    "cosine_distance, dim": (
        lambda p, t: slim.losses.cosine_distance(p, t, dim=1),
        lambda p, t: 1 - (p * t).sum(1).mean(),
        UNIT_ROWS,
    ),
    "hinge_loss": (
        slim.losses.hinge_loss,
        lambda logits, t: np.maximum(0, 1 - (2 * t - 1) * logits),
        (PREDICTIONS, BITS),
    ),
    "lifted_struct_loss": (slim.losses.lifted_struct_loss, lifted_structure, (PAIRS, EMBEDDINGS)),
    "log_loss": (
        slim.losses.log_loss,
        lambda p, t: -(t * np.log(p + 1e-7) + (1 - t) * np.log(1 - p + 1e-7)).mean(),
        (PROBABILITIES, BITS),
    ),
    "mean_pairwise_squared_error": (
        slim.losses.mean_pairwise_squared_error,
        mean_pairwise_squared_error,
        (PREDICTIONS, LABELS),
    ),
    "mean_squared_error": (
        slim.losses.mean_squared_error,
        lambda p, t: ((p - t) ** 2).mean(),
        (PREDICTIONS, LABELS),
    ),
    "npairs_loss": (slim.losses.npairs_loss, n_pairs, (CLASSES, PREDICTIONS, LABELS)),
    "sigmoid_cross_entropy": (
        slim.losses.sigmoid_cross_entropy,
        lambda logits, t: binary_cross_entropy(logits, t).mean(),
        (PREDICTIONS, BITS),
    ),
    "sigmoid_cross_entropy, smoothed": (
        lambda logits, t: slim.losses.sigmoid_cross_entropy(logits, t, label_smoothing=0.2),
        lambda logits, t: binary_cross_entropy(logits, 0.8 * t + 0.1).mean(),
        (PREDICTIONS, BITS),
    ),
    "softmax_cross_entropy": (
        slim.losses.softmax_cross_entropy,
        lambda logits, t: cross_entropy(logits, t).mean(),
        (PREDICTIONS, ONE_HOT),
    ),
    "softmax_cross_entropy, smoothed": (
        lambda logits, t: slim.losses.softmax_cross_entropy(logits, t, label_smoothing=0.3),
        lambda logits, t: cross_entropy(logits, 0.7 * t + 0.1).mean(),
        (PREDICTIONS, ONE_HOT),
    ),
    "sparse_softmax_cross_entropy": (
        slim.losses.sparse_softmax_cross_entropy,
        lambda logits, t: cross_entropy(logits, np.eye(3)[t]).mean(),
        (PREDICTIONS, CLASSES),
    ),
    "triplet_semihard_loss": (
        slim.losses.triplet_semihard_loss,
        semihard_triplets,
        (PAIRS, EMBEDDINGS),
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_runs_and_gives_the_value_of_numpy(loss):
    build, expect, arrays = LOSSES[loss]
    np.testing.assert_allclose(run(build, *arrays), expect(*arrays), rtol=1e-4, atol=1e-6)


def test_npairs_loss_multilabel_of_single_labels_is_npairs_loss(graph):
    labels = [
        tf.SparseTensor([[0, c]], tf.ones([1], tf.int64), [1, 3]) for c in CLASSES.astype(np.int64)
    ]
    loss = slim.losses.npairs_loss_multilabel(
        labels, tf.constant(PREDICTIONS), tf.constant(LABELS), reg_lambda=0.002
    )
    with tf.Session() as session:
        value = session.run(loss)
    np.testing.assert_allclose(value, n_pairs(CLASSES, PREDICTIONS, LABELS), rtol=1e-4)


@pytest.mark.parametrize("pam", [True, False])
def test_cluster_loss_of_clusters_that_lie_far_apart_is_zero(pam):
    pytest.importorskip("sklearn")
    rows = 100.0 * PAIRS[:, None] + 0.1 * EMBEDDINGS
    loss = run(
        lambda t, x: slim.losses.cluster_loss(t, x, 1.0, enable_pam_finetuning=pam),
        PAIRS,
        rows.astype(np.float32),
    )
    assert loss == pytest.approx(0, abs=1e-4)


def test_losses_and_penalties_add_up_to_the_total(graph):
    x = tf.constant(PREDICTIONS)
    slim.losses.mean_squared_error(x, tf.constant(LABELS))
    slim.losses.add_loss(tf.constant(2.0))
    weights = slim.variable("w", (3,), regularizer=slim.l2_regularizer(0.5))
    with tf.Session() as session:
        session.run(weights.assign([1.0, 2.0, 3.0]))
        total, plain, penalties = session.run(
            [
                slim.losses.get_total_loss(),
                slim.losses.get_losses(),
                slim.losses.get_regularization_losses(),
            ]
        )
    np.testing.assert_allclose(plain, [((PREDICTIONS - LABELS) ** 2).mean(), 2], rtol=1e-5)
    np.testing.assert_allclose(penalties, [0.5 * 14 / 2], rtol=1e-6)
    assert total == pytest.approx(sum(plain) + sum(penalties), rel=1e-5)


REGULARIZERS = {
    "l1_regularizer": (lambda: slim.l1_regularizer(0.1), lambda w: 0.1 * np.abs(w).sum()),
    "l2_regularizer": (lambda: slim.l2_regularizer(0.1), lambda w: 0.1 * (w**2).sum() / 2),
    "l1_l2_regularizer": (
        lambda: slim.l1_l2_regularizer(0.1, 0.2),
        lambda w: 0.1 * np.abs(w).sum() + 0.2 * (w**2).sum() / 2,
    ),
    "sum_regularizer": (
        lambda: slim.sum_regularizer([slim.l1_regularizer(0.1), slim.l2_regularizer(0.2)]),
        lambda w: 0.1 * np.abs(w).sum() + 0.2 * (w**2).sum() / 2,
    ),
    "apply_regularization": (
        lambda: lambda w: slim.apply_regularization(slim.l1_regularizer(0.1), [w, w]),
        lambda w: 0.2 * np.abs(w).sum(),
    ),
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_regularizer_gives_the_value_of_numpy(name):
    make, expect = REGULARIZERS[name]
    np.testing.assert_allclose(run(make(), LABELS), expect(LABELS), rtol=1e-5)


INITIALIZERS = {  # from the numbers of inputs and outputs to the standard deviation
    "xavier_initializer": (slim.xavier_initializer, lambda i, o: math.sqrt(2 / (i + o))),
    "xavier_initializer, normal": (
        lambda: slim.xavier_initializer(uniform=False),
        lambda i, o: math.sqrt(2 / (i + o)),
    ),
    "xavier_initializer_conv2d": (
        slim.xavier_initializer_conv2d,
        lambda i, o: math.sqrt(2 / (i + o)),
    ),
    "variance_scaling_initializer": (
        slim.variance_scaling_initializer,
        lambda i, o: math.sqrt(2 / i),
    ),
    "variance_scaling_initializer, FAN_OUT": (
        lambda: slim.variance_scaling_initializer(1.0, "FAN_OUT", uniform=True),
        lambda i, o: math.sqrt(1 / o),
    ),
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_an_initializer_has_the_spread_of_its_definition(name):
    make, expect = INITIALIZERS[name]
    weights = run(lambda: slim.variable("w", (300, 100), initializer=make()))
    assert weights.mean() == pytest.approx(0, abs=0.01)
    assert weights.std() == pytest.approx(expect(300, 100), rel=0.03)

"""The metrics of TF-Slim, run over several batches and compared with NumPy."""

import numpy as np
import pytest
from slim_running import draw, initialize, run, stream

from deep_reid.compat import slim, tf

M = slim.metrics
SCORES = np.float32([0.9, 0.1, 0.65, 0.8, 0.35, 0.55, 0.45, 0.15, 0.05, 0.6])
TRUTHS = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1, 1], bool)
WEIGHTS = np.float32([1, 2, 0, 1, 1, 3, 1, 0.5, 1, 1])
GUESSES = SCORES > 0.5
CLASSES = np.int64([2, 0, 1, 1, 2, 2, 0, 1, 0, 2])
GUESSED_CLASSES = np.int64([2, 0, 0, 1, 2, 1, 0, 1, 1, 2])
VALUES = draw(10, 3)
OTHERS = VALUES + draw(10, 3, seed=1)
UNITS = VALUES / np.linalg.norm(VALUES, axis=1, keepdims=True)
OTHER_UNITS = OTHERS / np.linalg.norm(OTHERS, axis=1, keepdims=True)
CLASS_SCORES = draw(10, 6)
CLASS_SETS = np.int64([[i % 6, (i + 2) % 6] for i in range(10)])
TOP_3 = np.argsort(-CLASS_SCORES, axis=1)[:, :3]
TOP_1 = np.argsort(-CLASS_SCORES, axis=1)[:, :1]
THRESHOLDS = [0.0, 0.25, 0.5, 0.75, 1.0]


def at_thresholds(count):
    return lambda p, t: [count(p > threshold, t) for threshold in THRESHOLDS]


def ratio(part, rest):
    return part / (part + rest) if part + rest else 0.0


def true_positives(p, t):
    return (p & t).sum()


def false_positives(p, t):
    return (p & ~t).sum()


def true_negatives(p, t):
    return (~p & ~t).sum()


def false_negatives(p, t):
    return (~p & t).sum()


def precision(p, t):
    return ratio(true_positives(p, t), false_positives(p, t))


def recall(p, t):
    return ratio(true_positives(p, t), false_negatives(p, t))


def false_positive_rate(p, t):
    return ratio(false_positives(p, t), true_negatives(p, t))


def false_negative_rate(p, t):
    return ratio(false_negatives(p, t), true_positives(p, t))


def area_under_curve(p, t):
    """How often a positive has a higher score than a negative."""
    return (p[t][:, None] > p[~t][None]).mean()


def best_f1(p, t):
    return max(2 * (c & t).sum() / (c.sum() + t.sum()) for c in (p >= s for s in p))


def confusion(p, t, num_classes=3):
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (t, p), 1)
    return counts


def mean_iou(p, t):
    counts = confusion(p, t)
    hits = np.diag(counts)
    return (hits / (counts.sum(0) + counts.sum(1) - hits)).mean()


def kappa(t, p):
    counts = confusion(p, t) / len(t)
    chance = counts.sum(0) @ counts.sum(1)
    return (np.trace(counts) - chance) / (1 - chance)


def hits(top, labels):
    return sum(len(set(row) & set(truth)) for row, truth in zip(top, labels, strict=True))


def mean_average_precision(top, labels):
    scores = []
    for row, truth in zip(top, labels, strict=True):
        found = np.isin(row, truth)
        precisions = np.cumsum(found) / np.arange(1, len(row) + 1)
        scores.append((precisions * found).sum() / min(len(row), len(truth)))
    return np.mean(scores)


def class_recall(top, labels, class_id):
    rows = (labels == class_id).any(1)
    return (top[rows] == class_id).any(1).mean()


BINARY = (GUESSES, TRUTHS)
SCORED = (SCORES, TRUTHS)
RANKED = (CLASS_SCORES, CLASS_SETS)
REAL = (VALUES, OTHERS)

METRICS = {
    "auc_using_histogram": (
        lambda p, t: M.auc_using_histogram(t, p, [0.0, 1.0], nbins=200),
        area_under_curve,
        SCORED,
    ),
    "cohen_kappa": (
        lambda t, p: M.cohen_kappa(t, p, 3),
        kappa,
        (CLASSES, GUESSED_CLASSES),
    ),
    "count": (M.count, len, (VALUES[:, 0],)),
    "count, weights": (
        lambda v, w: M.count(v, weights=w),
        lambda _, w: w.sum(),
        (VALUES[:, 0], WEIGHTS),
    ),
    "f1_score": (lambda p, t: M.f1_score(t, p), best_f1, SCORED),
    "sparse_recall_at_top_k": (
        lambda top, t: M.sparse_recall_at_top_k(t, top),
        lambda top, t: hits(top, t) / t.size,
        (TOP_3, CLASS_SETS),
    ),
    "streaming_accuracy": (
        M.streaming_accuracy,
        lambda p, t: (p == t).mean(),
        (GUESSED_CLASSES, CLASSES),
    ),
    "streaming_accuracy, weights": (
        M.streaming_accuracy,
        lambda p, t, w: ((p == t) * w).sum() / w.sum(),
        (GUESSED_CLASSES, CLASSES, WEIGHTS),
    ),
    "streaming_auc": (
        lambda p, t: M.streaming_auc(p, t, num_thresholds=500),
        area_under_curve,
        SCORED,
    ),
    "streaming_concat": (M.streaming_concat, lambda v: v, (VALUES,)),
    "streaming_concat, max_size": (
        lambda v: M.streaming_concat(v, max_size=7),
        lambda v: v[:7],
        (VALUES,),
    ),
    "streaming_covariance": (
        M.streaming_covariance,
        lambda p, t: np.cov(p, t)[0, 1],
        (VALUES[:, 0], OTHERS[:, 0]),
    ),
    "streaming_curve_points": (
        lambda p, t: M.streaming_curve_points(t, p, num_thresholds=5),
        lambda p, t: [
            (false_positive_rate(p > s, t), recall(p > s, t)) for s in (-1, 0.25, 0.5, 0.75, 2)
        ],
        SCORED,
    ),
    "streaming_dynamic_auc": (
        lambda p, t: M.streaming_dynamic_auc(t, p),
        area_under_curve,
        SCORED,
    ),
    "streaming_false_negative_rate": (
        M.streaming_false_negative_rate,
        false_negative_rate,
        BINARY,
    ),
    "streaming_false_negatives": (M.streaming_false_negatives, false_negatives, BINARY),
    "streaming_false_positive_rate": (
        M.streaming_false_positive_rate,
        false_positive_rate,
        BINARY,
    ),
    "streaming_false_positives": (M.streaming_false_positives, false_positives, BINARY),
    "streaming_mean": (M.streaming_mean, np.mean, (VALUES,)),
    "streaming_mean, weights": (
        M.streaming_mean,
        lambda v, w: (v * w).sum() / w.sum(),
        (VALUES[:, 0], WEIGHTS),
    ),
    "streaming_mean_absolute_error": (
        M.streaming_mean_absolute_error,
        lambda p, t: np.abs(p - t).mean(),
        REAL,
    ),
    "streaming_mean_cosine_distance": (
        lambda p, t: M.streaming_mean_cosine_distance(p, t, 1),
        lambda p, t: 1 - (p * t).sum(1).mean(),
        (UNITS, OTHER_UNITS),
    ),
    "streaming_mean_iou": (
        lambda p, t: M.streaming_mean_iou(p, t, 3),
        mean_iou,
        (GUESSED_CLASSES, CLASSES),
    ),
    "streaming_mean_relative_error": (
        M.streaming_mean_relative_error,
        lambda p, t, n: (np.abs(p - t) / n).mean(),
        (*REAL, np.abs(VALUES) + 1),
    ),
    "streaming_mean_squared_error": (
        M.streaming_mean_squared_error,
        lambda p, t: ((p - t) ** 2).mean(),
        REAL,
    ),
    "streaming_pearson_correlation": (
        M.streaming_pearson_correlation,
        lambda p, t: np.corrcoef(p, t)[0, 1],
        (VALUES[:, 0], OTHERS[:, 0]),
    ),
    "streaming_percentage_less": (
        lambda v: M.streaming_percentage_less(v, 0.3),
        lambda v: (v < 0.3).mean(),
        (VALUES,),
    ),
    "streaming_precision": (M.streaming_precision, precision, BINARY),
    "streaming_recall": (M.streaming_recall, recall, BINARY),
    "streaming_recall_at_k": (
        lambda p, t: M.streaming_recall_at_k(p, t, 3),
        lambda p, t: np.mean([c in top for c, top in zip(t, TOP_3, strict=True)]),
        (CLASS_SCORES, CLASSES),
    ),
    "streaming_root_mean_squared_error": (
        M.streaming_root_mean_squared_error,
        lambda p, t: np.sqrt(((p - t) ** 2).mean()),
        REAL,
    ),
    "streaming_sparse_average_precision_at_k": (
        lambda p, t: M.streaming_sparse_average_precision_at_k(p, t, 3),
        lambda _, t: mean_average_precision(TOP_3, t),
        RANKED,
    ),
    "streaming_sparse_average_precision_at_top_k": (
        M.streaming_sparse_average_precision_at_top_k,
        mean_average_precision,
        (TOP_3, CLASS_SETS),
    ),
    "streaming_sparse_precision_at_k": (
        lambda p, t: M.streaming_sparse_precision_at_k(p, t, 3),
        lambda _, t: hits(TOP_3, t) / TOP_3.size,
        RANKED,
    ),
    "streaming_sparse_precision_at_top_k": (
        M.streaming_sparse_precision_at_top_k,
        lambda top, t: hits(top, t) / top.size,
        (TOP_3, CLASS_SETS),
    ),
    "streaming_sparse_recall_at_k": (
        lambda p, t: M.streaming_sparse_recall_at_k(p, t, 1),
        lambda _, t: hits(TOP_1, t) / t.size,
        RANKED,
    ),
    "streaming_sparse_recall_at_k, class_id": (
        lambda p, t: M.streaming_sparse_recall_at_k(p, t, 3, class_id=2),
        lambda _, t: class_recall(TOP_3, t, 2),
        RANKED,
    ),
    "streaming_true_negatives": (M.streaming_true_negatives, true_negatives, BINARY),
    "streaming_true_positives": (M.streaming_true_positives, true_positives, BINARY),
} | {
    f"streaming_{name}_at_thresholds": (
        lambda p, t, metric=f"streaming_{name}_at_thresholds": getattr(M, metric)(p, t, THRESHOLDS),
        at_thresholds(count),
        SCORED,
    )
    for name, count in {
        "false_negative_rate": false_negative_rate,
        "false_negatives": false_negatives,
        "false_positive_rate": false_positive_rate,
        "false_positives": false_positives,
        "precision": precision,
        "recall": recall,
        "true_negatives": true_negatives,
        "true_positives": true_positives,
    }.items()
}


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_over_three_batches_gives_the_value_of_numpy(metric):
    build, expect, arrays = METRICS[metric]
    batches = [[a[rows] for a in arrays] for rows in (slice(4), slice(4, 7), slice(7, None))]
    np.testing.assert_allclose(stream(build, batches), expect(*arrays), rtol=1e-3, atol=1e-5)


AT_A_TARGET = {
    "streaming_specificity_at_sensitivity": (
        lambda p, t: M.streaming_specificity_at_sensitivity(p, t, 2 / 3),
        ([0.1, 0.2, 0.8, 0.9, 0.95], [False, True, True, True, False]),
        1 / 2,
    ),
    "streaming_sensitivity_at_specificity": (
        lambda p, t: M.streaming_sensitivity_at_specificity(p, t, 1 / 2),
        ([0.1, 0.5, 0.05, 0.9], [False, False, True, True]),
        1 / 2,
    ),
    "recall_at_precision": (
        lambda p, t: M.recall_at_precision(t, p, 1 / 2),
        ([0.1, 0.3, 0.6, 0.9], [True, True, False, True]),
        1 / 3,
    ),
    "precision_at_recall": (
        lambda p, t: M.precision_at_recall(t, p, 2 / 3),
        ([0.1, 0.3, 0.6, 0.9], [True, True, False, True]),
        2 / 3,
    ),
}


@pytest.mark.parametrize("metric", AT_A_TARGET)
def test_a_metric_at_the_target_of_another_one(metric):
    build, (scores, truths), expected = AT_A_TARGET[metric]
    batches = [(np.float32(scores), np.array(truths))]
    assert stream(build, batches) == pytest.approx(expected, abs=1e-3)


def test_streaming_mean_tensor_is_the_mean_of_the_batches(graph):
    given = tf.placeholder(tf.float32, (5, 3))
    mean, update = M.streaming_mean_tensor(given)
    with tf.Session() as session:
        initialize(session)
        for batch in (VALUES[:5], VALUES[5:]):
            session.run(update, {given: batch})
        np.testing.assert_allclose(session.run(mean), (VALUES[:5] + VALUES[5:]) / 2, rtol=1e-5)


def test_precision_recall_at_equal_thresholds():
    result = stream(
        lambda p, t: M.precision_recall_at_equal_thresholds(t, p, num_thresholds=5),
        [(SCORES[:5], TRUTHS[:5]), (SCORES[5:], TRUTHS[5:])],
    )
    inner = slice(1, 4)  # the scores lie between the thresholds
    np.testing.assert_allclose(result.thresholds, THRESHOLDS)
    for name, count in {"tp": true_positives, "fp": false_positives, "recall": recall}.items():
        expected = at_thresholds(count)(SCORES, TRUTHS)
        np.testing.assert_allclose(getattr(result, name)[inner], expected[inner], rtol=1e-5)


def test_the_area_under_the_curve_lies_between_its_bounds():
    area, low, high = stream(lambda p, t: M.auc_with_confidence_intervals(t, p), [SCORED, SCORED])
    assert area == pytest.approx(area_under_curve(*SCORED))
    assert low < area < high


def test_accuracy_of_one_batch():
    assert run(M.accuracy, GUESSED_CLASSES, CLASSES) == pytest.approx(0.7)


def test_the_confusion_matrix_counts_guesses_by_class():
    counts = run(lambda p, t: M.confusion_matrix(t, p, num_classes=3), GUESSED_CLASSES, CLASSES)
    np.testing.assert_array_equal(counts, confusion(GUESSED_CLASSES, CLASSES))


SETS = [np.int64([[1, 2], [3, 4]]), np.int64([[2, 5], [4, 3]])]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("set_intersection", [1, 2]), ("set_union", [3, 2]), ("set_difference", [1, 0])],
)
def test_sets_of_rows(name, sizes):
    assert run(lambda a, b: M.set_size(getattr(M, name)(a, b)), *SETS).tolist() == sizes


@pytest.mark.parametrize("as_map", [True, False])
def test_metrics_are_aggregated_as_evaluations_want_them(graph, as_map):
    values = tf.constant(VALUES)
    metrics = {
        "mean": M.streaming_mean(values),
        "less": M.streaming_percentage_less(values, 0.0),
    }
    if as_map:
        results, updates = M.aggregate_metric_map(metrics)
        assert list(results) == list(updates) == ["mean", "less"]
        results, updates = list(results.values()), list(updates.values())
    else:
        results, updates = M.aggregate_metrics(*metrics.values())
    with tf.Session() as session:
        initialize(session)
        session.run(updates)
        session.run(updates)
        np.testing.assert_allclose(
            session.run(results), [VALUES.mean(), (VALUES < 0).mean()], rtol=1e-4
        )

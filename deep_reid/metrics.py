"""Retrieval metrics in the graph: recognition rate (CMC) and average precision.

All rank by the distance. Of items at the same distance, the first one in the gallery ranks first.
"""

from collections.abc import Callable
from typing import TypeAlias

from deep_reid.distances import cosine_distance, pdist
from deep_reid.runtime.compat import tf

__all__ = [
    "average_precision",
    "cosine_distance",
    "pdist",
    "recognition_rate_at_k",
    "streaming_mean_average_precision",
    "streaming_mean_averge_precision",
    "streaming_mean_cmc_at_k",
]


_Measure: TypeAlias = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def recognition_rate_at_k(
    probe_x: tf.Tensor,
    probe_y: tf.Tensor,
    gallery_x: tf.Tensor,
    gallery_y: tf.Tensor,
    k: int,
    measure: _Measure = pdist,
) -> tf.Tensor:
    """Compute each probe's recognition rate at rank k, the value of the CMC at k.

    Parameters
    ----------
    probe_x : tf.Tensor of float32 or float64, shape (N, D)
    probe_y : tf.Tensor of int, shape (N,)
    gallery_x : tf.Tensor of the same type, shape (M, D)
    gallery_y : tf.Tensor of int, shape (M,)
    k : int
        Number of nearest gallery items to look at; all, if the gallery has fewer.
    measure : callable
        ``measure(probe_x, gallery_x)`` -> distances of shape (N, M).

    Returns
    -------
    tf.Tensor of float32, shape (N,)
        Number of items of the probe's identity among the k nearest, divided by the smaller of k and
        the number of its identity's items in the gallery; in [0, 1], and 0 if there are none. With
        one gallery item per identity it is 0 or 1.
    """
    is_match = tf.equal(probe_y[:, tf.newaxis], gallery_y[tf.newaxis, :])
    num_nearest = tf.minimum(k, tf.shape(gallery_x)[0])
    _, nearest = tf.nn.top_k(-measure(probe_x, gallery_x), k=num_nearest)
    num_found = _count(tf.gather(is_match, nearest, batch_dims=1))
    num_to_find = tf.minimum(tf.cast(k, tf.float32), _count(is_match))
    return tf.div_no_nan(num_found, num_to_find)


def average_precision(
    probe_x: tf.Tensor,
    probe_y: tf.Tensor,
    gallery_x: tf.Tensor,
    gallery_y: tf.Tensor,
    good_mask: tf.Tensor | None = None,
    measure: _Measure = pdist,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute each probe's average precision: the mean of the precisions at its hits.

    This is the standard definition; the MATLAB code of Market-1501 and MARS takes trapezoids
    between the hits, and its results differ by about a point.

    Parameters
    ----------
    probe_x, probe_y, gallery_x, gallery_y, measure
        As in `recognition_rate_at_k`.
    good_mask : tf.Tensor of bool, shape (N, M), optional
        False removes a gallery item from a probe's ranking (junk). Default: all True.

    Returns
    -------
    average_precision : tf.Tensor of float32, shape (N,)
        In [0, 1]; 0 for a probe without a match.
    has_match : tf.Tensor of bool, shape (N,)
        Whether the gallery has a match for the probe; leave out the other probes of a mean.
    """
    is_match = tf.equal(probe_y[:, tf.newaxis], gallery_y[tf.newaxis, :])
    if good_mask is None:
        good_mask = tf.ones_like(is_match)
    is_match = tf.logical_and(is_match, good_mask)
    distances = measure(probe_x, gallery_x)
    # Junk goes to the end of the ranking, after every hit, where it cannot lower a precision.
    infinity = tf.constant(float("inf"), distances.dtype)
    distances = tf.where(good_mask, distances, tf.fill(tf.shape(distances), infinity))
    ranking = tf.argsort(distances, axis=1, stable=True)
    hits = tf.cast(tf.gather(is_match, ranking, batch_dims=1), tf.float32)
    ranks = tf.cast(tf.range(1, tf.shape(hits)[1] + 1), tf.float32)
    precision_at_hits = hits * tf.cumsum(hits, axis=1) / ranks
    num_hits = tf.reduce_sum(hits, axis=1)
    return tf.div_no_nan(tf.reduce_sum(precision_at_hits, axis=1), num_hits), num_hits > 0.0


def streaming_mean_cmc_at_k(
    probe_x: tf.Tensor,
    probe_y: tf.Tensor,
    gallery_x: tf.Tensor,
    gallery_y: tf.Tensor,
    k: int,
    measure: _Measure = pdist,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Average `recognition_rate_at_k` over the probes of all galleries so far.

    Parameters
    ----------
    probe_x, probe_y, gallery_x, gallery_y, k, measure
        As in `recognition_rate_at_k`.

    Returns
    -------
    value : tf.Tensor of float32, shape ()
    update_op : tf.Tensor of float32, shape ()
        Adds the current probes and gallery. Both use local variables.
    """
    return tf.metrics.mean(
        recognition_rate_at_k(probe_x, probe_y, gallery_x, gallery_y, k, measure)
    )


def streaming_mean_average_precision(
    probe_x: tf.Tensor,
    probe_y: tf.Tensor,
    gallery_x: tf.Tensor,
    gallery_y: tf.Tensor,
    good_mask: tf.Tensor | None,
    measure: _Measure = pdist,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Average `average_precision` over the probes with a match of all galleries so far.

    Parameters
    ----------
    probe_x, probe_y, gallery_x, gallery_y, good_mask, measure
        As in `average_precision`.

    Returns
    -------
    value : tf.Tensor of float32, shape ()
    update_op : tf.Tensor of float32, shape ()
        As in `streaming_mean_cmc_at_k`.
    """
    values, has_match = average_precision(
        probe_x, probe_y, gallery_x, gallery_y, good_mask, measure
    )
    return tf.metrics.mean(values, weights=tf.cast(has_match, tf.float32))


# The original's name.
streaming_mean_averge_precision = streaming_mean_average_precision


def _count(mask):
    return tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)

"""Retrieval metrics in the graph: recognition rate (CMC) and average precision.

All rank by the distance itself. Where distances tie, the item that comes first in the gallery wins.
"""

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


def recognition_rate_at_k(probe_x, probe_y, gallery_x, gallery_y, k, measure=pdist):
    """Compute each probe's recognition rate at rank k, the CMC's value at k.

    Parameters
    ----------
    probe_x : tf.Tensor of float32 or float64, shape (N, D)
    probe_y : tf.Tensor of int, shape (N,)
    gallery_x : tf.Tensor of the same type, shape (M, D)
    gallery_y : tf.Tensor of int, shape (M,)
    k : int
        Number of nearest gallery items to look at; all of them, where the gallery has fewer.
    measure : callable
        ``measure(probe_x, gallery_x)`` -> distances of shape (N, M).

    Returns
    -------
    tf.Tensor of float32, shape (N,)
        Number of items of the probe's identity among the k nearest, divided by the smaller of k and
        the number of its identity's items in the gallery; in [0, 1], and 0 where there are none.
        With one gallery item per identity it is 0 or 1.
    """
    is_match = tf.equal(probe_y[:, tf.newaxis], gallery_y[tf.newaxis, :])
    num_nearest = tf.minimum(k, tf.shape(gallery_x)[0])
    _, nearest = tf.nn.top_k(-measure(probe_x, gallery_x), k=num_nearest)
    num_found = _count(tf.gather(is_match, nearest, batch_dims=1))
    num_to_find = tf.minimum(tf.cast(k, tf.float32), _count(is_match))
    return tf.div_no_nan(num_found, num_to_find)


def average_precision(probe_x, probe_y, gallery_x, gallery_y, good_mask=None, measure=pdist):
    """Compute each probe's average precision: the mean of the precisions at its hits.

    This is the standard definition; the MATLAB code of Market-1501 and MARS takes trapezoids
    between the hits, which comes out differently by about a point.

    Parameters
    ----------
    probe_x, probe_y, gallery_x, gallery_y, measure
        As in `recognition_rate_at_k`.
    good_mask : tf.Tensor of bool, shape (N, M), optional
        False takes a gallery item out of a probe's ranking (junk). Default: all are good.

    Returns
    -------
    average_precision : tf.Tensor of float32, shape (N,)
        In [0, 1]; 0 where nothing can be found.
    has_match : tf.Tensor of bool, shape (N,)
        Whether the probe has an item to find: the others do not belong in a mean.
    """
    is_match = tf.equal(probe_y[:, tf.newaxis], gallery_y[tf.newaxis, :])
    if good_mask is None:
        good_mask = tf.ones_like(is_match)
    is_match = tf.logical_and(is_match, good_mask)
    distances = measure(probe_x, gallery_x)
    # Junk goes to the end of the ranking, behind every hit, where it cannot lower a precision.
    infinity = tf.constant(float("inf"), distances.dtype)
    distances = tf.where(good_mask, distances, tf.fill(tf.shape(distances), infinity))
    ranking = tf.argsort(distances, axis=1, stable=True)
    hits = tf.cast(tf.gather(is_match, ranking, batch_dims=1), tf.float32)
    ranks = tf.cast(tf.range(1, tf.shape(hits)[1] + 1), tf.float32)
    precision_at_hits = hits * tf.cumsum(hits, axis=1) / ranks
    num_hits = tf.reduce_sum(hits, axis=1)
    return tf.div_no_nan(tf.reduce_sum(precision_at_hits, axis=1), num_hits), num_hits > 0.0


def streaming_mean_cmc_at_k(probe_x, probe_y, gallery_x, gallery_y, k, measure=pdist):
    """Average `recognition_rate_at_k` over all probes of all galleries seen so far.

    Parameters
    ----------
    probe_x, probe_y, gallery_x, gallery_y, k, measure
        As in `recognition_rate_at_k`.

    Returns
    -------
    value : tf.Tensor of float32, shape ()
    update_op : tf.Tensor of float32, shape ()
        Takes the current probes and gallery in. Both work on local variables.
    """
    return tf.metrics.mean(
        recognition_rate_at_k(probe_x, probe_y, gallery_x, gallery_y, k, measure)
    )


def streaming_mean_average_precision(
    probe_x, probe_y, gallery_x, gallery_y, good_mask, measure=pdist
):
    """Average `average_precision` over all probes with a match, of all galleries seen so far.

    Parameters
    ----------
    probe_x, probe_y, gallery_x, gallery_y, good_mask, measure
        As in `average_precision`.

    Returns
    -------
    value : tf.Tensor of float32, shape ()
    update_op : tf.Tensor of float32, shape ()
        Takes the current probes and gallery in. Both work on local variables.
    """
    values, has_match = average_precision(
        probe_x, probe_y, gallery_x, gallery_y, good_mask, measure
    )
    return tf.metrics.mean(values, weights=tf.cast(has_match, tf.float32))


# The name under which the original has it.
streaming_mean_averge_precision = streaming_mean_average_precision


def _count(mask):
    return tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)

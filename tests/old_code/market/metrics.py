# vim: expandtab:ts=4:sw=4
import tensorflow as tf
import tensorflow.contrib.slim as slim


def pdist(a, b=None):
    b = a if b is None else b
    a2 = tf.reduce_sum(tf.square(a), axis=1, keep_dims=True)
    b2 = tf.reduce_sum(tf.square(b), axis=1, keep_dims=True)
    return a2 - 2. * tf.matmul(a, tf.transpose(b)) + tf.transpose(b2)


def cosine_distance(a, b=None):
    b = a if b is None else b
    return 1. - tf.matmul(
        tf.nn.l2_normalize(a, dim=1), tf.nn.l2_normalize(b, dim=1), transpose_b=True)


def streaming_mean_cmc_at_k(probe_x, probe_y, gallery_x, gallery_y, k, measure=pdist):
    """One gallery image for each identity: a probe counts where it is among the k nearest."""
    distances = measure(probe_x, gallery_x)
    k = min(k, distances.get_shape().as_list()[1])
    _, nearest = tf.nn.top_k(-distances, k=k)
    hits = tf.equal(tf.gather(gallery_y, nearest), tf.expand_dims(probe_y, 1))
    found = tf.reduce_any(hits, axis=1)
    return slim.metrics.streaming_mean(tf.to_float(found))

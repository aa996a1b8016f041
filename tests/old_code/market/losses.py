# vim: expandtab:ts=4:sw=4
"""Triplet and magnet loss, and an angular loss of this folder's own."""
import math
import tensorflow as tf


def _same_identity(labels):
    return tf.equal(tf.expand_dims(labels, 1), tf.expand_dims(labels, 0))


def softmargin_triplet_loss(features, labels, create_summaries=True):
    squares = tf.reduce_sum(tf.square(features), reduction_indices=1, keep_dims=True)
    distances = squares - 2. * tf.matmul(features, features, transpose_b=True)
    distances = tf.sqrt(tf.maximum(distances + tf.transpose(squares), 0.) + 1e-5)
    same = _same_identity(labels)
    farthest = tf.reduce_max(tf.where(same, distances, tf.zeros_like(distances)), 1)
    nearest = tf.reduce_min(tf.where(same, 1e3 * tf.ones_like(distances), distances), 1)
    if create_summaries:
        tf.summary.histogram("nearest_negative", nearest)
    return tf.reduce_mean(tf.nn.softplus(farthest - nearest))


def angular_loss(features, labels, degrees=40.):
    """For each pair of an identity: the angle at the images of all others.

    Wang et al., "Deep Metric Learning with Angular Loss", ICCV 2017, in the form for batches.
    """
    tan2 = math.tan(math.radians(degrees)) ** 2
    similarity = tf.matmul(features, features, transpose_b=True)
    same = _same_identity(labels)
    pairs = tf.where(tf.logical_xor(same, tf.cast(tf.eye(tf.shape(labels)[0]), tf.bool)))
    anchors, positives = tf.unstack(tf.cast(pairs, tf.int32), axis=1)
    to_others = tf.gather(similarity, anchors) + tf.gather(similarity, positives)
    to_positive = tf.expand_dims(tf.gather_nd(similarity, pairs), 1)
    terms = 4. * tan2 * to_others - 2. * (1. + tan2) * to_positive
    terms = tf.where(tf.gather(same, anchors), -1e3 * tf.ones_like(terms), terms)
    return tf.reduce_mean(tf.nn.softplus(tf.reduce_logsumexp(terms, axis=1)))

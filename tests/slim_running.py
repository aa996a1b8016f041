"""Builds something with TF-Slim in a graph that is empty before, and runs it."""

import numpy as np

from deep_reid.compat import tf


def draw(*shape, seed=0):
    """Standard normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def initialize(session):
    session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])


def run(build, *arrays):
    """What `build` returns for these arrays, as constants in a graph of their own."""
    with tf.Graph().as_default(), tf.Session() as session:
        fetches = build(*map(tf.constant, arrays))
        initialize(session)
        return session.run(fetches)


def stream(build, batches):
    """The value of a streaming metric after some batches, one `update_op` each.

    `build` takes one placeholder for each array of a batch and returns value and `update_op`.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        rows = [tf.placeholder(a.dtype, (None, *a.shape[1:])) for a in map(np.asarray, batches[0])]
        value, update = build(*rows)
        initialize(session)
        for batch in batches:
            feed = dict(zip(rows, batch, strict=True))
            session.run(update, feed)
        # Some metrics check the labels of the batch also where only their value is asked for.
        return session.run(value, feed)

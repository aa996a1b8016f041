"""Checkpoints of a step and some values, for tests in which the network is not the subject."""

import os

from deep_reid.compat import tf


def save(directory, steps, values=None, *, with_step=True):
    """Save a checkpoint of the given variables for each step; returns the prefixes."""
    values = {"weights": [1.0, 2.0]} if values is None else values
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in values.items():
            tf.get_variable(name, initializer=tf.constant(value))
        if with_step:
            global_step = tf.train.create_global_step()
        saver = tf.train.Saver(max_to_keep=100, save_relative_paths=True)
        session.run(tf.global_variables_initializer())
        prefixes = []
        for step in steps:
            if with_step:
                global_step.load(step, session)
            prefix = os.path.join(directory, "model.ckpt")
            os.makedirs(directory, exist_ok=True)
            prefixes.append(saver.save(session, prefix, global_step=step))
    return prefixes

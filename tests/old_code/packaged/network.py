# vim: expandtab:ts=4:sw=4
import tensorflow as tf
from tensorflow.contrib import slim


def create_network(images, is_training, reuse=None):
    with slim.variable_scope.variable_scope("Small", reuse=reuse):
        x = slim.conv2d(
            images, 6, [3, 3], stride=2, normalizer_fn=slim.batch_norm,
            normalizer_params={"is_training": is_training, "decay": 0.9})
        x = slim.avg_pool2d(x, [2, 2])
        x = slim.fully_connected(slim.flatten(x), 8, activation_fn=None, scope="fc")
        return tf.nn.l2_normalize(x, dim=-1)

# vim: expandtab:ts=4:sw=4
import tensorflow as tf
import tensorflow.contrib.slim as slim


def conv(x, num_outputs, stride, scope, with_norm=True, weight_decay=1e-8):
    return slim.conv2d(
        x, num_outputs, [3, 3], stride=stride, padding="SAME", scope=scope,
        activation_fn=tf.nn.elu if with_norm else None,
        normalizer_fn=slim.batch_norm if with_norm else None,
        weights_initializer=tf.truncated_normal_initializer(stddev=0.05),
        weights_regularizer=slim.l2_regularizer(weight_decay))


def unit(x, scope, widen=False, keep_prob=0.6):
    """Two convolutions beside a shortcut; `widen` halves the size, doubles the channels."""
    num_inputs = x.get_shape().as_list()[-1]
    num_outputs = 2 * num_inputs if widen else num_inputs
    stride = 2 if widen else 1
    with slim.variable_scope.variable_scope(scope, values=[x]):
        branch = tf.nn.elu(slim.batch_norm(x, scope="norm"))
        branch = conv(branch, num_outputs, stride, "first")
        branch = slim.dropout(branch, keep_prob=keep_prob)
        branch = conv(branch, num_outputs, 1, "second", with_norm=False)
        if widen:
            x = slim.conv2d(
                x, num_outputs, 1, stride=2, activation_fn=None, biases_initializer=None,
                scope="shortcut")
        return x + branch

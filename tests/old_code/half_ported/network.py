# vim: expandtab:ts=4:sw=4
import tensorflow.compat.v1 as tf
import tf_slim as slim

tf.disable_v2_behavior()


def create_network(images, is_training, num_classes, weight_decay=1e-4):
    with slim.variable_scope.variable_scope("Half", values=[images]):
        x = slim.conv2d(
            images, 6, [3, 3], stride=2, normalizer_fn=slim.batch_norm,
            normalizer_params={"is_training": is_training},
            weights_initializer=tf.truncated_normal_initializer(stddev=0.05),
            weights_regularizer=slim.l2_regularizer(weight_decay))
        x = slim.fully_connected(slim.flatten(x), 8, scope="fc")
        features = tf.nn.l2_normalize(x, axis=1)
        return features, slim.fully_connected(
            features, num_classes, activation_fn=None, scope="logits")

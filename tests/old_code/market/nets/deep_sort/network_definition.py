# vim: expandtab:ts=4:sw=4
import tensorflow as tf
import tensorflow.contrib.slim as slim

from . import residual_net


def create_network(images, num_classes=None, add_logits=True, reuse=None, feature_dim=16):
    with slim.variable_scope.variable_scope("people", reuse=reuse):
        network = residual_net.conv(images, 8, 2, "stem")
        network = slim.max_pool2d(network, [3, 3], 2, scope="pool", padding="SAME")
        network = residual_net.unit(network, "wide_1", widen=True)
        network = residual_net.unit(network, "wide_2")
        network = slim.dropout(slim.flatten(network), keep_prob=0.6)
        features = slim.fully_connected(
            network, feature_dim, activation_fn=tf.nn.elu, normalizer_fn=slim.batch_norm,
            weights_regularizer=slim.l2_regularizer(1e-8), scope="embedding")
        features = tf.nn.l2_normalize(features, dim=1)
    if not add_logits:
        return features, None
    with slim.variable_scope.variable_scope("classifier", reuse=reuse):
        directions = slim.model_variable(
            "directions", (feature_dim, int(num_classes)),
            initializer=tf.truncated_normal_initializer(stddev=0.05), regularizer=None)
        sharpness = slim.model_variable(
            "sharpness", (), initializer=tf.constant_initializer(0.),
            regularizer=slim.l2_regularizer(1e-1))
        tf.summary.scalar("sharpness", sharpness)
        logits = tf.nn.softplus(sharpness) * tf.matmul(
            features, tf.nn.l2_normalize(directions, dim=0))
    return features, logits


def create_network_factory(is_training, num_classes, add_logits, reuse=None):
    def factory_fn(images):
        with slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
            return create_network(images, num_classes, add_logits=add_logits, reuse=reuse)

    return factory_fn


def preprocess(image, is_training=False, input_is_bgr=False):
    """One image; integers and floats both lie in [0, 255]."""
    if input_is_bgr:
        image = image[:, :, ::-1]
    image = tf.divide(tf.cast(image, tf.float32), 255.0)
    return tf.image.random_flip_left_right(image) if is_training else image

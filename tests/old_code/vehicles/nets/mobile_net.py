# vim: expandtab:ts=4:sw=4
import tensorflow as tf
import tensorflow.contrib.slim as slim

# stride, channels
UNITS = [(1, 8), (2, 16), (2, 32)]


def _depthwise_unit(x, num_outputs, stride, scope):
    x = slim.separable_conv2d(
        x, None, [3, 3], depth_multiplier=1, stride=stride, scope=scope + "_depthwise")
    return slim.conv2d(x, num_outputs, [1, 1], scope=scope + "_pointwise")


def create_network(images, num_classes, add_logits, is_training, reuse=None):
    norm_params = {"is_training": is_training, "decay": 0.9, "scale": True}
    with tf.variable_scope("MobileNet", reuse=reuse):
        with slim.arg_scope(
                [slim.conv2d, slim.separable_conv2d], activation_fn=tf.nn.relu6,
                normalizer_fn=slim.batch_norm, normalizer_params=norm_params,
                weights_regularizer=slim.l2_regularizer(4e-5)):
            x = slim.conv2d(images, 8, [3, 3], stride=2, scope="Conv2d_0")
            for i, (stride, num_outputs) in enumerate(UNITS):
                x = _depthwise_unit(x, num_outputs, stride, "Conv2d_%d" % (i + 1))
        x = tf.reduce_mean(x, axis=[1, 2], keep_dims=True, name="global_pool")
        x = slim.fully_connected(
            slim.flatten(x), 12, activation_fn=None, scope="Bottleneck",
            normalizer_fn=slim.batch_norm, normalizer_params=norm_params)
        features = tf.nn.l2_normalize(x, dim=1)
        logits = None
        if add_logits:
            logits = slim.fully_connected(features, num_classes, activation_fn=None, scope="Logits")
    return features, logits


def create_network_factory(is_training, num_classes, add_logits, reuse=None):
    def factory_fn(images):
        return create_network(images, num_classes, add_logits, is_training, reuse=reuse)

    return factory_fn


def preprocess(image, is_training=False):
    """Takes one image in BGR; uint8 becomes float32 in [0, 1]."""
    image = tf.reverse(image, [-1])
    image = tf.image.convert_image_dtype(image, tf.float32)
    if is_training:
        image = tf.image.random_flip_left_right(image)
        image = tf.clip_by_value(tf.image.random_brightness(image, 0.1), 0., 1.)
    return image

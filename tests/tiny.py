"""A tiny network, for tests in which the real one is not the subject."""

import json
import os
import pathlib
import time

from deep_reid.compat import slim, tf
from deep_reid.nets.preprocessing import mirror_in_training

IMAGE_SHAPE = (32, 16, 3)
FEATURE_SIZE = 8


def create_network_factory(is_training, num_classes=None):
    """Settle a network of three layers; logits only with `num_classes`."""

    def factory_fn(images):
        with tf.variable_scope("tiny", reuse=tf.AUTO_REUSE):
            network = slim.conv2d(
                images,
                8,
                [5, 5],
                stride=4,
                normalizer_fn=slim.batch_norm,
                normalizer_params={"is_training": is_training, "decay": 0.9},
                scope="conv",
            )
            network = slim.fully_connected(
                slim.flatten(network), FEATURE_SIZE, activation_fn=None, scope="fc"
            )
            features = tf.nn.l2_normalize(network, axis=1)
            if num_classes is None:
                return features, None
            logits = slim.fully_connected(features, num_classes, activation_fn=None, scope="logits")
            return features, logits

    return factory_fn


def preprocess(image, is_training=False):
    """Scale one image to [0, 1]; does not take batches."""
    del is_training
    return tf.cast(image, tf.float32) / 255.0


class Net:
    """The network as the command line names it: ``--network=tiny:Net``."""

    def preprocess(self, image, is_training=False):
        """Scale one image to [0, 1]; does not take batches."""
        return preprocess(image, is_training)

    def create_network_factory(self, is_training, num_classes, add_logits):
        """Settle the network; logits only if they are asked for."""
        return create_network_factory(is_training, num_classes if add_logits else None)


class DrawingNet(Net):
    """Draws in training, as the package's own networks do: mirrored images and dropout."""

    def preprocess(self, image, is_training=False):
        """Scale one image to [0, 1]; in training, mirror it with probability one half."""
        return mirror_in_training(preprocess(image), is_training)

    def create_network_factory(self, is_training, num_classes, add_logits):
        """Settle the network behind dropout; logits only if they are asked for."""
        factory = super().create_network_factory(is_training, num_classes, add_logits)
        return lambda images: factory(slim.dropout(images, 0.6, is_training=is_training))


class WaitingNet(Net):
    """Is built when a test lets it: it waits for a file with the role of its process."""

    def create_network_factory(self, is_training, num_classes, add_logits):
        """Settle the network, which waits when it is built."""
        factory = super().create_network_factory(is_training, num_classes, add_logits)
        role = json.loads(os.environ["TF_CONFIG"])["task"]["type"]

        def waiting_factory(images):
            while not pathlib.Path(f"{role}-may-build").exists():
                time.sleep(0.05)
            return factory(images)

        return waiting_factory

"""Checkpoints, graphs and crops for tests of exports."""

import pathlib

import cv2
import numpy as np

from deep_reid import export
from deep_reid.compat import slim, tf
from deep_reid.config import RunConfig
from deep_reid.errors import UsageError
from deep_reid.export.formats import FORMATS
from deep_reid.nets import deep_sort

IMAGE_SHAPE = (32, 16, 3)


def is_installed(name, quantization="none"):
    """Tell whether a format can be written and computed here."""
    try:
        FORMATS[name].check_packages(quantization)
    except UsageError:
        return False
    return True


def save_checkpoint(directory, factory, image_shape, step=7):
    """Save a checkpoint with weights that make all layers matter."""
    with tf.Graph().as_default(), tf.Session() as session:
        factory(tf.zeros((1, *image_shape)))
        random = np.random.RandomState(0)
        for variable in slim.get_model_variables():
            shape = variable.get_shape().as_list()
            value = random.normal(size=shape) / np.sqrt(np.prod(shape[:-1]) if shape[1:] else 10)
            is_variance = variable.op.name.endswith("moving_variance")
            variable.load(abs(value) + 0.5 if is_variance else value, session)
        return tf.train.Saver().save(session, str(directory / "model.ckpt"), step)


def save_run(directory, network=deep_sort, image_shape=IMAGE_SHAPE, recorded=None):
    """Save a checkpoint and its run's settings, with the name of a network or without."""
    factory = network.create_network_factory(False, None, add_logits=False)
    checkpoint = save_checkpoint(directory, factory, image_shape)
    RunConfig(image_shape=image_shape, network=recorded).save(directory)
    return checkpoint


def freeze(checkpoint, path, network=deep_sort, image_shape=IMAGE_SHAPE, **settings):
    factory = network.create_network_factory(False, None, add_logits=False)
    export.freeze(network.preprocess, factory, checkpoint, image_shape, path, **settings)
    return str(path)


def draw_crops(count, seed=0, num_channels=3):
    """Crops of many sizes, smooth as photographs."""
    random = np.random.RandomState(seed)
    crops = []
    for _ in range(count):
        coarse = random.randint(0, 256, (8, 4, num_channels), np.uint8)
        width, height = random.randint(1, 60, 2)
        crop = cv2.resize(coarse, (int(width), int(height)))
        crops.append(crop.reshape(height, width, num_channels))
    return crops


def run_graph(path, images):
    graph_def = tf.GraphDef.FromString(pathlib.Path(path).read_bytes())
    with tf.Graph().as_default(), tf.Session() as session:
        (features,) = tf.import_graph_def(graph_def, return_elements=["features:0"], name="")
        return session.run(features, {"images:0": images})


def resize(crops, image_shape=IMAGE_SHAPE):
    return np.stack([cv2.resize(crop, image_shape[1::-1]) for crop in crops])

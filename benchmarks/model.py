"""Writes a model: a checkpoint, frozen graphs, and arrays of the weights.

The weights are drawn at random in a way that all layers have an effect: in an untrained network the
statistics of batch norm are 0 and 1, and the features hardly depend on the image.
"""

import pathlib

import numpy as np

from benchmarks.files import MODELS
from deep_reid import export
from deep_reid.compat import slim, tf
from deep_reid.export.convert import convert
from deep_reid.export.model_input import BGR_UINT8, ModelInput
from deep_reid.export.parity import Samples
from deep_reid.nets import deep_sort
from deep_reid.runs import restoring

IMAGE_SHAPE = (128, 64, 3)


class ModelWriter:
    """Writes the files of a model."""

    def write(self, directory):
        """Write ``model.ckpt-1``, ``weights.npz``, ``frozen.pb``, ``map.pb``, and `MODELS`."""
        directory = pathlib.Path(directory)
        checkpoint = str(directory / "model.ckpt-1")
        factory = deep_sort.create_network_factory(False, None, add_logits=False)
        with tf.Graph().as_default(), tf.Session() as session:
            factory(tf.placeholder(tf.float32, (None, *IMAGE_SHAPE)))
            weights = draw_weights(slim.get_model_variables())
            for variable in slim.get_model_variables():
                variable.load(weights[variable.op.name], session)
            tf.train.Saver().save(session, checkpoint)
        np.savez(directory / "weights.npz", **weights)
        frozen_graph = directory / "frozen.pb"
        export.freeze(deep_sort.preprocess, factory, checkpoint, IMAGE_SHAPE, frozen_graph)
        (directory / "map.pb").write_bytes(_freeze_with_map(factory, checkpoint))
        images = np.random.default_rng(3).integers(0, 256, (4, *IMAGE_SHAPE), np.uint8)
        convert(
            deep_sort.preprocess,
            factory,
            checkpoint,
            ModelInput(IMAGE_SHAPE, BGR_UINT8),
            {name: directory / file for name, file in MODELS.items()},
            Samples(images),
        )


def _freeze_with_map(factory, checkpoint):
    """Freeze a graph that preprocesses image by image, like the original's."""

    def preprocess(bgr_image):
        return tf.divide(tf.cast(bgr_image[:, :, ::-1], tf.float32), 255.0)

    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, (None, *IMAGE_SHAPE), name="images")
        features, _ = factory(tf.map_fn(preprocess, images, dtype=tf.float32, back_prop=False))
        tf.identity(features, name="features")
        restoring.restore_model(session, checkpoint)
        return tf.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), ["features"]
        ).SerializeToString()


def draw_weights(variables, seed=1):
    """Draw values of a network's variables; activations keep their scale from layer to layer.

    Parameters
    ----------
    variables : sequence of tf.Variable
    seed : int

    Returns
    -------
    dict of str to np.ndarray of float32
        By the variable's name.
    """
    random = np.random.default_rng(seed)
    drawn = {}
    for variable in variables:
        shape = variable.get_shape().as_list()
        if variable.op.name.endswith("moving_variance"):
            values = random.uniform(0.5, 1.5, shape)
        elif variable.op.name.endswith("weights"):
            values = random.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
        else:
            values = 0.1 * random.standard_normal(shape)
        drawn[variable.op.name] = np.asarray(values, np.float32)
    return drawn

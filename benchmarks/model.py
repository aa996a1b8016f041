"""Writes what encodes: a checkpoint, frozen graphs, an ONNX graph, and arrays of the weights.

The weights are drawn such that all layers matter: an untrained network's statistics of batch norm
are 0 and 1, and its features hardly depend on the image.
"""

import pathlib

import numpy as np

from deep_reid import export
from deep_reid.compat import slim, tf
from deep_reid.nets import deep_sort
from deep_reid.runs import restoring

IMAGE_SHAPE = (128, 64, 3)
CHECKPOINT = "model.ckpt-1"
FROZEN_GRAPH = "frozen.pb"
MAP_GRAPH = "map.pb"
ONNX_GRAPH = "frozen.onnx"
WEIGHTS = "weights.npz"
_ONNX_OPSET = 17


class ModelWriter:
    """Writes each file on its own, so that one that fails leaves the others.

    Parameters
    ----------
    directory : str
        Of all files; the checkpoint is written at once.
    """

    def __init__(self, directory):
        self._directory = pathlib.Path(directory)
        self._factory = deep_sort.create_network_factory(False, None, add_logits=False)
        with tf.Graph().as_default(), tf.Session() as session:
            self._factory(tf.placeholder(tf.float32, (None, *IMAGE_SHAPE)))
            self._weights = draw_weights(slim.get_model_variables())
            for variable in slim.get_model_variables():
                variable.load(self._weights[variable.op.name], session)
            tf.train.Saver().save(session, str(self._directory / CHECKPOINT))

    def write_weights(self):
        """Write the weights by their names, as ``.npz``."""
        np.savez(self._directory / WEIGHTS, **self._weights)

    def write_frozen_graph(self):
        """Write the package's frozen graph."""
        export.freeze(
            deep_sort.preprocess,
            self._factory,
            self._directory / CHECKPOINT,
            IMAGE_SHAPE,
            self._directory / FROZEN_GRAPH,
        )

    def write_map_graph(self):
        """Write a frozen graph that preprocesses image by image, as the original's did."""

        def preprocess(bgr_image):
            return tf.divide(tf.cast(bgr_image[:, :, ::-1], tf.float32), 255.0)

        with tf.Graph().as_default(), tf.Session() as session:
            images = tf.placeholder(tf.uint8, (None, *IMAGE_SHAPE), name="images")
            images = tf.map_fn(preprocess, images, dtype=tf.float32, back_prop=False)
            features, _ = self._factory(images)
            tf.identity(features, name="features")
            restoring.restore_model(session, str(self._directory / CHECKPOINT))
            graph_def = tf.graph_util.convert_variables_to_constants(
                session, session.graph.as_graph_def(), ["features"]
            )
        (self._directory / MAP_GRAPH).write_bytes(graph_def.SerializeToString())

    def write_onnx_graph(self):
        """Convert the package's frozen graph."""
        import tf2onnx  # of the extra, without which the other files can be written

        graph_def = tf.GraphDef.FromString((self._directory / FROZEN_GRAPH).read_bytes())
        model, _ = tf2onnx.convert.from_graph_def(
            graph_def,
            input_names=["images:0"],
            output_names=["features:0"],
            opset=_ONNX_OPSET,
        )
        (self._directory / ONNX_GRAPH).write_bytes(model.SerializeToString())


def draw_weights(variables, seed=1):
    """Draw values for a network's variables, with which activations stay in their order of size.

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

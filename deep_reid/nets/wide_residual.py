"""The wide residual network with a cosine softmax classifier; Deep SORT has two variants of it.

The architecture is that of Wojke, Bewley & Paulus, "Simple online and realtime tracking with a deep
association metric" (ICIP 2017), trained as in Wojke & Bewley, "Deep cosine metric learning for
person re-identification" (WACV 2018). Names and shapes of its variables must stay as they are:
published checkpoints contain them.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping

from deep_reid.errors import UsageError
from deep_reid.interfaces import NetworkFactory
from deep_reid.nets import start
from deep_reid.nets.dropout import dropout
from deep_reid.nets.residual import KEEP_PROBABILITY, batch_norm_in, residual_block
from deep_reid.runtime.compat import slim, tf
from deep_reid.runtime.precision import elu, keep_exact, release

FEATURE_SIZE = 128
INITIAL_STDDEV = 1e-3

# scope, stride, preactivate
RESIDUAL_BLOCKS = (
    ("conv2_1", 1, False),
    ("conv2_3", 1, True),
    ("conv3_1", 2, True),
    ("conv3_3", 1, True),
    ("conv4_1", 2, True),
    ("conv4_3", 1, True),
)

# The kernels of the first layer are shown as one picture.
_KERNELS_PER_ROW, _KERNEL_SCALE = 8, 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class WideResidualNetwork:
    """A variant of the network; its methods connect it to images.

    Parameters
    ----------
    pool1_padding : {"SAME", "VALID"}
        Padding of the max pooling between the first convolutions and the residual blocks.
    normalize : callable
        ``normalize(x, axis=...)`` brings features (axis 1) and class vectors (axis 0) to unit
        length.
    with_feature_batch_norm : bool
        Whether another batch norm, ``ball``, comes between the last layer and `normalize`.
    with_scale_per_class : bool
        Whether each class of the classifier has a scale, or all share one.
    """

    pool1_padding: str
    normalize: Callable[..., tf.Tensor]
    with_feature_batch_norm: bool
    with_scale_per_class: bool

    def create_network(
        self,
        images: tf.Tensor,
        num_classes: int | None = None,
        add_logits: bool = True,
        reuse: bool | None = None,
        create_summaries: bool = True,
        weight_decay: float = 1e-8,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Connect the network to `images`.

        Batch norm and dropout are in training mode unless an enclosing ``slim.arg_scope`` sets
        ``is_training=False``; the factories of `create_network_factory` set it.

        Parameters
        ----------
        images : tf.Tensor of float32, shape (N, H, W, C), RGB as ``preprocess`` gives it
            Height and width must be known when the graph is built.
        num_classes : int, optional
            Number of identities of the classifier; needed with `add_logits`.
        add_logits : bool
            Whether to add the classifier.
        reuse : bool, optional
            As in ``tf.variable_scope``. None creates the variables on the first call in a graph,
            and shares them on later calls.
        create_summaries : bool
            Whether to add summaries of the first layer's kernels and of the classifier's scale.
        weight_decay : float
            Weight of the L2 penalty on the weights of convolutions and of the fully connected
            layer.

        Returns
        -------
        features : tf.Tensor of float32, shape (N, 128)
            Rows of unit length.
        logits : tf.Tensor of float32, shape (N, num_classes), or None without `add_logits`

        Raises
        ------
        UsageError
            If `add_logits` is set without `num_classes`.
        """
        if add_logits and num_classes is None:
            raise UsageError("add_logits needs num_classes: pass it, or add_logits=False")
        reuse = tf.AUTO_REUSE if reuse is None else reuse
        with (
            tf.variable_scope(tf.get_variable_scope(), reuse=reuse),
            _layer_scope(weight_decay),
        ):
            features = self._create_features(images)
            logits = self._create_classifier(features, num_classes) if add_logits else None
        if create_summaries:
            if add_logits:
                _summarize_scale(self._scale_shape(num_classes))
            _summarize_kernels()
        return release(features), None if logits is None else release(logits)

    def create_network_factory(
        self,
        is_training: bool,
        num_classes: int | None,
        add_logits: bool,
        weight_decay: float = 1e-8,
        reuse: bool | None = None,
    ) -> NetworkFactory:
        """Fix the network's settings; the factory connects it to images.

        Parameters
        ----------
        is_training : bool
            Whether batch norm uses and gathers the batch's statistics, and dropout is active.
        num_classes, add_logits, weight_decay, reuse
            As in `create_network`.

        Returns
        -------
        callable
            ``factory(images) -> (features, logits)``; may be called several times in a graph: all
            calls share the variables.
        """

        def factory_fn(images):
            with slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
                return self.create_network(
                    images,
                    num_classes=num_classes,
                    add_logits=add_logits,
                    reuse=reuse,
                    create_summaries=is_training,
                    weight_decay=weight_decay,
                )

        return factory_fn

    def fits(self, variable_shapes: Mapping[str, list[int]]) -> bool:
        """Tell whether a checkpoint may belong to this variant.

        A checkpoint of the variant with a batch norm of the features has all variables of the other
        variant, which would load it without an error and compute wrong features.

        Parameters
        ----------
        variable_shapes : dict of str to list of int
            From name to shape.

        Returns
        -------
        bool
        """
        return ("ball/beta" in variable_shapes) == self.with_feature_batch_norm

    def _create_features(self, images):
        network = create_trunk(images, self.pool1_padding)
        if self.with_feature_batch_norm:
            network = slim.batch_norm(network, scope="ball")
        return self.normalize(keep_exact(network), axis=1)

    def _create_classifier(self, features, num_classes):
        """Add the cosine softmax: logits are scaled cosines to one unit vector per class."""
        with tf.variable_scope("ball"):
            mean_vectors = slim.model_variable(
                "mean_vectors",
                (FEATURE_SIZE, num_classes),
                initializer=start.create_weight_initializer(INITIAL_STDDEV),
            )
            scale = slim.model_variable(
                "scale",
                self._scale_shape(num_classes),
                initializer=start.create_scale_initializer(),
                regularizer=slim.l2_regularizer(start.take("logit_scale_penalty")),
            )
        mean_vectors = self.normalize(keep_exact(mean_vectors), axis=0)
        scale = tf.nn.softplus(keep_exact(scale))
        start.add_logit_scale(scale)
        return scale * tf.matmul(features, mean_vectors)

    def _scale_shape(self, num_classes):
        return (num_classes,) if self.with_scale_per_class else ()


def create_trunk(images: tf.Tensor, pool1_padding: str) -> tf.Tensor:
    """Add all layers, up to the activation before the features are normalized.

    Initializers, regularizers and activations come from the enclosing ``slim.arg_scope``.

    Parameters
    ----------
    images : tf.Tensor of float32, shape (N, H, W, C)
    pool1_padding : {"SAME", "VALID"}

    Returns
    -------
    tf.Tensor of float32, shape (N, 128)
    """
    network = images
    for scope in ("conv1_1", "conv1_2"):
        network = slim.conv2d(network, 32, [3, 3], normalizer_fn=batch_norm_in(scope), scope=scope)
    network = slim.max_pool2d(network, [3, 3], stride=2, padding=pool1_padding, scope="pool1")
    for scope, stride, preactivate in RESIDUAL_BLOCKS:
        network = residual_block(network, scope, stride=stride, preactivate=preactivate)
    network = dropout(slim.flatten(network), KEEP_PROBABILITY)
    return slim.fully_connected(
        network, FEATURE_SIZE, normalizer_fn=batch_norm_in("fc1"), scope="fc1"
    )


def num_classes_in(variable_shapes: Mapping[str, list[int]]) -> int | None:
    """Return the number of classes of a checkpoint's classifier.

    Parameters
    ----------
    variable_shapes : dict of str to list of int
        From name to shape.

    Returns
    -------
    int or None
        None if the checkpoint has no classifier.
    """
    shape = variable_shapes.get("ball/mean_vectors")
    return None if shape is None else shape[1]


@contextlib.contextmanager
def _layer_scope(weight_decay):
    own_decay = start.take("weight_decay")
    with contextlib.ExitStack() as stack:
        decay = start.take("batch_norm_decay")
        if decay != start.DEFAULTS["batch_norm_decay"]:  # else that of the caller's scope stays
            stack.enter_context(slim.arg_scope([slim.batch_norm], decay=decay))
        stack.enter_context(
            slim.arg_scope(
                [slim.conv2d, slim.fully_connected],
                activation_fn=elu,
                weights_initializer=start.create_weight_initializer(INITIAL_STDDEV),
                weights_regularizer=slim.l2_regularizer(
                    weight_decay if own_decay is None else own_decay
                ),
                biases_initializer=tf.zeros_initializer(),
            )
        )
        yield


def _summarize_scale(shape):
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        scale = tf.get_variable("ball/scale", shape)
    summarize = tf.summary.histogram if shape else tf.summary.scalar
    summarize("logit_scale", tf.nn.softplus(scale))


def _summarize_kernels():
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        kernels = tf.get_variable("conv1_1/weights")
    if kernels.get_shape().as_list()[2] in (1, 3):
        tf.summary.image("kernels/conv1_1", arrange_in_grid(kernels), max_outputs=1)


def arrange_in_grid(kernels: tf.Tensor) -> tf.Tensor:
    """Arrange kernels as one picture, eight in a row, each enlarged, with a border around it.

    Parameters
    ----------
    kernels : tf.Tensor of float32, shape (H, W, C, N)

    Returns
    -------
    tf.Tensor of float32, shape (1, height, width, C)
    """
    height, width, num_channels, number = kernels.get_shape().as_list()
    height, width = _KERNEL_SCALE * height + 2, _KERNEL_SCALE * width + 2
    num_columns = _KERNELS_PER_ROW
    num_rows = -(-number // num_columns)
    enlarged = tf.repeat(tf.repeat(kernels, _KERNEL_SCALE, axis=0), _KERNEL_SCALE, axis=1)
    missing = num_rows * num_columns - number
    cells = tf.pad(enlarged, [[1, 1], [1, 1], [0, 0], [0, missing]])
    cells = tf.reshape(cells, [height, width, num_channels, num_rows, num_columns])
    grid = tf.transpose(cells, [3, 0, 4, 1, 2])
    return tf.reshape(grid, [1, num_rows * height, num_columns * width, num_channels])

"""The network that was published with Deep SORT, "mars-small128", and its preprocessing.

It differs from `deep_reid.nets.deep_sort` in a batch norm of the features, a scale for each class,
the padding, and images that are not scaled to [0, 1]: neither takes checkpoints of the other.
"""

from deep_reid.nets.preprocessing import mirror_in_training, to_float_rgb
from deep_reid.nets.wide_residual import FEATURE_SIZE, WideResidualNetwork, num_classes_in
from deep_reid.runtime.compat import tf

__all__ = [
    "FEATURE_SIZE",
    "create_network",
    "create_network_factory",
    "fits",
    "num_classes_in",
    "preprocess",
]

_EPSILON = 1e-8


def _normalize(x, axis):
    # tf.nn.l2_normalize uses a lower bound of the root instead: short vectors would differ.
    return x / tf.sqrt(_EPSILON + tf.reduce_sum(tf.square(x), axis=axis, keepdims=True))


_NETWORK = WideResidualNetwork(
    pool1_padding="VALID",
    normalize=_normalize,
    with_feature_batch_norm=True,
    with_scale_per_class=True,
)
create_network = _NETWORK.create_network
create_network_factory = _NETWORK.create_network_factory
fits = _NETWORK.fits


def preprocess(
    image: tf.Tensor, is_training: bool = False, input_is_bgr: bool = False
) -> tf.Tensor:
    """Leave an image's values as they are; in training, mirror it with probability one half.

    Parameters
    ----------
    image, is_training, input_is_bgr
        As in `deep_reid.nets.deep_sort.preprocess`.

    Returns
    -------
    tf.Tensor of float32, shape of `image`, RGB in [0, 255]
    """
    return mirror_in_training(to_float_rgb(image, input_is_bgr), is_training)


# Read by `deep_reid.images.pipeline`: one call serves a whole batch.
preprocess.takes_batches = True

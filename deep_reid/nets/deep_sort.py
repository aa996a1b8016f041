"""The network of Deep SORT as it is trained here, and its preprocessing."""

from deep_reid.config.step import LOGIT_SCALE_PENALTY
from deep_reid.nets.preprocessing import mirror_in_training, to_float_rgb
from deep_reid.nets.wide_residual import (
    FEATURE_SIZE,
    INITIAL_STDDEV,
    RESIDUAL_BLOCKS,
    WideResidualNetwork,
    num_classes_in,
)
from deep_reid.runtime.compat import tf

__all__ = [
    "FEATURE_SIZE",
    "INITIAL_STDDEV",
    "LOGIT_SCALE_PENALTY",
    "RESIDUAL_BLOCKS",
    "create_network",
    "create_network_factory",
    "fits",
    "num_classes_in",
    "preprocess",
]

_NETWORK = WideResidualNetwork(
    pool1_padding="SAME",
    normalize=tf.nn.l2_normalize,
    with_feature_batch_norm=False,
    with_scale_per_class=False,
)
create_network = _NETWORK.create_network
create_network_factory = _NETWORK.create_network_factory
fits = _NETWORK.fits


def preprocess(
    image: tf.Tensor, is_training: bool = False, input_is_bgr: bool = False
) -> tf.Tensor:
    """Scale an image to [0, 1]; in training, mirror it with probability one half.

    Parameters
    ----------
    image : tf.Tensor of uint8 (or float in [0, 255]), shape (H, W, C) or (N, H, W, C)
        RGB, unless `input_is_bgr`. In a batch, the draw is made for each image.
    is_training : bool
        Whether to mirror.
    input_is_bgr : bool
        True for arrays in OpenCV's channel order, BGR. Files are decoded to RGB.

    Returns
    -------
    tf.Tensor of float32, shape of `image`, RGB in [0, 1]
    """
    image = tf.divide(to_float_rgb(image, input_is_bgr), 255.0)
    return mirror_in_training(image, is_training)


# Read by `deep_reid.images.pipeline`: one call serves a whole batch.
preprocess.takes_batches = True

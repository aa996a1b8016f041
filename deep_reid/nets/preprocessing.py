"""The common parts of the networks' preprocessing."""

from deep_reid.images.channel_order import note_call
from deep_reid.runtime.compat import tf
from deep_reid.runtime.mapping import map_images


def to_float_rgb(image: tf.Tensor, input_is_bgr: bool) -> tf.Tensor:
    """Convert an image to the channel order and the type of the networks.

    Parameters
    ----------
    image : tf.Tensor of uint8 (or float in [0, 255]), shape (..., C)
    input_is_bgr : bool
        Whether the channels are in OpenCV's order, BGR.

    Returns
    -------
    tf.Tensor of float32, shape of `image`, RGB in [0, 255]
    """
    note_call(image, input_is_bgr)
    if input_is_bgr:
        image = tf.reverse(image, axis=[-1])
    return tf.cast(image, tf.float32)


def mirror_in_training(image: tf.Tensor, is_training: bool) -> tf.Tensor:
    """Mirror an image with probability one half, or leave it as it is.

    Parameters
    ----------
    image : tf.Tensor of float32 or uint8, shape (H, W, C), (N, H, W, C) or, gray, (H, W)
        In a batch, the draw is made for each image.
    is_training : bool
        Whether to mirror.

    Returns
    -------
    tf.Tensor of the type and shape of `image`
    """
    if not is_training:
        return image
    if image.get_shape().ndims == 2:
        return tf.squeeze(tf.image.random_flip_left_right(image[..., tf.newaxis]), axis=2)
    if image.get_shape().ndims != 4:
        return tf.image.random_flip_left_right(image)
    # tf.image mirrors all images of a batch, by a kernel that is slow for batches, and adds each to
    # its mirror image, one of the two times 0. That takes several times as long.
    is_mirrored = tf.random.uniform(tf.shape(image)[:1]) < 0.5
    return map_images(_mirror_if, [image, is_mirrored], image.dtype, image.get_shape()[1:])


def _mirror_if(image, is_mirrored):
    return tf.cond(is_mirrored, lambda: tf.reverse(image, axis=[1]), lambda: image)

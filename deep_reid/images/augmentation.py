"""Random changes of training images, between decoding and preprocessing."""

import itertools
from collections.abc import Sequence

import numpy as np

from deep_reid.config.step import NUM_COLORS, check_colors
from deep_reid.runtime.compat import tf
from deep_reid.runtime.mapping import map_images

PADDING = 8
"""How far "crop" moves an image, in pixels."""

ERASED_SHARE = 0.5
ERASED_HEIGHTS = 0.1, 0.5
ERASED_WIDTHS = 0.2, 0.7
"""Of "erase": share of images, least and largest share of their height and width."""

COLOR_RANGE = 0.8, 1.2
"""Least and largest factor of "color"."""

BODY_WIDTHS = {0.0: 0.28, 0.05: 0.36, 0.2: 0.6, 0.5: 0.64, 0.8: 0.56, 1.0: 0.52}
BODY_EDGE = 0.95, 1.25
"""Of "background": width of a body in the middle of an image, by the height from the top, as shares
of the image; where its soft edge begins and ends, as shares of that width.
"""


def augment_images(images: tf.Tensor, augment: Sequence[str]) -> tf.Tensor:
    """Change images of a batch at random, each in another way.

    "crop" moves an image by up to 8 pixels each way, and fills with black: a random crop of the
    padded image [1]_. "erase" fills a rectangle with noise, in half of the images [2]_. "color"
    multiplies brightness, contrast and saturation by factors from 0.8 to 1.2, in this order [3]_:
    ``x * f``, ``mean + (x - mean) * f`` with the image's mean of gray values, and ``gray + (x -
    gray) * f`` with the gray value of each pixel.

    Parameters
    ----------
    images : tf.Tensor of uint8 or float32, shape (N, H, W, C), or (N, H, W) for gray images
        In [0, 255].
    augment : sequence of {"flip", "crop", "erase", "color", "background"}
        "flip" is a matter of the preprocessing, "background" of the training step, as it comes
        after `recolor_identities`: see `swap_backgrounds`.

    Returns
    -------
    tf.Tensor of float32, shape of `images`
        In [0, 255]. `images` themselves if there is nothing to do.

    References
    ----------
    .. [1] He, Zhang, Ren & Sun: Deep residual learning for image recognition. CVPR 2016.
    .. [2] Zhong, Zheng, Kang, Li & Yang: Random erasing data augmentation. AAAI 2020,
       arXiv:1708.04896.
    .. [3] Howard: Some improvements on deep convolutional neural network based image
       classification. arXiv:1312.5402.
    """
    steps = {"color": _change_colors, "crop": _crop, "erase": _erase}
    names = [name for name in steps if name in augment]
    if not names:
        return images
    changed = tf.cast(images, tf.float32)
    if images.get_shape().ndims == 3:
        changed = changed[..., tf.newaxis]
    for name in names:
        changed = steps[name](changed)
    return changed[..., 0] if images.get_shape().ndims == 3 else changed


def recolor_identities(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Exchange the color channels of each identity of a batch: they make six identities of one.

    A network that is to tell these apart learns from more clothes than the data set has. The order
    of the channels is drawn for each identity of a batch, the same for all its images: they belong
    together in every loss. Transformed images as classes of their own are those of [1]_.

    Parameters
    ----------
    images : tf.Tensor of float32, shape (N, H, W, 3)
    labels : tf.Tensor of int64, shape (N,)

    Returns
    -------
    images : tf.Tensor of float32, shape (N, H, W, 3)
    labels : tf.Tensor of int64, shape (N,)
        ``6 * label + order``, where order 0 leaves the channels as they are.

    Raises
    ------
    UsageError
        If the images have not three channels.

    References
    ----------
    .. [1] Lee, Hwang & Shin: Self-supervised label augmentation via input transformations. ICML
       2020, arXiv:1910.05872.
    """
    check_colors(images.get_shape().as_list()[3])
    orders = np.array(list(itertools.permutations(range(NUM_COLORS))))
    drawn = tf.random.uniform((tf.reduce_max(labels) + 1,), 0, len(orders), dtype=tf.int32)
    order = tf.gather(drawn, labels)
    # A product, as TensorFlow gathers along the last axis slowly.
    matrices = tf.gather(
        tf.constant(np.eye(NUM_COLORS)[orders].swapaxes(1, 2), images.dtype), order
    )
    images = tf.einsum("nhwc,ncd->nhwd", images, matrices)
    return images, len(orders) * labels + tf.cast(order, labels.dtype)


def swap_backgrounds(images: tf.Tensor) -> tf.Tensor:
    """Give each image of a batch the background of another one.

    People of a camera share its background, so a network that is trained on few cameras takes that
    for a part of them. Replacing it is the idea of [1]_, who find the body by a network; here, it
    is where detectors put it: in the middle, as wide as `BODY_WIDTHS`. The share of the image's own
    value falls from 1 to 0 across `BODY_EDGE`.

    Parameters
    ----------
    images : tf.Tensor of float32, shape (N, H, W, C)

    Returns
    -------
    tf.Tensor of float32, shape (N, H, W, C)
        The other image is drawn for each image by itself, and may be the same or of the same
        identity.

    References
    ----------
    .. [1] Tian et al.: Eliminating background-bias for robust person re-identification. CVPR 2018.
    """
    number = tf.shape(images)[0]
    others = tf.gather(images, tf.random.uniform((number,), 0, number, dtype=tf.int32))
    height, width = images.get_shape().as_list()[1:3]
    own_share = _shape_body(height, width)[..., np.newaxis]
    return own_share * images + (1.0 - own_share) * others


def _shape_body(height, width):
    """Return the share of an image's own value that each pixel keeps, shape (H, W)."""
    rows, columns = ((np.arange(size) + 0.5) / size for size in (height, width))
    widths = np.interp(rows, list(BODY_WIDTHS), list(BODY_WIDTHS.values()))
    distances = np.abs(columns - 0.5) / (widths[:, np.newaxis] / 2)
    begin, end = BODY_EDGE
    return np.clip((end - distances) / (end - begin), 0.0, 1.0).astype(np.float32)


def _draw(images, *shape):
    """Draw numbers in [0, 1) for each image."""
    return tf.random.uniform((tf.shape(images)[0], *shape))


def _change_colors(images):
    low, high = COLOR_RANGE
    factors = low + (high - low) * _draw(images, 3)
    brightness, contrast, saturation = (
        factors[:, tf.newaxis, tf.newaxis, index : index + 1] for index in range(3)
    )
    images = tf.clip_by_value(images * brightness, 0.0, 255.0)
    mean = tf.reduce_mean(_to_gray(images), axis=(1, 2), keepdims=True)
    images = tf.clip_by_value(mean + (images - mean) * contrast, 0.0, 255.0)
    gray = _to_gray(images)
    return tf.clip_by_value(gray + (images - gray) * saturation, 0.0, 255.0)


def _to_gray(images):
    is_rgb = images.get_shape()[3] == 3
    return tf.image.rgb_to_grayscale(images) if is_rgb else images


def _crop(images):
    shape = images.get_shape()[1:]
    offsets = tf.cast(_draw(images, 2) * (2 * PADDING + 1), tf.int32)

    def crop(image, offset):
        padded = tf.pad(image, [[PADDING, PADDING], [PADDING, PADDING], [0, 0]])
        return tf.slice(padded, [offset[0], offset[1], 0], shape)

    return map_images(crop, [images, offsets], tf.float32, shape)


def _erase(images):
    height, width, num_channels = images.get_shape().as_list()[1:]
    draws = _draw(images, 5)
    # One picture of noise for all images of a batch: random bits cost more than all the rest.
    noise = tf.random.uniform((height, width, num_channels), 0.0, 255.0)
    is_erased = draws[:, 0] < ERASED_SHARE
    rows, columns = (
        _draw_interval(size, shares, draws[:, index], draws[:, index + 1])
        for size, shares, index in ((height, ERASED_HEIGHTS, 1), (width, ERASED_WIDTHS, 3))
    )
    is_inside = rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :]
    is_inside &= is_erased[:, tf.newaxis, tf.newaxis]
    return tf.where_v2(is_inside[..., tf.newaxis], noise[tf.newaxis], images)


def _draw_interval(size, shares, length_draw, start_draw):
    """Return which positions of an axis are in a random interval, for each image."""
    low, high = shares
    length = tf.round(size * (low + (high - low) * length_draw))
    start = tf.floor(start_draw * (size - length + 1.0))
    positions = tf.range(size, dtype=tf.float32)
    return (positions >= start[:, tf.newaxis]) & (positions < (start + length)[:, tf.newaxis])

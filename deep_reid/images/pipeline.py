"""Turns file names or arrays into the network's input, in every mode.

``decode -> resize -> preprocess``. Decoded images are RGB, or gray for a network with one channel.
"""

import functools
from collections.abc import Callable, Sequence

from deep_reid.config.kinds import add_channels
from deep_reid.config.step import DEFAULT_AUGMENTATIONS
from deep_reid.errors import UsageError
from deep_reid.images.augmentation import augment_images
from deep_reid.images.channel_order import WatchedPreprocessing
from deep_reid.images.decoding import ORIGINAL_DCT, decode_files, find_unreadable_image, resize
from deep_reid.interfaces import Preprocess
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import settle_seed


def create_image_input(
    preprocess_fn: Preprocess,
    image_shape: Sequence[int],
    read_from_file: bool,
    is_training: bool = False,
    *,
    array_shape: Sequence[int] | None = None,
    jpeg_dct: str = ORIGINAL_DCT,
    augment: Sequence[str] = DEFAULT_AUGMENTATIONS,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Create a placeholder for file names or arrays, and the network's input from it.

    Parameters
    ----------
    preprocess_fn : callable
        ``preprocess_fn(image, is_training=...)`` takes one image (H, W, C) and returns float32
        (H, W, C). The image is uint8 if it comes from an array of `image_shape`, otherwise float32
        in [0, 255]: resized, or from a file. Gray arrays without a channel axis give (H, W), and
        the result may lack the axis, too. With an attribute ``takes_batches = True`` the function
        is called once for the batch (N, H, W, C).
    image_shape : tuple of int
        (height, width, channels) to which images are resized, or (height, width) for gray images.
    read_from_file : bool
        Whether the placeholder takes file names (str) or arrays (uint8).
    is_training : bool
        Whether to change images at random.
    array_shape : tuple of int, optional
        (height, width, channels) of arrays, or (height, width) of gray arrays. Default:
        `image_shape`.
    jpeg_dct : {"INTEGER_FAST", "INTEGER_ACCURATE"}
        How to decode JPEG files: as the original does, or as OpenCV does.
    augment : sequence of {"flip", "crop", "erase", "color", "background"}
        What training changes. "flip" passes `is_training` to `preprocess_fn`; "background" is a
        matter of the training step; the others come before `preprocess_fn`: see
        `deep_reid.images.augmentation`.

    Returns
    -------
    placeholder : tf.Tensor of string, shape (N,), or uint8, shape (N,) + array_shape
    images : tf.Tensor of float32, shape (N,) + image_shape

    Raises
    ------
    UsageError
        If `image_shape` is wrong. For files, which give RGB or gray, also if it has another number
        of channels, or if `preprocess_fn` expects BGR.
    """
    array_shape = image_shape if array_shape is None else array_shape
    image_shape = add_channels(image_shape)
    if read_from_file and image_shape[2] not in (1, 3):
        raise UsageError(
            f"image_shape {image_shape} has {image_shape[2]} channels, but files are "
            "decoded to 3 (RGB) or 1 (gray): change image_shape"
        )
    if read_from_file:
        placeholder = tf.placeholder(tf.string, (None,), name="filenames")
        images = decode_files(placeholder, image_shape, jpeg_dct)
    else:
        placeholder = tf.placeholder(tf.uint8, (None, *array_shape), name="arrays")
        images = resize(placeholder, image_shape)
    watched = WatchedPreprocessing(preprocess_fn)
    if is_training:
        images = augment_images(images, augment)
    inputs = apply_preprocessing(watched, images, is_training and "flip" in augment)
    if read_from_file and watched.is_bgr_expected:
        raise UsageError(
            "preprocess_fn has input_is_bgr=True, but files are decoded to RGB: leave it out for "
            "files; it is for arrays that were read with OpenCV"
        )
    return placeholder, inputs


def apply_preprocessing(
    preprocess_fn: Preprocess, images: tf.Tensor, is_training: bool = False
) -> tf.Tensor:
    """Preprocess a batch: in one call if the function takes batches, otherwise image by image.

    Parameters
    ----------
    preprocess_fn, is_training
        As in `create_image_input`.
    images : tf.Tensor of uint8 or float32, shape (N, H, W, C), or (N, H, W) for gray images

    Returns
    -------
    tf.Tensor of float32, shape (N, H, W, C)
    """
    settle_seed()
    if not isinstance(preprocess_fn, WatchedPreprocessing):
        preprocess_fn = WatchedPreprocessing(preprocess_fn)
    if preprocess_fn.takes_batches:
        return preprocess_fn(_with_channels(images), is_training=is_training)
    call = functools.partial(preprocess_fn, is_training=is_training)
    return _with_channels(tf.map_fn(call, images, dtype=tf.float32, back_prop=False))


def expects_bgr(preprocess_fn: Preprocess, image_shape: Sequence[int] | None = None) -> bool:
    """Find out whether a preprocessing function expects BGR images.

    Parameters
    ----------
    preprocess_fn : callable
    image_shape : tuple of int, optional
        (height, width, channels). If it is given, a function without an attribute or parameter
        ``input_is_bgr`` is called in a temporary graph, to watch how it calls the package's own
        preprocessing.

    Returns
    -------
    bool
        True for ``functools.partial(preprocess, input_is_bgr=True)``, and for a function with the
        attribute ``input_is_bgr = True``. False if nothing shows that it expects BGR.
    """
    watched = WatchedPreprocessing(preprocess_fn)
    if watched.is_bgr_expected is None and image_shape is not None:
        with tf.Graph().as_default():
            apply_preprocessing(watched, tf.placeholder(tf.uint8, (None, *image_shape)))
    return bool(watched.is_bgr_expected)


def create_error_explainer(
    read_from_file: bool, image_shape: Sequence[int]
) -> Callable[[Sequence], Exception | None]:
    """Create a function that finds the file of a batch that cannot be read.

    Parameters
    ----------
    read_from_file : bool
    image_shape : tuple of int
        (height, width, channels).

    Returns
    -------
    callable
        ``explain_error(batch)`` for `deep_reid.queued_trainer.QueuedTrainer`. It returns what
        `find_unreadable_image` finds among the file names, the first array of the batch. For images
        from arrays it always returns None.
    """
    if not read_from_file:
        return lambda batch: None
    return lambda batch: find_unreadable_image(batch[0], image_shape[2])


def _with_channels(images):
    """Add a channel axis to gray images without one."""
    return images[..., tf.newaxis] if images.get_shape().ndims == 3 else images

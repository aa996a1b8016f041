"""From file names or arrays to the network's input: the one way in, for every mode.

``decode -> resize -> preprocess``. Images are RGB from the moment they are decoded, or gray for a
network of one channel.
"""

import functools

from deep_reid.config.kinds import add_channels
from deep_reid.errors import UsageError
from deep_reid.images.channel_order import WatchedPreprocessing
from deep_reid.images.decoding import ORIGINAL_DCT, decode_files, find_unreadable_image, resize
from deep_reid.runtime.compat import tf


def create_image_input(
    preprocess_fn,
    image_shape,
    read_from_file,
    is_training=False,
    *,
    array_shape=None,
    jpeg_dct=ORIGINAL_DCT,
):
    """Create a placeholder for file names or images, and the network's input from it.

    Parameters
    ----------
    preprocess_fn : callable
        ``preprocess_fn(image, is_training=...)`` takes one image (H, W, C) and returns float32
        (H, W, C). The image is uint8 as it comes from an array of `image_shape`, and float32 in
        [0, 255] where it was resized, as all from files are. Gray arrays without a channel axis
        give (H, W); the result gets a channel axis where it has none. With an attribute
        ``takes_batches = True`` the function is called once for the batch (N, H, W, C).
    image_shape : tuple of int
        (height, width, channels) to which images are resized; (height, width) are gray ones.
    read_from_file : bool
        Whether the placeholder takes file names (str) or arrays (uint8).
    is_training : bool
        Handed to `preprocess_fn`.
    array_shape : tuple of int, optional
        (height, width, channels) of arrays, or (height, width) of gray ones. Default: `image_shape`
        as it is given.
    jpeg_dct : {"INTEGER_FAST", "INTEGER_ACCURATE"}
        How JPEG files are decoded: as by the original, or as by OpenCV.

    Returns
    -------
    placeholder : tf.Tensor of string, shape (N,), or uint8, shape (N,) + array_shape
    images : tf.Tensor of float32, shape (N,) + image_shape

    Raises
    ------
    UsageError
        If `image_shape` is none, or files are to be read, which gives RGB or gray, by a
        `preprocess_fn` that expects BGR, or to another number of channels.
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
    inputs = apply_preprocessing(watched, images, is_training)
    if read_from_file and watched.is_bgr_expected:
        raise UsageError(
            "preprocess_fn has input_is_bgr=True, but files are decoded to RGB: leave it out, it "
            "is for arrays that were read with OpenCV"
        )
    return placeholder, inputs


def apply_preprocessing(preprocess_fn, images, is_training=False):
    """Preprocess a batch: in one call where the function takes batches, else image by image.

    Parameters
    ----------
    preprocess_fn, is_training
        As in `create_image_input`.
    images : tf.Tensor of uint8 or float32, shape (N, H, W, C), or (N, H, W) for gray images

    Returns
    -------
    tf.Tensor of float32, shape (N, H, W, C)
    """
    if not isinstance(preprocess_fn, WatchedPreprocessing):
        preprocess_fn = WatchedPreprocessing(preprocess_fn)
    if preprocess_fn.takes_batches:
        return preprocess_fn(_with_channels(images), is_training=is_training)
    call = functools.partial(preprocess_fn, is_training=is_training)
    return _with_channels(tf.map_fn(call, images, dtype=tf.float32, back_prop=False))


def expects_bgr(preprocess_fn, image_shape=None):
    """Tell whether a preprocessing function expects BGR images.

    Parameters
    ----------
    preprocess_fn : callable
    image_shape : tuple of int, optional
        (height, width, channels). With it, a function that does not say is called in a graph of its
        own, to see what it asks of the package's own preprocessing.

    Returns
    -------
    bool
        True for ``functools.partial(preprocess, input_is_bgr=True)``, and for a function with the
        attribute ``input_is_bgr = True``. False where nothing says so.
    """
    watched = WatchedPreprocessing(preprocess_fn)
    if watched.is_bgr_expected is None and image_shape is not None:
        with tf.Graph().as_default():
            apply_preprocessing(watched, tf.placeholder(tf.uint8, (None, *image_shape)))
    return bool(watched.is_bgr_expected)


def create_error_explainer(read_from_file, image_shape):
    """Create a function that finds out which file of a batch cannot be read.

    Parameters
    ----------
    read_from_file : bool
    image_shape : tuple of int
        (height, width, channels).

    Returns
    -------
    callable
        ``explain_error(batch)`` for `deep_reid.queued_trainer.QueuedTrainer`, where the first array
        of a batch are the images: `find_unreadable_image`, or None where they are no files.
    """
    if not read_from_file:
        return lambda batch: None
    return lambda batch: find_unreadable_image(batch[0], image_shape[2])


def _with_channels(images):
    """Give gray images without a channel axis one."""
    return images[..., tf.newaxis] if images.get_shape().ndims == 3 else images

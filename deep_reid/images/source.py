"""Images as callers give them, files or arrays, checked before anything is built on them."""

import os

import numpy as np

from deep_reid.config.kinds import add_channels
from deep_reid.errors import UsageError

# One image of (height, width, channels) looks like many gray ones of (height, width): no image is
# this narrow.
_MAX_CHANNELS = 4


def as_image_source(images_or_filenames):
    """Check images, and say whether they are read from files.

    Parameters
    ----------
    images_or_filenames : sequence of str or Path, uint8 array, or sequence of uint8 arrays
        An array has the shape (N, H, W, C), or (N, H, W) for gray images. Arrays of a sequence must
        have one shape; they are stacked.

    Returns
    -------
    images_or_filenames : np.ndarray
        File names as objects of type str, shape (N,), or uint8 images, shape (N, H, W, C) or
        (N, H, W).
    read_from_file : bool

    Raises
    ------
    TypeError
        If it is anything else.
    """
    if not isinstance(images_or_filenames, np.ndarray):
        images_or_filenames = _stack(images_or_filenames)
    if images_or_filenames.dtype.kind == "O":
        images_or_filenames = _stack(images_or_filenames.tolist())
    if images_or_filenames.dtype.kind in "UO":
        return np.array([str(os.fspath(name)) for name in images_or_filenames], dtype=object), True
    shape = images_or_filenames.shape
    are_gray = len(shape) == 3 and shape[2] > _MAX_CHANNELS
    if images_or_filenames.dtype != np.uint8 or not (len(shape) == 4 or are_gray):
        raise TypeError(
            f"images of type {images_or_filenames.dtype} and shape {shape} are not supported: use "
            "file names, or a uint8 array of shape (N, height, width, channels), or (N, height, "
            "width) for gray images"
        )
    return images_or_filenames, False


def check_image_shape(images, read_from_file, image_shape):
    """Return the network's input shape, from the images where it is not given.

    Parameters
    ----------
    images : np.ndarray
        As `as_image_source` returns them.
    read_from_file : bool
    image_shape : tuple of int, optional
        (height, width, channels), or (height, width) for gray images.

    Returns
    -------
    tuple of int
        (height, width, channels).

    Raises
    ------
    UsageError
        If there is no shape for images that are read from files, it is no shape of an image, or the
        number of channels differs.
    """
    if image_shape is None and read_from_file:
        raise UsageError(
            "image_shape must be given for images that are read from files: for example "
            "image_shape=(128, 64, 3)"
        )
    if read_from_file:
        return add_channels(image_shape)
    own_shape = add_channels(images.shape[1:])
    if image_shape is None:
        return own_shape
    network_shape = add_channels(image_shape)
    if own_shape[2] != network_shape[2]:
        raise UsageError(
            f"image_shape {tuple(image_shape)} must be (height, width, {own_shape[2]}), as images "
            f"of shape {images.shape} do not have the channels that it says: change it, or convert "
            "them"
        )
    return network_shape


def _stack(images_or_filenames):
    if isinstance(images_or_filenames, (str, os.PathLike)):
        raise TypeError(f"{images_or_filenames!r} is one file name: use a list of file names")
    items = list(images_or_filenames)
    if all(isinstance(item, (str, os.PathLike)) for item in items):
        return np.array([os.fspath(item) for item in items], dtype=object)
    if not all(isinstance(item, np.ndarray) for item in items):
        kinds = sorted({type(item).__name__ for item in items})
        raise TypeError(
            f"images of type {', '.join(kinds)} are not supported: use file names (str or Path), "
            "or uint8 arrays of shape (height, width, channels)"
        )
    shapes = sorted({item.shape for item in items})
    if len(shapes) > 1:
        raise TypeError(
            f"image arrays of different shapes ({shapes[0]}, {shapes[1]}) cannot be stacked: "
            "resize them to one shape, or pass file names"
        )
    return np.stack(items)

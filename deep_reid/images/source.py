"""Checks the images that callers give, files or arrays, before anything is built on them."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from deep_reid.config.kinds import add_channels
from deep_reid.errors import UsageError

# Separates one image (height, width, channels) from gray images (N, height, width): no gray image
# is this narrow.
_MAX_CHANNELS = 4


def as_image_source(images_or_filenames: Any) -> tuple[np.ndarray, bool]:
    """Check images, and find out whether they must be read from files.

    Parameters
    ----------
    images_or_filenames : sequence of str or Path, uint8 array, or sequence of uint8 arrays
        An array has the shape (N, H, W, C), or (N, H, W) for gray images. Arrays in a sequence are
        stacked, and must have the same shape.

    Returns
    -------
    images_or_filenames : np.ndarray
        File names as objects of type str, shape (N,), or uint8 images, shape (N, H, W, C) or
        (N, H, W).
    read_from_file : bool

    Raises
    ------
    TypeError
        If the images are something else.
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


def check_image_shape(
    images: np.ndarray, read_from_file: bool, image_shape: Sequence[int] | None
) -> tuple[int, int, int]:
    """Return the network's input shape: the given one, or the shape of the images.

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
        If the shape is missing for images from files, is not the shape of an image, or has another
        number of channels than the images.
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
            f"image_shape {tuple(image_shape)} must have the number of channels of the images, "
            f"(height, width, {own_shape[2]}), as these have the shape {images.shape}: change it, "
            "or convert the images"
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

"""Seeded splits and limits of labeled data, and cropping to a patch shape."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from deep_reid.errors import DataError, UsageError
from deep_reid.samplers.galleries import create_cmc_probe_and_gallery, rows_by_label

__all__ = [
    "create_cmc_probe_and_gallery",
    "create_validation_split",
    "crop_to_shape",
    "limit_num_elements_per_identity",
]

_INTEGER = int | np.integer
_REAL = float | np.floating


def create_validation_split(
    data_y: ArrayLike, num_validation_y: float, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split the identities into training and validation.

    All images of an identity are in the same part.

    Parameters
    ----------
    data_y : array-like of int, shape (N,)
        The identity of each image.
    num_validation_y : int or float
        An int is the number of identities for validation; a float is their share, in [0, 1).
        The number is truncated: 0.1 of 19 identities is 1.
    seed : int, optional
        Seed of ``numpy.random.RandomState``: the same seed gives the same split.

    Returns
    -------
    training_indices : ndarray of int64
        Rows of the training images, increasing.
    validation_indices : ndarray of int64
        Rows of the validation images, increasing; empty if the number truncates to 0.

    Raises
    ------
    UsageError
        If `num_validation_y` is negative or leaves no identity for training.
    DataError
        If there are no labels.

    Examples
    --------
    >>> training, validation = create_validation_split([5, 5, 6, 6, 7], 1, seed=1)
    >>> training.tolist(), validation.tolist()
    ([2, 3, 4], [0, 1])
    """
    labels = _label_vector(data_y)
    unique_y = np.unique(labels)
    if len(unique_y) == 0:
        raise DataError("data_y is empty, but a split needs identities: give at least one label")
    count = _num_validation_identities(num_validation_y, len(unique_y))
    validation_y = np.random.RandomState(seed).choice(unique_y, count, replace=False)
    is_validation = np.isin(labels, validation_y)
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _num_validation_identities(num_validation_y, num_identities):
    if isinstance(num_validation_y, bool) or not isinstance(num_validation_y, _INTEGER | _REAL):
        raise UsageError(
            f"num_validation ({num_validation_y!r}) must be a number of identities (int) "
            "or a share of them (float): use for example 0.1"
        )
    if isinstance(num_validation_y, _INTEGER):
        if not 0 <= num_validation_y < num_identities:
            raise UsageError(
                f"num_validation ({num_validation_y}) must be at least 0 and less than the "
                f"number of identities ({num_identities}), or none is left for training: "
                f"use at most {num_identities - 1}"
            )
        return int(num_validation_y)
    if not 0.0 <= num_validation_y < 1.0:
        raise UsageError(
            f"num_validation_y ({num_validation_y}) is a share of the identities and must be "
            "at least 0 and less than 1: use for example 0.1, or an int for a number of them"
        )
    return int(num_validation_y * num_identities)


def limit_num_elements_per_identity(
    data_y: ArrayLike, max_num_images_per_id: int, seed: int | None = None
) -> np.ndarray:
    """Choose at most a number of images of each identity.

    Parameters
    ----------
    data_y : array-like of int, shape (N,)
        The identity of each image.
    max_num_images_per_id : int
        The largest number of images to keep of one identity, at least 1. Identities with fewer
        images keep all of them.
    seed : int, optional
        Seed of ``numpy.random.RandomState``: the same seed gives the same choice.

    Returns
    -------
    mask : ndarray of bool, shape (N,)
        True for the images to keep.

    Raises
    ------
    UsageError
        If `max_num_images_per_id` is not an int of at least 1.

    Examples
    --------
    >>> mask = limit_num_elements_per_identity([5, 5, 5, 6], 2, seed=1)
    >>> int(mask[:3].sum()), bool(mask[3])
    (2, True)
    """
    labels = _label_vector(data_y)
    if not isinstance(max_num_images_per_id, _INTEGER) or max_num_images_per_id < 1:
        raise UsageError(
            f"max_num_images_per_id ({max_num_images_per_id!r}) must be an int of at least 1: "
            "each identity keeps one image or more"
        )
    random = np.random.RandomState(seed)
    mask = np.zeros(len(labels), bool)
    for rows in rows_by_label(labels)[1]:
        mask[random.choice(rows, min(len(rows), max_num_images_per_id), replace=False)] = True
    return mask


def _label_vector(data_y):
    data_y = np.asarray(data_y)
    if data_y.ndim != 1:
        raise UsageError(f"data_y {data_y.shape} must be a vector: give one label per image")
    return data_y


def crop_to_shape(images: Iterable[np.ndarray], patch_shape: Sequence[int]) -> np.ndarray:
    """Crop images around their center and resize them to a patch shape.

    The crop is the largest centered window with the aspect ratio of the patch, so that people are
    neither stretched nor squeezed; fractions of a pixel are cut off. The window is resized with
    cubic interpolation, unless it already has the patch shape.

    Parameters
    ----------
    images : sequence of N ndarrays of uint8, shape (H, W, C) or (H, W), or one such array
        Each may have another height and width. Channels in any order, or none (gray).
    patch_shape : tuple of int
        ``(height, width)`` of the result; a third number (channels) is ignored.

    Returns
    -------
    patches : ndarray of uint8, shape (N, height, width, C) or (N, height, width)
        Channels as in `images`.

    Raises
    ------
    UsageError
        If `images` is an empty list or a single image, if an image is not uint8, is empty or has
        another number of channels than the first one, or if `patch_shape` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> images = [np.zeros((200, 80, 3), np.uint8), np.zeros((100, 100, 3), np.uint8)]
    >>> crop_to_shape(images, (128, 64)).shape
    (2, 128, 64, 3)
    """
    height, width = _patch_size(patch_shape)
    images = images if isinstance(images, np.ndarray) else list(images)
    patches = np.empty((len(images), height, width, *_channels_of(images)), np.uint8)
    for number, (patch, image) in enumerate(zip(patches, images, strict=True)):
        _check_image(number, image, patch.shape[2:])
        # OpenCV drops the channel axis of a one-channel image.
        patch[...] = _crop_and_resize(image, height, width).reshape(patch.shape)
    return patches


def _patch_size(patch_shape):
    patch_shape = tuple(patch_shape)
    if len(patch_shape) not in (2, 3) or min(patch_shape[:2]) < 1:
        raise UsageError(
            f"patch_shape {patch_shape} must be (height, width), both at least 1: "
            "use for example (128, 64)"
        )
    return int(patch_shape[0]), int(patch_shape[1])


def _channels_of(images):
    """Return the axes of the images after height and width: ``(C,)``, or ``()``."""
    if isinstance(images, np.ndarray) and images.dtype != object:
        # No batch of gray images is so narrow: this is a single image with channels.
        is_single = images.ndim == 2 or (images.ndim == 3 and images.shape[2] <= 4)
        if is_single or images.ndim not in (3, 4) or images.dtype != np.uint8:
            raise UsageError(
                f"images ({images.dtype}, shape {images.shape}) must be uint8 of shape "
                "(N, H, W, C), or (N, H, W) if gray: give a list or a batch of images"
            )
        return images.shape[3:]
    if len(images) == 0:
        raise UsageError("images is empty: give at least one image, uint8 of shape (H, W, C)")
    return np.shape(images[0])[2:]


def _check_image(number, image, channels):
    found = type(image).__name__
    if isinstance(image, np.ndarray):
        found = f"{image.dtype}, shape {image.shape}"
        is_alike = image.ndim in (2, 3) and image.shape[2:] == channels
        if image.dtype == np.uint8 and is_alike and image.size:
            return
    raise UsageError(
        f"images[{number}] ({found}) must be uint8 of shape (H, W, C), or (H, W) if gray, not "
        "empty, with the channels of the first image: convert or leave out the image"
    )


def _crop_and_resize(image, height, width):
    top, left, window_height, window_width = _central_window(image.shape[:2], height, width)
    window = image[top : top + window_height, left : left + window_width]
    if window.shape[:2] == (height, width):
        return window
    return cv2.resize(window, (width, height), interpolation=cv2.INTER_CUBIC)


def _central_window(image_shape, height, width):
    """Top, left, height and width of the largest centered window of aspect width / height."""
    image_height, image_width = image_shape
    if image_width * height > image_height * width:
        window_width = max(1, image_height * width // height)
        # Half of the rest beside the window, before its fraction of a pixel is cut off.
        left = (image_width * height - image_height * width) // (2 * height)
        return 0, left, image_height, window_width
    window_height = max(1, image_width * height // width)
    top = (image_height * width - image_width * height) // (2 * width)
    return top, 0, window_height, image_width

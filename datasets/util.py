"""Seeded splits and limits of labeled data, and cropping to a patch shape."""

import numbers

import cv2
import numpy as np

from deep_reid.errors import DataError, UsageError
from deep_reid.galleries import create_cmc_probe_and_gallery, rows_by_label

__all__ = [
    "create_cmc_probe_and_gallery",
    "create_validation_split",
    "crop_to_shape",
    "limit_num_elements_per_identity",
]


def create_validation_split(data_y, num_validation_y, seed=None):
    """Split the identities into training and validation.

    All images of an identity go to the same side.

    Parameters
    ----------
    data_y : array-like of int, shape (N,)
        The identity of each image.
    num_validation_y : int or float
        An int is the number of identities for validation; a float is their share in [0, 1),
        and the number is truncated: 0.1 of 19 identities is 1.
    seed : int, optional
        Seed of ``numpy.random.RandomState``: the same seed gives the same split.

    Returns
    -------
    training_indices : ndarray of int64
        Rows of the training images, increasing.
    validation_indices : ndarray of int64
        Rows of the validation images, increasing; none where the number truncates to 0.

    Raises
    ------
    UsageError
        If `num_validation_y` is negative or leaves no identity for training.
    DataError
        If there are no labels.
    """
    data_y = _label_vector(data_y)
    unique_y = np.unique(data_y)
    if len(unique_y) == 0:
        raise DataError("data_y is empty, but a split needs identities: give at least one label")
    count = _num_validation_identities(num_validation_y, len(unique_y))
    validation_y = np.random.RandomState(seed).choice(unique_y, count, replace=False)
    is_validation = np.isin(data_y, validation_y)
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _num_validation_identities(num_validation_y, num_identities):
    if isinstance(num_validation_y, bool) or not isinstance(num_validation_y, numbers.Real):
        raise UsageError(
            f"num_validation ({num_validation_y!r}) must be a number of identities (int) "
            "or a share of them (float): use for example 0.1"
        )
    if isinstance(num_validation_y, numbers.Integral):
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


def limit_num_elements_per_identity(data_y, max_num_images_per_id, seed=None):
    """Choose at most a number of images of each identity.

    Parameters
    ----------
    data_y : array-like of int, shape (N,)
        The identity of each image.
    max_num_images_per_id : int
        The largest number of images to keep of one identity, at least 1. Identities with no
        more than that keep all of theirs.
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
    """
    data_y = _label_vector(data_y)
    if not isinstance(max_num_images_per_id, numbers.Integral) or max_num_images_per_id < 1:
        raise UsageError(
            f"max_num_images_per_id ({max_num_images_per_id!r}) must be an int of at least 1: "
            "each identity keeps one image or more"
        )
    random = np.random.RandomState(seed)
    mask = np.zeros(len(data_y), bool)
    for rows in rows_by_label(data_y)[1]:
        mask[random.choice(rows, min(len(rows), max_num_images_per_id), replace=False)] = True
    return mask


def _label_vector(data_y):
    data_y = np.asarray(data_y)
    if data_y.ndim != 1:
        raise UsageError(f"data_y {data_y.shape} must be a vector: give one label per image")
    return data_y


def crop_to_shape(images, patch_shape):
    """Crop images around their center and resize them to a patch shape.

    The crop is the largest centered window with the aspect ratio of the patch (to the nearest
    pixel), so that people are neither stretched nor squeezed. The window is resized with
    bilinear interpolation; it is returned as it is where it has the patch shape already.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, C)
        Channels in any order.
    patch_shape : tuple of int
        ``(height, width)`` of the result; a third number (channels) is ignored.

    Returns
    -------
    patches : ndarray of uint8, shape (N, height, width, C)
        Channels in the order of `images`.

    Raises
    ------
    UsageError
        If `images` is not a uint8 batch of images, or `patch_shape` is not positive.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype != np.uint8 or 0 in images.shape[1:]:
        raise UsageError(
            f"images ({images.dtype}, shape {images.shape}) must be uint8 of shape (N, H, W, C): "
            "give a batch of images"
        )
    if len(patch_shape) not in (2, 3) or min(patch_shape[:2]) < 1:
        raise UsageError(
            f"patch_shape {tuple(patch_shape)} must be (height, width), both at least 1: "
            "use for example (128, 64)"
        )
    height, width = (int(size) for size in patch_shape[:2])
    top, left, window_height, window_width = _central_window(images.shape[1:3], height, width)
    windows = images[:, top : top + window_height, left : left + window_width]
    if (window_height, window_width) == (height, width):
        return windows.copy()
    patches = np.empty((len(images), height, width, images.shape[3]), np.uint8)
    for patch, window in zip(patches, windows, strict=True):
        # OpenCV drops the channel axis of a one-channel image.
        patch[...] = cv2.resize(window, (width, height)).reshape(patch.shape)
    return patches


def _central_window(image_shape, height, width):
    """Top, left, height and width of the largest centered window of aspect width / height."""
    image_height, image_width = image_shape
    if image_width * height > image_height * width:
        window_height = image_height
        window_width = max(1, round(image_height * width / height))
    else:
        window_height = max(1, round(image_width * height / width))
        window_width = image_width
    top, left = (image_height - window_height) // 2, (image_width - window_width) // 2
    return top, left, window_height, window_width

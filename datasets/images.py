"""Finds image files, reads the numbers in their names, and reads them into arrays."""

import os
import re
from collections.abc import Sequence

import cv2
import numpy as np

from deep_reid.errors import DataError, MissingPathError, UsageError


def read_images(
    filenames: Sequence[str | os.PathLike[str]], image_shape: Sequence[int]
) -> np.ndarray:
    """Read image files into one array of RGB images.

    Parameters
    ----------
    filenames : sequence of N str or Path
        Image files of any format and size that OpenCV reads.
    image_shape : tuple of int
        ``(height, width, 3)`` of the result. An image of another size is resized with
        bilinear interpolation, without keeping its aspect ratio.

    Returns
    -------
    images : ndarray of uint8, shape (N, height, width, 3)
        Colors in RGB order. They are all in memory: 13,000 images of 128 x 64 take 320 MB.

    Raises
    ------
    UsageError
        If `image_shape` is not three positive numbers, or the last one is not 3.
    MissingPathError
        If a file does not exist.
    DataError
        If OpenCV cannot read a file as an image.
    """
    images = _read_bgr(filenames, tuple(int(size) for size in image_shape))
    for image in images:
        image[...] = image[..., ::-1]
    return images


def read_bgr_images(
    filenames: Sequence[str | os.PathLike[str]], image_shape: Sequence[int]
) -> np.ndarray:
    """Read image files into one array of BGR images, OpenCV's order of channels.

    Takes and raises the same as `read_images`. `image_shape` may also be ``(height, width)``.

    Returns
    -------
    images : ndarray of uint8, shape (N, height, width, 3)
        Colors in BGR order. Train on them with
        ``functools.partial(deep_sort.preprocess, input_is_bgr=True)``.
    """
    image_shape = tuple(int(size) for size in image_shape)
    return _read_bgr(filenames, (*image_shape, 3) if len(image_shape) == 2 else image_shape)


def _read_bgr(filenames, image_shape):
    if len(image_shape) != 3 or min(image_shape) < 1 or image_shape[2] != 3:
        raise UsageError(
            f"image_shape {image_shape} must be (height, width, 3): use for example (128, 64, 3)"
        )
    height, width = image_shape[:2]
    images = np.empty((len(filenames), *image_shape), np.uint8)
    for target, filename in zip(images, filenames, strict=True):
        image = read_bgr_image(filename)
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        target[...] = image
    return images


def read_bgr_image(filename: str | os.PathLike[str], kind: str = "image") -> np.ndarray:
    """Read an image file at its own size.

    Parameters
    ----------
    filename : str or Path
    kind : str
        Name of the file in messages.

    Returns
    -------
    image : ndarray of uint8, shape (height, width, 3)
        Colors in BGR order, turned upright by the orientation tag of the file.

    Raises
    ------
    MissingPathError
        If the file does not exist.
    DataError
        If OpenCV cannot read it as an image.
    """
    try:
        # NumPy reads the file, because OpenCV on Windows cannot open names of all alphabets.
        data = np.fromfile(filename, np.uint8)
    except FileNotFoundError:
        raise MissingPathError(
            f"{kind} {filename} does not exist: check the data set's folder"
        ) from None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error:  # for example if the image is too large
        image = None
    if image is None:
        raise DataError(
            f"{kind} {filename} cannot be decoded: it is empty, damaged or not an image; "
            "replace or delete the file"
        )
    return image


def read_split_images(
    split: tuple[Sequence, ...], image_shape: Sequence[int]
) -> tuple[np.ndarray, ...]:
    """Read the images of a split, as the readers of lists return it.

    Parameters
    ----------
    split : tuple of lists
        File names, and for each column of numbers (identities, cameras, ...) a list of int.
    image_shape : sequence of int
        See `read_bgr_images`, also for the errors.

    Returns
    -------
    images : ndarray of uint8, shape (N, height, width, 3)
        Colors in BGR order.
    *numbers : ndarray of int64, shape (N,)
    """
    filenames, *columns = split
    images = read_bgr_images(filenames, image_shape)
    return images, *(np.asarray(column, np.int64) for column in columns)


def parse_name(pattern: re.Pattern[str], path: str, title: str, form: str) -> tuple[str, ...]:
    """Read the parts of a file name that a pattern has in groups.

    Parameters
    ----------
    pattern : re.Pattern of str
        Must match the whole name, without the folder.
    path : str
        With or without a folder.
    title, form : str
        The data set and the form of its names, for the message.

    Returns
    -------
    tuple of str

    Raises
    ------
    DataError
        If the name has another form.
    """
    match = pattern.fullmatch(os.path.basename(path))
    if match is None:
        raise DataError(
            f"{path} is not named like a {title} image, {form}: rename or remove the file"
        )
    return match.groups()


def list_jpegs(directory: str | os.PathLike[str]) -> list[str]:
    """List the JPEG files of a folder.

    Parameters
    ----------
    directory : str or Path
        An existing folder. Ignores files without the ending .jpg (such as Thumbs.db) and hidden
        files (such as the ``._*`` files of macOS).

    Returns
    -------
    names : list of str
        Names without the folder, sorted: file systems list them in any order.
    """
    return sorted(
        name
        for name in os.listdir(directory)
        if name.lower().endswith(".jpg") and not name.startswith(".")
    )

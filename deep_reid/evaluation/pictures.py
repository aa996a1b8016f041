"""Pictures of rankings for TensorBoard; free of TensorFlow. Colors are RGB."""

import os
from collections.abc import Sequence

import cv2
import numpy as np

from deep_reid.system.files import Path

FRAME_WIDTH = 3
CAPTION_HEIGHT = 14
PROBE_COLOR = (40, 90, 200)
MATCH_COLOR = (40, 160, 60)
NO_MATCH_COLOR = (200, 50, 45)


def read_picture(image_or_filename: Path | np.ndarray, height: int, width: int) -> np.ndarray:
    """Read an image, or take one, and resize it to be shown.

    Parameters
    ----------
    image_or_filename : str, Path, or uint8 array (H, W, C), RGB or gray, or (H, W)
    height, width : int
        Size of the result, in pixels.

    Returns
    -------
    np.ndarray of uint8, shape (height, width, 3), RGB
        All gray if the file cannot be read: a picture must not stop an evaluation.
    """
    if isinstance(image_or_filename, (str, os.PathLike)):
        image = cv2.imread(os.fspath(image_or_filename))
        if image is None:
            return np.full((height, width, 3), 128, np.uint8)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    else:
        image = np.atleast_3d(image_or_filename)
        image = np.repeat(image, 3 // image.shape[2], axis=2)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def draw_strip(
    probe: np.ndarray, ranked: Sequence[np.ndarray], is_match: Sequence[bool] | np.ndarray
) -> np.ndarray:
    """Draw a probe and the gallery images that are ranked for it in a row, the nearest first.

    Below each stands "probe", or its rank.

    Parameters
    ----------
    probe : np.ndarray of uint8, shape (H, W, 3)
    ranked : sequence of np.ndarray of uint8, shape (H, W, 3)
    is_match : sequence of bool
        Whether each is of the probe's identity: its frame is green, otherwise red.

    Returns
    -------
    np.ndarray of uint8, shape (H + 6 + 14, (1 + len(ranked)) * (W + 6), 3)
    """
    colors = [PROBE_COLOR, *(MATCH_COLOR if match else NO_MATCH_COLOR for match in is_match)]
    cells = []
    for rank, (image, color) in enumerate(zip([probe, *ranked], colors, strict=True)):
        framed = cv2.copyMakeBorder(image, *[FRAME_WIDTH] * 4, cv2.BORDER_CONSTANT, value=color)
        caption = np.full((CAPTION_HEIGHT, framed.shape[1], 3), 255, np.uint8)
        place = (FRAME_WIDTH, CAPTION_HEIGHT - 3)
        cv2.putText(caption, str(rank or "probe"), place, cv2.FONT_HERSHEY_PLAIN, 0.8, (0, 0, 0))
        cells.append(np.concatenate([framed, caption]))
    return np.concatenate(cells, axis=1)


def draw_sprite(images: np.ndarray) -> np.ndarray:
    """Arrange images on a square grid, row by row, as TensorBoard's projector reads them.

    Parameters
    ----------
    images : np.ndarray of uint8, shape (N, H, W, 3)

    Returns
    -------
    np.ndarray of uint8, shape (K * H, K * W, 3)
        K is the square root of N, rounded up. Empty cells are white.
    """
    num_images, height, width, _ = images.shape
    size = int(np.ceil(np.sqrt(num_images)))
    cells = np.full((size * size, height, width, 3), 255, np.uint8)
    cells[:num_images] = images
    grid = cells.reshape(size, size, height, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(size * height, size * width, 3)


def encode_png(image: np.ndarray) -> bytes:
    """Encode an image as PNG.

    Parameters
    ----------
    image : np.ndarray of uint8, shape (H, W, 3), RGB

    Returns
    -------
    bytes
    """
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()

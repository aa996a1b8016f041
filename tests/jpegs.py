"""JPEG files for tests of readers."""

import zlib

import cv2
import numpy as np


def write_images(folder, names, shape=(128, 64, 3)):
    """Write a smooth, colored image for each name; the name decides on the colors."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        random = np.random.RandomState(zlib.crc32(name.encode()))
        colors = random.randint(0, 256, (4, 2, 3)).astype(np.uint8)
        (folder / name).write_bytes(
            cv2.imencode(".jpg", cv2.resize(colors, (shape[1], shape[0])))[1].tobytes()
        )


def imread_all(filenames):
    """Read images of one shape as OpenCV does: uint8, (N, H, W, 3), BGR."""
    return np.asarray([cv2.imread(filename, cv2.IMREAD_COLOR) for filename in filenames])

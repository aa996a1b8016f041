"""Small drawn data for old code: Market-1501 with its `gt_query` files, and vehicles."""

import os

import cv2
import numpy as np
from scipy import io

TRAIN_IDENTITIES = range(1, 13)
TEST_IDENTITIES = (20, 21, 22)
DISTRACTOR, JUNK = 0, -1


def _draw(path, identity, image_shape, random):
    """Write two colors that belong to the identity, with some noise."""
    colors = np.random.default_rng(identity + 1).integers(30, 226, (2, 3))
    image = np.repeat(colors, [image_shape[0] // 2, image_shape[0] - image_shape[0] // 2], axis=0)
    image = image[:, None, :] + random.integers(-25, 26, (*image_shape, 3))
    assert cv2.imwrite(str(path), image.astype(np.uint8))


def _draw_folder(folder, items, image_shape, random):
    """Draw an image for each (identity, camera); returns the items sorted by file name."""
    folder.mkdir(parents=True)
    named = {}
    for number, (identity, camera) in enumerate(items):
        name = f"{identity:04d}" if identity >= 0 else str(identity)
        named[f"{name}_c{camera}s1_{number:06d}_01.jpg"] = (identity, camera)
    for name, (identity, _) in named.items():
        _draw(folder / name, identity, image_shape, random)
    return sorted(named.items())


def draw_market1501(directory, image_shape):
    """Draw a data set with the layout of Market-1501, of images (height, width)."""
    random = np.random.default_rng(0)
    train = [(i, camera) for i in TRAIN_IDENTITIES for camera in (1, 2) for _ in range(3)]
    queries = [(i, camera) for i in TEST_IDENTITIES for camera in (1, 2)]
    gallery = queries * 2 + [(DISTRACTOR, 1), (DISTRACTOR, 2), (JUNK, 1), (JUNK, 2)]
    _draw_folder(directory / "bounding_box_train", train, image_shape, random)
    gallery = _draw_folder(directory / "bounding_box_test", gallery, image_shape, random)
    queries = _draw_folder(directory / "query", queries, image_shape, random)
    _write_ground_truth(directory / "gt_query", queries, [item for _, item in gallery])


def _write_ground_truth(folder, queries, gallery):
    folder.mkdir()
    for name, (identity, camera) in queries:
        is_junk = [item[0] == JUNK or item == (identity, camera) for item in gallery]
        is_good = [item[0] == identity and item[1] != camera for item in gallery]
        for kind, mask in (("junk", is_junk), ("good", is_good)):
            rows = np.flatnonzero(mask)[None] + 1.0  # MATLAB counts from one, in doubles
            stem = os.path.splitext(name)[0]
            io.savemat(folder / f"{stem}_{kind}.mat", {f"{kind}_index": rows})


def draw_vehicles(directory, image_shape=(32, 48)):
    """Draw a folder of images ``VVVV_cCC_N.jpg`` and `vehicles.txt`, which lists them."""
    random = np.random.default_rng(0)
    directory.mkdir()
    names = []
    for vehicle in range(1, 9):
        for camera in (1, 2):
            for number in range(4):
                names.append(f"{vehicle:04d}_c{camera:02d}_{number}.jpg")
                _draw(directory / names[-1], vehicle, image_shape, random)
    (directory / "vehicles.txt").write_text("\n".join(names) + "\n")

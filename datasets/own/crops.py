"""Cuts boxes out of video frames, and keeps the crops as files."""

import concurrent.futures
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from tqdm import tqdm

from ..images import read_bgr_image
from .listing import Listing, is_image_name


class Box(NamedTuple):
    """A box of a track in a frame; `line` is its line in the ground truth."""

    line: int
    frame: int
    track: int
    left: float
    top: float
    width: float
    height: float


Job: TypeAlias = tuple[str, Path, Sequence[Box]]
"""A sequence's name, the image of a frame, and the boxes to cut out of it."""


def write(folder: Path, jobs: Sequence[Job]) -> int:
    """Cut boxes out of frames into a folder that appears when it is complete.

    Crops are ``folder/SEQUENCE_TRACK/FRAME.png``. If all boxes lie outside the frames, the folder
    is not made.

    Parameters
    ----------
    folder : Path
        The new folder. If another process makes it at the same time, its crops stay.
    jobs : sequence of Job
        One for each frame.

    Returns
    -------
    num_outside : int
        Number of boxes outside their frame, which are left out.

    Raises
    ------
    DataError
        If a frame cannot be decoded.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The crops are made in a subfolder, because only its owner may read the temporary folder.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        unfinished = Path(temporary, "crops")
        unfinished.mkdir()
        num_outside = cut_all(jobs, unfinished)
        if num_outside < sum(len(boxes) for _, _, boxes in jobs):
            try:
                os.rename(unfinished, folder)
            except OSError:
                # Another process was faster: its crops are the same.
                if not folder.is_dir():
                    raise
    return num_outside


def cut_all(jobs: Sequence[Job], target: Path) -> int:
    """Cut the boxes out of all frames, on all cores; see `write`."""
    # Threads suffice: OpenCV releases Python's lock to decode and encode.
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        futures = [pool.submit(_cut_frame, job, target) for job in jobs]
        bar = tqdm(futures, desc="Cutting out", unit=" frames", delay=1)
        return sum(future.result() for future in bar)
    finally:
        # After an error or Ctrl-C, do not wait for frames that have not started.
        pool.shutdown(cancel_futures=True)


def _cut_frame(job, target):
    sequence_name, path, boxes = job
    # Decoded as Deep SORT does: a box means the same pixels.
    image = read_bgr_image(path, "frame")
    outside = 0
    for box in boxes:
        crop = cut(image, box)
        if crop.size == 0:
            outside += 1
            continue
        folder = target / f"{sequence_name}_{box.track:06d}"
        folder.mkdir(exist_ok=True)
        # Little compression: with more, photographs take longer and hardly shrink.
        png = cv2.imencode(".png", crop, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        (folder / f"{box.frame:06d}.png").write_bytes(png.tobytes())
    return outside


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """Return the part of an image, an array (H, W, C), that lies in a box. It may be empty."""
    height, width = image.shape[:2]
    # Clipped before they are truncated: the result is the same, and huge numbers do not overflow.
    left, top = int(max(box.left, 0)), int(max(box.top, 0))
    right = int(max(min(box.left + box.width, width), 0))
    bottom = int(max(min(box.top + box.height, height), 0))
    return image[top:bottom, left:right]


def read(folder: Path) -> Listing:
    """List the crops of a folder that `write` made.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Listing
        Checked, sorted by identity and frame.
    """
    filenames, identities = [], []
    for identity in sorted(name for name in os.listdir(folder) if (folder / name).is_dir()):
        names = sorted(filter(is_image_name, os.listdir(folder / identity)))
        filenames += [os.path.join(folder, identity, name) for name in names]
        identities += [identity] * len(names)
    cameras = [identity.rpartition("_")[0] for identity in identities]
    return Listing(filenames, identities, cameras, ["train"] * len(filenames)).check(folder)

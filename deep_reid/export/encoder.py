"""Features of crops, or of boxes on a frame, for trackers and searches; free of TensorFlow.

A frozen graph, a SavedModel and a checkpoint need TensorFlow; the other formats need their runtime.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from deep_reid.config import ComputeSettings
from deep_reid.config.kinds import add_channels
from deep_reid.errors import DataError, UsageError
from deep_reid.export import formats
from deep_reid.export.formats.model import ForkedError, closed_error

_logger = logging.getLogger(__name__)
# As in Deep SORT. Larger batches are no faster, and slower if other programs use the caches, too.
_MAX_BATCH_SIZE = 32


class Encoder:
    """A trained network, loaded once, that maps crops to features of unit length.

    Crops are resized as Deep SORT does it, by ``cv2.resize`` (bilinear), and go through the network
    in batches. It may be called from several threads at once.

    Parameters
    ----------
    path : str or Path
        A frozen graph, named ``*.pb``, as ``--mode=freeze`` writes it, or a checkpoint, in any form
        that `deep_reid.runs.records.resolve_checkpoint` takes. Both give the same features.
    network : {"deep_sort", "mars_small128"} or "MODULE:NAME", optional
        The network of a checkpoint. Default: that of its run, or ``"deep_sort"`` without a record.
    image_shape : tuple of int, optional
        (height, width, channels) of a checkpoint's network. Default: that of its run, or
        (128, 64, 3) without a record.
    max_batch_size : int
        Number of crops in a batch of the network: more crops in a call need no more memory.
    compute : ComputeSettings
        Precision, threads and memory. A narrower precision than float32 needs a checkpoint: the
        normalization of a frozen graph, which must stay exact, cannot be separated from its layers.
    trust : bool
        Whether a frozen graph may have any ops. Default: only those of networks, none that reads or
        writes files, runs programs or calls Python.

    Notes
    -----
    TensorFlow starts on the first call, in the process that calls. A forked process can call an
    encoder of its parent. If the runtime has computed in the parent, the child has none of its
    threads: it starts another process, which loads the network anew and computes for it; this takes
    seconds, and memory of its own. ``.tflite`` files need none. (A new session of TensorFlow with
    threads of its own does not help: the threads within ops belong to the process. With
    ``TF_OVERRIDE_GLOBAL_THREADPOOL=1`` they belong to the session, but then about half of the
    children hang that are forked just when the parent opens one.) A pickled encoder is its file and
    settings: it is loaded anew.

    Raises
    ------
    MissingPathError, DataError
        If the file is missing, or is neither a frozen graph nor a checkpoint of the network.
    UsageError
        If a setting breaks its rule, or the machine does not support it.
    TypeError
        If `compute` is something else, such as the name of a precision.

    Examples
    --------
    >>> with Encoder("market1501.pb") as encoder:                               # doctest: +SKIP
    ...     features = encoder([cv2.imread("a.jpg"), cv2.imread("b.jpg")])
    ...     features = encoder(frame, boxes=[[x, y, width, height]])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        network: str | None = None,
        image_shape: Sequence[int] | None = None,
        max_batch_size: int = _MAX_BATCH_SIZE,
        compute: ComputeSettings = ComputeSettings(),
        trust: bool = False,
    ) -> None:
        if max_batch_size < 1:
            raise UsageError(f"max_batch_size ({max_batch_size}) must be at least 1")
        compute = ComputeSettings.of(compute)
        self._settings = {
            "network": network,
            "image_shape": image_shape,
            "compute": compute,
            "trust": trust,
        }
        self._path = os.path.abspath(path)
        # Runtimes open it at the first call, when the working directory may be another.
        self._model = self._load()
        self._image_shape = add_channels(self._model.model_input.image_shape)
        self._max_batch_size = max_batch_size
        self._lock = threading.Lock()
        # Some runtimes compute one batch at a time.
        self._turn = contextlib.nullcontext() if self._model.is_concurrent else threading.Lock()
        self._is_closed = False
        self._started: tuple | None = None
        self._started_in: int | None = None
        _logger.debug("Encoding with %s in %s", path, self._model.runtime)

    def __reduce__(self) -> tuple:
        settings = {**self._settings, "max_batch_size": self._max_batch_size}
        return _create, (type(self), self._path, settings)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The network's input: (height, width, channels)."""
        return self._image_shape

    @property
    def feature_size(self) -> int:
        """Length of a feature, D."""
        return self._model.feature_size

    @property
    def runtime(self) -> str:
        """Name and version of the runtime that computes, such as ``"LiteRT 2.1.0"``."""
        return self._model.runtime

    def __call__(
        self, images: Sequence[np.ndarray] | np.ndarray, boxes: ArrayLike | None = None
    ) -> np.ndarray:
        """Compute the features of crops, or of boxes on a frame.

        Boxes are cut as in Deep SORT: a box keeps its center and height, and gets the aspect ratio
        of the network's input; corners are rounded toward zero, and clipped to the frame. A box
        without a pixel on the frame gets the feature of noise, always the same (in Deep SORT: each
        time another), and a warning is logged.

        Parameters
        ----------
        images : sequence of np.ndarray of uint8, shape (H, W, C); or one array with `boxes`
            Crops of any size, BGR as OpenCV reads them, or a frame. For a network of gray images:
            (H, W) or (H, W, 1).
        boxes : array-like of float, shape (N, 4), optional
            x and y of the upper left corner, width, height; in pixels of the frame.

        Returns
        -------
        np.ndarray of float32, shape (N, D)
            In the order of crops or boxes; shape (0, D) if there are none.

        Raises
        ------
        TypeError
            If an image is not an array of uint8.
        UsageError
            If images or boxes have the wrong shape, or the encoder is closed.
        """
        if self._is_closed:
            raise closed_error()
        if boxes is None:
            crops = self._check_crops(images)
        else:
            crops = self._cut(self._check_image(images, "the frame"), _check_boxes(boxes))
        features = np.empty((len(crops), self._model.feature_size), np.float32)
        for start in range(0, len(crops), self._max_batch_size):
            batch = slice(start, start + self._max_batch_size)
            features[batch] = self._encode(self._resize(crops[batch]))
        return features

    def close(self) -> None:
        """Free the network's memory. The encoder cannot be called after that."""
        with self._lock:
            self._is_closed = True
            started, self._started = self._started, None
        if started is not None and self._started_in == os.getpid():
            started[1]()

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _load(self):
        try:
            return formats.load_network(self._path, **self._settings)
        except ForkedError:
            return self._load_elsewhere()

    def _load_elsewhere(self):
        """Load the network in a process that has the runtime's threads."""
        from deep_reid.export import other_process

        _logger.info(
            "This process was forked after the runtime had computed: another process computes %s",
            self._path,
        )
        return other_process.load(self._path, self._settings)

    def _encode(self, batch):
        compute = self._start()
        inputs = self._model.model_input.convert(batch)
        with self._turn:
            features = compute(inputs)
        return check_features(features, self._path)

    def _start(self):
        """Return the function that computes; start the runtime on the first call in a process."""
        with self._lock:
            if self._is_closed:  # another thread may close the encoder meanwhile
                raise closed_error()
            if self._started is None or self._started_in != os.getpid():
                try:
                    self._started = self._model.launch()
                except ForkedError:
                    self._model = self._load_elsewhere()
                    self._turn = threading.Lock()
                    self._started = self._model.launch()
                self._started_in = os.getpid()
            return self._started[0]

    def _check_crops(self, images):
        if isinstance(images, np.ndarray) and images.dtype != object and images.ndim < 4:
            if images.size == 0:
                return []
            raise TypeError(
                f"one array of shape {images.shape} is not a sequence of crops: use [crop], or "
                "give boxes to cut out of it"
            )
        return [self._check_image(image, f"crop {number}") for number, image in enumerate(images)]

    def _check_image(self, image, name):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = getattr(image, "dtype", type(image).__name__)
            reason = " (cv2.imread gives that for a file it cannot read)" * (image is None)
            raise TypeError(
                f"{name} is of type {kind}{reason}: use an array of uint8, as OpenCV reads it"
            )
        if image.size == 0:
            raise UsageError(f"{name} has the shape {image.shape}: leave out images without pixels")
        num_channels = self._image_shape[2]
        if num_channels == 1 and image.ndim == 2:
            image = image[:, :, np.newaxis]
        if image.ndim != 3 or image.shape[2] != num_channels:
            raise UsageError(
                f"{name} has the shape {image.shape}, but the network takes (height, width, "
                f"{num_channels}), {'gray' if num_channels == 1 else 'BGR'}, of any size: "
                "convert it, say with cv2.cvtColor"
            )
        return image

    def _cut(self, frame, boxes):
        """Cut boxes out of a frame, without a copy."""
        corners = _find_corners(boxes, frame.shape, self._image_shape)
        crops = [frame[top:bottom, left:right] for left, top, right, bottom in corners.tolist()]
        outside = [number for number, crop in enumerate(crops) if crop.size == 0]
        if outside:
            _logger.warning(
                "%d of %d boxes have no pixel on the frame, say box %d, %s: they get the feature "
                "of noise",
                len(outside),
                len(boxes),
                outside[0],
                boxes[outside[0]].tolist(),
            )
            noise = np.random.default_rng(0).integers(0, 256, self._image_shape, np.uint8)
            for number in outside:
                crops[number] = noise
        return crops

    def _resize(self, crops):
        """Resize crops to the network's input: an array of uint8, shape (N, H, W, C)."""
        batch = np.empty((len(crops), *self._image_shape), np.uint8)
        height, width, _ = self._image_shape
        # Other threads would not help: to pass a crop on takes longer than to resize it, 15 us.
        for crop, resized in zip(crops, batch, strict=True):
            cv2.resize(crop, (width, height), dst=resized)
        return batch


def _create(encoder_class, path, settings):
    return encoder_class(path, **settings)


def check_features(features: np.ndarray, path: str) -> np.ndarray:
    """Return features, if all of them are finite.

    Raises
    ------
    DataError
        If one is not.
    """
    if not np.isfinite(features).all():
        raise DataError(
            f"{path} gives features that are not finite: its weights are damaged, or training had "
            "failed: freeze another checkpoint"
        )
    return features


def _check_boxes(boxes):
    try:
        boxes = np.asarray(boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"boxes are not an array of numbers ({error}): use the shape (N, 4)"
        ) from error
    if boxes.size == 0:
        return np.empty((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise UsageError(
            f"boxes of shape {boxes.shape} must have the shape (N, 4): x, y, width, height"
        )
    if not np.isfinite(boxes).all():
        number = np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0]
        raise UsageError(f"box {number}, {boxes[number].tolist()}, must have finite numbers")
    return boxes


def _find_corners(boxes, frame_shape, image_shape):
    """Return left, top, right and bottom of the crops of boxes, as Deep SORT computes them.

    Parameters
    ----------
    boxes : np.ndarray of float64, shape (N, 4)
    frame_shape, image_shape : tuple of int
        (height, width, channels).

    Returns
    -------
    np.ndarray of int64, shape (N, 4)
        For a box outside the frame, right <= left or bottom <= top.
    """
    x, y, widths, heights = boxes.T
    new_widths = image_shape[1] / image_shape[0] * heights
    left = x - (new_widths - widths) / 2
    corners = np.stack([left, y, left + new_widths, y + heights], axis=1)
    # As in Deep SORT, which never uses the last row and the last column of the frame.
    limits = np.array([frame_shape[1], frame_shape[0]] * 2) - 1
    return np.trunc(corners).clip(0, limits).astype(np.int64)

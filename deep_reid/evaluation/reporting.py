"""What is written of each evaluation: a line in the log and in a file, events, pictures."""

import datetime
import logging
import os

import numpy as np

from deep_reid.evaluation import pictures, projector, score_log
from deep_reid.images import pipeline
from deep_reid.runtime.compat import tf
from deep_reid.scoring.protocols import RANKS

NUM_STRIPS = 4
NUM_RANKED = 10
PICTURE_SIZE = (96, 48)

_logger = logging.getLogger(__name__)


def to_rgb(images, preprocess_fn):
    """Return images in the order of colors in which people look at them.

    Parameters
    ----------
    images : np.ndarray
        Image files, or images in the order that `preprocess_fn` expects.
    preprocess_fn : callable

    Returns
    -------
    np.ndarray
    """
    is_color = images.ndim == 4 and images.shape[3] == 3
    if is_color and pipeline.expects_bgr(preprocess_fn, images.shape[1:]):
        return images[..., ::-1]
    return images


class Report:
    """Writes each evaluation of a run.

    Parameters
    ----------
    eval_dir : str
    images : np.ndarray
        Image files, or RGB or gray images.
    labels : np.ndarray of int64, shape (N,)
    gallery : pair of np.ndarray of int64
        Rows of the probes, and of the gallery's images, whose rankings are shown as pictures.
    best : BestCheckpoint, optional
        Keeps the best checkpoint. What was evaluated before counts, too.
    projector : ProjectorFiles, optional
    """

    def __init__(self, eval_dir, images, labels, gallery, *, best=None, projector=None):
        self.log = score_log.ScoreLog(eval_dir)
        self._best = best
        self._projector = projector
        self._images = images
        self._labels = labels
        self._probes, self._gallery = gallery
        if best is not None:
            best.catch_up(self.log)

    def __call__(self, checkpoint_path, step, value):
        """Write an evaluation.

        Parameters
        ----------
        checkpoint_path : str
        step : int
        value : dict
            ``"scores"`` by name, and ``"distances"`` (num_probes, num_gallery).

        Returns
        -------
        tf.Summary
            The pictures.
        """
        scores = as_floats(value["scores"])
        _logger.info(
            "step %d: %s", step, ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
        )
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        line = {"step": step, **scores, "checkpoint": os.fspath(checkpoint_path), "time": now}
        if self._best is not None:
            self._best.offer(line)
        self.log.append(line)
        if self._projector is not None:
            self._projector.write(checkpoint_path, step)
        return self._draw_strips(value["distances"])

    def last_scores(self):
        """Return the scores that were written last.

        Returns
        -------
        dict of str to float, or None
        """
        return self.log.last_scores([f"Precision@{k}" for k in RANKS])

    def _draw_strips(self, distances):
        """Return a summary with the rankings of some probes, the same ones at each step."""
        chosen = np.linspace(0, len(self._probes) - 1, NUM_STRIPS).round().astype(int)
        summary = tf.Summary()
        for number, row in enumerate(np.unique(chosen)):
            nearest = self._gallery[np.argsort(distances[row], kind="stable")[:NUM_RANKED]]
            probe = self._probes[row]
            strip = pictures.draw_strip(
                self._read(probe),
                [self._read(index) for index in nearest],
                self._labels[nearest] == self._labels[probe],
            )
            image = tf.Summary.Image(
                encoded_image_string=pictures.encode_png(strip),
                height=strip.shape[0],
                width=strip.shape[1],
                colorspace=3,
            )
            summary.value.add(tag=f"ranking/probe_{number}", image=image)
        return summary

    def _read(self, index):
        return pictures.read_picture(self._images[index], *PICTURE_SIZE)


class ProjectorFiles:
    """Encodes validation images with each checkpoint and writes them for the projector.

    Parameters
    ----------
    eval_dir : str
    images, shown_images : np.ndarray
        The same images, as they are encoded and as people look at them.
    labels : np.ndarray of int64, shape (N,)
    cameras : array-like of int, shape (N,), optional
    encode_images : callable
        ``encode_images(checkpoint_path, images)`` gives their features.
    """

    def __init__(self, eval_dir, images, shown_images, labels, cameras, encode_images):
        rows = projector.choose_rows(len(labels))
        self._eval_dir = eval_dir
        self._images, self._labels = images[rows], labels[rows]
        self._shown_images = shown_images[rows]
        self._cameras = None if cameras is None else np.asarray(cameras)[rows]
        self._encode_images = encode_images
        self._has_sprite = False

    def write(self, checkpoint_path, step):
        """Write the features of a checkpoint.

        Parameters
        ----------
        checkpoint_path : str
        step : int
        """
        features = self._encode_images(checkpoint_path, self._images)
        if not self._has_sprite:
            projector.write_sprite(self._eval_dir, self._shown_images)
            self._has_sprite = True
        projector.write_features(self._eval_dir, step, features, self._labels, self._cameras)


def as_floats(scores):
    """Turn scores into plain numbers.

    Parameters
    ----------
    scores : dict of str to number

    Returns
    -------
    dict of str to float
    """
    return {name: float(score) for name, score in scores.items()}

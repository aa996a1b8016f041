"""The results of each evaluation: a line in the log and in a file, events, pictures."""

import dataclasses
import datetime
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deep_reid.errors import DataError, MissingPathError
from deep_reid.evaluation import pictures, projector, score_log
from deep_reid.evaluation.best import BestCheckpoint
from deep_reid.images import pipeline
from deep_reid.interfaces import Preprocess
from deep_reid.runs import checkpoints, records, stopping
from deep_reid.runtime.compat import tf
from deep_reid.scoring.names import BY_LABEL, Names

BEST_BY = "Precision@1"
NUM_STRIPS = 4
NUM_RANKED = 10
PICTURE_SIZE = (96, 48)

_logger = logging.getLogger(__name__)


def to_rgb(images: np.ndarray, preprocess_fn: Preprocess) -> np.ndarray:
    """Change color images to RGB, the order in which they are shown.

    Parameters
    ----------
    images : np.ndarray
        Names of image files, or images with the order of channels that `preprocess_fn` expects.
    preprocess_fn : callable

    Returns
    -------
    np.ndarray
        The same names, or RGB or gray images.
    """
    is_color = images.ndim == 4 and images.shape[3] == 3
    if is_color and pipeline.expects_bgr(preprocess_fn, images.shape[1:]):
        return images[..., ::-1]
    return images


def format_scores(scores: Mapping[str, float]) -> str:
    """Return scores as a line of the log shows them.

    Parameters
    ----------
    scores : dict of str to float

    Returns
    -------
    str
    """
    return ", ".join(f"{name} {score:.4f}" for name, score in scores.items())


def find_best(lines: Sequence[Mapping[str, Any]]) -> tuple[int, float, int]:
    """Find the best evaluation of a run.

    Parameters
    ----------
    lines : sequence of dict
        As in `deep_reid.evaluation.score_log.ScoreLog`.

    Returns
    -------
    step : int
        If scores are equal, the first one.
    score : float
        Precision@1.
    num_since : int
        Number of evaluations of later steps.
    """
    by_step = {line["step"]: float(line[BEST_BY]) for line in lines if BEST_BY in line}
    step = min(by_step, key=lambda step: (-by_step[step], step))
    return step, by_step[step], sum(other > step for other in by_step)


@dataclasses.dataclass(eq=False)
class Report:
    """Writes each evaluation of a run.

    Parameters
    ----------
    eval_dir : str
    images : np.ndarray
        Names of image files, or RGB or gray images.
    labels : np.ndarray of int64, shape (N,)
    gallery : pair of np.ndarray of int64
        The rows of the probes and of the gallery's images. Some rankings are shown as pictures.
    best : BestCheckpoint, optional
        Keeps the best checkpoint, also among those that were evaluated before.
    projector : ProjectorFiles, optional
    patience : int, optional
        After this number of evaluations without a better score, the training is asked to end.
        Default: it never is.
    run_dir : str
        The folder of the run that is asked.
    facts : dict
        As in `deep_reid.evaluation.score_log.ScoreLog`.

    Attributes
    ----------
    log : deep_reid.evaluation.score_log.ScoreLog
    """

    eval_dir: str
    images: np.ndarray
    labels: np.ndarray
    gallery: tuple[np.ndarray, np.ndarray]
    _: dataclasses.KW_ONLY
    best: BestCheckpoint | None = None
    projector: "ProjectorFiles | None" = None
    patience: int | None = None
    run_dir: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = score_log.ScoreLog(self.eval_dir, self.facts)
        self._num_made = 0
        if self.best is not None:
            self.best.catch_up(self.log)

    def catch_up(self) -> None:
        """Write the projector's files, if the newest checkpoint was scored without them."""
        for newest in records.list_checkpoints(self.run_dir)[-1:]:
            step = records.step_in_name(newest)
            if (
                self.projector is not None
                and self.log.has(newest, step)
                and not projector.has_features(self.eval_dir, step)
            ):
                self.projector.write(newest, step)

    def __call__(self, checkpoint_path: str, step: int, value: dict[str, Any]) -> tf.Summary:
        """Write the results of an evaluation.

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
        scores = {name: float(score) for name, score in value["scores"].items()}
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        line = {"step": step, **scores, **self.facts}
        line |= {"checkpoint": os.fspath(checkpoint_path), "time": now}
        if self.best is not None:
            self.best.offer(line)
        self.log.append(line)
        best_step, best_score, num_since = find_best(self.log.lines)
        _logger.info(
            "step %d: %s; %s",
            step,
            format_scores(scores),
            f"the best {BEST_BY} is still {best_score:.4f} of step {best_step}; evaluations since "
            f"then: {num_since}"
            if num_since
            else "the best so far",
        )
        # Those before a run was started again do not count.
        self._num_made += 1
        is_enough = self.patience is not None and min(num_since, self._num_made) >= self.patience
        if is_enough and not stopping.is_requested(self.run_dir):
            stopping.request(
                self.run_dir,
                f"{num_since} evaluations in a row without a better {BEST_BY} than "
                f"{best_score:.4f} of step {best_step}",
            )
        if self.projector is not None:
            self.projector.write(checkpoint_path, step)
        return self._draw_strips(value["distances"])

    def _draw_strips(self, distances):
        """Return a summary with the rankings of some probes, the same ones at each step."""
        probes, gallery = self.gallery
        chosen = np.linspace(0, len(probes) - 1, NUM_STRIPS).round().astype(int)
        summary = tf.Summary()
        for number, row in enumerate(np.unique(chosen)):
            nearest = gallery[np.argsort(distances[row], kind="stable")[:NUM_RANKED]]
            probe, *ranked = (
                pictures.read_picture(self.images[index], *PICTURE_SIZE)
                for index in (probes[row], *nearest)
            )
            is_match = self.labels[nearest] == self.labels[probes[row]]
            strip = pictures.draw_strip(probe, ranked, is_match)
            height, width, _ = strip.shape
            png = pictures.encode_png(strip)
            image = tf.Summary.Image(
                encoded_image_string=png, height=height, width=width, colorspace=3
            )
            summary.value.add(tag=f"ranking/probe_{number}", image=image)
        return summary


class ProjectorFiles:
    """Encodes validation images with each checkpoint, and writes the features for the projector.

    Parameters
    ----------
    run_dir, eval_dir : str
        The folders of the run and of its evaluation.
    images, shown_images : np.ndarray
        The same images, as they are encoded and as they are shown.
    labels : np.ndarray of int64, shape (N,)
    cameras : array-like of int, shape (N,), or None
    encode_images : callable
        ``encode_images(checkpoint_path, images)`` returns the features.
    names : Names
        How identities and image files are called.
    """

    def __init__(
        self,
        run_dir: str,
        eval_dir: str,
        images: np.ndarray,
        shown_images: np.ndarray,
        labels: np.ndarray,
        cameras: ArrayLike | None,
        encode_images: Callable[[str, np.ndarray], np.ndarray],
        names: Names = BY_LABEL,
    ) -> None:
        rows = projector.choose_rows(len(labels))
        self._run_dir, self._eval_dir = run_dir, eval_dir
        self._images, self._shown_images = images[rows], shown_images[rows]
        self._encode_images = encode_images
        self._metadata: dict[str, Sequence[object]] = {
            "identity": [names.identity(label) for label in labels[rows]],
            "camera": ["unknown"] * len(rows)
            if cameras is None
            else np.asarray(cameras)[rows].tolist(),
        }
        if images.dtype.kind == "O":
            self._metadata["path"] = [names.path(path) for path in self._images]
        self._has_sprite = False

    def write(self, checkpoint_path: str, step: int) -> None:
        """Write the features of a checkpoint; if training has deleted it, only warn.

        Parameters
        ----------
        checkpoint_path : str
        step : int
        """
        try:
            features = self._encode_images(checkpoint_path, self._images)
        except (DataError, MissingPathError):
            if checkpoints.is_readable(checkpoint_path):
                raise  # something else is missing, such as an image
            happened = "damaged" if records.exists(checkpoint_path) else "deleted"
            _logger.warning(
                "Checkpoint %s was %s before its features were written for the projector",
                checkpoint_path,
                happened,
            )
            return
        if not self._has_sprite:
            projector.write_sprite(self._eval_dir, self._shown_images)
            self._has_sprite = True
        projector.write_features(self._eval_dir, step, features, self._metadata)
        try:
            projector.copy_features(self._run_dir, self._eval_dir, step)
        except OSError as error:  # it may be a run of someone else
            _logger.warning("TensorBoard may show the weights first: %s", error)

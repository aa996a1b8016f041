"""What an evaluation is made of: validation images, settings, locked directories, a graph."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from deep_reid.config import ComputeSettings
from deep_reid.config.run import check_positive_integer
from deep_reid.engine.checkpoint_evaluation import CheckpointEvaluation
from deep_reid.engine.image_trainer import create_image_trainer
from deep_reid.errors import DataError
from deep_reid.evaluation import reporting
from deep_reid.evaluation.best import keeping_best
from deep_reid.evaluation.graph import create_metrics
from deep_reid.evaluation.reporting import ProjectorFiles
from deep_reid.evaluation.score_log import ScoreLog
from deep_reid.export.encoding import encode
from deep_reid.images.source import as_image_source, check_image_shape
from deep_reid.interfaces import NetworkFactory, Preprocess
from deep_reid.runs import saving
from deep_reid.runtime import precision
from deep_reid.runtime.compat import tf
from deep_reid.samplers.galleries import count_comparable, create_cmc_probe_and_gallery
from deep_reid.scoring.names import BY_LABEL, Names
from deep_reid.system import locks
from deep_reid.system.files import Path

PrepareCheckpoint: TypeAlias = Callable[[str], contextlib.AbstractContextManager[str]]


class ValidationImages:
    """Images with their identities and cameras.

    Parameters
    ----------
    data_x, data_y, camera_indices, image_shape
        As in `deep_reid.evaluation.loop.eval_loop`.

    Attributes
    ----------
    images : np.ndarray
        As `deep_reid.images.source.as_image_source` returns them.
    are_files : bool
    image_shape : tuple of int
        (height, width, channels) that the network takes.
    labels : np.ndarray of int64, shape (N,)
    cameras : array_like of int, shape (N,), or None

    Raises
    ------
    TypeError, UsageError, DataError
        As in `deep_reid.evaluation.loop.eval_loop`.
    """

    def __init__(
        self,
        data_x: Sequence[Path] | np.ndarray,
        data_y: ArrayLike,
        camera_indices: ArrayLike | None = None,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        self.images, self.are_files = as_image_source(data_x)
        self.image_shape = check_image_shape(self.images, self.are_files, image_shape)
        self.labels = np.asarray(data_y, dtype=np.int64)
        self.cameras = camera_indices
        if self.labels.shape != (len(self.images),):
            raise DataError(
                f"there are {len(self.images)} images, but labels of shape {self.labels.shape}: "
                "give one label for each image, as a vector"
            )

    def draw_galleries(
        self, num_galleries: int, random_seed: int | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Draw a probe and a gallery image of each identity, several times.

        Parameters
        ----------
        num_galleries : int
        random_seed : int or None
            Gallery number i is drawn with the seed ``random_seed + i``.

        Returns
        -------
        list of pairs of np.ndarray of int64
            The rows of probes and gallery images, in the same order of identities.

        Raises
        ------
        UsageError
            If `num_galleries` is not a positive number.
        DataError
            If no identity has two images.
        """
        check_positive_integer("num_galleries", num_galleries)
        count_comparable(self.labels)
        return [
            create_cmc_probe_and_gallery(
                self.labels,
                self.cameras,
                seed=None if random_seed is None else random_seed + index,
            )
            for index in range(num_galleries)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How checkpoints are evaluated; each as in `deep_reid.evaluation.loop.eval_loop`."""

    loss_mode: str = "cosine-softmax"
    num_galleries: int = 10
    random_seed: int | None = 4321
    projector: bool = False
    keep_best: bool = False
    patience: int | None = None
    compute: ComputeSettings = ComputeSettings()
    feed_timeout_secs: float | None = 600
    names: Names = BY_LABEL
    prepare: PrepareCheckpoint = contextlib.nullcontext
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.patience is not None:
            check_positive_integer("patience", self.patience)


@contextlib.contextmanager
def open_evaluation(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    validation: ValidationImages,
    log_dir: Path,
    eval_log_dir: Path,
    run_id: str | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
) -> Iterator[tuple[CheckpointEvaluation, ScoreLog]]:
    """Lock an evaluation directory, and prepare to evaluate checkpoints of a run, one by one.

    Parameters
    ----------
    preprocess_fn, network_factory, log_dir, eval_log_dir, run_id
        As in `deep_reid.evaluation.loop.eval_loop`.
    validation : ValidationImages
    settings : EvaluationSettings

    Yields
    ------
    evaluation : deep_reid.engine.checkpoint_evaluation.CheckpointEvaluation
        Its methods may be called while another graph is the default one.
    log : deep_reid.evaluation.score_log.ScoreLog

    Raises
    ------
    UsageError, DataError, RunError
        As in `deep_reid.evaluation.loop.eval_loop`.
    """
    galleries = validation.draw_galleries(settings.num_galleries, settings.random_seed)
    # A batch per gallery: all probes, then all gallery images.
    rows = np.concatenate(galleries, axis=None)
    encode_images = functools.partial(
        _encode, preprocess_fn, network_factory, validation.image_shape, settings
    )
    shown_images = reporting.to_rgb(validation.images, preprocess_fn)
    run_dir, eval_dir = (os.path.join(path, run_id or "") for path in (log_dir, eval_log_dir))
    keeping = (
        keeping_best(run_dir, reporting.BEST_BY) if settings.keep_best else contextlib.nullcontext()
    )
    with (
        locks.holding(eval_dir, f"run {run_id}" if run_id else eval_dir, locks.EVALUATION),
        keeping as best,
        contextlib.ExitStack() as stack,
    ):
        for directory in (eval_dir, run_dir):
            saving.remove_leftovers_of_evaluation(directory)
        shown = (validation.images, shown_images, validation.labels, validation.cameras)
        report = reporting.Report(
            eval_dir,
            shown_images,
            validation.labels,
            galleries[-1],
            best=best,
            projector=ProjectorFiles(run_dir, eval_dir, *shown, encode_images, settings.names)
            if settings.projector
            else None,
            patience=settings.patience,
            run_dir=run_dir,
            facts=settings.facts,
        )
        with tf.Graph().as_default():
            trainer = _create_trainer(preprocess_fn, validation, settings)
            batch_size = len(rows) // len(galleries)
            evaluation = trainer.open_evaluation(
                [_Gathered(validation.images, rows), validation.labels[rows]],
                eval_dir,
                **create_metrics(trainer, network_factory, batch_size, settings.loss_mode),
                on_evaluation=report,
                is_evaluated=report.log.has,
                prepare=settings.prepare,
            )
        report.catch_up()
        yield stack.enter_context(evaluation), report.log


def _encode(preprocess_fn, network_factory, image_shape, settings, checkpoint_path, images):
    with settings.prepare(checkpoint_path) as prepared:
        return encode(
            preprocess_fn,
            network_factory,
            prepared,
            images,
            image_shape=image_shape,
            compute=settings.compute,
        )


def _create_trainer(preprocess_fn, validation, settings):
    precision.set_precision(settings.compute)
    return create_image_trainer(
        preprocess_fn,
        validation.image_shape,
        validation.are_files,
        array_shape=None if validation.are_files else validation.images.shape[1:],
        feed_timeout_secs=settings.feed_timeout_secs,
        compute=settings.compute,
    )


class _Gathered:
    """Rows of an array in another order, copied only when they are taken."""

    def __init__(self, array, rows):
        self._array = array
        self._rows = rows

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, part):
        return self._array[self._rows[part]]

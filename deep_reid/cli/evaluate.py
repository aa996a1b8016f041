"""``--mode=eval``: scores each checkpoint of a run when it is saved."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator

from deep_reid import nets
from deep_reid.cli.command import Command
from deep_reid.cli.settings import check_split, find_run_dir, open_dataset, settle
from deep_reid.cli.subject import check_unseen, import_tensorflow, name_others, warn_of_few
from deep_reid.cli.weights import Weights
from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.errors import RunError
from deep_reid.interfaces import Dataset
from deep_reid.runs import folder
from deep_reid.samplers import galleries
from deep_reid.scoring.names import Names
from deep_reid.system import files, locks, signals

_logger = logging.getLogger(__name__)


def evaluate(args: Command, dataset_class: type[Dataset], *, until_last_step: bool = False) -> None:
    """Score each checkpoint of a run when it is saved.

    Parameters
    ----------
    args : Command
    dataset_class : type
    until_last_step : bool
        Whether to wait for the run's last step, also while no process trains it.
    """
    files.check_folder(args.eval_log_dir)
    log_dir, run_id = folder.locate_run(args.log_dir, args.run_id)
    args = dataclasses.replace(args, log_dir=log_dir, run_id=run_id)
    # A missing data set is an error now, not only after the wait for the run.
    expected = settle(args, dataset_class, find_run_dir(args)).dataset
    if expected is not None:
        dataset_class.find(expected, "")
    run_id = folder.wait_for_run(args.log_dir, args.run_id, timeout_secs=args.timeout_secs)
    run_dir = os.path.join(args.log_dir, run_id)
    config = settle(args, dataset_class, run_dir)
    dataset = open_dataset(dataset_class, config)
    validation = dataset.validation
    check_validation(dataset)
    check_unseen(run_dir, dataset, validation.labels)
    check_split(config, run_dir)
    weights = Weights(args, dataset_class, config, dataset)
    locks.check_free(os.path.join(args.eval_log_dir, run_id), f"run {run_id}", locks.EVALUATION)
    nets.check_found(config.network)
    import_tensorflow()
    from deep_reid.evaluation import loop
    from deep_reid.evaluation.reporting import format_scores

    others = name_others(args, run_id)
    _logger.info("Evaluating run %s on %d images%s", run_id, len(validation), others)
    network = nets.load_network(config.network)
    scores = loop.eval_loop(
        network.preprocess,
        nets.create_inference_network(network),
        validation.filenames,
        validation.labels,
        validation.cameras,
        args.log_dir,
        args.eval_log_dir,
        config.image_shape,
        run_id,
        **_list_settings(args, config, dataset, weights),
        eval_interval_secs=args.eval_interval_secs,
        max_num_evaluations=args.max_num_evaluations,
        timeout_secs=args.timeout_secs,
        eval_once=args.eval_once,
        until_trained=args.until_trained or until_last_step,
        last_step=config.number_of_steps if until_last_step else None,
    )
    if scores is None:
        raise RunError(
            f"run {run_id} in {args.log_dir} had no checkpoint for {args.timeout_secs:g} s: is "
            "training under way? A longer --timeout_secs waits longer"
        )
    if args.eval_once:
        _logger.info("The newest checkpoint: %s", format_scores(scores))


def check_validation(dataset: Dataset) -> None:
    """Check that there are identities to compare; warn if they are few.

    Parameters
    ----------
    dataset : Dataset

    Raises
    ------
    DataError
        If no identity for validation has two images.
    """
    num_comparable = galleries.count_comparable(dataset.validation.labels)
    if dataset.validation.num_identities > 1:  # the data set has warned of a single one
        warn_of_few(num_comparable, "keep more for validation with --num_validation")


@contextlib.contextmanager
def evaluating(
    args: Command, config: RunConfig, dataset: Dataset, run_id: str
) -> Iterator[Callable[[str], object]]:
    """Prepare to evaluate a run while it is trained in this process.

    Parameters
    ----------
    args : Command
    config : RunConfig
    dataset : Dataset
    run_id : str

    Yields
    ------
    callable
        ``evaluate(checkpoint_path)``. A signal ends it, and is left to the training.
    """
    from deep_reid.evaluation import setup

    def evaluate_checkpoint(checkpoint_path):
        with contextlib.suppress(signals.Stopped), signals.undeferred():
            evaluation.evaluate(checkpoint_path)

    weights = Weights(args, type(dataset), config, dataset)
    network, validation = nets.load_network(config.network), dataset.validation
    with setup.open_evaluation(
        network.preprocess,
        nets.create_inference_network(network),
        setup.ValidationImages(
            validation.filenames, validation.labels, validation.cameras, config.image_shape
        ),
        args.log_dir,
        args.eval_log_dir,
        run_id,
        setup.EvaluationSettings(**_list_settings(args, config, dataset, weights)),
    ) as (evaluation, _):
        yield evaluate_checkpoint


def _list_settings(args, config, dataset, weights):
    """List what `eval_loop` and `EvaluationSettings` both take."""
    return {
        "loss_mode": config.loss_mode,
        "num_galleries": dataset.NUM_GALLERIES,
        "projector": args.projector,
        "keep_best": args.keep_best,
        "patience": args.patience,
        "compute": ComputeSettings.of(config),
        "feed_timeout_secs": config.feed_timeout_secs,
        "prepare": weights.of,
        "facts": weights.facts,
        "names": Names(dataset.name_of, dataset.dataset_dir),
    }

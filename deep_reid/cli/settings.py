"""What a run's settings are: what is told, else what the run recorded, else the defaults."""

import dataclasses
import os
import secrets

from deep_reid.config.run import CONFIG_FILENAME, LOSS_MODES, NETWORKS, ComputeSettings, RunConfig
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.runs import folder

# What a run is; what is not told stays as it was recorded.
_KEPT = (
    "loss_mode",
    "network",
    "seed",
    "num_validation",
    "split_seed",
    "compact_labels",
    "exclude_from_restore",
    "trainable_scopes",
    "deterministic",
    "on_bad_image",
    "feed_timeout_secs",
)
# How it goes on; told each time.
_TOLD = (
    "batch_size",
    "learning_rate",
    "number_of_steps",
    "save_summaries_secs",
    "save_interval_secs",
    "max_checkpoints_to_keep",
    "log_every_n_steps",
    "num_enqueue_threads",
    "queue_capacity",
    "monitor_losses",
)
_COMPUTE = tuple(field.name for field in dataclasses.fields(ComputeSettings))


def settle(args, dataset_class, run_dir=None):
    """Settle what a run is: its network, loss, image shape, data and their split.

    Parameters
    ----------
    args : argparse.Namespace
        From `deep_reid.cli.program.create_argument_parser`; None is what was not told.
    dataset_class : type
        A data set as `datasets.base.ReidDataset` describes it; gives the defaults.
    run_dir : str or Path, optional
        The run's directory. Default, and where it holds no settings: there is no earlier run.

    Returns
    -------
    RunConfig

    Raises
    ------
    UsageError
        If a setting breaks its rule.
    DataError
        If the run's settings cannot be read.
    """
    recorded = _load(run_dir) or RunConfig(
        image_shape=dataset_class.IMAGE_SHAPE,
        loss_mode=LOSS_MODES[0],
        compact_labels=dataset_class.COMPACT_LABELS,
    )
    told = {name: getattr(args, name) for name in _KEPT if getattr(args, name, None) is not None}
    return dataclasses.replace(
        recorded,
        **{"network": recorded.network or NETWORKS[0], **told},
        image_shape=_settle_image_shape(args, recorded.image_shape),
        dataset=args.dataset_dir or recorded.dataset or dataset_class.DEFAULT_DIR,
    )


def settle_training(args, dataset_class):
    """Settle all settings of a training.

    Parameters
    ----------
    args, dataset_class
        As in `settle`.

    Returns
    -------
    RunConfig
        With a seed in any case: a seed of its own makes a run repeatable.

    Raises
    ------
    UsageError, DataError
        As in `settle`.
    """
    run_dir = None if args.run_id is None else os.path.join(args.log_dir, args.run_id)
    config = settle(args, dataset_class, run_dir)
    return dataclasses.replace(
        config,
        restore_path=args.restore_path or config.restore_path,
        seed=secrets.randbelow(2**31) if config.seed is None else config.seed,
        **{name: getattr(args, name) for name in (*_TOLD, *_COMPUTE)},
    )


def settle_computing(args):
    """Settle how a mode other than training computes: as it is told, whatever the run did.

    Parameters
    ----------
    args : argparse.Namespace

    Returns
    -------
    ComputeSettings
    """
    return ComputeSettings(**{name: getattr(args, name) for name in _COMPUTE})


def find_run_dir(args):
    """Return the directory of the run that is meant, if there is one.

    Parameters
    ----------
    args : argparse.Namespace

    Returns
    -------
    str or None
        That of the checkpoint ``--restore_path``, else that of ``--run_id``, else the latest run's.
    """
    if args.restore_path is not None:
        return _directory_of_checkpoint(args.restore_path)
    run_id = args.run_id or folder.find_latest_run(args.log_dir)
    run_dir = os.path.join(args.log_dir, run_id or "")
    return run_dir if run_id and os.path.isdir(run_dir) else None


def check_split(config, run_dir):
    """Check that identities for validation are those that a run kept from training.

    Parameters
    ----------
    config : RunConfig
        How data are split now.
    run_dir : str or Path

    Raises
    ------
    UsageError
        If the run's own data were split in another way.
    """
    if config.dataset is None or not is_dataset_of_run(run_dir, config.dataset):
        return
    recorded = _load(run_dir)
    for name in ("num_validation", "split_seed"):
        before, now = getattr(recorded, name), getattr(config, name)
        if before != now:
            raise UsageError(
                f"run {os.path.basename(run_dir)} was trained with {name} {before}, not {now}: "
                "scores of other identities, some of them trained on, do not compare. Leave "
                f"--{name} out"
            )


def is_dataset_of_run(run_dir, dataset_dir):
    """Tell whether a data set is the one that a run was trained on.

    Parameters
    ----------
    run_dir, dataset_dir : str or Path

    Returns
    -------
    bool
    """
    recorded = _load(run_dir)
    if recorded is None or recorded.dataset is None:
        return False
    return os.path.realpath(recorded.dataset) == os.path.realpath(dataset_dir)


def open_dataset(dataset_class, config, **kwargs):
    """Open the data set of a run.

    Parameters
    ----------
    dataset_class : type
    config : RunConfig
    **kwargs
        Handed to `dataset_class`.

    Returns
    -------
    datasets.base.ReidDataset

    Raises
    ------
    UsageError
        If it is not known where the data set is.
    MissingPathError, DataError
        If it is not there, or not in order.
    """
    if config.dataset is None:
        raise UsageError(
            f"--dataset is missing: name {dataset_class.TITLE}, as --dataset=DIR (--help says more)"
        )
    return dataset_class(config.dataset, config.num_validation, config.split_seed, **kwargs)


def _directory_of_checkpoint(path):
    if not os.path.isdir(path):
        return os.path.dirname(path) or "."
    is_log_dir = not os.path.exists(os.path.join(path, CONFIG_FILENAME))
    return os.path.join(path, (folder.find_latest_run(path) if is_log_dir else None) or "")


def _load(run_dir):
    try:
        return None if run_dir is None else RunConfig.load(run_dir)
    except MissingPathError:
        return None  # a new run, or one of another program


def _settle_image_shape(args, recorded_shape):
    height, width, num_channels = recorded_shape
    if args.image_shape is not None:
        height, width = args.image_shape
    if args.gray is not None:
        num_channels = 1 if args.gray else 3
    return (height, width, num_channels)

"""The settings of a run: command line, then ``config.json``, then ``--config``, then default."""

import dataclasses
import os
import secrets

from deep_reid.cli.arguments import defaults_of
from deep_reid.config import RunConfig
from deep_reid.config.run import CONFIG_FILENAME, NETWORKS
from deep_reid.config.setting import MACHINE
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.runs import folder

_OF_MACHINE = {
    field.name: field.default
    for field in dataclasses.fields(RunConfig)
    if field.metadata["setting"].belongs_to == MACHINE
}


def settle(args, dataset_class, run_dir=None):
    """Settle the settings of a run.

    Parameters
    ----------
    args : Command
        From `deep_reid.cli.arguments.ArgumentParser`.
    dataset_class : type
        A data set as `datasets.base.ReidDataset` describes it; gives defaults.
    run_dir : str or Path, optional
        The run's directory. Default, and where it holds no settings: there is no earlier run.

    Returns
    -------
    RunConfig

    Raises
    ------
    UsageError
        If a setting breaks its rule.
    MissingPathError, DataError
        If ``--config`` is missing, or a file of settings cannot be read.
    """
    base = _load(run_dir) or _read_defaults(args.config)
    if base is None:
        base = RunConfig(**defaults_of(dataset_class))
    given = dict(args.given)
    if "image_shape" in given or args.gray is not None:
        given["image_shape"] = _settle_image_shape(args, base.image_shape)
    known = {
        "network": base.network or NETWORKS[0],
        "dataset": base.dataset or dataset_class.DEFAULT_DIR,
    }
    return dataclasses.replace(base, **_OF_MACHINE | known | given)


def settle_training(args, dataset_class):
    """Settle the settings of a training.

    Parameters
    ----------
    args, dataset_class
        As in `settle`.

    Returns
    -------
    RunConfig
        Always with a seed: a run with a recorded seed can be repeated.

    Raises
    ------
    UsageError, MissingPathError, DataError
        As in `settle`.
    """
    run_dir = None if args.run_id is None else os.path.join(args.log_dir, args.run_id)
    config = settle(args, dataset_class, run_dir)
    if config.seed is None:
        config = dataclasses.replace(config, seed=secrets.randbelow(2**31))
    return config


def find_run_dir(args):
    """Return the directory of the run that is meant, if there is one.

    Parameters
    ----------
    args : Command

    Returns
    -------
    str or None
        That of the checkpoint, else that of ``--run_id``, else the latest run's.
    """
    if args.checkpoint is not None:
        return _directory_of_checkpoint(args.checkpoint)
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


def _read_defaults(path):
    if path is None:
        return None
    try:
        config = RunConfig.read(path)
    except FileNotFoundError as error:
        raise MissingPathError(
            f"--config {path} does not exist: name the {CONFIG_FILENAME} of a run"
        ) from error
    # These follow from the data and the network of that run.
    return dataclasses.replace(config, num_classes=None, image_source=None)


def _settle_image_shape(args, recorded_shape):
    height, width, num_channels = recorded_shape
    height, width = args.given.get("image_shape", (height, width))
    if args.gray is not None:
        num_channels = 1 if args.gray else 3
    return (height, width, num_channels)

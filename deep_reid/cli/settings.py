"""The settings of a run: command line, then ``config.json``, then ``--config``, then default."""

import dataclasses
import logging
import os
import secrets
from typing import Any

from deep_reid.cli.arguments import defaults_of, settings_of
from deep_reid.cli.command import Command
from deep_reid.config import RunConfig, recipes
from deep_reid.config.run import CONFIG_FILENAME, NETWORKS
from deep_reid.config.setting import MACHINE, list_settings
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.interfaces import Dataset
from deep_reid.runs import folder
from deep_reid.system.files import Path

_logger = logging.getLogger(__name__)

_OF_MACHINE = {
    name: setting.default
    for name, setting in list_settings(RunConfig).items()
    if setting.belongs_to == MACHINE
}

_OF_DATASET = {
    name: setting.default
    for name, setting in list_settings(RunConfig).items()
    if setting.of_dataset
}


def settle(args: Command, dataset_class: type[Dataset], run_dir: Path | None = None) -> RunConfig:
    """Settle the settings of a run.

    Parameters
    ----------
    args : Command
        From `deep_reid.cli.arguments.ArgumentParser`.
    dataset_class : type
        A data set as `datasets.base.ReidDataset` describes it; gives defaults.
    run_dir : str or Path, optional
        The run's directory. Without it, or if it holds no settings, there is no earlier run.

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
    size = args.given.get("image_shape", base.image_shape[:2])
    num_channels = base.image_shape[2] if args.gray is None else 1 if args.gray else 3
    settings = {
        **_OF_MACHINE,
        "network": base.network or NETWORKS[0],
        "dataset": base.dataset or dataset_class.DEFAULT_DIR,
        # How to read a data set is no matter of another one.
        **(_OF_DATASET if _is_other_dataset(args.given, base) else {}),
        **_settings_of_recipe(args, base, dataset_class),
        **args.given,
        "image_shape": (*size, num_channels),
    }
    return dataclasses.replace(base, **settings)


def settle_training(args: Command, dataset_class: type[Dataset]) -> RunConfig:
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


def find_run_dir(args: Command) -> str | None:
    """Find the directory of the run that the command line names.

    Parameters
    ----------
    args : Command

    Returns
    -------
    str or None
        That of the checkpoint, then of ``--run_id``, then of the latest run. None: there is none.

    Raises
    ------
    MissingPathError
        If there is no run of the name in ``--run_id``. Evaluation waits for the first run.
    """
    log_dir, run_id = args.log_dir, None
    if args.run_id is not None or args.checkpoint is None:
        log_dir, run_id = folder.locate_run(args.log_dir, args.run_id)
    if run_id is not None:
        folder.check_exists(log_dir, run_id, may_begin=args.mode == "eval")
    if args.checkpoint is not None:
        return _directory_of_checkpoint(args.checkpoint)
    run_id = run_id or folder.find_latest_run(log_dir)
    run_dir = os.path.join(log_dir, run_id or "")
    return run_dir if run_id and os.path.isdir(run_dir) else None


def check_split(config: RunConfig, run_dir: Path) -> None:
    """Check that the identities for validation are those that a run was not trained on.

    Parameters
    ----------
    config : RunConfig
        How the data are split now.
    run_dir : str or Path

    Raises
    ------
    UsageError
        If the run's own data were split in another way.
    """
    if config.dataset is None or not is_dataset_of_run(run_dir, config.dataset):
        return
    recorded = RunConfig.load(run_dir)
    for name in ("num_validation", "split_seed", *_OF_DATASET):
        before, now = getattr(recorded, name), getattr(config, name)
        if before != now:
            raise UsageError(
                f"run {os.path.basename(run_dir)} was trained with {name} {before}, not {now}: "
                "scores of other identities, some of them trained on, do not compare. Leave "
                f"--{name} out"
            )


def is_dataset_of_run(run_dir: Path, dataset_dir: Path) -> bool:
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


def open_dataset(dataset_class: type[Dataset], config: RunConfig, **kwargs: Any) -> Dataset:
    """Open the data set of a run.

    Parameters
    ----------
    dataset_class : type
    config : RunConfig
    **kwargs
        Further arguments of `dataset_class`.

    Returns
    -------
    datasets.base.ReidDataset

    Raises
    ------
    UsageError
        If neither the command line nor the run names the data set's folder.
    MissingPathError, DataError
        If the data set is missing, or not in order.
    """
    if config.dataset is None:
        raise UsageError(
            f"--dataset is missing: name {dataset_class.TITLE}, as --dataset=DIR (--help says more)"
        )
    kwargs |= {name: getattr(config, name) for name in settings_of(dataset_class)}
    return dataset_class(config.dataset, config.num_validation, config.split_seed, **kwargs)


def _settings_of_recipe(args, base, dataset_class):
    if args.recipe is None:
        return {}
    settings = recipes.settings_of(
        args.recipe,
        RunConfig(**defaults_of(dataset_class)),
        args.given.get("loss_mode", base.loss_mode),
    )
    by_hand = [name for name in settings if name in args.given]
    _logger.info(
        "Recipe %s: %s%s",
        args.recipe,
        recipes.list_values(
            {name: value for name, value in settings.items() if name not in by_hand}
        ),
        f"; given by hand: {', '.join(by_hand)}" if by_hand else "",
    )
    return settings


def _is_other_dataset(given, base):
    other = given.get("dataset")
    if other is None or base.dataset is None:
        return False
    return os.path.realpath(other) != os.path.realpath(base.dataset)


def _directory_of_checkpoint(path):
    if not os.path.isdir(path):
        return os.path.dirname(path) or "."
    is_log_dir = not os.path.exists(os.path.join(path, CONFIG_FILENAME))
    return os.path.join(path, (folder.find_latest_run(path) if is_log_dir else None) or "")


def _load(run_dir):
    try:
        return None if run_dir is None else RunConfig.load(run_dir)
    except MissingPathError:
        return None  # a new run, or another program's


def _read_defaults(path):
    if path is None:
        return None
    way_out = f"name the {CONFIG_FILENAME} of a run"
    try:
        config = RunConfig.read(path, otherwise=way_out)
    except FileNotFoundError as error:
        raise MissingPathError(f"--config {path} does not exist: {way_out}") from error
    # They depend on the data and the network of that run.
    return dataclasses.replace(config, num_classes=None, image_source=None)

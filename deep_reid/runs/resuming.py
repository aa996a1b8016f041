"""What a run cannot change when it goes on; free of TensorFlow."""

import os
from collections.abc import Sequence

from deep_reid.config import RunConfig
from deep_reid.config.setting import MACHINE, list_settings
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.runs import labels
from deep_reid.system.files import Path

_NAMES = tuple(list_settings(RunConfig))
# A run that starts from weights of another one has its own data, length, seed and intervals.
_OF_ONE_RUN = frozenset(
    name for name, facts in list_settings(RunConfig).items() if facts.of_dataset
) | {
    "dataset", "num_validation", "split_seed", "num_classes", "image_source", "compact_labels",
    "on_bad_image", "max_bad_percent", "restore_path", "exclude_from_restore", "seed",
    "deterministic", "number_of_steps", "save_summaries_secs", "save_interval_secs",
    "max_checkpoints_to_keep", "log_every_n_steps", "feed_timeout_secs",
}  # fmt: skip


def compare(
    run_dir: Path, config: RunConfig, class_names: Sequence[str] | None = None
) -> list[str]:
    """Compare the settings and identities of a run with those that an earlier part recorded.

    Parameters
    ----------
    run_dir : str or Path
        A folder that is missing, or has no settings, is a new run.
    config : RunConfig
    class_names : sequence of str, optional
        The identity of each class. Default: they are not compared.

    Returns
    -------
    list of str
        What is different, and may be.

    Raises
    ------
    UsageError
        If an earlier part of the run had another network, class count, image shape or loss.
    DataError
        If it had other identities.
    """
    if class_names is not None:
        labels.check_same(run_dir, class_names)
    try:
        earlier = RunConfig.load(run_dir)
    except MissingPathError:
        return []  # the run is new or of another program, or was stopped before it began
    changes = _find_changes(earlier, config)
    for name, (before, now) in changes.items():
        if list_settings(RunConfig)[name].is_fixed and before is not None:
            raise UsageError(
                f"run {os.path.basename(run_dir)} has {name} {before}, not {now}: use its own, or "
                "start a new run with another run_id"
            )
    return _describe(changes)


def compare_with_source(checkpoint_path: str, config: RunConfig) -> list[str]:
    """Compare the settings of a new run with those of the run whose weights it starts from.

    Parameters
    ----------
    checkpoint_path : str
        The prefix of the checkpoint that the new run starts from.
    config : RunConfig

    Returns
    -------
    list of str
        What is different, without what belongs to the machine, to the data or to one run alone.
        Empty if the checkpoint is of no run.
    """
    try:
        earlier = RunConfig.load(os.path.dirname(checkpoint_path) or ".")
    except DataError:  # missing or damaged: the weights alone can be used
        return []
    changes = _find_changes(earlier, config)
    facts = list_settings(RunConfig)
    for name, (before, _) in list(changes.items()):
        is_unknown = facts[name].is_fixed and before is None
        if facts[name].belongs_to == MACHINE or name in _OF_ONE_RUN or is_unknown:
            del changes[name]
    return _describe(changes)


def _find_changes(earlier, config):
    """Return the values before and now of each setting that is different."""
    pairs = {name: (getattr(earlier, name), getattr(config, name)) for name in _NAMES}
    return {name: (before, now) for name, (before, now) in pairs.items() if before != now}


def _describe(changes):
    return [f"{name} {now} (was {before})" for name, (before, now) in changes.items()]

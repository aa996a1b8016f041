"""What a run cannot change when it goes on; free of TensorFlow."""

import os
from collections.abc import Sequence

from deep_reid.config import RunConfig
from deep_reid.config.setting import list_settings
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.runs import labels
from deep_reid.system.files import Path


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
    changes = []
    for name, facts in list_settings(RunConfig).items():
        before, now = getattr(earlier, name), getattr(config, name)
        if before == now:
            continue
        if facts.is_fixed and before is not None:
            raise UsageError(
                f"run {os.path.basename(run_dir)} has {name} {before}, not {now}: use its own, or "
                "start a new run with another run_id"
            )
        changes.append(f"{name} {now} (was {before})")
    return changes

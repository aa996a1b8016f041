"""Where a run continues: at its newest checkpoint that can be read."""

import contextlib
import logging
import os

from deep_reid.errors import DataError
from deep_reid.runs import checkpoints, folder, records
from deep_reid.system.files import Path
from deep_reid.system.tables import list_some

_logger = logging.getLogger(__name__)


def find_own_checkpoint(run_dir: Path) -> tuple[str | None, int]:
    """Find the newest checkpoint of a run that can be read, and its step.

    A damaged checkpoint, for example after a power cut, is skipped with a warning.

    Parameters
    ----------
    run_dir : str or Path

    Returns
    -------
    checkpoint : str or None
        Its prefix; None for a run that has none yet.
    step : int
        Its training step; 0 for a run that has none yet.

    Raises
    ------
    DataError
        If all checkpoints are damaged, and one of them is of a later step than 0.
    """
    readable, step = _list_up_to_readable(run_dir)
    return (readable[-1] if readable else None), step


def recover_own_checkpoint(run_dir: Path) -> tuple[str | None, int]:
    """Find the newest checkpoint of a run that can be read, and record it as the run's latest.

    TensorFlow restores the latest that is recorded. The caller must hold the run's lock.

    Parameters
    ----------
    run_dir : str or Path

    Returns
    -------
    checkpoint, step
        As `find_own_checkpoint` returns them, and with the same errors.
    """
    readable, step = _list_up_to_readable(run_dir)
    if not readable:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(run_dir, folder.STATE_FILENAME))
        return None, 0
    if not records.is_recorded(run_dir, readable):
        records.write_state(run_dir, readable)
    return readable[-1], step


def _list_up_to_readable(run_dir):
    """List a run's checkpoints up to the newest one that can be read; return its step, too."""
    recorded = records.read_state(run_dir)
    if not recorded:
        unrecorded = records.list_unrecorded(run_dir)
        if unrecorded:
            _logger.warning(
                "%s does not record its checkpoints: taking the newest by its step", run_dir
            )
        elif recorded is not None:
            raise DataError(
                f"{run_dir} records only checkpoints in other folders: copy their files into this "
                "one, or start a new run with another run_id"
            )
        recorded = unrecorded
    damaged = []
    while recorded:
        try:
            return recorded, checkpoints.check_readable(recorded[-1])
        except DataError as error:
            checkpoints.warn_of_damage(recorded[-1], error)
            damaged.append(recorded.pop())
    if any(records.step_in_name(prefix) for prefix in damaged):
        names = [os.path.basename(prefix) for prefix in damaged]
        raise DataError(
            f"all checkpoints in {run_dir} are damaged or gone ({list_some(names)}): restore one "
            "from a copy, or start a new run with another run_id"
        )
    return [], 0

"""Runs in a log directory: their names, and which one is the latest; free of TensorFlow."""

import contextlib
import logging
import os
import pathlib
import time

from deep_reid.config.run import CONFIG_FILENAME
from deep_reid.errors import MissingPathError
from deep_reid.system import files
from deep_reid.system.tables import list_some

LATEST_RUN_FILENAME = "latest_run"
# The copy of a run's best checkpoint: a folder in the run's directory, with its scores.
BEST_DIRNAME = "best"
SCORE_FILENAME = "score.json"

_logger = logging.getLogger(__name__)


def record_latest_run(log_dir, run_id):
    """Record a run as the latest of its log directory.

    Parameters
    ----------
    log_dir : str or Path
    run_id : str or None
        None: nothing is recorded any longer.
    """
    path = os.path.join(log_dir, LATEST_RUN_FILENAME)
    if run_id is None:
        os.unlink(path)
    else:
        files.write_text(path, run_id + "\n")


def is_plain_name(run_id):
    """Tell whether a run may have this name: that of a folder, without a path.

    Parameters
    ----------
    run_id : str

    Returns
    -------
    bool
    """
    return run_id not in ("", "..", LATEST_RUN_FILENAME) and pathlib.PurePath(run_id).name == run_id


def find_recorded_run(log_dir):
    """Return the name that a log directory records as its latest run.

    Parameters
    ----------
    log_dir : str or Path

    Returns
    -------
    str or None
        None where nothing is recorded, or its directory is gone.
    """
    log_dir = pathlib.Path(log_dir)
    try:
        run_id = (log_dir / LATEST_RUN_FILENAME).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
    return run_id if is_plain_name(run_id) and (log_dir / run_id).is_dir() else None


def find_latest_run(log_dir):
    """Return the name of the run that was started last in a log directory.

    Parameters
    ----------
    log_dir : str or Path

    Returns
    -------
    str or None
        None where there is no run yet. Runs of other programs, which record nothing, are found by
        the age of their checkpoints.
    """
    recorded_run = find_recorded_run(log_dir)
    if recorded_run is not None:
        return recorded_run
    log_dir = pathlib.Path(log_dir)
    runs = {}
    for path in log_dir.glob("*/checkpoint"):
        # Within a run, the copy of its best checkpoint is no run.
        is_copy = path.parent.name.startswith(".") or path.with_name(SCORE_FILENAME).exists()
        if not is_copy:
            with contextlib.suppress(FileNotFoundError):  # it was removed just now
                runs[path.parent.name] = path.stat().st_mtime
    return max(runs, key=runs.get) if runs else None


def wait_for_run(log_dir, run_id=None, interval_secs=1, timeout_secs=None):
    """Wait until a run has begun, with its settings or a checkpoint in its directory.

    Parameters
    ----------
    log_dir : str or Path
    run_id : str, optional
        Default: the latest run.
    interval_secs : float
        Seconds between two looks.
    timeout_secs : float, optional
        Default: no limit.

    Returns
    -------
    str
        The run's name.

    Raises
    ------
    MissingPathError
        If there is no run after `timeout_secs`.
    """
    started_at = time.monotonic()
    is_announced = False
    while (found := _find_begun_run(log_dir, run_id)) is None:
        wanted = "run" if run_id is None else f"run {run_id}"
        if timeout_secs is not None and time.monotonic() - started_at >= timeout_secs:
            raise MissingPathError(
                f"{log_dir} has no {wanted} after {timeout_secs:g} s: start one with --mode=train"
            )
        if not is_announced:
            others = sorted(
                path.parent.name for path in pathlib.Path(log_dir).glob(f"*/{CONFIG_FILENAME}")
            )
            has = f", which has {list_some(others)}" if run_id is not None and others else ""
            _logger.info("Waiting for a %s in %s%s", wanted, log_dir, has)
            is_announced = True
        time.sleep(interval_secs)
    return found


def _find_begun_run(log_dir, run_id):
    if run_id is None:
        return find_latest_run(log_dir)
    has_begun = any(
        os.path.exists(os.path.join(log_dir, run_id, name))
        for name in (CONFIG_FILENAME, "checkpoint")
    )
    return run_id if has_begun else None

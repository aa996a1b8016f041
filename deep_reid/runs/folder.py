"""Runs: their names, their directories, and which one is the latest; free of TensorFlow."""

import contextlib
import dataclasses
import datetime
import itertools
import logging
import os
import pathlib
import shutil
import time

from deep_reid.config import RunConfig
from deep_reid.config.run import CONFIG_FILENAME
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.runs import labels
from deep_reid.system import files, locks
from deep_reid.system.tables import list_some

LATEST_RUN_FILENAME = "latest_run"
# The copy of a run's best checkpoint: a folder in the run's directory, with its scores.
BEST_DIRNAME = "best"
SCORE_FILENAME = "score.json"

# What decides on the variables of a checkpoint and on what they mean.
_FIXED_SETTINGS = ("network", "image_shape", "loss_mode", "num_classes", "trainable_scopes")

_logger = logging.getLogger(__name__)


def start_run(log_dir, run_id=None):
    """Make the directory of a run, and record the run as the latest of its log directory.

    Parameters
    ----------
    log_dir : str or Path
    run_id : str, optional
        Name of the run. Default: a new one, from date and time.

    Returns
    -------
    str
        The run's name; its directory is ``log_dir/run_id``.

    Raises
    ------
    UsageError
        If `run_id` is no plain folder name.
    """
    run_id = _make_run_dir(log_dir, run_id)
    files.write_text(os.path.join(log_dir, LATEST_RUN_FILENAME), run_id + "\n")
    return run_id


@contextlib.contextmanager
def lock_run(log_dir, run_id=None):
    """Keep other trainings out of a run, and its directory, until the block ends.

    The directory is made, and removed again if nothing is in it at the end. What holds the lock
    may lock the run once more, from the same thread. The system releases the lock when the process
    ends, however it does.

    Parameters
    ----------
    log_dir, run_id
        As in `start_run`.

    Yields
    ------
    str
        The run's name.

    Raises
    ------
    UsageError
        If `run_id` is no plain folder name.
    RunError
        If the run is being trained by another process; the message names it.
    """
    is_first = not os.path.exists(log_dir)
    run_id = _make_run_dir(log_dir, run_id)
    run_dir = os.path.join(log_dir, run_id)
    with locks.holding(run_dir, f"run {run_id}"):
        try:
            yield run_id
        finally:
            if locks.is_unused(run_dir):
                shutil.rmtree(run_dir, ignore_errors=True)
            if is_first:
                with contextlib.suppress(OSError):  # it holds a run
                    os.rmdir(log_dir)


@contextlib.contextmanager
def open_run(log_dir, config, run_id=None, class_names=None):
    """Start a run with its settings; undo that when its data or settings turn out to be wrong.

    A run that is stopped by a UsageError or DataError before it has learned anything (no checkpoint
    beyond step 0) leaves nothing behind, and the run before it is the latest again. What else may
    stop it, a full disk or numbers that are not finite, leaves its checkpoint and its curves.

    Parameters
    ----------
    config : RunConfig
        Saved in the run's directory.
    log_dir, run_id
        As in `start_run`.
    class_names : sequence of str, optional
        The identity of each class; saved in the run's directory, too.

    Yields
    ------
    str
        The run's name.

    Raises
    ------
    UsageError
        If an earlier part of the run had another network, class count, image shape or loss.
    DataError
        If it had other identities.
    RunError
        If the run is being trained by another process.
    """
    latest_run = find_latest_run(log_dir)
    with contextlib.ExitStack() as stack:
        run_id = stack.enter_context(lock_run(log_dir, run_id))
        run_dir = os.path.join(log_dir, run_id)
        is_new = locks.is_unused(run_dir)
        if not is_new:
            if class_names is not None:
                labels.check_same(run_dir, class_names)
            _compare_settings(run_dir, config)
        # Whoever waits for a run finds its settings: they come before its name is recorded.
        if class_names is not None:
            labels.save(run_dir, class_names)
        config.save(run_dir)
        start_run(log_dir, run_id)
        try:
            yield run_id
        except (UsageError, DataError):
            if is_new and not _has_learned(run_dir):
                _remove_run(log_dir, run_id, latest_run)
            raise


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
    return run_id if _is_plain_name(run_id) and (log_dir / run_id).is_dir() else None


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


def _compare_settings(run_dir, config):
    try:
        earlier = RunConfig.load(run_dir)
    except MissingPathError:
        return  # of another program, or stopped before it began
    for name in _FIXED_SETTINGS:
        before, now = getattr(earlier, name), getattr(config, name)
        if before != now and before is not None:
            raise UsageError(
                f"run {os.path.basename(run_dir)} has {name} {before}, not {now}: use its own, or "
                "start a new run with another run_id"
            )
    for field in dataclasses.fields(config):
        before, now = getattr(earlier, field.name), getattr(config, field.name)
        if before != now:
            _logger.info("%s is %s now; it was %s", field.name, now, before)


def _make_run_dir(log_dir, run_id):
    if run_id is None:
        return _make_new_run_dir(log_dir)
    if not _is_plain_name(run_id):
        raise UsageError(f"run_id ({run_id!r}) must be a plain folder name, such as 'baseline'")
    os.makedirs(os.path.join(log_dir, run_id), exist_ok=True)
    return run_id


def _is_plain_name(run_id):
    return run_id not in ("", "..", LATEST_RUN_FILENAME) and pathlib.PurePath(run_id).name == run_id


def _make_new_run_dir(log_dir):
    os.makedirs(log_dir, exist_ok=True)
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    candidates = itertools.chain([now], (f"{now}-{number}" for number in itertools.count(2)))
    return next(name for name in candidates if _make_dir(os.path.join(log_dir, name)))


def _make_dir(path):
    # Two processes that begin in the same second get two runs.
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        return True
    return False


def _remove_run(log_dir, run_id, previous_run):
    is_latest = find_recorded_run(log_dir) == run_id
    shutil.rmtree(os.path.join(log_dir, run_id))
    if is_latest:
        _forget_latest_run(log_dir, previous_run)


def _forget_latest_run(log_dir, previous_run):
    path = os.path.join(log_dir, LATEST_RUN_FILENAME)
    if previous_run is None:
        os.unlink(path)
    else:
        files.write_text(path, previous_run + "\n")


def _has_learned(run_dir):
    names = [path.stem for path in pathlib.Path(run_dir).glob("*.index")]
    return any(not name.endswith("-0") for name in names)

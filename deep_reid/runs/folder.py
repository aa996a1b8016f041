"""Runs in a log directory: their names, and which of them is the latest; free of TensorFlow."""

import contextlib
import logging
import os
import pathlib
import time

from deep_reid.config.run import CONFIG_FILENAME
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.system import files
from deep_reid.system.files import Path
from deep_reid.system.spelling import find_similar
from deep_reid.system.tables import list_some

LATEST_RUN_FILENAME = "latest_run"
# In a folder with checkpoints: their record.
STATE_FILENAME = "checkpoint"
# The folder in a run's directory that has a copy of its best checkpoint, with its scores.
BEST_DIRNAME = "best"
SCORE_FILENAME = "score.json"

_logger = logging.getLogger(__name__)


def record_latest_run(log_dir: Path, run_id: str | None) -> None:
    """Record a run as the latest of its log directory.

    Parameters
    ----------
    log_dir : str or Path
    run_id : str or None
        None: the record is removed.
    """
    path = os.path.join(log_dir, LATEST_RUN_FILENAME)
    if run_id is None:
        os.unlink(path)
        return
    # After a kill, the temporary file is in the run's folder: the holder of its lock removes it.
    files.write_text(path, run_id + "\n", folder=os.path.join(log_dir, run_id))


def is_plain_name(run_id: str) -> bool:
    """Return whether a run may have this name: the name of a folder, without a path.

    Parameters
    ----------
    run_id : str

    Returns
    -------
    bool
    """
    return run_id not in ("", "..", LATEST_RUN_FILENAME) and pathlib.PurePath(run_id).name == run_id


def check_name(run_id: str) -> None:
    """Check the name of a run.

    Parameters
    ----------
    run_id : str

    Raises
    ------
    UsageError
        If it is not a plain folder name.
    """
    if not is_plain_name(run_id):
        raise UsageError(
            f"run_id ({run_id!r}) must be a plain folder name, such as 'baseline': name the "
            "folder's parent with log_dir"
        )


def find_recorded_run(log_dir: Path) -> str | None:
    """Return the name that a log directory records as its latest run.

    Parameters
    ----------
    log_dir : str or Path

    Returns
    -------
    str or None
        None where nothing is recorded, or the run's directory is gone.
    """
    log_dir = pathlib.Path(log_dir)
    try:
        run_id = files.read_text(log_dir / LATEST_RUN_FILENAME).strip()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
    return run_id if is_plain_name(run_id) and (log_dir / run_id).is_dir() else None


def find_latest_run(log_dir: Path) -> str | None:
    """Return the name of the run that was started last in a log directory.

    Parameters
    ----------
    log_dir : str or Path

    Returns
    -------
    str or None
        None where there is no run yet. Where no run is recorded, as other programs don't, the one
        with the newest checkpoint.
    """
    recorded_run = find_recorded_run(log_dir)
    if recorded_run is not None:
        return recorded_run
    runs = []
    for path in pathlib.Path(log_dir).glob(f"*/{STATE_FILENAME}"):
        # Within a run, the folder with a copy of its best checkpoint is no run.
        is_copy = path.parent.name.startswith(".") or path.with_name(SCORE_FILENAME).exists()
        if not is_copy:
            with contextlib.suppress(FileNotFoundError):  # it was removed just now
                runs.append((path.stat().st_mtime, path.parent.name))
    return max(runs)[1] if runs else None


def list_runs(log_dir: str | os.PathLike[str]) -> list[str]:
    """List the runs of a log directory: folders with settings or a record of checkpoints.

    Parameters
    ----------
    log_dir : str or Path

    Returns
    -------
    list of str
        Names, in alphabetical order.
    """
    found = {
        path.parent.name
        for name in (CONFIG_FILENAME, STATE_FILENAME)
        for path in pathlib.Path(log_dir).glob(f"*/{name}")
    }
    return sorted(name for name in found if not name.startswith("."))


def name_runs(log_dir: Path, wanted: str) -> str:
    """Name the runs of a log directory, where there is none of the name that is wanted.

    Parameters
    ----------
    log_dir : str or Path
    wanted : str

    Returns
    -------
    str
        Such as ``"baseline, wide: did you mean baseline?"``; empty if there are no runs.
    """
    names = list_runs(log_dir)
    similar = find_similar(wanted, names)
    question = f": did you mean {similar}?" if similar else ""
    return f"{list_some(names)}{question}" if names else ""


def check_exists(log_dir: Path, run_id: str, *, may_begin: bool = False) -> None:
    """Check that a log directory has a run of this name.

    Parameters
    ----------
    log_dir : str or Path
    run_id : str
    may_begin : bool
        Whether the run may begin later. If there are others, its name is wrong in any case.

    Raises
    ------
    MissingPathError
        If it has not; the message names the others.
    """
    if os.path.isdir(os.path.join(log_dir, run_id)):
        return
    others = name_runs(log_dir, run_id)
    if others:
        raise MissingPathError(
            f"{log_dir} has no run {run_id}, but {others}"
            f"{' Name' if others.endswith('?') else '; name'} one of them, or start its training "
            "first (--mode=train)"
        )
    if not may_begin:
        raise MissingPathError(
            f"{log_dir} has no run {run_id}: start its training first (--mode=train), or name the "
            "directory of its runs with --log_dir"
        )


def wait_for_run(
    log_dir: Path,
    run_id: str | None = None,
    interval_secs: float = 1,
    timeout_secs: float | None = None,
) -> str:
    """Wait until a run has begun: its directory has its settings or a checkpoint.

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
        If there is no run after `timeout_secs`, or none of this name while there are others.
    """
    started_at = time.monotonic()
    is_announced = False
    while (found := _find_begun_run(log_dir, run_id)) is None:
        wanted = "run" if run_id is None else f"run {run_id}"
        if timeout_secs is not None and time.monotonic() - started_at >= timeout_secs:
            raise MissingPathError(
                f"{log_dir} has no {wanted} after {timeout_secs:g} s: start one with --mode=train"
            )
        if run_id is not None:
            check_exists(log_dir, run_id, may_begin=True)
        if not is_announced:
            near = _list_near(log_dir)
            _logger.info(
                "Waiting for a %s in %s: start it with --mode=train%s",
                wanted,
                log_dir,
                f", or name --log_dir: there are runs in {list_some(near)}" if near else "",
            )
            is_announced = True
        time.sleep(interval_secs)
    return found


def locate_run(log_dir: Path, run_id: str | None = None) -> tuple[str, str | None]:
    """Return the log directory and the run that two settings mean; a run's own folder is one, too.

    Parameters
    ----------
    log_dir : str or Path
        The directory of runs, or the folder of a run.
    run_id : str, optional

    Returns
    -------
    log_dir : str
    run_id : str or None
        None: none is named.

    Raises
    ------
    UsageError
        If `run_id` is no plain name, or `log_dir` is another run, a file or a missing path in a
        run's folder, such as a checkpoint, or another file.
    """
    log_dir = os.fspath(log_dir)
    parent, name = os.path.split(os.path.abspath(log_dir))
    if run_id is not None:
        check_name(run_id)
    if not os.path.isdir(log_dir):
        # Also a checkpoint that was deleted: no run will begin within a run.
        if _has_begun(parent) or (os.path.isdir(parent) and _list_namesakes(parent, name)):
            raise UsageError(
                f"{log_dir} is no directory of runs: --log_dir={parent} names the run that it "
                "belongs to"
            )
        if os.path.exists(os.path.join(parent, name)) or os.path.isfile(parent):
            raise UsageError(
                f"{log_dir} is a file or in one, no directory of runs: name a directory"
            )
        return log_dir, run_id
    if not _has_begun(log_dir):
        return log_dir, run_id
    if run_id not in (None, name):
        raise UsageError(
            f"{log_dir} is itself a run, {name}, and has no run {run_id}: name its parent with "
            f"--log_dir={parent}"
        )
    return parent, name


def _list_near(log_dir):
    """List the directories of runs in, above and beside a path: one of them may be meant."""
    path = pathlib.Path(log_dir)
    near = [*path.glob("*/"), path.parent, *path.parent.glob("*/")]
    return sorted(str(each) for each in near if each != path and list_runs(each))


def _list_namesakes(folder, name):
    """List the files in a folder that a checkpoint of this name has."""
    starts = (f"{name}.index", f"{name}.data-")
    return [other for other in os.listdir(folder) if other.startswith(starts)]


def _has_begun(run_dir):
    names = (CONFIG_FILENAME, STATE_FILENAME)
    return any(os.path.exists(os.path.join(run_dir, name)) for name in names)


def _find_begun_run(log_dir, run_id):
    if run_id is None:
        return find_latest_run(log_dir)
    return run_id if _has_begun(os.path.join(log_dir, run_id)) else None

"""Locks on folders: one process at a time; the system releases them, however a process ends."""

import contextlib
import datetime
import json
import logging
import os
import pathlib
import shutil
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from deep_reid.errors import RunError
from deep_reid.system import files
from deep_reid.system.files import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Use(NamedTuple):
    """The use of a folder; each use has its own lock.

    Parameters
    ----------
    verb, participle : str
        Such as "train", "trained".
    filename : str
        Of the lock, within the folder.
    way_out : str
        What to do, beside stopping the other process, if that holds the lock.
    """

    verb: str
    participle: str
    filename: str
    way_out: str


TRAINING = Use("train", "trained", "lock", "use another run_id")
EVALUATION = Use("evaluate", "evaluated", "evaluation.lock", "use another eval_log_dir")
BEST = Use("evaluate", "evaluated with keep_best", "best.lock", "leave keep_best out")
FILENAMES = {use.filename for use in (TRAINING, EVALUATION, BEST)}

_logger = logging.getLogger(__name__)
_NUM_TRIES = 3
_PAUSE_SECS = 0.02
_held: set[int] = set()  # file descriptors


@contextlib.contextmanager
def holding(
    folder: Path, name: str, use: Use = TRAINING, *, is_new: bool = False
) -> Iterator[bool]:
    """Hold the lock on a folder until the block ends.

    If the system or the file system has no locks, log a warning and run the block without.

    Parameters
    ----------
    folder : str or Path
        Made if it is missing, with its parents. At the end, these are removed again if they hold
        nothing but the lock.
    name : str
        The folder's name in messages, such as "run baseline".
    use : Use
    is_new : bool
        Whether the folder must be missing.

    Yields
    ------
    bool
        Whether it is locked: False where there are no locks.

    Raises
    ------
    FileExistsError
        If the folder must be missing, but exists.
    RunError
        If another process or this one holds the lock; the message names the process.
    """
    missing = _list_missing(folder)
    if missing or is_new:
        os.makedirs(folder, exist_ok=not is_new)
    descriptor = _lock(os.path.join(folder, use.filename), name, use)
    try:
        yield descriptor is not None
    finally:
        if missing:
            _remove_unused(missing, use)
        if descriptor in _held:  # a forked process has closed it already
            _held.remove(descriptor)
            os.close(descriptor)


def is_held(folder: Path, use: Use = TRAINING) -> bool:
    """Tell whether a process holds the lock on a folder.

    Parameters
    ----------
    folder : str or Path
    use : Use

    Returns
    -------
    bool
        True also where the system or the file system has no locks: nobody knows then.
    """
    return _find_owner(folder, use) != ""


def check_free(folder: Path, name: str, use: Use = TRAINING) -> None:
    """Check that no process holds the lock on a folder; change nothing.

    Parameters
    ----------
    folder, name, use
        As in `holding`.

    Raises
    ------
    RunError
        If one holds it; the message names the process.
    """
    owner = _find_owner(folder, use)
    if owner:
        raise _is_busy(owner, name, use)


def is_unused(folder: Path, filenames: set[str] = FILENAMES) -> bool:
    """Tell whether a folder holds nothing but locks.

    Parameters
    ----------
    folder : str or Path
    filenames : set of str
        Of the locks.

    Returns
    -------
    bool
        False also for a folder that does not exist.
    """
    return os.path.isdir(folder) and set(os.listdir(folder)) <= filenames


def remove_if_unused(folder: Path, use: Use = TRAINING) -> None:
    """Remove a folder if nothing but the lock of a use is in it.

    Parameters
    ----------
    folder : str or Path
    use : Use
        The caller must hold its lock.
    """
    if is_unused(folder, {use.filename}):
        shutil.rmtree(folder, ignore_errors=True)


def _lock(path, name, use):
    """Return the descriptor of the locked file; None if there are no locks."""
    if fcntl is None:
        _logger.warning("This system has no locks: do not %s %s twice at a time", use.verb, name)
        return None
    while True:
        try:
            descriptor = files.open_own(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # the process that held the lock has just removed the folder
            os.makedirs(os.path.dirname(path), exist_ok=True)
            continue
        try:
            _lock_file(descriptor)
            if _is_file(descriptor, path):
                _write_owner(descriptor)
                _held.add(descriptor)
                return descriptor
        except BlockingIOError as error:
            owner = _read_owner(descriptor)
            os.close(descriptor)
            raise _is_busy(owner, name, use) from error
        except OSError as error:
            os.close(descriptor)
            _logger.warning(
                "%s cannot be locked (%s): do not %s %s twice at a time",
                path,
                error.strerror,
                use.verb,
                name,
            )
            return None
        # The process that held the lock has removed this file with its folder: try the next one.
        os.close(descriptor)


def _find_owner(folder, use):
    """Return the process that holds a lock: "" if none does, None where there are no locks."""
    if fcntl is None:
        return None
    path = os.path.join(folder, use.filename)
    if not os.path.isfile(path):  # `holding` refuses what is no regular file
        return ""
    try:
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read_owner(file.fileno())
            except OSError:
                return None  # the file system has no locks: `holding` warns of it
    except (FileNotFoundError, NotADirectoryError):
        pass
    return ""


def _is_busy(owner, name, use):
    return RunError(f"{name} is being {use.participle} by {owner}: stop it, or {use.way_out}")


def _lock_file(descriptor):
    for _ in range(_NUM_TRIES):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_PAUSE_SECS)  # another process may just look at the lock, which takes an instant
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _list_missing(folder):
    """List a folder and its parents that do not exist yet."""
    path = pathlib.Path(folder)
    return [part for part in (path, *path.parents) if not part.exists()]


def _remove_unused(folders, use):
    """Remove a folder if it is unused, then its parents if they are empty."""
    remove_if_unused(folders[0], use)
    with contextlib.suppress(OSError):
        for folder in folders[1:]:
            folder.rmdir()


def _is_file(descriptor, path):
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _write_owner(descriptor):
    owner = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }
    # Only a message of other processes needs it: the lock must work on a full disk, too.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(owner) + "\n").encode(), 0)


def _read_owner(descriptor):
    try:
        owner = files.parse_json(os.pread(descriptor, 1000, 0))
        return "process {process} on {host} since {since}".format(**owner)
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _forget():
    """Leave the locks to the parent: a child that outlives it must not keep them."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

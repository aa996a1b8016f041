"""Locks on folders: one process at a time; released by the system, however a process ends."""

import contextlib
import datetime
import json
import logging
import os
import pathlib
import shutil
import socket
from typing import NamedTuple

from deep_reid.errors import RunError
from deep_reid.system import files

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Use(NamedTuple):
    """What a folder is locked for; a folder may be in each use once at a time.

    Parameters
    ----------
    verb, participle : str
        Such as "train", "trained".
    filename : str
        Of the lock, within the folder.
    way_out : str
        What to do when another process holds it, beside stopping that.
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
_held: set[int] = set()  # file descriptors


@contextlib.contextmanager
def holding(folder, name, use=TRAINING, *, is_new=False):
    """Hold the lock on a folder until the block ends.

    Where the system or its file system has no locks, a warning says so, and the block runs without.

    Parameters
    ----------
    folder : str or Path
        Made where it is missing, with those above it; they are removed again at the end if nothing
        but the lock is in them.
    name : str
        What the folder is called in messages, such as "run baseline".
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
        If it must be missing, but exists.
    RunError
        If it is locked already, by another process or by this one; the message names the process.
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


def is_unused(folder, filenames=FILENAMES):
    """Tell whether there is nothing in a folder but locks.

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


def remove_if_unused(folder, use=TRAINING):
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
    """Return the descriptor of the locked file; None where there are no locks."""
    if fcntl is None:
        _logger.warning("This system knows no locks: do not %s %s twice at a time", use.verb, name)
        return None
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the process that held the lock has just removed the folder
            os.makedirs(os.path.dirname(path), exist_ok=True)
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(descriptor, path):
                _write_owner(descriptor)
                _held.add(descriptor)
                return descriptor
        except BlockingIOError as error:
            owner = _read_owner(descriptor)
            os.close(descriptor)
            raise RunError(
                f"{name} is being {use.participle} by {owner}: stop it, or {use.way_out}"
            ) from error
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


def _list_missing(folder):
    """List a folder and those above it, as far as they do not exist yet."""
    path = pathlib.Path(folder)
    return [part for part in (path, *path.parents) if not part.exists()]


def _remove_unused(folders, use):
    """Remove a folder if it is unused, and those above it if they are empty then."""
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
    # It only serves the message to others: a full disk must not keep a run from being locked.
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
    """Leave the locks to the parent: a process that outlives it must not hold them any longer."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

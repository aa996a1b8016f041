"""Locks on folders: one process at a time; released by the system, however a process ends."""

import contextlib
import datetime
import json
import logging
import os
import pathlib
import shutil
import socket
import threading
from typing import NamedTuple

from deep_reid.errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


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

_logger = logging.getLogger(__name__)
_held = {}  # from (thread, path of the lock) to file descriptor


@contextlib.contextmanager
def holding(folder, name, use=TRAINING):
    """Hold the lock on a folder until the block ends.

    A thread may take a lock again that it holds already. Where the system or its file system knows
    no locks, a warning says so, and the block runs without.

    Parameters
    ----------
    folder : str or Path
        Made where it is missing; then also removed, if nothing but the lock is in it at the end.
    name : str
        What the folder is called in messages, such as "run baseline".
    use : Use

    Raises
    ------
    RunError
        If it is locked by another process or thread; the message names the process.
    """
    path = os.path.join(folder, use.filename)
    key = (threading.get_ident(), os.path.realpath(path))
    if key in _held:
        yield
        return
    made = _list_missing(folder)
    descriptor = _lock(path, name, use)
    try:
        if descriptor is not None:
            _held[key] = descriptor
        yield
    finally:
        if made and is_unused(folder, use):
            _remove(made)
        # A forked process has closed it by itself.
        if _held.pop(key, None) is not None:
            os.close(descriptor)


def is_unused(folder, use=TRAINING):
    """Tell whether there is nothing in a folder but the lock of a use.

    Parameters
    ----------
    folder : str or Path
    use : Use

    Returns
    -------
    bool
        False also for a folder that does not exist.
    """
    return os.path.isdir(folder) and set(os.listdir(folder)) <= {use.filename}


def _lock(path, name, use):
    """Return the descriptor of the locked file; None where there are no locks."""
    if fcntl is None:
        _logger.warning("This system knows no locks: do not %s %s twice at a time", use.verb, name)
        return None
    while True:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(descriptor, path):
                _write_owner(descriptor)
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
        # Who held the lock removed the folder in the meantime: this is the lock of nothing.
        os.close(descriptor)


def _list_missing(folder):
    """List the folders that have to be made for one, that one first."""
    path = pathlib.Path(folder)
    return [part for part in (path, *path.parents) if not part.exists()]


def _remove(folders):
    """Remove a folder that is unused, and those above it where they are empty then."""
    shutil.rmtree(folders[0], ignore_errors=True)
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
    # It only serves the message of others: a full disk must not keep a run from being locked.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(owner) + "\n").encode(), 0)


def _read_owner(descriptor):
    try:
        owner = json.loads(os.pread(descriptor, 1000, 0))
        return "process {process} on {host} since {since}".format(**owner)
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _forget():
    """Leave the locks to the parent: a process that outlives it must not hold them any longer."""
    for descriptor in _held.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

"""Locks on folders: one process at a time; released by the system, however a process ends."""

import contextlib
import datetime
import json
import logging
import os
import socket
import threading

from deep_reid.errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_FILENAME = "lock"

_logger = logging.getLogger(__name__)
_held = {}  # from (thread, folder) to file descriptor


@contextlib.contextmanager
def holding(folder, name):
    """Hold the lock on a folder until the block ends.

    A thread may take a lock again that it holds already. Where the system or its file system knows
    no locks, a warning says so, and the block runs without.

    Parameters
    ----------
    folder : str or Path
        Made where it is missing; a file ``lock`` is left in it.
    name : str
        What the folder is called in messages, such as "run baseline".

    Raises
    ------
    RunError
        If it is locked by another process or thread; the message names the process.
    """
    key = (threading.get_ident(), os.path.realpath(folder))
    if key in _held:
        yield
        return
    descriptor = _lock(os.path.join(folder, LOCK_FILENAME), name)
    if descriptor is None:
        yield
        return
    _held[key] = descriptor
    try:
        yield
    finally:
        # A forked process has closed it by itself.
        if _held.pop(key, None) is not None:
            os.close(descriptor)


def _lock(path, name):
    """Return the descriptor of the locked file; None where there are no locks."""
    if fcntl is None:
        _logger.warning("This system knows no locks: do not train %s twice at a time", name)
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
                f"{name} is being trained by {owner}: stop it, or use another run_id"
            ) from error
        except OSError as error:
            os.close(descriptor)
            _logger.warning(
                "%s cannot be locked (%s): do not train %s twice at a time",
                path,
                error.strerror,
                name,
            )
            return None
        # Who held the lock removed the folder in the meantime: this is the lock of nothing.
        os.close(descriptor)


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

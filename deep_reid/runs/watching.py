"""Waiting for the checkpoints of a training."""

import contextlib
import hashlib
import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterator

from deep_reid.errors import DataError
from deep_reid.runs import checkpoints, folder, records
from deep_reid.system import files, locks
from deep_reid.system.files import Path

_logger = logging.getLogger(__name__)


def wait_for_checkpoints(
    checkpoint_dir: Path,
    interval_secs: float = 60,
    timeout_secs: float | None = None,
    *,
    max_old: int | None = None,
    is_known: Callable[[str], bool] = lambda prefix: False,
    has_ended: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """Wait for checkpoints and yield each one once, the oldest first.

    Parameters
    ----------
    checkpoint_dir : str or Path
        Need not exist yet.
    interval_secs : float
        Seconds between two looks at the directory. Each look finds all new checkpoints.
    timeout_secs : float, optional
        The generator ends after this many seconds without a new checkpoint. Default: never.
    max_old : int, optional
        Of the checkpoints that are there at first, only the newest are yielded, as many as this,
        not counting those for which ``is_known(prefix)``. Default: all.
    is_known : callable
        Asked only where there is a `max_old`.
    has_ended : callable
        Tells whether the training has ended: then the generator ends after the last checkpoint.

    Yields
    ------
    str
        A checkpoint's prefix. Checkpoints that are deleted before their turn are left out; so are
        damaged ones, with a warning. A checkpoint that is written again with other values, as when
        a run is begun anew under its name, is new.
    """
    seen: dict[str, str | None] = {}
    damaged = _Damaged()
    timeout = math.inf if timeout_secs is None else timeout_secs
    deadline = time.monotonic() + timeout
    while True:
        looked_at = time.monotonic()
        # Look more often for the first one: a user who has just started wants to see it work.
        pause_secs = interval_secs if seen else min(interval_secs, 2)
        is_last_look = has_ended()
        damaged.check_state(checkpoint_dir)
        listed = records.list_checkpoints(checkpoint_dir)
        contents = {path: digest(path) for path in listed}
        if not seen and max_old is not None:
            new = (p for p in reversed(listed) if not damaged.has(p) and not is_known(p))
            for oldest in itertools.islice(new, max_old - 1, max_old):
                seen |= {path: contents[path] for path in listed[: listed.index(oldest)]}
        found = next((p for p in listed if seen.get(p) != contents[p] and not damaged.has(p)), None)
        if found is not None:
            seen[found] = contents[found]
            yield found
            deadline = time.monotonic() + timeout
            continue
        if is_last_look:
            _logger.info("The training in %s has ended", checkpoint_dir)
            return
        if time.monotonic() >= deadline:
            _logger.info("No new checkpoint for %g s in %s", timeout, checkpoint_dir)
            return
        time.sleep(max(min(looked_at + pause_secs, deadline) - time.monotonic(), 0.01))


def has_training_ended(run_dir: Path, last_step: int | None = None) -> bool:
    """Tell whether a run has checkpoints, and no process trains it.

    Parameters
    ----------
    run_dir : str or Path
    last_step : int, optional
        A training that has not saved this step yet will go on. Default: it has ended anyway.

    Returns
    -------
    bool
    """
    # In this order: a training that begins has its lock before it has a checkpoint.
    newest = records.list_checkpoints(run_dir)[-1:]
    is_there = bool(newest) and records.step_in_name(newest[0]) >= (last_step or 0)
    return is_there and not locks.is_held(run_dir)


class _Damaged:
    """Checkpoints that cannot be read: a warning names each once; rewritten, it is tried again."""

    def __init__(self):
        self._known = {}
        self._has_warned = False

    def has(self, prefix):
        state = _fingerprint(prefix)
        if self._known.get(prefix) == state:
            return True
        try:
            checkpoints.check_readable(prefix)
        except DataError as error:
            if records.exists(prefix):
                self._known[prefix] = state
                checkpoints.warn_of_damage(prefix, error)
            return True
        return False

    def check_state(self, checkpoint_dir):
        """Warn once that the record of a directory cannot be read."""
        path = os.path.join(checkpoint_dir, folder.STATE_FILENAME)
        if (
            not self._has_warned
            and os.path.exists(path)
            and records.read_state(checkpoint_dir) is None
        ):
            self._has_warned = True
            _logger.warning("%s is damaged: waiting until the training writes it again", path)


def digest(prefix: str) -> str | None:
    """Return what tells a checkpoint from others of its name: neither times nor its place.

    Parameters
    ----------
    prefix : str

    Returns
    -------
    str or None
        A digest of its index, which has a checksum of each value. None if it was deleted.
    """
    for path in (f"{prefix}.index", prefix):  # TensorFlow's first format is one file
        with contextlib.suppress(FileNotFoundError):
            return hashlib.sha256(files.read_regular(path)).hexdigest()
    return None


def _fingerprint(prefix):
    """Return what changes when a checkpoint is written again."""
    stats = []
    for path in sorted(records.list_files(prefix)):
        with contextlib.suppress(FileNotFoundError):
            stat = os.stat(path)
            stats.append((path, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return stats

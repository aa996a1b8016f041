"""Checkpoints on the disk: their names, what a folder records of them, whether they are whole."""

import contextlib
import logging
import os
import pathlib
import re
import time

from google.protobuf import text_format

from deep_reid.errors import DataError, MissingPathError, UsageError, first_line
from deep_reid.runs import folder
from deep_reid.runtime.compat import tf
from deep_reid.system import files
from deep_reid.system.tables import list_some

_logger = logging.getLogger(__name__)
FILE_PATTERN = re.compile(r"(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})")
_STEP = re.compile(r"-(\d+)$")
STATE_FILENAME = "checkpoint"


def exists(prefix):
    """Tell whether there is a checkpoint of this prefix.

    Parameters
    ----------
    prefix : str

    Returns
    -------
    bool
    """
    if os.path.exists(f"{prefix}.index"):
        return True
    # The first format of TensorFlow, still met in published networks, is one file without ending.
    return os.path.isfile(prefix) and os.path.basename(prefix) != "checkpoint"


def resolve_checkpoint(path):
    """Find the checkpoint that is meant by a path.

    Parameters
    ----------
    path : str or Path
        A checkpoint's prefix (``model.ckpt-100``), any of its files, a directory with checkpoints
        (the latest one is taken), or a log directory (the latest run's).

    Returns
    -------
    str
        The checkpoint's prefix.

    Raises
    ------
    MissingPathError
        If there is no such checkpoint; the message lists those that are near.
    UsageError
        If none is named.
    """
    if path is None:
        raise UsageError("no checkpoint is named: name one, such as --restore_path=RUN_DIR")
    path = os.fspath(path)
    if not path:
        raise MissingPathError("the name of a checkpoint is empty: name one, or a directory")
    if path.endswith(".pb"):
        raise MissingPathError(f"{path} is a frozen graph, no checkpoint: name a checkpoint")
    if os.path.isdir(path):
        prefix = _latest_in_directory(path)
        if prefix is None:
            raise MissingPathError(
                f"{path} holds no checkpoint: name a run's directory or a checkpoint, or train "
                "first (--mode=train)"
            )
        return prefix
    match = FILE_PATTERN.fullmatch(path)
    prefix = match["prefix"] if match else path
    if exists(prefix):
        return prefix
    if os.path.basename(path) == "checkpoint" and os.path.isfile(path):
        return resolve_checkpoint(os.path.dirname(path) or ".")
    raise MissingPathError(f"checkpoint {path} does not exist: {_suggest_checkpoints(path)}")


def find_own_checkpoint(log_dir, run_id):
    """Find the checkpoint at which a run goes on: the newest one that can be read.

    A damaged one, say after a power cut, is passed over with a warning.

    Parameters
    ----------
    log_dir : str or Path
    run_id : str or None
        None: a new run.

    Returns
    -------
    str or None
        The checkpoint's prefix; None for a run that has none yet.

    Raises
    ------
    DataError
        If all of them are damaged, and one of them was beyond step 0.
    """
    if run_id is None:
        return None
    readable = _list_up_to_readable(os.path.join(log_dir, run_id))
    return readable[-1] if readable else None


def recover_own_checkpoint(log_dir, run_id):
    """Find the checkpoint at which a run goes on, and record it as the run's latest.

    TensorFlow restores what is recorded. To be called by who holds the run's lock.

    Parameters
    ----------
    log_dir, run_id
        As in `find_own_checkpoint`.

    Returns
    -------
    str or None
        As `find_own_checkpoint`, which see also for errors.
    """
    if run_id is None:
        return None
    run_dir = os.path.join(log_dir, run_id)
    readable = _list_up_to_readable(run_dir)
    if not readable:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(run_dir, STATE_FILENAME))
        return None
    if readable != _read_state(run_dir):
        write_state(run_dir, readable)
    return readable[-1]


def list_checkpoints(checkpoint_dir):
    """List the complete checkpoints that a directory records.

    Parameters
    ----------
    checkpoint_dir : str or Path

    Returns
    -------
    list of str
        Prefixes, the oldest first; empty where the directory does not exist, or its record cannot
        be read.
    """
    return [prefix for prefix in _read_state(checkpoint_dir) or () if exists(prefix)]


def write_state(checkpoint_dir, prefixes):
    """Record the checkpoints of a directory, whole or not at all.

    Parameters
    ----------
    checkpoint_dir : str or Path
    prefixes : sequence of str
        The oldest first. They are recorded by their names alone: a directory may be moved.
    """
    names = [os.path.relpath(prefix, checkpoint_dir) for prefix in prefixes]
    # With a relative directory, TensorFlow takes the names for relative to where the process is.
    directory = os.path.abspath(checkpoint_dir)
    state = tf.train.generate_checkpoint_state_proto(directory, names[-1], names)
    files.write_text(
        os.path.join(checkpoint_dir, STATE_FILENAME), text_format.MessageToString(state)
    )


def list_files(checkpoint_path):
    """List the files of a checkpoint.

    Parameters
    ----------
    checkpoint_path : str
        The checkpoint's prefix.

    Returns
    -------
    list of str
        The index last: with it, the others are there. Empty where there is no such folder.
    """
    directory, name = os.path.split(checkpoint_path)
    try:
        names = os.listdir(directory or ".")
    except FileNotFoundError:
        return []
    own = [
        os.path.join(directory, other)
        for other in names
        if other == name or ((match := FILE_PATTERN.fullmatch(other)) and match["prefix"] == name)
    ]
    return sorted(own, key=lambda path: (path.endswith(".index"), path))


def check_readable(checkpoint_path):
    """Check that each value of a checkpoint can be read, against its checksum.

    Parameters
    ----------
    checkpoint_path : str
        The checkpoint's prefix.

    Raises
    ------
    DataError
        If it is damaged, incomplete or gone.
    """
    reader = _open(checkpoint_path)
    with naming_damaged(checkpoint_path):
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)


def is_readable(checkpoint_path):
    """Tell whether each value of a checkpoint can be read.

    Parameters
    ----------
    checkpoint_path : str
        The checkpoint's prefix.

    Returns
    -------
    bool
    """
    try:
        check_readable(checkpoint_path)
    except DataError:
        return False
    return True


def wait_for_checkpoints(checkpoint_dir, interval_secs=60, timeout_secs=None):
    """Wait for checkpoints and yield each one once, the oldest first.

    Parameters
    ----------
    checkpoint_dir : str or Path
        Need not exist yet.
    interval_secs : float
        Seconds between two looks at the directory. Each look takes in all that is new.
    timeout_secs : float, optional
        The generator ends after so many seconds without a new checkpoint. None: never.

    Yields
    ------
    str
        A checkpoint's prefix. A checkpoint that was deleted before its turn is left out; so is one
        that is damaged, with a warning.
    """
    seen = set()
    damaged = _Damaged()
    waiting_since = time.monotonic()
    while True:
        looked_at = time.monotonic()
        # The first one is waited for more eagerly: who has just started wants to see it work.
        pause_secs = interval_secs if seen else min(interval_secs, 2)
        damaged.check_state(checkpoint_dir)
        new = (prefix for prefix in list_checkpoints(checkpoint_dir) if prefix not in seen)
        found = next((prefix for prefix in new if not damaged.has(prefix)), None)
        if found is not None:
            seen.add(found)
            yield found
            waiting_since = time.monotonic()
            continue
        if timeout_secs is not None and time.monotonic() - waiting_since >= timeout_secs:
            _logger.info("No new checkpoint for %g s in %s", timeout_secs, checkpoint_dir)
            return
        pause = looked_at + pause_secs - time.monotonic()
        if timeout_secs is not None:
            pause = min(pause, waiting_since + timeout_secs - time.monotonic())
        time.sleep(max(pause, 0.01))


def step_of(checkpoint_path):
    """Return the training step of a checkpoint.

    Parameters
    ----------
    checkpoint_path : str
        The checkpoint's prefix.

    Returns
    -------
    int
        From its variable ``global_step``, else from its name, else 0.
    """
    reader = _open(checkpoint_path)
    if not reader.has_tensor("global_step"):
        return _step_in_name(checkpoint_path)
    with naming_damaged(checkpoint_path):
        return int(reader.get_tensor("global_step"))


def variable_shapes(checkpoint_path):
    """List the variables of a checkpoint.

    Parameters
    ----------
    checkpoint_path : str or Path
        In any form that `resolve_checkpoint` takes.

    Returns
    -------
    dict of str to list of int
        From name to shape.

    Raises
    ------
    MissingPathError
        If there is no such checkpoint.
    DataError
        If it is damaged.
    """
    return _open(resolve_checkpoint(checkpoint_path)).get_variable_to_shape_map()


def _read_state(checkpoint_dir):
    """Return the prefixes that a directory records, the oldest first; None without a record."""
    directory = os.fspath(checkpoint_dir)
    try:
        text = pathlib.Path(directory, STATE_FILENAME).read_text(encoding="utf-8")
        state = text_format.Parse(text, _create_state())
    except (OSError, ValueError, text_format.ParseError):
        return None
    latest, paths = state.model_checkpoint_path, list(state.all_model_checkpoint_paths)
    if not latest:
        return None
    # Who sets the latest back by hand means what comes before it.
    paths = [*paths[: paths.index(latest) if latest in paths else None], latest]
    return [os.path.join(directory, path) for path in paths]


def _create_state():
    return type(tf.train.generate_checkpoint_state_proto("", "model.ckpt", ["model.ckpt"]))()


def _list_up_to_readable(run_dir):
    """List a run's checkpoints without those at the end that cannot be read."""
    recorded = _read_state(run_dir)
    if recorded is None:
        recorded = _list_unrecorded(run_dir)
        if recorded:
            _logger.warning(
                "%s does not record its checkpoints: taking the newest by its step", run_dir
            )
    damaged = []
    for position in range(len(recorded), 0, -1):
        prefix = recorded[position - 1]
        try:
            check_readable(prefix)
        except DataError as error:
            damaged.append(prefix)
            _warn_of_damage(prefix, error)
        else:
            return recorded[:position]
    if any(_step_in_name(prefix) for prefix in damaged):
        names = [os.path.basename(prefix) for prefix in damaged]
        raise DataError(
            f"all checkpoints in {run_dir} are damaged or gone ({list_some(names)}): restore one "
            "from a copy, or start a new run with another run_id"
        )
    return []


def _warn_of_damage(prefix, error):
    _logger.warning(
        "Checkpoint %s is passed over, as it cannot be read: %s",
        prefix,
        first_line(error.__cause__ or error),
    )


class _Damaged:
    """Checkpoints that cannot be read, each named once; one that is written anew is tried again."""

    def __init__(self):
        self._known = {}
        self._has_warned = False

    def has(self, prefix):
        state = _fingerprint(prefix)
        if self._known.get(prefix) == state:
            return True
        try:
            check_readable(prefix)
        except DataError as error:
            if exists(prefix):
                self._known[prefix] = state
                _warn_of_damage(prefix, error)
            return True
        return False

    def check_state(self, checkpoint_dir):
        """Say once that the record of a directory cannot be read."""
        path = os.path.join(checkpoint_dir, STATE_FILENAME)
        if not self._has_warned and os.path.exists(path) and _read_state(checkpoint_dir) is None:
            self._has_warned = True
            _logger.warning(
                "%s is damaged: waiting until it is written anew, as a training does", path
            )


def _fingerprint(prefix):
    """Tell one writing of a checkpoint from the next."""
    stats = []
    for path in sorted(list_files(prefix)):
        with contextlib.suppress(FileNotFoundError):
            stat = os.stat(path)
            stats.append((path, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return stats


def _open(prefix):
    with naming_damaged(prefix):
        return tf.train.load_checkpoint(prefix)


@contextlib.contextmanager
def naming_damaged(prefix):
    """Turn TensorFlow's errors over a checkpoint in the block into one that names it.

    Parameters
    ----------
    prefix : str

    Raises
    ------
    DataError
    """
    try:
        yield
    except (tf.errors.OpError, ValueError, IndexError) as error:  # IndexError: a file cut short
        if "bad magic number" in str(error):
            raise DataError(
                f"{prefix} is no checkpoint: name a checkpoint's prefix, one of its files or its "
                "directory"
            ) from error
        raise DataError(
            f"checkpoint {prefix} cannot be restored ({first_line(error)}): it is damaged or of "
            "another network; name another one"
        ) from error


def _latest_in_directory(directory):
    # Published checkpoints often come without the file that names the latest one.
    checkpoints = list_checkpoints(directory) or _list_unrecorded(directory)
    if checkpoints:
        return checkpoints[-1]
    run_id = folder.find_latest_run(directory)
    return _latest_in_directory(os.path.join(directory, run_id)) if run_id else None


def _list_unrecorded(directory):
    if not os.path.isdir(directory):
        return []
    prefixes = [os.fspath(path.with_suffix("")) for path in pathlib.Path(directory).glob("*.index")]
    return sorted(prefixes, key=lambda prefix: (_step_in_name(prefix), prefix))


def _step_in_name(prefix):
    match = _STEP.search(prefix)
    return int(match[1]) if match else 0


def _suggest_checkpoints(path):
    directory = os.path.dirname(path) or os.curdir
    place = "this folder" if directory == os.curdir else directory
    names = [os.path.basename(prefix) for prefix in _list_unrecorded(directory)]
    if not names:
        return f"{place} holds none either; name a run's directory or a checkpoint's prefix"
    return f"{place} has {', '.join(names[-5:])}"

"""Checkpoints on the disk: their names, the record of a folder, and whether they are complete."""

import contextlib
import functools
import logging
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from google.protobuf import text_format

from deep_reid.errors import DataError, MissingPathError, UsageError, first_line
from deep_reid.runs import folder
from deep_reid.runtime.compat import tf
from deep_reid.system import files
from deep_reid.system.files import Path

_logger = logging.getLogger(__name__)
FILE_PATTERN = re.compile(r"(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})")
_STEP = re.compile(r"-(\d+)$")
STATE_FILENAME = "checkpoint"


def exists(prefix: str) -> bool:
    """Return whether there is a checkpoint of this prefix.

    Parameters
    ----------
    prefix : str

    Returns
    -------
    bool
    """
    if os.path.exists(f"{prefix}.index"):
        return True
    # TensorFlow's first format, which some published networks have, is one file without ending.
    return os.path.isfile(prefix) and os.path.basename(prefix) != STATE_FILENAME


def resolve_checkpoint(path: Path | None) -> str:
    """Find the checkpoint that a path means.

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
        If there is no such checkpoint; the message lists others in its folder.
    UsageError
        If `path` is None.
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
    if os.path.basename(path) == STATE_FILENAME and os.path.isfile(path):
        return resolve_checkpoint(os.path.dirname(path) or ".")
    raise MissingPathError(f"checkpoint {path} does not exist: {_suggest_checkpoints(path)}")


def list_checkpoints(checkpoint_dir: Path) -> list[str]:
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
    return [prefix for prefix in read_state(checkpoint_dir) or () if exists(prefix)]


def list_unrecorded(directory: Path) -> list[str]:
    """List the checkpoints whose files are in a directory, whatever it records.

    Parameters
    ----------
    directory : str or Path

    Returns
    -------
    list of str
        Prefixes, sorted by the step in their names.
    """
    prefixes = [os.fspath(path.with_suffix("")) for path in pathlib.Path(directory).glob("*.index")]
    return sorted(prefixes, key=lambda prefix: (step_in_name(prefix), prefix))


def read_state(checkpoint_dir: Path) -> list[str] | None:
    """Read which checkpoints a directory records, whether they exist or not.

    A record may hold paths: TensorFlow's own saver writes absolute ones, which lead to another
    folder once a run has been moved or copied. Of such an entry counts only what is in this folder
    under its name. Other entries are refused with a warning.

    Parameters
    ----------
    checkpoint_dir : str or Path

    Returns
    -------
    list of str, or None
        Prefixes in this directory, the oldest first; None where there is no record, or it cannot
        be read.
    """
    recorded = _read_record(checkpoint_dir)
    if recorded is None:
        return None
    prefixes = []
    for path in recorded:
        prefix = os.path.join(checkpoint_dir, os.path.basename(path))
        if _is_plain(path) or exists(prefix):
            prefixes.append(prefix)
        else:
            _warn_of_refused(os.fspath(checkpoint_dir), path)
    # Of entries that lead to one checkpoint, the last counts: the latest must stay the latest.
    return list(dict.fromkeys(reversed(prefixes)))[::-1]


def is_recorded(checkpoint_dir: Path, prefixes: Sequence[str]) -> bool:
    """Tell whether a directory records just these checkpoints, and by their names alone.

    TensorFlow takes other entries as paths, and so would restore, and delete, elsewhere.

    Parameters
    ----------
    checkpoint_dir : str or Path
    prefixes : sequence of str

    Returns
    -------
    bool
    """
    return _read_record(checkpoint_dir) == [os.path.basename(prefix) for prefix in prefixes]


def write_state(checkpoint_dir: Path, prefixes: Sequence[str]) -> None:
    """Record the checkpoints of a directory, completely or not at all.

    Parameters
    ----------
    checkpoint_dir : str or Path
    prefixes : sequence of str
        The oldest first. Only their names are recorded: the directory may be moved.
    """
    names = [os.path.basename(prefix) for prefix in prefixes]
    # With a relative directory, TensorFlow takes the names as relative to the working directory.
    directory = os.path.abspath(checkpoint_dir)
    state = tf.train.generate_checkpoint_state_proto(directory, names[-1], names)
    files.write_text(
        os.path.join(checkpoint_dir, STATE_FILENAME), text_format.MessageToString(state)
    )


def list_files(checkpoint_path: str) -> list[str]:
    """List the files of a checkpoint.

    Parameters
    ----------
    checkpoint_path : str
        The checkpoint's prefix.

    Returns
    -------
    list of str
        The index is the last. Empty where there is no such folder.
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


def check_readable(checkpoint_path: str) -> int:
    """Check that each value of a checkpoint can be read and has the right checksum.

    Parameters
    ----------
    checkpoint_path : str
        The checkpoint's prefix.

    Returns
    -------
    int
        Its training step, as `step_of` returns it.

    Raises
    ------
    DataError
        If it is damaged, incomplete or gone.
    """
    with naming_damaged(checkpoint_path):
        reader = tf.train.load_checkpoint(checkpoint_path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
        return _read_step(reader, checkpoint_path)


def is_readable(checkpoint_path: str) -> bool:
    """Return whether each value of a checkpoint can be read.

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


def warn_of_damage(prefix: str, error: DataError) -> None:
    """Log that a checkpoint is skipped.

    Parameters
    ----------
    prefix : str
    error : DataError
        From `check_readable`.
    """
    _logger.warning(
        "Checkpoint %s is skipped, as it cannot be read: %s",
        prefix,
        first_line(error.__cause__ or error),
    )


def step_of(checkpoint_path: str) -> int:
    """Return the training step of a checkpoint.

    Parameters
    ----------
    checkpoint_path : str
        The checkpoint's prefix.

    Returns
    -------
    int
        From its variable ``global_step``, or else from its name, or else 0.

    Raises
    ------
    DataError
        If it is damaged or gone.
    """
    with naming_damaged(checkpoint_path):
        return _read_step(tf.train.load_checkpoint(checkpoint_path), checkpoint_path)


def step_in_name(prefix: str) -> int:
    """Return the training step in a checkpoint's name.

    Parameters
    ----------
    prefix : str

    Returns
    -------
    int
        0 where the name has none.
    """
    match = _STEP.search(prefix)
    return int(match[1]) if match else 0


def variable_shapes(checkpoint_path: Path) -> dict[str, list[int]]:
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
    prefix = resolve_checkpoint(checkpoint_path)
    with naming_damaged(prefix):
        return tf.train.load_checkpoint(prefix).get_variable_to_shape_map()


def _read_record(checkpoint_dir):
    """Return the entries of a record as they are written; None where it cannot be read."""
    try:
        text = pathlib.Path(checkpoint_dir, STATE_FILENAME).read_text(encoding="utf-8")
        state = text_format.Parse(text, _create_state())
    except (OSError, ValueError, text_format.ParseError):
        return None
    latest, paths = state.model_checkpoint_path, list(state.all_model_checkpoint_paths)
    if not latest:
        return None
    # A user may set the latest one back by hand: those after it do not count then.
    return [*paths[: paths.index(latest) if latest in paths else None], latest]


def _create_state():
    return type(tf.train.generate_checkpoint_state_proto("", "model.ckpt", ["model.ckpt"]))()


def _is_plain(path):
    return path == os.path.basename(path) and path not in ("", ".", "..")


@functools.cache
def _warn_of_refused(directory, path):
    _logger.warning(
        "%s records the checkpoint %s, which is not in this folder: it is left out. Copy its "
        "files there if it belongs to this run",
        os.path.join(directory, STATE_FILENAME),
        path,
    )


@contextlib.contextmanager
def naming_damaged(prefix: str) -> Iterator[None]:
    """Replace TensorFlow's errors in the block by one that names the checkpoint.

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


def _read_step(reader, prefix):
    if reader.has_tensor("global_step"):
        return int(reader.get_tensor("global_step"))
    return step_in_name(prefix)


def _latest_in_directory(directory):
    # Published checkpoints often come without the file that names the latest one.
    checkpoints = list_checkpoints(directory) or list_unrecorded(directory)
    if checkpoints:
        return checkpoints[-1]
    run_id = folder.find_latest_run(directory)
    return _latest_in_directory(os.path.join(directory, run_id)) if run_id else None


def _suggest_checkpoints(path):
    directory = os.path.dirname(path) or os.curdir
    place = "this folder" if directory == os.curdir else directory
    names = [os.path.basename(prefix) for prefix in list_unrecorded(directory)]
    if not names:
        return f"{place} holds none either; name a run's directory or a checkpoint's prefix"
    return f"{place} has {', '.join(names[-5:])}"

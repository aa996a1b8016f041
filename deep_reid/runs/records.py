"""Names of checkpoints, and the record that a folder keeps of them; free of TensorFlow."""

import contextlib
import functools
import logging
import os
import pathlib
import re
from collections.abc import Sequence
from itertools import filterfalse

from google.protobuf import text_encoding

from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.runs import folder
from deep_reid.runs.folder import STATE_FILENAME
from deep_reid.system import files
from deep_reid.system.files import Path

_logger = logging.getLogger(__name__)
FILE_PATTERN = re.compile(r"(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})")
_TABLE_END = bytes.fromhex("57fb808b247547db")
_STEP = re.compile(r"-(\d+)$")

# The text of TensorFlow's message CheckpointState: a field with a string or a number in each line.
_ESCAPE = r"\\[abfnrtv'\"\\?0-7xX]"
_FIELD = re.compile(
    rf'\s*(?P<name>\w+)\s*:\s*(?:"(?P<text>(?:[^"\\\n]|{_ESCAPE})*)"|[-+.\w]+)[ \t]*(?:\n|$)'
)
_LATEST, _ALL = "model_checkpoint_path", "all_model_checkpoint_paths"
_NUMBERS = ("all_model_checkpoint_timestamps", "last_preserved_timestamp")


def exists(prefix: str) -> bool:
    """Return whether there is a checkpoint of this prefix.

    Parameters
    ----------
    prefix : str

    Returns
    -------
    bool
    """
    # TensorFlow's first format, which some published networks have, is one file without ending.
    is_one_file = os.path.isfile(prefix) and os.path.basename(prefix) != STATE_FILENAME
    return is_one_file or os.path.isfile(f"{prefix}.index")


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
    DataError
        If `path` is another file, or a checkpoint in one file that was cut short.
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
        if not os.path.exists(f"{prefix}.index") and not _is_table(prefix):
            raise DataError(
                f"{path} is no checkpoint: name a run's directory, or a checkpoint by its prefix, "
                "such as model.ckpt-100, or by any of its files"
            )
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
        Prefixes, the oldest first; empty if there is no record that can be read.
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
        Prefixes, sorted by the step in their names. Empty if the directory cannot exist, for
        example because its name is too long.
    """
    prefixes = []
    with contextlib.suppress(OSError):
        paths = pathlib.Path(directory).glob("*.index")
        prefixes = [os.fspath(path.with_suffix("")) for path in paths]
    return sorted(prefixes, key=lambda prefix: (step_in_name(prefix), prefix))


def read_state(checkpoint_dir: Path) -> list[str] | None:
    """Read which checkpoints a directory records, whether they exist or not.

    A record may contain paths: TensorFlow's own saver writes absolute ones, which are wrong when a
    run has been moved or copied. A path counts only if this directory has a checkpoint of the same
    name. Other paths are left out with a warning.

    Parameters
    ----------
    checkpoint_dir : str or Path

    Returns
    -------
    list of str, or None
        Prefixes in this directory, the oldest first; None if there is no record that can be read.
    """
    recorded = _read_record(checkpoint_dir)
    if recorded is None:
        return None
    prefixes = []
    for path in recorded:
        name = os.path.basename(path)
        prefix = os.path.join(checkpoint_dir, name)
        if (path == name and name not in ("", ".", "..")) or exists(prefix):
            prefixes.append(prefix)
        else:
            _warn_of_refused(os.fspath(checkpoint_dir), path)
    # If entries mean the same checkpoint, the last one counts: the latest must stay the latest.
    return list(dict.fromkeys(reversed(prefixes)))[::-1]


def is_recorded(checkpoint_dir: Path, prefixes: Sequence[str]) -> bool:
    """Return whether a directory records exactly these checkpoints, by their names only.

    TensorFlow would take other entries as paths: it would restore and delete in other directories.

    Parameters
    ----------
    checkpoint_dir, prefixes
        As in `write_state`.

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
    fields = [(_LATEST, names[-1]), *((_ALL, name) for name in names)]
    text = "".join(f'{name}: "{text_encoding.CEscape(value, True)}"\n' for name, value in fields)
    files.write_text(os.path.join(checkpoint_dir, STATE_FILENAME), text)


def list_files(prefix: str) -> list[str]:
    """List the files of a checkpoint.

    Parameters
    ----------
    prefix : str

    Returns
    -------
    list of str
        The index is the last. Empty where there is no such folder.
    """
    directory, name = os.path.split(prefix)
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


def check_output(prefix: Path, source: str) -> None:
    """Check that a user may name this prefix for a copy of a checkpoint.

    Parameters
    ----------
    prefix : str or Path
    source : str
        Prefix of the checkpoint.

    Raises
    ------
    UsageError
        If it would overwrite the checkpoint, or is a folder, a device or a pipe.
    """
    prefix = os.fspath(prefix)
    if not os.path.basename(prefix) or os.path.isdir(prefix):
        raise UsageError(f"{prefix} is a folder: add the name of the checkpoint in it")
    for path in filter(os.path.exists, (prefix, *list_files(prefix))):
        if not os.path.isfile(path):
            raise UsageError(
                f"{path} is not a regular file, as those of a checkpoint: name another"
            )
        if any(os.path.samefile(path, other) for other in list_files(source)):
            raise UsageError(f"{prefix} is the checkpoint itself: name another output file")


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


def _is_table(path):
    """Return whether a file ends as TensorFlow's tables do, of which the first format is one."""
    with open(path, "rb") as file:
        file.seek(-min(len(_TABLE_END), os.path.getsize(path)), os.SEEK_END)
        return file.read() == _TABLE_END


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
    if names:
        return f"{place} has {', '.join(names[-5:])}"
    # The name of the run may be the wrong part: of its folder, or of a checkpoint in it.
    for run_dir in filterfalse(os.path.isdir, (path, directory)):
        log_dir, run_id = os.path.split(run_dir)
        with contextlib.suppress(OSError):  # a path that cannot exist
            runs = folder.name_runs(log_dir or os.curdir, run_id)
            if runs:
                return f"{log_dir or 'this folder'} has the runs {runs}"
    return f"{place} holds none either; name a run's directory or a checkpoint's prefix"


def _read_record(checkpoint_dir):
    """Return the entries of a record as they are written; None where it cannot be read."""
    try:
        text = files.read_text(os.path.join(checkpoint_dir, STATE_FILENAME))
        fields = _parse_record(text)
    except (OSError, ValueError):
        return None
    latest = next((value for name, value in reversed(fields) if name == _LATEST), "")
    paths = [value for name, value in fields if name == _ALL]
    if not latest:
        return None
    # A user may set the latest one back by hand: those after it do not count then.
    return [*paths[: paths.index(latest) if latest in paths else None], latest]


def _parse_record(text):
    """Return names and values of the fields; raise ValueError if the text is anything else."""
    fields, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _FIELD.match(text, position)
        if match is None or match["name"] not in (_LATEST, _ALL, *_NUMBERS):
            raise ValueError(f"it is damaged at character {position}")
        if (match["name"] in _NUMBERS) == (match["text"] is not None):
            raise ValueError(f"{match['name']} has another type")
        fields.append((match["name"], text_encoding.CUnescape(match["text"] or "").decode()))
        position = match.end()
    return fields


@functools.cache
def _warn_of_refused(directory, path):
    _logger.warning(
        "%s records the checkpoint %s, which is not in this folder: it is left out. Copy its "
        "files there if it belongs to this run",
        os.path.join(directory, STATE_FILENAME),
        path,
    )

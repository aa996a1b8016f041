"""Files that a mode writes: where they go, and a manifest beside each that tells their origin."""

import dataclasses
import datetime
import json
import logging
import os
from typing import Any

from deep_reid.config.run import CONFIG_FILENAME
from deep_reid.runs import folder
from deep_reid.system import files

_logger = logging.getLogger(__name__)
_ENDING = ".manifest.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """What a file was made of.

    Parameters
    ----------
    run : str or None
        Name of the run. None: a checkpoint without a run.
    step : int
        Of the checkpoint.
    checkpoint : str
        Its prefix.
    """

    run: str | None
    step: int
    checkpoint: str

    def __str__(self) -> str:
        return f"run {self.run}, step {self.step}" if self.run else f"checkpoint {self.checkpoint}"


def default_path(dataset_name: str, run_dir: str | None, *names: str) -> str:
    """Return where an output goes if the command line does not say.

    Parameters
    ----------
    dataset_name : str
    run_dir : str or None
        Of the checkpoint that the output is made of.
    *names : str
        Of the output, below the run's folder; for a checkpoint without a run, below that of the
        data set.

    Returns
    -------
    str
    """
    if name_of_run(run_dir) is None:
        return os.path.join(".", "output", dataset_name, *names)
    return os.path.join(_own_folder(run_dir), *names)


def name_of_run(run_dir: str | None) -> str | None:
    """Return the name of the run of a folder.

    Parameters
    ----------
    run_dir : str or None

    Returns
    -------
    str or None
        None for a folder without a run.
    """
    if run_dir is None or not os.path.exists(os.path.join(run_dir, CONFIG_FILENAME)):
        return None
    return os.path.basename(os.path.abspath(_own_folder(run_dir)))


def check_paths(*paths: str | None) -> None:
    """Check, before the work that they need, that files can be written.

    Parameters
    ----------
    *paths : str or None
        None: the command line does not name the file.

    Raises
    ------
    OSError
        If one is a folder, or a parent of it is no folder.
    """
    for path in paths:
        if path is not None:
            files.check_output(path)


def warn_of_overwriting(path: str, origin: Origin) -> None:
    """Log that a file is overwritten which is of another run, or of unknown origin.

    Parameters
    ----------
    path : str
        The file; of a checkpoint, its prefix.
    origin : Origin
        What the new file is made of.

    Raises
    ------
    OSError
        If the file or its manifest cannot be written, as `check_paths` says.
    """
    check_paths(path, path + _ENDING)
    if not _is_file(path):
        return
    earlier = read_origin(path)
    if earlier is None:
        _logger.warning("Overwriting %s, of which no manifest tells the run", path)
    elif (earlier.run or earlier.checkpoint) != (origin.run or origin.checkpoint):
        _logger.warning("Overwriting %s, which is of %s, with %s", path, earlier, origin)


def write_manifest(path: str, origin: Origin, **facts: Any) -> None:
    """Write the manifest of a file, beside it.

    Parameters
    ----------
    path : str
        The file or folder; of a checkpoint, its prefix. A device or a pipe gets none.
    origin : Origin
    **facts
        What else it tells.
    """
    if not _is_file(path):
        return
    manifest = {
        "file": os.path.basename(path),
        **dataclasses.asdict(origin),
        "written": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        **facts,
    }
    files.write_output(path + _ENDING, json.dumps(manifest, indent=2) + "\n")


def read_origin(path: str) -> Origin | None:
    """Read the manifest of a file.

    Parameters
    ----------
    path : str
        The file; of a checkpoint, its prefix.

    Returns
    -------
    Origin or None
        None if there is no manifest that can be read.
    """
    try:
        facts = files.read_json(path + _ENDING)
        return Origin(**{field.name: facts[field.name] for field in dataclasses.fields(Origin)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_file(path):
    """Tell whether there is a file or folder of this name, or a checkpoint of this prefix."""
    return os.path.isfile(path) or os.path.isdir(path) or os.path.isfile(f"{path}.index")


def _own_folder(run_dir):
    """Return the folder of a run, also for ``best`` in it, which is replaced as a whole."""
    path = os.path.normpath(run_dir)
    is_best = os.path.exists(os.path.join(path, folder.SCORE_FILENAME))
    return os.path.dirname(os.path.abspath(path)) if is_best else path

"""Files that a mode writes: where they go, and a manifest beside each that tells their origin."""

import dataclasses
import datetime
import json
import logging
import os
from collections.abc import Mapping
from typing import Any, get_type_hints

from deep_reid.config.run import CONFIG_FILENAME
from deep_reid.runs import folder
from deep_reid.system import files
from deep_reid.system.tables import list_some

ENDING = ".manifest.json"
"""What the name of a manifest has behind that of its file."""

_logger = logging.getLogger(__name__)


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
        Its prefix; or the path of another source, see `kind`.
    precise_batch_norm : int or None
        Number of batches that batch norm was set anew with. None: it has its running averages.
    kind : {"checkpoint", "frozen graph", "features"}
        What was read.
    inputs : str
        The images that it was used for, such as the query and the gallery of a search. Empty for
        what is made of the checkpoint alone.
    """

    run: str | None
    step: int
    checkpoint: str
    precise_batch_norm: int | None = None
    kind: str = "checkpoint"
    inputs: str = ""

    @classmethod
    def of_source(cls, source: Mapping[str, Any], **inputs: str) -> "Origin":
        """Return the origin of what is made of the features of images.

        Parameters
        ----------
        source : dict
            What has computed them, as `deep_reid.cli.subject.choose_encoder` returns it, or the
            files of ``"features"``.
        **inputs : str
            From names, such as ``query``, to paths.
        """
        key = next(x for x in ("checkpoint", "frozen_graph", "features") if x in source)
        paths = [f"{name} {os.path.abspath(path)}" for name, path in inputs.items()]
        return cls(
            run=source.get("run"),
            step=source.get("step", 0),
            checkpoint=source[key],
            precise_batch_norm=source.get("precise_batch_norm"),
            kind=key.replace("_", " "),
            inputs=", ".join(paths),
        )

    def __str__(self) -> str:
        made_of = (
            f"run {self.run}, step {self.step}" if self.run else f"{self.kind} {self.checkpoint}"
        )
        return f"{made_of}, {self.inputs}" if self.inputs else made_of

    @property
    def made_of(self) -> tuple[object, ...]:
        """What decides about the content: equal for files that belong together."""
        return self.run or self.checkpoint, self.step, self.precise_batch_norm, self.inputs

    def is_like(self, other: "Origin") -> bool:
        """Return whether files of both are of one kind: of any steps of a run, on equal inputs."""
        return (self.run or self.checkpoint, self.inputs) == (
            other.run or other.checkpoint,
            other.inputs,
        )


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

    Raises
    ------
    OSError
        If a link at its place leads out of the run's folder. Links count for paths that the user
        names only.
    """
    if name_of_run(run_dir) is None:
        return os.path.join(".", "output", dataset_name, *names)
    run_dir = _own_folder(run_dir)
    place = os.path.join(run_dir, names[0])
    files.check_within(run_dir, place, place + ENDING)
    if os.path.isdir(place):
        files.check_within(run_dir, *(os.path.join(place, name) for name in os.listdir(place)))
    return os.path.join(run_dir, *names)


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
    """Check, before the work that they need, that files and their manifests can be written.

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
            files.check_output(path + ENDING)


def warn_of_overwriting(path: str, origin: Origin, *others: str, is_folder: bool = False) -> None:
    """Log that files are overwritten which are of another run, other inputs or unknown origin.

    Parameters
    ----------
    path : str
        The file; of a checkpoint, its prefix.
    origin : Origin
        What the new file is made of.
    *others : str
        Further files that are written with it: one manifest is for all.
    is_folder : bool
        Whether `path` is a folder.

    Raises
    ------
    OSError
        If the file or its manifest cannot be written, as `check_paths` says.
    """
    check_paths(*([] if is_folder else [path]), *others)
    existing = [each for each in (path, *others) if _is_file(each)]
    if not existing:
        return
    names, verb = list_some(existing), "is" if len(existing) == 1 else "are"
    earlier = read_origin(path)
    if earlier is None:
        _logger.warning("Overwriting %s, of which no manifest tells the run", names)
    elif not earlier.is_like(origin):
        _logger.warning("Overwriting %s, which %s of %s, with %s", names, verb, earlier, origin)
    elif earlier.step != origin.step:
        _logger.info("Replacing %s, which %s of step %d", names, verb, earlier.step)


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
    files.write_output(path + ENDING, json.dumps(manifest, indent=2) + "\n")
    _logger.info("Wrote its manifest, with run and step, to %s", path + ENDING)


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
    facts = read_facts(path)
    types = get_type_hints(Origin)
    # A manifest of an earlier release has not all of these.
    known = {name: facts[name] for name in types if name in facts}
    if not all(isinstance(value, types[name]) for name, value in known.items()):
        return None
    try:
        return Origin(**known)
    except TypeError:
        return None


def read_facts(path: str) -> dict[str, Any]:
    """Read all that the manifest of a file tells.

    Parameters
    ----------
    path : str

    Returns
    -------
    dict
        Empty if there is no manifest that can be read.
    """
    try:
        facts = files.read_json(path + ENDING)
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _is_file(path):
    """Tell whether there is a file or folder of this name, or a checkpoint of this prefix."""
    return os.path.isfile(path) or os.path.isdir(path) or os.path.isfile(f"{path}.index")


def _own_folder(run_dir):
    """Return the folder of a run, also for ``best`` in it, which is replaced as a whole."""
    path = os.path.normpath(run_dir)
    is_best = os.path.exists(os.path.join(path, folder.SCORE_FILENAME))
    return os.path.dirname(os.path.abspath(path)) if is_best else path

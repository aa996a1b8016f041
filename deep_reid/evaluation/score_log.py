"""The scores of a run's evaluations: the file ``metrics.jsonl``, with a line of JSON for each."""

import contextlib
import datetime
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from deep_reid.errors import RunError
from deep_reid.runs import watching
from deep_reid.system import files
from deep_reid.system.files import Path

FILENAME = "metrics.jsonl"
FACTS = ("precise_batch_norm",)
"""What else a line may tell: how the checkpoint was changed before it was evaluated."""

_logger = logging.getLogger(__name__)


class ScoreLog:
    """The scores that are recorded in an evaluation directory, by this process and earlier ones.

    A last line that a killed process left incomplete is ignored, and removed before the next line
    is written.

    Parameters
    ----------
    eval_dir : str or Path
        Need not exist yet.
    facts : dict, optional
        Those of `FACTS` that hold now. Lines with other facts count as not there.

    Attributes
    ----------
    lines : list of dict
        The recorded scores with these facts, the oldest first.
    """

    def __init__(self, eval_dir: Path, facts: Mapping[str, Any] = {}) -> None:  # noqa: B006
        self._path = pathlib.Path(eval_dir) / FILENAME
        self.lines = [line for line in self._read() if _facts_of(line) == facts]
        self._digests: dict[int, str | None] = {}
        self._by_step = {line["step"]: line for line in self.lines}
        if self._by_step:
            _logger.info(
                "%s has the scores of %d steps; to evaluate them again, delete it",
                self._path,
                len(self._by_step),
            )

    def has(self, checkpoint_path: str, step: int) -> bool:
        """Return whether an earlier process recorded the scores of a checkpoint.

        Parameters
        ----------
        checkpoint_path : str
            The checkpoint's prefix. If its values are others than those that were evaluated, it is
            not the same checkpoint: a run was begun anew under its name.
        step : int

        Returns
        -------
        bool
        """
        # Taken now: the run may be begun anew while its checkpoint is evaluated.
        self._digests[step] = digest = watching.digest(checkpoint_path)
        line = self._by_step.get(step)
        if line is None:
            return False
        if "digest" not in line:  # an earlier release has written it
            return not _is_younger(checkpoint_path, line.get("time"))
        return digest is None or digest == line["digest"]

    def last_scores(self, names: Sequence[str], step: int | None = None) -> dict[str, float] | None:
        """Return the scores of the last line.

        Parameters
        ----------
        names : sequence of str
        step : int, optional
            Only lines of this step count. Default: all.

        Returns
        -------
        dict of str to float, or None
            From the last line that has all these names; None if there is none.
        """
        lines = self.lines if step is None else [x for x in self.lines if x["step"] == step]
        lines = [line for line in lines if all(name in line for name in names)]
        return {name: lines[-1][name] for name in names} if lines else None

    def append(self, line: dict[str, Any]) -> None:
        """Write a line durably: it survives a power cut.

        Parameters
        ----------
        line : dict
            With the ``"step"``, a number. The digest of the checkpoint that `has` found is added.

        Raises
        ------
        RunError
            If it cannot be written; the file then stays as it was.
        """
        digest = self._digests.get(line["step"])
        line = line if digest is None else {**line, "digest": digest}
        text = (json.dumps(line) + "\n").encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab+", buffering=0, opener=files.open_own) as file:
                size = _cut_torn_line(file)
                try:
                    num_written = file.write(text)
                    if num_written < len(text):
                        file.write(text[num_written:])  # raises the reason
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(size)
                    raise
        except OSError as error:
            raise RunError(
                f"the scores of step {line['step']} could not be written to {self._path} "
                f"({error.strerror or error}): free some space or mend it, and evaluate again"
            ) from error
        self.lines.append(line)
        self._by_step[line["step"]] = line

    def _read(self):
        try:
            text = files.read_regular(self._path).decode(errors="replace")
        except OSError:
            return []
        lines = [_parse(line) for line in text.splitlines()]
        return [line for line in lines if line is not None]


def _parse(text):
    """Return the scores of a line; None if it is incomplete."""
    try:
        line = files.parse_json(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None


def _facts_of(line):
    return {name: line[name] for name in FACTS if name in line}


def _cut_torn_line(file):
    """Make a file end with a complete line, and return its size."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    content = file.read(size)
    end = content.rfind(b"\n") + 1
    if end == size:
        return size
    if _parse(content[end:].decode(errors="replace")) is None:
        file.truncate(end)
        return end
    file.write(b"\n")  # nothing else was missing
    return size + 1


def _is_younger(checkpoint_path, time):
    try:
        written_at = os.path.getmtime(f"{checkpoint_path}.index")
        # Times are recorded in whole seconds, rounded down.
        return written_at >= datetime.datetime.fromisoformat(time).timestamp() + 1
    except (OSError, TypeError, ValueError):
        return False

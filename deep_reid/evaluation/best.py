"""A copy of a run's best checkpoint so far, which stays when the run deletes old checkpoints."""

import contextlib
import ctypes
import json
import logging
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from deep_reid.config.run import CONFIG_FILENAME
from deep_reid.errors import DataError, first_line
from deep_reid.evaluation.score_log import ScoreLog
from deep_reid.runs import checkpoints, records
from deep_reid.runs import folder as runs
from deep_reid.runs.labels import LABELS_FILENAME
from deep_reid.system import files, locks
from deep_reid.system.files import Path

_TEMPORARY = f".{runs.BEST_DIRNAME}-"
_CURRENT_DIRECTORY = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def keeping_best(run_dir: Path, criterion: str) -> Iterator["BestCheckpoint"]:
    """Keep the best checkpoint of a run until the block ends; other processes cannot meanwhile.

    Parameters
    ----------
    run_dir : str or Path
    criterion : str
        As in `BestCheckpoint`.

    Yields
    ------
    BestCheckpoint

    Raises
    ------
    RunError
        If another process keeps the best checkpoint of this run.
    """
    with locks.holding(run_dir, f"run {pathlib.Path(run_dir).name}", locks.BEST):
        yield BestCheckpoint(run_dir, criterion)


class BestCheckpoint:
    """Keeps the checkpoint with the best score, with the run's settings, in the folder ``best``.

    The folder is replaced as a whole. Its ``score.json`` has the step, all scores, the time and the
    name of the checkpoint. Later scores are compared with it, also after a restart.

    Parameters
    ----------
    run_dir : str or Path
    criterion : str
        The name of the score that decides; greater is better.
    """

    def __init__(self, run_dir: Path, criterion: str) -> None:
        self._run_dir = pathlib.Path(run_dir)
        self._folder = self._run_dir / runs.BEST_DIRNAME
        self._criterion = criterion
        self._mend()

    def offer(self, line: dict[str, Any]) -> None:
        """Keep a checkpoint if it is better than all before.

        If it cannot be copied, for example because it was deleted, a warning names the reason, and
        the folder stays as it was.

        Parameters
        ----------
        line : dict
            The scores and the ``checkpoint``, as in `deep_reid.evaluation.score_log`.
        """
        # Read each time: when a run is begun anew under its name, the folder is gone.
        if not line[self._criterion] > self._read_score():
            return
        try:
            self._replace(line)
        except (OSError, DataError) as error:
            _logger.warning(
                "Checkpoint %s is the best so far, but could not be kept: %s",
                line["checkpoint"],
                first_line(error),
            )
            return
        _logger.info(
            "step %d is the best so far, by %s: kept in %s",
            line["step"],
            self._criterion,
            self._folder,
        )

    def catch_up(self, log: ScoreLog) -> None:
        """Keep the best of the checkpoints that were evaluated before and still exist.

        Parameters
        ----------
        log : ScoreLog
        """
        existing = [
            line
            # A run that was begun anew has other lines of the same steps.
            for line in {line["step"]: line for line in log.lines}.values()
            if isinstance(line.get(self._criterion), float)
            and isinstance(line.get("checkpoint"), str)
            and records.exists(self._locate(line))
            and log.has(self._locate(line), line["step"])
        ]
        if existing:
            self.offer(max(existing, key=lambda line: line[self._criterion]))

    def _locate(self, line):
        # The run may have been moved since it was evaluated.
        return os.path.join(self._run_dir, os.path.basename(line["checkpoint"]))

    def _replace(self, line):
        with tempfile.TemporaryDirectory(
            prefix=_TEMPORARY, dir=self._run_dir, ignore_cleanup_errors=True
        ) as temporary:
            new = pathlib.Path(temporary, runs.BEST_DIRNAME)
            new.mkdir()  # with the permissions of any new folder, which the temporary one lacks
            self._fill(new, line)
            _swap(new, self._folder)
            files.flush_to_disk(self._run_dir)

    def _fill(self, folder, line):
        source = self._locate(line)
        copy = os.path.join(folder, os.path.basename(source))
        for path in records.list_files(source):
            _copy(path, folder)
        # It may have been deleted or rewritten in the meantime.
        checkpoints.check_readable(copy)
        for name in (CONFIG_FILENAME, LABELS_FILENAME):
            with contextlib.suppress(FileNotFoundError):
                _copy(self._run_dir / name, folder)
        records.write_state(folder, [copy])
        files.write_text(folder / runs.SCORE_FILENAME, json.dumps(line, indent=2) + "\n")

    def _read_score(self):
        path = self._folder / runs.SCORE_FILENAME
        try:
            score = float(files.read_json(path)[self._criterion])
        except (FileNotFoundError, NotADirectoryError):
            return -math.inf
        except (ValueError, KeyError, TypeError):
            _logger.warning("%s is damaged: the next checkpoint counts as the best", path)
            return -math.inf
        return -math.inf if math.isnan(score) else score

    def _mend(self):
        """Remove what a killed evaluation left; restore the folder if it was moved away."""
        for temporary in sorted(self._run_dir.glob(f"{_TEMPORARY}*")):
            if temporary.is_symlink():  # what it leads to is not the run's
                temporary.unlink()
                continue
            complete = sorted(path.parent for path in temporary.rglob(runs.SCORE_FILENAME))
            if complete and not self._folder.exists():
                os.rename(complete[0], self._folder)
            shutil.rmtree(temporary, ignore_errors=True)


def _copy(path, folder):
    target = os.path.join(folder, os.path.basename(path))
    shutil.copyfile(path, target)
    files.flush_to_disk(target)


def _swap(new, old):
    """Replace a folder, if it exists, by a new one; the old one goes to the folder of the new one.

    A reader finds the old or the new folder at any moment. Only where the system cannot exchange
    names, there is a moment without a folder. (A symbolic link would need no exchange, but a copy
    of a link, or a link that is moved out of the run's folder, is broken.)
    """
    files.flush_to_disk(new)
    if not os.path.lexists(old):
        os.rename(new, old)
    elif not _exchange(new, old):
        os.rename(old, f"{new}-before")
        os.rename(new, old)


def _exchange(one, other):
    """Exchange two names in one step; return whether this system can."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    failed = renameat2(_CURRENT_DIRECTORY, names[0], _CURRENT_DIRECTORY, names[1], _EXCHANGE)
    return not failed

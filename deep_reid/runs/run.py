"""A run that is open for training: its lock, its folder, and where it continues."""

import contextlib
import dataclasses
import datetime
import itertools
import logging
import os
import pathlib
import re
import shutil
import time
from collections.abc import Iterator, Sequence

from deep_reid.config import RunConfig
from deep_reid.errors import DataError, RunError, UsageError
from deep_reid.runs import folder, labels, records, recovery, resuming, saving, stopping
from deep_reid.system import locks
from deep_reid.system.files import Path

_logger = logging.getLogger(__name__)
_GRACE_SECS = 60
_MADE_NAME = re.compile(r"\d{8}-\d{6}(-\d+)?")


@dataclasses.dataclass(eq=False)
class Run:
    """A run that is open for training.

    `Run.open` opens one in the process that trains it, `Run.join` in its other workers. The open
    run is then handed down: nothing opens it again.

    Attributes
    ----------
    log_dir : str or Path
    run_id : str
        The run's name.
    run_dir : str
        Its folder, ``log_dir/run_id``.
    checkpoint : str or None
        Where the run continues: the prefix of its newest checkpoint that can be read. None: it has
        none yet.
    first_step : int
        The step of that checkpoint; 0 without one.
    is_own : bool
        Whether this process records the run; another one does for a process that joins it.
    """

    log_dir: Path
    run_id: str
    checkpoint: str | None = None
    first_step: int = 0
    is_own: bool = True

    def __post_init__(self) -> None:
        self.run_dir = os.path.join(self.log_dir, self.run_id)
        self._is_new = locks.is_unused(self.run_dir)
        self._has_begun = False
        self._latest_before = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, log_dir: Path, run_id: str | None = None) -> Iterator["Run"]:
        """Open a run for training, until the block ends.

        This locks the run against other processes and threads, makes the folder, removes what a
        killed training left of a half-saved checkpoint, and records the newest checkpoint that can
        be read as the latest. The system releases the lock in any case when the process ends.

        At the end, half-written files and an empty folder are removed. So is a new run that has
        begun, but was stopped by a UsageError or DataError before it learned anything (before it
        had a checkpoint of a later step than 0); then the run before it is the latest again. Any
        other error, such as a full disk or numbers that are not finite, leaves the run's checkpoint
        and its curves.

        Parameters
        ----------
        log_dir : str or Path
        run_id : str, optional
            Name of the run. Default: a new one, from date and time.

        Yields
        ------
        Run

        Raises
        ------
        UsageError
            If `run_id` is not a plain folder name.
        DataError
            If all the run's checkpoints are damaged.
        RunError
            If another process trains the run; the message names the process.
        """
        with contextlib.ExitStack() as stack:
            run_id = _lock(stack, log_dir, run_id)
            run_dir = os.path.join(log_dir, run_id)
            try:
                _remove_unused_runs(log_dir, run_id)
                saving.remove_leftovers(run_dir)
                run = cls(log_dir, run_id, *recovery.recover_own_checkpoint(run_dir))
                with run._undone_if_wrong():
                    yield run
            finally:
                saving.remove_leftovers(run_dir)  # TensorFlow leaves some if it cannot write
                locks.remove_if_unused(run_dir)

    @classmethod
    def join(cls, log_dir: Path, run_id: str, first_step: int | None = None) -> "Run":
        """Read the state of a run that another process, the chief, holds open; change nothing.

        Parameters
        ----------
        log_dir : str or Path
        run_id : str
        first_step : int, optional
            The step that the chief is at. Default: that of the newest checkpoint, which is read.

        Returns
        -------
        Run

        Raises
        ------
        DataError
            If all the run's checkpoints are damaged.
        """
        run_dir = os.path.join(log_dir, run_id)
        start = recovery.find_own_checkpoint(run_dir) if first_step is None else (None, first_step)
        return cls(log_dir, run_id, *start, is_own=False)

    @classmethod
    @contextlib.contextmanager
    def taking_part(
        cls, log_dir: Path, run_id: str | None, restore_path: Path | None, is_chief: bool
    ) -> Iterator["Run"]:
        """Open a run if this process is the chief; join it if another one is.

        If the checkpoint `restore_path`, which a new run starts from, is missing, nothing is left
        behind.

        Parameters
        ----------
        log_dir : str or Path
        run_id : str, optional
            A process other than the chief needs it.
        restore_path : str or Path, optional
        is_chief : bool

        Yields
        ------
        Run

        Raises
        ------
        UsageError, DataError, RunError
            As in `open`.
        MissingPathError
            If the checkpoint is missing.
        """
        if not is_chief:
            yield cls.join(log_dir, str(run_id))
            return
        with cls.open(log_dir, run_id) as run:
            if restore_path is not None and run.checkpoint is None:
                records.resolve_checkpoint(restore_path)
            run.record_as_latest()
            yield run

    def begin(self, config: RunConfig, class_names: Sequence[str] | None = None) -> None:
        """Compare the settings with the recorded ones, record them, and make the run the latest.

        Parameters
        ----------
        config : RunConfig
            Saved in the run's folder. A process that has joined the run writes nothing.
        class_names : sequence of str, optional
            The name of the identity of each class; saved in the run's folder, too.

        Raises
        ------
        UsageError
            If an earlier part of the run had another network, class count, image shape or loss.
        DataError
            If it had other identities.
        """
        if not self.is_own:
            return
        if not self._is_new:
            changes = resuming.compare(self.run_dir, config, class_names)
            if changes:
                _logger.info(
                    "Run %s goes on with other settings: %s", self.run_id, ", ".join(changes)
                )
        if stopping.withdraw(self.run_dir):
            _logger.info("Run %s goes on: its file %s is removed", self.run_id, stopping.FILENAME)
        self._latest_before = folder.find_recorded_run(self.log_dir)
        self._has_begun = True
        # Once the run is the latest, a waiting evaluation reads its settings: save them before.
        if class_names is not None:
            labels.save(self.run_dir, class_names)
        config.save(self.run_dir)
        self.record_as_latest()

    def record_as_latest(self) -> None:
        """Record the run as the latest of its log directory."""
        folder.record_latest_run(self.log_dir, self.run_id)

    @contextlib.contextmanager
    def _undone_if_wrong(self):
        try:
            yield
        except (UsageError, DataError):
            if self._is_new and self._has_begun and not self._has_learned():
                is_latest = folder.find_recorded_run(self.log_dir) == self.run_id
                shutil.rmtree(self.run_dir)
                if is_latest:
                    folder.record_latest_run(self.log_dir, self._latest_before)
            raise

    def _has_learned(self):
        return any(map(records.step_in_name, records.list_unrecorded(self.run_dir)))


def _lock(stack, log_dir, run_id):
    """Lock a run until the stack is closed, and return its name."""
    if run_id is not None:
        folder.check_name(run_id)
        stack.enter_context(locks.holding(os.path.join(log_dir, run_id), f"run {run_id}"))
        return run_id
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    names = itertools.chain([now], (f"{now}-{number}" for number in itertools.count(2)))
    while True:
        run_id = next(names)
        run_dir = os.path.join(log_dir, run_id)
        # When two processes begin in the same second, the second one gets the next name.
        with contextlib.suppress(FileExistsError):
            stack.enter_context(locks.holding(run_dir, f"run {run_id}", is_new=True))
            return run_id


def _remove_unused_runs(log_dir, own):
    """Remove runs, but not one's own, that were killed before they wrote more than their lock."""
    for path in pathlib.Path(log_dir).iterdir():
        # It may be locked, be a folder of somebody else, or be gone by now.
        with contextlib.suppress(RunError, PermissionError, FileNotFoundError):
            has_lock = (path / locks.TRAINING.filename).exists()
            # An empty folder is only known by a name as we make them.
            is_run = has_lock or _MADE_NAME.fullmatch(path.name) is not None
            # A training that begins at this moment may not have locked its folder yet.
            is_young = time.time() - path.stat().st_mtime < _GRACE_SECS
            if not is_run or is_young or path.name == own or not locks.is_unused(path):
                continue
            with locks.holding(path, f"run {path.name}") as is_locked:
                if is_locked:
                    locks.remove_if_unused(path)

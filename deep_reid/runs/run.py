"""A run that is open for training: its lock, its folder, and where it goes on."""

import contextlib
import datetime
import itertools
import logging
import os
import pathlib
import shutil

from deep_reid.config import RunConfig
from deep_reid.config.setting import list_settings
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.runs import folder, labels, recovery, saving
from deep_reid.system import locks

_logger = logging.getLogger(__name__)


class Run:
    """A run that is open for training.

    `Run.open` opens one for the process that trains it, `Run.join` for its other workers. The open
    run is then handed down: nothing below opens it again.

    Attributes
    ----------
    log_dir : str or Path
    run_id : str
        The run's name.
    run_dir : str
        Its folder, ``log_dir/run_id``.
    checkpoint : str or None
        Where the run goes on: the prefix of its newest checkpoint that can be read. None: it has
        none yet.
    first_step : int
        The step of that checkpoint, else 0.
    """

    def __init__(self, log_dir, run_id, checkpoint=None, first_step=0):
        self.log_dir = log_dir
        self.run_id = run_id
        self.run_dir = os.path.join(log_dir, run_id)
        self.checkpoint = checkpoint
        self.first_step = first_step
        self._is_new = locks.is_unused(self.run_dir)
        self._has_begun = False
        self._latest_before = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, log_dir, run_id=None):
        """Open a run for training, until the block ends.

        Other processes and threads are kept out, the folder is made, what a killed training left of
        a half-saved checkpoint is removed, and the newest checkpoint that can be read is recorded
        as the latest. The system releases the lock when the process ends, however it does.

        At the end, a folder that nothing was written to is removed again. So is a run that had
        begun, but was stopped by a UsageError or DataError before it learned anything (before it
        had a checkpoint beyond step 0); the run before it is the latest again then. What else may
        stop it, such as a full disk or numbers that are not finite, leaves its checkpoint and its
        curves.

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
            If `run_id` is no plain folder name.
        DataError
            If all the run's checkpoints are damaged.
        RunError
            If the run is being trained by another process; the message names it.
        """
        with contextlib.ExitStack() as stack:
            run_id = _lock(stack, log_dir, run_id)
            run_dir = os.path.join(log_dir, run_id)
            try:
                saving.remove_partial_checkpoints(run_dir)
                run = cls(log_dir, run_id, *recovery.recover_own_checkpoint(run_dir))
                with run._undone_if_wrong():
                    yield run
            finally:
                if locks.is_unused(run_dir):
                    shutil.rmtree(run_dir, ignore_errors=True)

    @classmethod
    def join(cls, log_dir, run_id):
        """Look at a run that another process, the chief, holds open: nothing is changed.

        Parameters
        ----------
        log_dir : str or Path
        run_id : str

        Returns
        -------
        Run

        Raises
        ------
        DataError
            If all the run's checkpoints are damaged.
        """
        run_dir = os.path.join(log_dir, run_id)
        return cls(log_dir, run_id, *recovery.find_own_checkpoint(run_dir))

    def begin(self, config, class_names=None):
        """Compare the settings with the recorded ones, record them, and make the run the latest.

        Parameters
        ----------
        config : RunConfig
            Saved in the run's folder.
        class_names : sequence of str, optional
            The identity of each class; saved in the run's folder, too.

        Raises
        ------
        UsageError
            If an earlier part of the run had another network, class count, image shape or loss.
        DataError
            If it had other identities.
        """
        if not self._is_new:
            if class_names is not None:
                labels.check_same(self.run_dir, class_names)
            _compare_settings(self.run_dir, config)
        self._latest_before = folder.find_recorded_run(self.log_dir)
        self._has_begun = True
        # An evaluation that waits for the run reads its settings: they come before its name.
        if class_names is not None:
            labels.save(self.run_dir, class_names)
        config.save(self.run_dir)
        self.record_as_latest()

    def record_as_latest(self):
        """Record the run as the latest of its log directory."""
        folder.record_latest_run(self.log_dir, self.run_id)

    @contextlib.contextmanager
    def _undone_if_wrong(self):
        try:
            yield
        except (UsageError, DataError):
            if self._is_new and self._has_begun and not _has_learned(self.run_dir):
                is_latest = folder.find_recorded_run(self.log_dir) == self.run_id
                shutil.rmtree(self.run_dir)
                if is_latest:
                    folder.record_latest_run(self.log_dir, self._latest_before)
            raise


def _lock(stack, log_dir, run_id):
    """Lock a run until the stack is closed, and return its name."""
    if run_id is not None:
        if not folder.is_plain_name(run_id):
            raise UsageError(f"run_id ({run_id!r}) must be a plain folder name, such as 'baseline'")
        stack.enter_context(locks.holding(os.path.join(log_dir, run_id), f"run {run_id}"))
        return run_id
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    names = itertools.chain([now], (f"{now}-{number}" for number in itertools.count(2)))
    while True:
        run_id = next(names)
        run_dir = os.path.join(log_dir, run_id)
        # Two processes that begin in the same second get two runs.
        with contextlib.suppress(FileExistsError):
            stack.enter_context(locks.holding(run_dir, f"run {run_id}", is_new=True))
            return run_id


def _compare_settings(run_dir, config):
    try:
        earlier = RunConfig.load(run_dir)
    except MissingPathError:
        return  # of another program, or stopped before it began
    run_id = os.path.basename(run_dir)
    changes = []
    for name, facts in list_settings(RunConfig).items():
        before, now = getattr(earlier, name), getattr(config, name)
        if before == now:
            continue
        if facts.is_fixed and before is not None:
            raise UsageError(
                f"run {run_id} has {name} {before}, not {now}: use its own, or start a new run "
                "with another run_id"
            )
        changes.append(f"{name} {now} (was {before})")
    if changes:
        _logger.info("Run %s goes on with other settings: %s", run_id, ", ".join(changes))


def _has_learned(run_dir):
    names = [path.stem for path in pathlib.Path(run_dir).glob("*.index")]
    return any(not name.endswith("-0") for name in names)

"""Run directories, the names of checkpoints, and how variables are restored from them."""

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

from deep_reid import files
from deep_reid.compat import slim, tf
from deep_reid.errors import DataError, MissingPathError, ReidError, UsageError

LATEST_RUN_FILENAME = "latest_run"

_logger = logging.getLogger(__name__)
_CHECKPOINT_FILE = re.compile(r"(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})")
_STEP = re.compile(r"-(\d+)$")


def start_run(log_dir, run_id=None):
    """Make the directory of a run, and record the run as the latest of its log directory.

    Parameters
    ----------
    log_dir : str or Path
    run_id : str, optional
        Name of the run. Default: a new one, from date and time.

    Returns
    -------
    str
        The run's name; its directory is ``log_dir/run_id``.

    Raises
    ------
    UsageError
        If `run_id` is no plain folder name.
    """
    run_id = _checked_run_id(log_dir, run_id)
    os.makedirs(os.path.join(log_dir, run_id), exist_ok=True)
    files.write_text(os.path.join(log_dir, LATEST_RUN_FILENAME), run_id + "\n")
    return run_id


@contextlib.contextmanager
def open_run(log_dir, config, run_id=None):
    """Start a run with its settings; undo that when its data or settings turn out to be wrong.

    A run that is stopped by a `deep_reid.errors.ReidError` before it has learned anything (no
    checkpoint beyond step 0) leaves nothing behind, and the run before it is the latest again.

    Parameters
    ----------
    config : RunConfig
        Saved in the run's directory.
    log_dir, run_id
        As in `start_run`.

    Yields
    ------
    str
        The run's name.
    """
    latest_run = find_latest_run(log_dir)
    run_id = _checked_run_id(log_dir, run_id)
    run_dir = os.path.join(log_dir, run_id)
    is_new, is_first = not os.path.exists(run_dir), not os.path.exists(log_dir)
    # Whoever waits for a run finds its settings: they come before its name is recorded.
    config.save(run_dir)
    start_run(log_dir, run_id)
    try:
        yield run_id
    except ReidError:
        if is_new and all(_step_in_name(prefix) == 0 for prefix in list_checkpoints(run_dir)):
            shutil.rmtree(run_dir)
            _forget_latest_run(log_dir, latest_run)
            if is_first:
                os.rmdir(log_dir)
        raise


def find_latest_run(log_dir):
    """Return the name of the run that was started last in a log directory.

    Parameters
    ----------
    log_dir : str or Path

    Returns
    -------
    str or None
        None where there is no run yet. Runs of other programs, which record nothing, are found by
        the age of their checkpoints.
    """
    log_dir = pathlib.Path(log_dir)
    try:
        run_id = (log_dir / LATEST_RUN_FILENAME).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        run_id = ""
    if run_id and (log_dir / run_id).is_dir():
        return run_id
    runs = {path.parent.name: path.stat().st_mtime for path in log_dir.glob("*/checkpoint")}
    return max(runs, key=runs.get) if runs else None


def wait_for_run(log_dir, interval_secs=1, timeout_secs=None):
    """Wait until a log directory has a run, and return the latest.

    Parameters
    ----------
    log_dir : str or Path
    interval_secs : float
        Seconds between two looks.
    timeout_secs : float, optional
        Default: no limit.

    Returns
    -------
    str
        The run's name.

    Raises
    ------
    MissingPathError
        If there is no run after `timeout_secs`.
    """
    started_at = time.monotonic()
    is_announced = False
    while (run_id := find_latest_run(log_dir)) is None:
        if timeout_secs is not None and time.monotonic() - started_at >= timeout_secs:
            raise MissingPathError(
                f"{log_dir} has no run after {timeout_secs:g} s: start one (--mode=train)"
            )
        if not is_announced:
            _logger.info("Waiting for a run in %s", log_dir)
            is_announced = True
        time.sleep(interval_secs)
    return run_id


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
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        prefix = _latest_in_directory(path)
        if prefix is None:
            raise MissingPathError(
                f"{path} holds no checkpoint: name a run's directory or a checkpoint, or train "
                "first (--mode=train)"
            )
        return prefix
    match = _CHECKPOINT_FILE.fullmatch(path)
    prefix = match["prefix"] if match else path
    if exists(prefix):
        return prefix
    if os.path.basename(path) == "checkpoint" and os.path.isfile(path):
        return resolve_checkpoint(os.path.dirname(path) or ".")
    raise MissingPathError(f"checkpoint {path} does not exist: {_suggest_checkpoints(path)}")


def list_checkpoints(checkpoint_dir):
    """List the complete checkpoints that a directory records.

    Parameters
    ----------
    checkpoint_dir : str or Path

    Returns
    -------
    list of str
        Prefixes, the oldest first; empty where the directory does not exist.
    """
    state = tf.train.get_checkpoint_state(os.fspath(checkpoint_dir))
    prefixes = list(state.all_model_checkpoint_paths) if state else []
    return [prefix for prefix in prefixes if exists(prefix)]


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
        A checkpoint's prefix. A checkpoint that was deleted before its turn is left out.
    """
    seen = set()
    waiting_since = time.monotonic()
    while True:
        looked_at = time.monotonic()
        new = [prefix for prefix in list_checkpoints(checkpoint_dir) if prefix not in seen]
        if new:
            seen.add(new[0])
            yield new[0]
            waiting_since = time.monotonic()
            continue
        if timeout_secs is not None and time.monotonic() - waiting_since >= timeout_secs:
            _logger.info("No new checkpoint for %g s in %s", timeout_secs, checkpoint_dir)
            return
        pause = looked_at + interval_secs - time.monotonic()
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
    if reader.has_tensor("global_step"):
        return int(reader.get_tensor("global_step"))
    return _step_in_name(checkpoint_path)


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


@dataclasses.dataclass(frozen=True)
class RestorePlan:
    """Which variables of a graph a checkpoint provides.

    Parameters
    ----------
    checkpoint_path : str
    restored : tuple of tf.Variable
    missing : tuple of str
        Names of variables that the checkpoint does not have.
    mismatched : tuple of str
        Names, with both shapes, of variables whose shape differs.
    unused : tuple of str
        Names in the checkpoint that the graph does not have.
    """

    checkpoint_path: str
    restored: tuple
    missing: tuple
    mismatched: tuple
    unused: tuple

    def create_init_fn(self):
        """Create ``fn(session)`` that restores the variables, while the graph can still grow.

        Returns
        -------
        callable
        """
        if not self.restored:
            raise DataError(
                f"checkpoint {self.checkpoint_path} has none of the network's variables: name a "
                "checkpoint of this network"
            )
        saver = tf.train.Saver(self.restored)
        return lambda session: saver.restore(session, self.checkpoint_path)

    def check_complete(self):
        """Raise if a variable would keep its start value.

        Raises
        ------
        DataError
        """
        if self.missing or self.mismatched:
            raise DataError(
                f"checkpoint {self.checkpoint_path} does not fit the network: it lacks "
                f"{_summarize(self.missing)}; other shapes: {_summarize(self.mismatched)}. Name a "
                "checkpoint of this network and of this image shape"
            )

    def log_report(self):
        """Log how many variables are restored, and name those that are not."""
        _logger.info("Restoring %d variables from %s", len(self.restored), self.checkpoint_path)
        for title, names in (
            ("Not in the checkpoint, left at their start values", self.missing),
            ("Of another shape, left at their start values", self.mismatched),
        ):
            if names:
                _logger.warning("%s: %s", title, ", ".join(names))
        if self.unused:
            _logger.info("In the checkpoint but not used: %s", _summarize(self.unused))


def plan_restore(checkpoint_path, variables):
    """Compare variables with what a checkpoint has.

    Parameters
    ----------
    checkpoint_path : str or Path
        In any form that `resolve_checkpoint` takes.
    variables : sequence of tf.Variable

    Returns
    -------
    RestorePlan

    Raises
    ------
    MissingPathError
        If there is no such checkpoint.
    """
    checkpoint_path = resolve_checkpoint(checkpoint_path)
    shapes = variable_shapes(checkpoint_path)
    restored, missing, mismatched = [], [], []
    for variable in variables:
        name, shape = variable.op.name, variable.get_shape().as_list()
        if name not in shapes:
            missing.append(name)
        elif shapes[name] != shape:
            mismatched.append(f"{name} ({shapes[name]} in the checkpoint, {shape} here)")
        else:
            restored.append(variable)
    unused = set(shapes) - {variable.op.name for variable in variables}
    return RestorePlan(
        checkpoint_path, tuple(restored), tuple(missing), tuple(mismatched), tuple(sorted(unused))
    )


def restore_model(session, checkpoint_path):
    """Restore all model variables of the session's graph: weights and batch norm statistics.

    Parameters
    ----------
    session : tf.Session
    checkpoint_path : str or Path
        In any form that `resolve_checkpoint` takes.

    Returns
    -------
    str
        The checkpoint's prefix.

    Raises
    ------
    MissingPathError
        If there is no such checkpoint.
    DataError
        If the checkpoint lacks a variable or has it in another shape.
    """
    with session.graph.as_default():
        plan = plan_restore(checkpoint_path, slim.get_model_variables())
        plan.check_complete()
        init_fn = plan.create_init_fn()
    with _naming_damaged(plan.checkpoint_path):
        init_fn(session)
    return plan.checkpoint_path


def _open(prefix):
    with _naming_damaged(prefix):
        return tf.train.load_checkpoint(prefix)


@contextlib.contextmanager
def _naming_damaged(prefix):
    try:
        yield
    except tf.errors.OpError as error:
        reason = error.message.strip().partition("\n")[0]
        raise DataError(
            f"checkpoint {prefix} cannot be read ({reason}): name another one, or copy it again"
        ) from error


def _checked_run_id(log_dir, run_id):
    if run_id is None:
        return _create_run_id(log_dir)
    if run_id in ("", "..") or pathlib.PurePath(run_id).name != run_id:
        raise UsageError(f"run_id ({run_id!r}) must be a plain folder name, such as 'baseline'")
    return run_id


def _create_run_id(log_dir):
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    candidates = itertools.chain([now], (f"{now}-{number}" for number in itertools.count(2)))
    return next(name for name in candidates if not os.path.exists(os.path.join(log_dir, name)))


def _forget_latest_run(log_dir, previous_run):
    path = os.path.join(log_dir, LATEST_RUN_FILENAME)
    if previous_run is None:
        os.unlink(path)
    else:
        files.write_text(path, previous_run + "\n")


def _latest_in_directory(directory):
    # Published checkpoints often come without the file that names the latest one.
    checkpoints = list_checkpoints(directory) or _list_unrecorded(directory)
    if checkpoints:
        return checkpoints[-1]
    run_id = find_latest_run(directory)
    return _latest_in_directory(os.path.join(directory, run_id)) if run_id else None


def _list_unrecorded(directory):
    prefixes = [os.fspath(path.with_suffix("")) for path in pathlib.Path(directory).glob("*.index")]
    return sorted(prefixes, key=lambda prefix: (_step_in_name(prefix), prefix))


def _step_in_name(prefix):
    match = _STEP.search(prefix)
    return int(match[1]) if match else 0


def _suggest_checkpoints(path):
    directory = os.path.dirname(path) or "."
    names = [os.path.basename(prefix) for prefix in _list_unrecorded(directory)]
    if not names:
        return f"{directory} holds none either; name a run's directory or a checkpoint's prefix"
    return f"{directory} has {', '.join(names[-5:])}"


def _summarize(names, at_most=5):
    if not names:
        return "none"
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more

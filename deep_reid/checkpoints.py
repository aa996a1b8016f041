"""The names of checkpoints, and how variables are restored from them."""

import contextlib
import dataclasses
import logging
import os
import pathlib
import re
import time

from deep_reid import runs
from deep_reid.compat import slim, tf
from deep_reid.errors import DataError, MissingPathError, first_line
from deep_reid.tables import align

_logger = logging.getLogger(__name__)
_CHECKPOINT_FILE = re.compile(r"(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})")
_STEP = re.compile(r"-(\d+)$")


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
    match = _CHECKPOINT_FILE.fullmatch(path)
    prefix = match["prefix"] if match else path
    if exists(prefix):
        return prefix
    if os.path.basename(path) == "checkpoint" and os.path.isfile(path):
        return resolve_checkpoint(os.path.dirname(path) or ".")
    raise MissingPathError(f"checkpoint {path} does not exist: {_suggest_checkpoints(path)}")


def find_own_checkpoint(log_dir, run_id):
    """Find the checkpoint at which a run goes on.

    Parameters
    ----------
    log_dir : str or Path
    run_id : str or None
        None: a new run.

    Returns
    -------
    str or None
        The latest checkpoint's prefix; None for a run that has none yet.
    """
    return None if run_id is None else tf.train.latest_checkpoint(os.path.join(log_dir, run_id))


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
        # The first one is waited for more eagerly: who has just started wants to see it work.
        pause_secs = interval_secs if seen else min(interval_secs, 2)
        new = [prefix for prefix in list_checkpoints(checkpoint_dir) if prefix not in seen]
        if new:
            seen.add(new[0])
            yield new[0]
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


class Saver(tf.train.Saver):
    """A saver whose `restore` says which checkpoint is damaged or does not fit.

    What TensorFlow raises for a file that is cut short, ``OutOfRangeError``, passes for the clean
    end of a training elsewhere.
    """

    def restore(self, sess, save_path):
        """Restore variables, as ``tf.train.Saver`` does.

        Parameters
        ----------
        sess : tf.Session
        save_path : str
            The checkpoint's prefix.

        Raises
        ------
        DataError
            If the checkpoint is damaged, or lacks a variable or has it in another shape.
        """
        with _naming_damaged(save_path):
            super().restore(sess, save_path)


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
    excluded : tuple of str
        Names in the checkpoint of model variables that were not asked for.
    unused : tuple of str
        Names in the checkpoint that the model does not have.
    """

    checkpoint_path: str
    restored: tuple
    missing: tuple
    mismatched: tuple
    excluded: tuple
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
        saver = Saver(self.restored)
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
                "checkpoint of this network and of this image shape (--network, --image_shape, "
                "--gray)"
            )

    def log_report(self):
        """Log a table of what becomes of the variables, and the names of those that are skipped."""
        rows = [["restored", str(len(self.restored)), ""]]
        rows += [
            [title, str(len(names)), ", ".join(names)]
            for title, names in (
                ("skipped: shape", self.mismatched),
                ("skipped: not in checkpoint", self.missing),
                ("skipped: excluded", self.excluded),
            )
        ]
        rows.append(["unused in checkpoint", str(len(self.unused)), _summarize(self.unused, "")])
        _logger.info("Variables from %s:", self.checkpoint_path)
        for line in align([["", "variables", ""], *rows], left=(0, 2)).splitlines():
            _logger.info("%s", line)
        num_skipped = len(self.missing) + len(self.mismatched)
        if num_skipped:
            _logger.warning("%d variables are left at their start values", num_skipped)


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
    not_asked_for = set(shapes) - {variable.op.name for variable in variables}
    excluded = not_asked_for & {variable.op.name for variable in slim.get_model_variables()}
    return RestorePlan(
        checkpoint_path,
        restored=tuple(restored),
        missing=tuple(missing),
        mismatched=tuple(mismatched),
        excluded=tuple(sorted(excluded)),
        unused=tuple(sorted(not_asked_for - excluded)),
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
        plan.create_init_fn()(session)
    return plan.checkpoint_path


def _open(prefix):
    with _naming_damaged(prefix):
        return tf.train.load_checkpoint(prefix)


@contextlib.contextmanager
def _naming_damaged(prefix):
    try:
        yield
    except (tf.errors.OpError, ValueError) as error:
        raise DataError(
            f"checkpoint {prefix} cannot be restored ({first_line(error)}): it is damaged or of "
            "another network; name another one"
        ) from error


def _latest_in_directory(directory):
    # Published checkpoints often come without the file that names the latest one.
    checkpoints = list_checkpoints(directory) or _list_unrecorded(directory)
    if checkpoints:
        return checkpoints[-1]
    run_id = runs.find_latest_run(directory)
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


def _summarize(names, none="none", at_most=5):
    if not names:
        return none
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more

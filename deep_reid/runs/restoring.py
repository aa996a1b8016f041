"""Restoring variables of a graph from a checkpoint: a plan, a table of it for the log, the act."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence

from deep_reid.errors import DataError
from deep_reid.runs.checkpoints import variable_shapes
from deep_reid.runs.records import resolve_checkpoint
from deep_reid.runs.saving import Saver
from deep_reid.runtime.compat import slim, tf
from deep_reid.system.files import Path
from deep_reid.system.tables import align, list_some

_logger = logging.getLogger(__name__)

OF_AVERAGES = "/ExponentialMovingAverage"
"""What follows a variable's name in the name of its average, as TensorFlow's own class has it."""


def _name_in_checkpoint(variable, names):
    average = variable.op.name + OF_AVERAGES
    return average if average in names else variable.op.name


class Restorer:
    """Restores the same variables from one checkpoint after the other.

    Where a checkpoint has an average of a variable (``ema_decay``), that is restored.

    Parameters
    ----------
    variables : sequence of tf.Variable
    """

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        self._variables = variables
        # Most checkpoints have no averages. The graph may be finalized later.
        self._savers = {frozenset(v.op.name for v in variables): Saver(list(variables))}

    def restore(self, session: tf.Session, checkpoint_path: str) -> None:
        """Restore the variables.

        Parameters
        ----------
        session : tf.Session
        checkpoint_path : str
            The checkpoint's prefix.

        Raises
        ------
        DataError
            If it is damaged or deleted, or lacks a variable.
        """
        shapes = variable_shapes(checkpoint_path)
        variables = {
            _name_in_checkpoint(variable, shapes): variable for variable in self._variables
        }
        names = frozenset(variables)
        if names not in self._savers:
            self._savers[names] = Saver(variables)
        self._savers[names].restore(session, checkpoint_path)


@dataclasses.dataclass(frozen=True)
class RestorePlan:
    """Which variables of a graph a checkpoint provides.

    Parameters
    ----------
    checkpoint_path : str
    restored : dict of str -> tf.Variable
        By their names in the checkpoint.
    missing : tuple of str
        Names of variables that the checkpoint does not have.
    mismatched : tuple of str
        Names, with both shapes, of variables whose shape differs.
    excluded : tuple of str
        Names of model variables that the checkpoint has, but that were not asked for.
    unused : tuple of str
        Names in the checkpoint that the model does not have.
    """

    checkpoint_path: str
    restored: Mapping[str, tf.Variable]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    excluded: tuple[str, ...]
    unused: tuple[str, ...]

    def create_init_fn(self) -> Callable[[tf.Session], None]:
        """Add the ops that restore the variables to the graph.

        Returns
        -------
        callable
            ``fn(session)`` runs them.

        Raises
        ------
        DataError
            If the checkpoint has none of the variables.
        """
        if not self.restored:
            raise DataError(
                f"checkpoint {self.checkpoint_path} has none of the network's variables: name a "
                "checkpoint of this network"
            )
        return functools.partial(Saver(dict(self.restored)).restore, save_path=self.checkpoint_path)

    def check_complete(self) -> None:
        """Check that the checkpoint provides all variables.

        Raises
        ------
        DataError
            If a variable would keep its start value.
        """
        reasons = (("it lacks", self.missing), ("other shapes:", self.mismatched))
        reason = "; ".join(f"{title} {list_some(names)}" for title, names in reasons if names)
        if reason:
            raise DataError(
                f"checkpoint {self.checkpoint_path} does not fit the network: {reason}. Name a "
                "checkpoint of this network and of this image shape (settings network, "
                "image_shape, gray)"
            )

    def log_report(self) -> None:
        """Log how many variables are restored and skipped, with the names of the skipped ones."""
        rows = [
            ("", "variables", ""),
            ("restored", str(len(self.restored)), ""),
            ("skipped: shape", str(len(self.mismatched)), ", ".join(self.mismatched)),
            ("skipped: not in checkpoint", str(len(self.missing)), ", ".join(self.missing)),
            ("skipped: excluded", str(len(self.excluded)), ", ".join(self.excluded)),
            ("unused in checkpoint", str(len(self.unused)), list_some(self.unused, "")),
        ]
        _logger.info("Variables from %s:", self.checkpoint_path)
        for line in align(rows, left=(0, 2)).splitlines():
            _logger.info("%s", line)
        num_skipped = len(self.missing) + len(self.mismatched)
        if num_skipped:
            _logger.warning("%d variables are left at their start values", num_skipped)


def plan_restore(checkpoint_path: Path, variables: Sequence[tf.Variable]) -> RestorePlan:
    """Compare variables with those of a checkpoint.

    Where the checkpoint has an average of a variable (``ema_decay``), that is restored.

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
    DataError
        If it is damaged.
    """
    checkpoint_path = resolve_checkpoint(checkpoint_path)
    shapes = variable_shapes(checkpoint_path)
    restored, missing, mismatched = {}, [], []
    for variable in variables:
        name, shape = variable.op.name, variable.get_shape().as_list()
        if name not in shapes:
            missing.append(name)
        elif shapes[name] != shape:
            mismatched.append(f"{name} ({shapes[name]} in the checkpoint, {shape} here)")
        else:
            restored[_name_in_checkpoint(variable, shapes)] = variable
    not_asked_for = set(shapes) - {variable.op.name for variable in variables} - set(restored)
    excluded = not_asked_for & {variable.op.name for variable in slim.get_model_variables()}
    return RestorePlan(
        checkpoint_path,
        restored=restored,
        missing=tuple(missing),
        mismatched=tuple(mismatched),
        excluded=tuple(sorted(excluded)),
        unused=tuple(sorted(not_asked_for - excluded)),
    )


def plan_start(
    own_checkpoint: str | None,
    restore_path: Path | None,
    variables_to_restore: Sequence[tf.Variable] | None = None,
) -> Callable[[tf.Session], None] | None:
    """Log where a run starts, and create the ``init_fn`` for TF-Slim.

    TF-Slim calls it for a new run only: it never undoes what a run has learned.

    Parameters
    ----------
    own_checkpoint : str or None
        Where the run continues; None for a run that has no checkpoint yet.
    restore_path : str or Path, or None
        Where a run without a checkpoint takes its variables from, in any form that
        `resolve_checkpoint` takes. None: from their initializers.
    variables_to_restore : sequence of tf.Variable, optional
        Default: the model variables.

    Returns
    -------
    callable or None
        ``init_fn(session)``; None where there is nothing to restore from `restore_path`.

    Raises
    ------
    MissingPathError
        If there is no checkpoint at `restore_path`.
    DataError
        If it is damaged, or has none of the variables.
    """
    if own_checkpoint is not None:
        _logger.info("Resuming from the run's own checkpoint %s", own_checkpoint)
        if restore_path is not None:
            _logger.warning(
                "restore_path %s is not used: this run has a checkpoint of its own", restore_path
            )
        return None
    if restore_path is None:
        return None
    plan = plan_restore(restore_path, variables_to_restore or slim.get_model_variables())
    plan.log_report()
    return plan.create_init_fn()


def restore_model(session: tf.Session, checkpoint_path: Path) -> str:
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
        If the checkpoint is damaged, lacks a variable or has it in another shape.
    """
    with session.graph.as_default():
        plan = plan_restore(checkpoint_path, slim.get_model_variables())
        plan.check_complete()
        plan.create_init_fn()(session)
    return plan.checkpoint_path

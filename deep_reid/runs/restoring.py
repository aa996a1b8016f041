"""What a graph takes from a checkpoint: a plan of it, a table for the log, and the restoring."""

import dataclasses
import logging

from deep_reid.errors import DataError
from deep_reid.runs.checkpoints import naming_damaged, resolve_checkpoint, variable_shapes
from deep_reid.runtime.compat import slim, tf
from deep_reid.system.tables import align, list_some

_logger = logging.getLogger(__name__)


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
        saver = tf.train.Saver(self.restored)

        def restore(session):
            with naming_damaged(self.checkpoint_path):
                saver.restore(session, self.checkpoint_path)

        return restore

    def check_complete(self):
        """Raise if a variable would keep its start value.

        Raises
        ------
        DataError
        """
        reasons = (("it lacks", self.missing), ("other shapes:", self.mismatched))
        said = "; ".join(f"{title} {list_some(names)}" for title, names in reasons if names)
        if said:
            raise DataError(
                f"checkpoint {self.checkpoint_path} does not fit the network: {said}. Name a "
                "checkpoint of this network and of this image shape (settings network, "
                "image_shape, gray)"
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
        rows.append(["unused in checkpoint", str(len(self.unused)), list_some(self.unused, "")])
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


def plan_start(own_checkpoint, restore_path, variables_to_restore=None):
    """Log where a run starts, and return the ``init_fn`` for TF-Slim.

    TF-Slim calls it for a new run only: a run's own checkpoint is never rolled back.

    Parameters
    ----------
    own_checkpoint : str or None
        Where the run goes on; None for a run that has no checkpoint yet.
    restore_path : str or Path, optional
        Where a run without a checkpoint takes its variables from, in any form that
        `resolve_checkpoint` takes. Default: from their initializers.
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

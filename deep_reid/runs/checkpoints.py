"""The values of checkpoints: whether they can be read, their step, their variables."""

import contextlib
import logging
import os
from collections.abc import Iterator

from deep_reid.errors import DataError, first_line
from deep_reid.runs.records import list_files, resolve_checkpoint, step_in_name
from deep_reid.runtime import servers
from deep_reid.runtime.compat import tf
from deep_reid.system.files import Path

_logger = logging.getLogger(__name__)


def check_readable(prefix: str) -> int:
    """Check that each value of a checkpoint can be read and has the right checksum.

    Parameters
    ----------
    prefix : str

    Returns
    -------
    int
        Its training step, as `step_of` returns it.

    Raises
    ------
    DataError
        If it is damaged, incomplete or gone.
    """
    with naming_damaged(prefix):
        reader = tf.train.load_checkpoint(prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
        return _read_step(reader, prefix)


def is_readable(prefix: str) -> bool:
    """Return whether each value of a checkpoint can be read.

    Parameters
    ----------
    prefix : str

    Returns
    -------
    bool
    """
    try:
        check_readable(prefix)
    except DataError:
        return False
    return True


def warn_of_damage(prefix: str, error: DataError) -> None:
    """Log that a checkpoint is skipped.

    Parameters
    ----------
    prefix : str
    error : DataError
        From `check_readable`.
    """
    _logger.warning(
        "Checkpoint %s is skipped, as it cannot be read: %s",
        prefix,
        first_line(error.__cause__ or error),
    )


def step_of(prefix: str) -> int:
    """Return the training step of a checkpoint.

    Parameters
    ----------
    prefix : str

    Returns
    -------
    int
        From its variable ``global_step``, or else from its name, or else 0.

    Raises
    ------
    DataError
        If it is damaged or gone.
    """
    with naming_damaged(prefix):
        return _read_step(tf.train.load_checkpoint(prefix), prefix)


def variable_shapes(checkpoint_path: Path) -> dict[str, list[int]]:
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
    prefix = resolve_checkpoint(checkpoint_path)
    with naming_damaged(prefix):
        return tf.train.load_checkpoint(prefix).get_variable_to_shape_map()


@contextlib.contextmanager
def naming_damaged(prefix: str) -> Iterator[None]:
    """Replace TensorFlow's errors in the block by one that names the checkpoint.

    Devices and pipes, which might have no end, are not read.

    Parameters
    ----------
    prefix : str

    Raises
    ------
    DataError
    """
    for path in list_files(prefix):
        is_read = not path.endswith(".meta")
        if is_read and os.path.exists(path) and not os.path.isfile(path):
            raise DataError(f"{path} is not a regular file, as those of a checkpoint: name another")
    try:
        yield
    except servers.LOST:  # a server of a cluster, to which the variables were restored
        raise
    except (tf.errors.OpError, ValueError, IndexError) as error:  # IndexError: a file cut short
        if "bad magic number" in str(error):
            raise DataError(
                f"{prefix} is no checkpoint: name a checkpoint's prefix, one of its files or its "
                "directory"
            ) from error
        if not list_files(prefix):
            raise DataError(
                f"checkpoint {prefix} has been deleted meanwhile, as a training does with old "
                "ones: try again, or name a newer one"
            ) from error
        raise DataError(
            f"checkpoint {prefix} cannot be restored ({first_line(error)}): it is damaged or of "
            "another network; name another one"
        ) from error


def _read_step(reader, prefix):
    if reader.has_tensor("global_step"):
        return int(reader.get_tensor("global_step"))
    return step_in_name(prefix)

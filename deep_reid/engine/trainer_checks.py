"""Checks of the arguments of `QueuedTrainer`, before anything is built, fed or written."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deep_reid.config.run import check_positive_integer
from deep_reid.errors import RunError, UsageError
from deep_reid.runtime.compat import slim, tf

_PLACEHOLDERS = ("Placeholder", "PlaceholderWithDefault")
_RESERVED_FOR_RUN = {"train_step_fn", "train_step_kwargs", "logdir", "saver", "init_fn"}


def list_ancestors(op: tf.Operation) -> list[tf.Operation]:
    """List an op and all ops that it depends on, each once.

    Parameters
    ----------
    op : tf.Operation

    Returns
    -------
    list of tf.Operation
    """
    found, waiting = {}, [op]
    while waiting:
        op = waiting.pop()
        if op not in found:
            found[op] = None
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return list(found)


def check_feed(
    num_enqueue_threads: object, queue_capacity: object, feed_timeout_secs: float | None
) -> None:
    """Check the settings of the feed.

    Parameters
    ----------
    num_enqueue_threads, queue_capacity : object
        Must be int.
    feed_timeout_secs : float or None

    Raises
    ------
    UsageError
        If one of them breaks its rule.
    """
    check_positive_integer("num_enqueue_threads", num_enqueue_threads)
    check_positive_integer("queue_capacity", queue_capacity)
    if feed_timeout_secs is not None and not feed_timeout_secs > 0:
        raise UsageError(f"feed_timeout_secs ({feed_timeout_secs}) must be greater than 0")


def check_tensors(name: str, tensors: object) -> list[tf.Tensor]:
    """Check an argument that must be an iterable of tensors.

    Parameters
    ----------
    name : str
        The argument's name.
    tensors : object

    Returns
    -------
    list of tf.Tensor

    Raises
    ------
    UsageError
        If it is something else, or empty.
    """
    if isinstance(tensors, tf.Tensor) or not hasattr(tensors, "__iter__"):
        raise UsageError(f"{name} ({tensors!r}) must be a list of tensors: use [tensor]")
    tensors = list(tensors)
    if not tensors:
        raise UsageError(f"{name} is empty: name at least one tensor")
    for tensor in tensors:
        if not isinstance(tensor, tf.Tensor):
            raise UsageError(f"{name} has {tensor!r} in it, which is no tensor: leave it out")
    return tensors


def check_shapes(enqueue_vars: Iterable[tf.Tensor]) -> None:
    """Check that the rows of the queue have known shapes.

    Parameters
    ----------
    enqueue_vars : iterable of tf.Tensor

    Raises
    ------
    ValueError
        If a dimension other than the first is not known, or there is none.
    """
    for variable in enqueue_vars:
        shape = variable.get_shape()
        if shape.ndims == 0 or not shape[1:].is_fully_defined():
            raise ValueError(
                f"input {variable.name} has shape {shape}, but all dimensions after the first "
                "must be known: set them with set_shape"
            )


def check_placeholders(enqueue_vars: Sequence[tf.Tensor], input_vars: Sequence[tf.Tensor]) -> None:
    """Check that the inputs are the placeholders that the queue's tensors are computed from.

    Parameters
    ----------
    enqueue_vars, input_vars : sequence of tf.Tensor

    Raises
    ------
    UsageError
        If an input is no placeholder, a placeholder is missing, or one is not used.
    """
    for variable in input_vars:
        if variable.op.type not in _PLACEHOLDERS:
            raise UsageError(
                f"input_vars: {variable.name} is no placeholder, but the output of "
                f"{variable.op.type}: name the placeholders that enqueue_vars are computed from"
            )
    ancestors = (op for variable in enqueue_vars for op in list_ancestors(variable.op))
    needed = {op for op in ancestors if op.type in _PLACEHOLDERS}
    given = {variable.op for variable in input_vars}
    missing = [op.name for op in needed - given if op.type == "Placeholder"]
    if missing:
        raise UsageError(
            f"enqueue_vars need the placeholder {', '.join(sorted(missing))}, which nothing feeds: "
            "add it to input_vars"
        )
    unused = [op.name for op in given - needed]
    if unused:
        raise UsageError(
            f"input_vars: no tensor of enqueue_vars is computed from {', '.join(sorted(unused))}: "
            "leave it out, or add the tensors that are computed from it to enqueue_vars"
        )


def check_columns(dataset: object, input_vars: Sequence[tf.Tensor], batch_size: int) -> None:
    """Check the data of an evaluation.

    Parameters
    ----------
    dataset : object
        Must be a list, tuple or array with a column for each of `input_vars`.
    input_vars : sequence of tf.Tensor
    batch_size : int

    Raises
    ------
    UsageError
        If it is not in columns.
    RunError
        If the number of rows is not a multiple of the batch size.
    """
    is_sequence = isinstance(dataset, list | tuple | np.ndarray)
    if not is_sequence or len(dataset) != len(input_vars):
        kind = f"has {len(dataset)} columns" if is_sequence else f"is a {type(dataset).__name__}"
        raise UsageError(
            f"dataset {kind}, but there are {len(input_vars)} input_vars: use a list with one "
            "column for each, with all rows of the data"
        )
    for column in dataset:
        if not hasattr(column, "__len__") or not hasattr(column, "__getitem__"):
            raise UsageError(
                f"dataset has a column of type {type(column).__name__}: use arrays or lists, with "
                "one row for each row of the data"
            )
    sizes = [len(column) for column in dataset]
    if len(set(sizes)) > 1:
        raise UsageError(
            f"dataset has columns of {' and '.join(map(str, sizes))} rows: use columns of the same "
            "length"
        )
    _check_rows(sizes[0], batch_size)


def _check_rows(num_rows, batch_size):
    if num_rows < batch_size:
        raise RunError(
            f"the evaluation's {num_rows} rows are fewer than a batch ({batch_size}): use more "
            "data, or take smaller batches with get_input_vars"
        )
    if num_rows % batch_size:
        raise RunError(
            f"the evaluation's {num_rows} rows are no multiple of the batch size ({batch_size}): "
            f"{num_rows % batch_size} rows would be left out. Take batches of another size with "
            "get_input_vars"
        )


def check_slim_kwargs(
    slim_train_kwargs: Mapping[str, Any], run: object | None, is_chief: bool
) -> None:
    """Check the arguments for ``slim.learning.train``.

    Parameters
    ----------
    slim_train_kwargs : dict
    run : object or None
        An open run or a name; needed for a worker that is not the chief.
    is_chief : bool

    Raises
    ------
    UsageError
        If one is unknown, not supported or breaks its rule, or a worker lacks its `run_id`.
    """
    taken = sorted(_RESERVED_FOR_RUN & slim_train_kwargs.keys())
    if taken:
        raise UsageError(f"{', '.join(taken)} cannot be set: QueuedTrainer.run provides them")
    if slim_train_kwargs.get("sync_optimizer") is not None:
        raise UsageError(
            "sync_optimizer is not supported, as its thread would wait for ever after the last "
            "step: let the cluster synchronize the optimizer (deep_reid.runtime.cluster)"
        )
    if slim_train_kwargs.get("trace_every_n_steps") is not None:
        raise UsageError("trace_every_n_steps is not supported: use the TensorFlow profiler")
    known = inspect.signature(slim.learning.train).parameters
    unknown = sorted(slim_train_kwargs.keys() - known.keys())
    if unknown:
        raise UsageError(f"slim.learning.train knows no setting {', '.join(unknown)}: leave it out")
    if slim_train_kwargs.get("number_of_steps") is not None:
        check_positive_integer("number_of_steps", slim_train_kwargs["number_of_steps"])
    if not is_chief and run is None:
        raise UsageError("workers other than the chief need run_id: give all the same name")

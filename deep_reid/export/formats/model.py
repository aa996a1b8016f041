"""A network that a runtime computes; free of TensorFlow."""

import contextlib
import dataclasses
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deep_reid.errors import DataError, RunError, UsageError, first_line
from deep_reid.export.model_input import ModelInput
from deep_reid.system import memory


@dataclasses.dataclass(frozen=True)
class Model:
    """A network in a file, ready to be computed.

    Parameters
    ----------
    path : str
    runtime : str
        Name and version of the runtime, for logs.
    model_input : ModelInput
    feature_size : int
        Length of a feature, D.
    start : callable
        ``start() -> (compute, close)``, as `launch`, without its check: `compute` maps a batch,
        as ``model_input.convert`` returns it, to float32 features of shape (N, D). `close` frees
        the memory.
    is_concurrent : bool
        Whether several threads may call `compute` at once.
    """

    path: str
    runtime: str
    model_input: ModelInput
    feature_size: int
    start: Callable[[], tuple[Callable[[np.ndarray], np.ndarray], Callable[[], object]]]
    is_concurrent: bool = True

    def launch(self) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[], object]]:
        """Start the runtime in this process.

        Returns
        -------
        compute, close
            As of `start`. `compute` raises a `DataError` if the network does not give one feature
            for each image: some damaged graphs do, and older ones for images of a wrong size.
        """
        compute, close = self.start()

        def compute_checked(batch):
            features = compute(batch)
            expected = (len(batch), self.feature_size)
            if features.shape != expected:
                raise damaged(self.path, f"it gave {features.shape} numbers, not {expected}")
            return features

        _computing.add(compute_checked)
        return compute_checked, close

    @contextlib.contextmanager
    def running(self) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
        """Start the runtime until a block ends.

        Yields
        ------
        callable
            Maps images of uint8 and shape (N, height, width, channels), of the network's size, BGR
            or gray, to float32 features of shape (N, D).
        """
        compute, close = self.launch()
        try:
            yield lambda images: compute(self.model_input.convert(images))
        finally:
            close()


@dataclasses.dataclass(frozen=True)
class Graph:
    """A network to be written to a file.

    Parameters
    ----------
    graph_def : tf.GraphDef
        With constants instead of variables, and the nodes ``images`` and ``features``.
    model_input : ModelInput
    feature_size : int
    facts : dict
        What the file tells about itself, beside its input.
    calibration : np.ndarray or None
        Images by which int8's ranges are found, as the network takes them.
    """

    graph_def: Any
    model_input: ModelInput
    feature_size: int
    facts: Mapping[str, Any]
    calibration: np.ndarray | None = None


Tensor = tuple[tuple[int | None, ...], str]
"""The shape of a tensor, None where it is free, and the name of its type."""


def describe(
    path: str,
    runtime: str,
    facts: ModelInput | None,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    start: Callable[[], tuple[Callable[[np.ndarray], np.ndarray], Callable[[], object]]],
    *,
    is_concurrent: bool = True,
) -> Model:
    """Describe a network of which a runtime knows the tensors.

    Parameters
    ----------
    path, runtime, start, is_concurrent
        As in `Model`.
    facts : ModelInput or None
        What the file tells about its input. None: nothing.
    inputs, outputs : sequence of Tensor

    Returns
    -------
    Model

    Raises
    ------
    DataError
        If it does not map images to one vector each, or it is unknown which values it takes.
    """
    if len(inputs) != 1 or len(outputs) != 1:
        raise damaged(path, f"it has {len(inputs)} inputs and {len(outputs)} outputs")
    return Model(
        path=path,
        runtime=runtime,
        model_input=find_input(path, facts, *inputs[0]),
        feature_size=check_feature_shape(path, *outputs[0]),
        start=start,
        is_concurrent=is_concurrent,
    )


def find_input(
    path: str, facts: ModelInput | None, shape: tuple[int | None, ...], dtype: str
) -> ModelInput:
    """Tell what a file of a network takes, from what it tells about itself and from its tensor.

    Parameters
    ----------
    path : str
        For the message.
    facts : ModelInput or None
        None: the file says nothing.
    shape : tuple of int or None
        Of the input tensor, with the batch's axis.
    dtype : str

    Returns
    -------
    ModelInput

    Raises
    ------
    DataError
        If the file takes something else than images, or it is unknown which values it takes.
    """
    sizes = tuple(shape[1:])
    if facts is not None:
        if (facts.shape, facts.dtype.name) != (sizes, dtype):
            raise damaged(path, f"it takes {dtype} of shape {sizes}, but tells {facts.describe()}")
        return facts
    is_image = len(sizes) == 3 and all(sizes) and sizes[2] in (1, 3)
    if dtype == "uint8" and is_image:
        return ModelInput(sizes)
    raise DataError(
        f"{path} takes {dtype} of shape {sizes}, and does not tell which values: name a file of "
        "--mode=freeze"
    )


def damaged(path: str | os.PathLike[str], reason: BaseException | str) -> DataError:
    """Return the error for a file that a runtime cannot use.

    Parameters
    ----------
    path : str or Path
    reason : Exception or str

    Returns
    -------
    DataError
    """
    if isinstance(reason, BaseException):
        reason = first_line(reason) or type(reason).__name__
    return DataError(
        f"{os.fspath(path)} is damaged, or not of such a network ({reason}): write it again with "
        "--mode=freeze"
    )


def check_feature_shape(path: str, shape: tuple[int | None, ...], dtype: str) -> int:
    """Return the length of features.

    Parameters
    ----------
    path : str
        For the message.
    shape : tuple of int or None
        Of the output tensor, with the batch's axis.
    dtype : str

    Returns
    -------
    int

    Raises
    ------
    DataError
        If they are not vectors of float32.
    """
    if len(shape) != 2 or not isinstance(shape[1], int) or shape[1] < 1 or dtype != "float32":
        raise damaged(path, f"it gives {dtype} of shape {shape}, not one vector for each image")
    return shape[1]


# The process in which each runtime has computed, whose threads no forked process has.
_computing_in: dict[str, int] = {}
# What computes in this process, and what computes in the one that this process was forked from: to
# free it here, some runtimes would wait for ever for threads that only the parent has.
_computing: weakref.WeakSet[Callable[[np.ndarray], np.ndarray]] = weakref.WeakSet()
_kept_of_parent: list[Callable[[np.ndarray], np.ndarray]] = []

if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=lambda: _kept_of_parent.extend(_computing))


class ForkedError(RunError):
    """A process was forked, and has none of a runtime's threads."""


def enter_process(runtime: str) -> None:
    """Note that a runtime computes in this process, before it does.

    Parameters
    ----------
    runtime : str

    Raises
    ------
    ForkedError
        In a forked process where the runtime would wait for threads that it does not have.
    """
    if _computing_in.setdefault(runtime, os.getpid()) != os.getpid():
        raise ForkedError(
            f"this process was forked from one in which {runtime} had computed already, and has "
            "none of its threads: start processes by multiprocessing.get_context('spawn')"
        )


def closed_error() -> UsageError:
    """Return the error for a call of a closed encoder."""
    return UsageError("the encoder is closed: create another one")


def count_threads(given: int | None) -> int:
    """Return the number of threads to compute with: `given`, or all cores of this process.

    Parameters
    ----------
    given : int or None

    Returns
    -------
    int
    """
    return given or memory.count_cores()

"""Finds out whether a preprocessing function expects RGB or OpenCV's BGR; free of TensorFlow.

Images are RGB inside the package. A function that takes BGR has an attribute or a parameter for
this, or calls the package's own preprocessing for BGR: this is watched while the function runs.
"""

import contextvars
import functools
import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports NumPy, which old code may be without
    from deep_reid.interfaces import Preprocess, Tensor

KEEP_ORDER_OF_ARRAYS = contextvars.ContextVar("keep_order_of_arrays", default=False)
"""Whether a graph that is frozen after training on arrays takes images in these arrays' channel
order, as the original's graphs did. Set where old code runs unchanged."""

_INPUT_IS_BGR = "input_is_bgr"
_RUNNING: contextvars.ContextVar[tuple["WatchedPreprocessing", ...]] = contextvars.ContextVar(
    "running preprocessing", default=()
)
# Ops that keep the order of the channels and have the image as their first input.
_KEEPING_ORDER = {
    "AddV2", "Cast", "ClipByValue", "Div", "ExpandDims", "Identity",
    "Maximum", "Minimum", "Mul", "RealDiv", "ResizeArea", "ResizeBicubic",
    "ResizeBilinear", "ResizeNearestNeighbor", "Squeeze", "Sub",
}  # fmt: skip


class WatchedPreprocessing:
    """A preprocessing function and the channel order that it expects.

    The first of these decides: the function's attribute ``input_is_bgr``; the order for which it
    calls the package's own preprocessing on its image (so a lambda around that works, too); the
    default of its parameter ``input_is_bgr``, which may come from ``functools.partial``.

    Parameters
    ----------
    preprocess_fn : callable
        ``preprocess_fn(image, is_training=...)``.
    """

    def __init__(self, preprocess_fn: "Preprocess") -> None:
        self._preprocess_fn = preprocess_fn
        self._image = None
        self._seen: set[bool] = set()

    @property
    def takes_batches(self) -> bool:
        """Whether the function takes a batch of images in one call."""
        return bool(_find_attribute(self._preprocess_fn, "takes_batches"))

    @property
    def is_bgr_expected(self) -> bool | None:
        """True for BGR, False for RGB, None if unknown: a call of the function may show it."""
        attribute = _find_attribute(self._preprocess_fn, _INPUT_IS_BGR)
        if attribute is not None:
            return attribute
        if len(self._seen) == 1:
            return next(iter(self._seen))
        return _find_parameter(self._preprocess_fn)

    def __call__(self, image: "Tensor", is_training: bool = False) -> "Tensor":
        """Call the function, and watch its calls of the package's own preprocessing.

        Parameters
        ----------
        image : tf.Tensor
            One image, or a batch if the function takes batches.
        is_training : bool

        Returns
        -------
        tf.Tensor
        """
        self._image = image
        token = _RUNNING.set((*_RUNNING.get(), self))
        try:
            return self._preprocess_fn(image, is_training=is_training)
        finally:
            _RUNNING.reset(token)

    def note(self, image: "Tensor", input_is_bgr: bool) -> None:
        """Note a call of the package's own preprocessing, if it is for this function's image.

        Parameters
        ----------
        image : tf.Tensor
        input_is_bgr : bool
        """
        if _is_in_order_of(image, self._image):
            self._seen.add(bool(input_is_bgr))


def note_call(image: "Tensor", input_is_bgr: bool) -> None:
    """Let the watched functions that are running note a call of the package's own preprocessing.

    Parameters
    ----------
    image : tf.Tensor
    input_is_bgr : bool
    """
    for watched in _RUNNING.get():
        watched.note(image, input_is_bgr)


def _is_in_order_of(image, original):
    """Tell whether an image was computed from another one without moving its channels."""
    while image is not original:
        if image.op.type not in _KEEPING_ORDER:
            return False
        image = image.op.inputs[0]
    return True


def _find_attribute(function, name):
    """Return a bool attribute of a function, or of the one inside a partial; else None."""
    while not isinstance(value := getattr(function, name, None), bool):
        if not isinstance(function, functools.partial) or name in function.keywords:
            return None
        function = function.func
    return value


def _find_parameter(function):
    try:
        parameters = inspect.signature(function, follow_wrapped=False).parameters
    except (TypeError, ValueError):  # for example a function of a C library
        return None
    value = parameters[_INPUT_IS_BGR].default if _INPUT_IS_BGR in parameters else None
    return value if isinstance(value, bool) else None

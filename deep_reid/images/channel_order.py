"""Whether a preprocessing function expects RGB or OpenCV's BGR.

Images are RGB inside the package. A function that takes BGR says so, or is seen to: while it is
called, the package's own preprocessing notes what was asked of it.
"""

import contextvars
import functools
import inspect

KEEP_ORDER_OF_ARRAYS = contextvars.ContextVar("keep_order_of_arrays", default=False)
"""Whether a graph that is frozen after training on arrays takes images in the order that these had,
as the original's did; set where old code runs as it is."""

_ATTRIBUTE = "input_is_bgr"
_CALLED = contextvars.ContextVar("called preprocessing functions", default=())
# Ops that leave the channels in their order, and have the image as their first input.
_KEEPING_ORDER = {
    "AddV2",
    "Cast",
    "ClipByValue",
    "Div",
    "ExpandDims",
    "Identity",
    "Maximum",
    "Minimum",
    "Mul",
    "RealDiv",
    "ResizeArea",
    "ResizeBicubic",
    "ResizeBilinear",
    "ResizeNearestNeighbor",
    "Squeeze",
    "Sub",
}


class WatchedPreprocessing:
    """A preprocessing function, and the order of channels that it expects.

    In this order, these decide: the function's attribute ``input_is_bgr``; what it is seen to ask
    of the package's own preprocessing for the very image that it is given, so that a lambda around
    that is understood; the value of its parameter ``input_is_bgr``, also of ``functools.partial``.

    Parameters
    ----------
    preprocess_fn : callable
        ``preprocess_fn(image, is_training=...)``.
    """

    def __init__(self, preprocess_fn):
        self._preprocess_fn = preprocess_fn
        self._image = None
        self._seen = set()

    @property
    def takes_batches(self):
        """Whether the function takes a batch of images in one call."""
        return bool(getattr(_unwrap(self._preprocess_fn), "takes_batches", False))

    @property
    def is_bgr_expected(self):
        """True for BGR, False for RGB, None where that is not known, or not yet."""
        attribute = _find_attribute(self._preprocess_fn)
        if attribute is not None:
            return attribute
        if len(self._seen) == 1:
            return next(iter(self._seen))
        return _find_parameter(self._preprocess_fn)

    def __call__(self, image, is_training):
        """Call the function, and see what it asks of the package's own preprocessing.

        Parameters
        ----------
        image : tf.Tensor
            One image, or a batch where the function takes that.
        is_training : bool

        Returns
        -------
        tf.Tensor
        """
        self._image = image
        token = _CALLED.set((*_CALLED.get(), self))
        try:
            return self._preprocess_fn(image, is_training=is_training)
        finally:
            _CALLED.reset(token)

    def note(self, image, input_is_bgr):
        """Take in that the package's own preprocessing was called.

        Parameters
        ----------
        image : tf.Tensor
        input_is_bgr : bool
        """
        if _is_in_order_of(image, self._image):
            self._seen.add(bool(input_is_bgr))


def note_call(image, input_is_bgr):
    """Tell the functions that are being watched what the package's own one is called with.

    Parameters
    ----------
    image : tf.Tensor
    input_is_bgr : bool
    """
    for watched in _CALLED.get():
        watched.note(image, input_is_bgr)


def _is_in_order_of(image, original):
    while image is not original:
        if image.op.type not in _KEEPING_ORDER:
            return False
        image = image.op.inputs[0]
    return True


def _find_attribute(function):
    while True:
        value = getattr(function, _ATTRIBUTE, None)
        if isinstance(value, bool):
            return value
        if not isinstance(function, functools.partial) or _ATTRIBUTE in function.keywords:
            return None
        function = function.func


def _find_parameter(function):
    try:
        parameters = inspect.signature(function, follow_wrapped=False).parameters
    except (TypeError, ValueError):  # such as a function of a C library
        return None
    value = parameters[_ATTRIBUTE].default if _ATTRIBUTE in parameters else None
    return value if isinstance(value, bool) else None


def _unwrap(function):
    while isinstance(function, functools.partial):
        function = function.func
    return function

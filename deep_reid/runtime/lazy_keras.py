"""Keeps Keras 3 from being imported together with TensorFlow: that takes a fifth of the time.

TensorFlow imports it only so that its optimizers are registered. ``tf.keras`` imports it anyway
when it is first used, and that registers them, too.
"""

import contextlib
import importlib.machinery
import sys
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType

_NAME = "keras"


@contextlib.contextmanager
def without_keras() -> Iterator[None]:
    """Let imports of Keras fail in this thread within the block, as if it were not installed."""
    finder = _Finder(threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    def __init__(self, thread: int) -> None:
        self._thread = thread

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _NAME or threading.get_ident() != self._thread:
            return None
        # TensorFlow looks for the folder of Keras before: that it must find.
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _Refusing()
        return spec


class _Refusing:
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        raise ImportError(f"{_NAME} is imported when it is first used")

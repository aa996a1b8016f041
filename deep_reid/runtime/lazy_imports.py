"""Keeps packages from being imported together with TensorFlow, which takes seconds.

* TensorFlow imports Keras 3 only so that its optimizers are registered. ``tf.keras`` imports it
  anyway when it is first used, and that registers them, too.
* TF-Slim imports scikit-learn only for the scores in ``slim.losses.cluster_loss``.
"""

import contextlib
import importlib.machinery
import sys
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def without(package: str) -> Iterator[None]:
    """Let imports of a package fail in this thread within the block, as if it were not installed.

    Parameters
    ----------
    package : str
        If it is imported already, nothing changes.
    """
    finder = _Finder(package, threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class LazyModule(ModuleType):
    """Stands for a module, and imports it when one of its names is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


class _Finder:
    def __init__(self, package: str, thread: int) -> None:
        self._package, self._thread = package, thread

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._package or threading.get_ident() != self._thread:
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
        raise ImportError(f"{module.__name__} is imported when it is first used")

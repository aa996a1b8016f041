"""TensorFlow as old code sees it: release 1, in graph mode, with ``tf.contrib``."""

import functools
import importlib
import logging
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from deep_reid.legacy.contrib import create_contrib, create_package
from deep_reid.legacy.modules import import_if_found
from deep_reid.runtime.compat import tf


class _TensorFlow(ModuleType):
    """The module ``tensorflow``: names of ``tensorflow.compat.v1``, else of TensorFlow itself."""

    def __init__(self, today):
        super().__init__("tensorflow", today.__doc__)
        for name in ("__file__", "__path__", "__spec__", "__loader__", "__package__"):
            setattr(self, name, getattr(today, name))
        self._today = today
        self.__all__ = [name for name in dir(tf) if not name.startswith("_")]
        names = [name for name in dir(tf.compat) if not name.startswith("_")]
        compat = {name: getattr(tf.compat, name) for name in names}
        self.compat = create_package("tensorflow.compat", {**compat, "v1": self})
        self.contrib = create_contrib()

    def __getattr__(self, name):
        for module in (tf, self._today):
            if hasattr(module, name):
                value = getattr(module, name)
                break
        else:
            value = sys.modules.get(f"tensorflow.{name}")
            if value is None:
                raise AttributeError(
                    f"module 'tensorflow' has no attribute {name!r}", name=name, obj=self
                )
        setattr(self, name, value)
        return value

    def __dir__(self):
        return sorted({*super().__dir__(), *dir(tf), *dir(self._today)})


@functools.cache
def load(engine: str) -> ModuleType:
    """Import TensorFlow and TF-Slim, repaired, and make the module that old code sees.

    Parameters
    ----------
    engine : {"own", "deep_reid"}
        With "own", progress is logged as TensorFlow 1 did.

    Returns
    -------
    module
    """
    _silence_deprecations()
    for name in tf.flags.FLAGS:  # nearly each old script defines log_dir, as Abseil does
        tf.flags.FLAGS[name].allow_override = True
    _log_once(tf.get_logger())
    if engine == "own":
        tf.get_logger().setLevel(logging.INFO)
    return _TensorFlow(importlib.import_module("tensorflow"))


def _silence_deprecations():
    deprecation: Any = importlib.import_module("tensorflow.python.util.deprecation")
    deprecation._PRINT_DEPRECATION_WARNINGS = False
    warnings.filterwarnings("ignore", message=r"`(layer\.\w+|tf\.\S+)` is deprecated")
    warnings.filterwarnings("ignore", message=r"`\S+` is deprecated and will be removed in a fut")


def _log_once(logger):
    """Keep ``tf.app.run`` from a second line for each: it adds Abseil's handler to the root."""
    if logger.handlers:
        handler = importlib.import_module("absl.logging").get_absl_handler()
        handler.addFilter(lambda record: record.name != logger.name)


def import_name(name: str, fromlist: Sequence[str] | None, engine: str) -> ModuleType:
    """Import a module of TensorFlow as the ``import`` statement does.

    Parameters
    ----------
    name : str
        Dotted name.
    fromlist : sequence of str or None
        The names after ``from ... import``.
    engine : {"own", "deep_reid"}

    Returns
    -------
    module
        The module, or ``tensorflow`` without names after ``import``.

    Raises
    ------
    ModuleNotFoundError
        If there is no such module.
    """
    tensorflow = module = load(engine)
    path, *parts = name.split(".")
    for part in parts:
        path += f".{part}"
        module = _find_module(module, part, path)
        if module is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    for child in fromlist or ():
        if child != "*" and not hasattr(module, child):
            _find_module(module, child, f"{name}.{child}")
    return module if fromlist else tensorflow


def _find_module(parent, name, path):
    """Find a module of a package, among its attributes or by an import; None if there is none.

    Python's ``import`` goes on with the package's attributes: the module becomes one.
    """
    value = getattr(parent, name, None)
    if isinstance(value, ModuleType):
        return value
    if not hasattr(parent, "__path__"):
        return None
    # tensorflow.compat.v1.lite shows less than what is in the folder tensorflow/lite.
    module = import_if_found(f"{parent.__package__}.{name}") or import_if_found(path)
    if module is not None and value is None:
        setattr(parent, name, module)
    return module

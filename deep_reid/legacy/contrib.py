"""``tensorflow.contrib`` as far as TF-Slim and TensorFlow have its names."""

import functools
import importlib
import types

from deep_reid.runtime.compat import slim, tf

_CONTRIB = "tensorflow.contrib"
# The modules of TF-Slim that have a package's names; their own modules are found by file name, as
# in tensorflow.contrib.layers.python.layers.initializers.
_COUNTERPARTS = {
    "framework": ("tf_slim.ops.arg_scope", "tf_slim.ops.variables", "tf_slim.ops.framework_ops"),
    "layers": ("tf_slim.layers", "tf_slim.ops.arg_scope"),
    "losses": ("tf_slim.losses",),
    "metrics": ("tf_slim.metrics", "tf_slim.metrics.metric_ops"),
    "training": ("tf_slim.training.training", "tf_slim.training.evaluation"),
}
_FOLDERS = {"framework": "tf_slim.ops"}
_MOVED_MODULES = {
    "checkpoint_utils": "tensorflow.python.training.checkpoint_utils",
    "metric_loss_ops": "tf_slim.losses.metric_learning",
}
# Names that TensorFlow itself took over from contrib, with the same meaning.
_TAKEN_OVER = {
    "framework": {
        "CriticalSection": tf.CriticalSection,
        "argsort": tf.argsort,
        "assert_same_float_dtype": tf.debugging.assert_same_float_dtype,
        "assert_scalar": tf.debugging.assert_scalar,
        "create_global_step": tf.train.create_global_step,
        "get_global_step": tf.train.get_global_step,
        "get_or_create_global_step": tf.train.get_or_create_global_step,
        "init_from_checkpoint": tf.train.init_from_checkpoint,
        "is_non_decreasing": tf.debugging.is_non_decreasing,
        "is_numeric_tensor": tf.debugging.is_numeric_tensor,
        "is_strictly_increasing": tf.debugging.is_strictly_increasing,
        "is_tensor": tf.is_tensor,
        "list_variables": tf.train.list_variables,
        "load_checkpoint": tf.train.load_checkpoint,
        "load_variable": tf.train.load_variable,
        "nest": tf.nest,
        "sort": tf.sort,
        "zero_initializer": tf.zeros_initializer,
    },
    "metrics": {"confusion_matrix": tf.math.confusion_matrix},
}
_MISSING = object()


class Package(types.ModuleType):
    """A package that old code knows, made of other modules' names.

    Parameters
    ----------
    name : str
        Dotted name, as old code knows it.
    find : callable
        ``find(name)`` returns the value of a name. It raises ModuleNotFoundError or AttributeError
        where there is none.
    names : collection of str
        What ``from ... import *`` takes.
    """

    def __init__(self, name, find, names=()):
        super().__init__(name)
        self.__path__ = []
        self.__package__ = name
        self.__all__ = sorted(names)
        self.__dict__["_find"] = find

    def __dir__(self):
        return sorted({*super().__dir__(), *self.__all__})

    def __getattr__(self, name):
        if not name.startswith("__"):
            try:
                value = self._find(name)
            except (AttributeError, ModuleNotFoundError):
                pass
            else:
                setattr(self, name, value)
                return value
        raise AttributeError(
            f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self
        )


@functools.cache
def resolve(path):
    """Find the module that stands for one of contrib's.

    Parameters
    ----------
    path : str
        Dotted name below ``tensorflow.contrib``; empty for contrib itself.

    Returns
    -------
    module

    Raises
    ------
    ModuleNotFoundError
        If there is none.
    """
    if not path:
        return Package(_CONTRIB, resolve, {"slim", *_COUNTERPARTS})
    package, *rest = path.split(".")
    if package == "slim":
        return _resolve_slim(path, rest)
    if package not in _COUNTERPARTS:
        raise _not_found(path)
    # tensorflow.contrib.layers.python.layers is the package again, with its modules.
    if not rest or (rest[0] == "python" and len(rest) < 3):
        find = functools.partial(_find_in, package)
        return Package(f"{_CONTRIB}.{path}", find, _names_in(package))
    return _import(_module_of(package, rest[-1]), path)


def _resolve_slim(path, rest):
    importlib.import_module("tf_slim.nets")  # slim.nets was there without an import of its own
    if rest == ["python"]:
        return Package(f"{_CONTRIB}.{path}", {"slim": slim}.__getitem__)
    if rest[:2] == ["python", "slim"]:
        rest = rest[2:]
    return _import(".".join(["tf_slim", *rest]), path)


def _find_in(package, name):
    value = _TAKEN_OVER.get(package, {}).get(name, _MISSING)
    for module in _COUNTERPARTS[package]:
        if value is _MISSING:
            value = getattr(importlib.import_module(module), name, _MISSING)
    if value is _MISSING or _is_foreign_module(value):
        return importlib.import_module(_module_of(package, name))
    return value


def _names_in(package):
    names = set(_TAKEN_OVER.get(package, ()))
    for module in map(importlib.import_module, _COUNTERPARTS[package]):
        names |= {name for name, x in vars(module).items() if not isinstance(x, types.ModuleType)}
    return {name for name in names if not name.startswith("_")}


def _is_foreign_module(value):
    """Tell whether a module of TF-Slim only uses this one, as ``ops`` or ``six``."""
    return isinstance(value, types.ModuleType) and not (
        value.__name__.startswith("tf_slim.") or value is tf.nest
    )


def _module_of(package, name):
    folder = _FOLDERS.get(package, f"tf_slim.{package}")
    return _MOVED_MODULES.get(name, f"{folder}.{name}")


def _import(name, path):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise _not_found(path) from None
        raise


def _not_found(path):
    name = f"{_CONTRIB}.{path}"
    return ModuleNotFoundError(f"No module named {name!r}", name=name)

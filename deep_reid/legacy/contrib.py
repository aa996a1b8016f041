"""``tensorflow.contrib`` as far as TF-Slim and TensorFlow have its names."""

import importlib
import operator
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from deep_reid.runtime.compat import slim, tf

_CONTRIB = "tensorflow.contrib"
# The modules of TF-Slim that have a package's names; the first one wins.
_COUNTERPARTS = {
    "framework": ("ops.arg_scope", "ops.variables", "ops.framework_ops"),
    "layers": ("layers", "ops.arg_scope"),
    "losses": ("losses",),
    "metrics": ("metrics", "metrics.metric_ops"),
    "training": ("training.training", "training.evaluation"),
}
_MOVED_MODULES = {
    "framework": {"checkpoint_utils": "tensorflow.python.training.checkpoint_utils"},
    "losses": {"metric_loss_ops": "tf_slim.losses.metric_learning"},
}
# Names that TensorFlow itself took over from contrib, with the same meaning.
_TAKEN_OVER = {
    "framework": (
        *("CriticalSection", "argsort", "is_tensor", "nest", "sort"),
        *("debugging.assert_same_float_dtype", "debugging.assert_scalar"),
        *("debugging.is_non_decreasing", "debugging.is_numeric_tensor"),
        *("debugging.is_strictly_increasing", "train.create_global_step", "train.get_global_step"),
        *("train.get_or_create_global_step", "train.init_from_checkpoint", "train.list_variables"),
        *("train.load_checkpoint", "train.load_variable"),
    ),
    "metrics": ("math.confusion_matrix",),
}


def create_contrib() -> ModuleType:
    """Create ``tensorflow.contrib``.

    Returns
    -------
    module
    """
    vars(slim)["python"] = create_package(f"{_CONTRIB}.slim.python", {"slim": slim})
    packages = {name: _create_counterpart(name) for name in _COUNTERPARTS}
    return create_package(_CONTRIB, {"slim": slim, **packages})


def create_package(name: str, values: Mapping[str, Any], package: str = "") -> ModuleType:
    """Create a package that old code knows, made of other modules' names.

    Parameters
    ----------
    name : str
        Dotted name, as old code knows it.
    values : mapping from str to object
        Its attributes.
    package : str
        Name of the package that has its other modules.

    Returns
    -------
    module
    """
    module = ModuleType(name)
    module.__dict__.update({"__path__": [], "__package__": package or name, **values})
    return module


def _create_counterpart(name):
    path = f"{_CONTRIB}.{name}"
    today = importlib.import_module(f"tf_slim.{'ops' if name == 'framework' else name}")
    values = _collect_values(name, today)
    # tensorflow.contrib.layers.python.layers is the package again.
    folders = {
        folder: create_package(f"{path}.python.{folder}", values, today.__name__)
        for folder in (name, "ops", "metric_learning")
    }
    python = create_package(f"{path}.python", folders)
    return create_package(path, {**values, "python": python}, today.__name__)


def _collect_values(package, today):
    files = {
        name: f"{today.__name__}.{name}"
        for _, name, _ in pkgutil.iter_modules(today.__path__)
        if not name.endswith("_test")
    }
    files |= _MOVED_MODULES.get(package, {})
    values: dict[str, Any] = {}
    for name in reversed(_COUNTERPARTS[package]):
        values |= vars(importlib.import_module(f"tf_slim.{name}"))
    # The modules that TF-Slim's files import, such as ops, are not part of the package.
    public = {
        name: value
        for name, value in values.items()
        if not (name.startswith("_") or isinstance(value, ModuleType))
    }
    for path in _TAKEN_OVER.get(package, ()):
        public[path.rpartition(".")[2]] = operator.attrgetter(path)(tf)
    modules = {name: importlib.import_module(file) for name, file in files.items()}
    return {**modules, **public, "__all__": sorted(public)}

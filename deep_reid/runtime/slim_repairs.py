"""Repairs of TF-Slim 1.1, its last release, for TensorFlow 2.16 to 2.21.

Only :mod:`deep_reid.runtime.compat` imports this module, after TensorFlow and before TF-Slim.
The repairs add

* names that TF-Slim takes from modules of TensorFlow, and that are in other modules today;
* ``tf_keras.legacy_tf_layers``, which TensorFlow loads and which the tf-keras wheel has elsewhere;
* parts of ``tensorflow.contrib.slim`` that TF-Slim lacks: ``slim.nets``, ``slim.variable_scope``
  (the module), the gradient of ``slim.gdn``, and in ``slim.metrics`` the confusion matrix and the
  operations on sets.

They replace nothing that the installed TensorFlow still has.

These faults of TF-Slim have other causes, and they stay:

* ``slim.assign_from_checkpoint`` fails on partitioned variables, because it indexes an array with
  a list; ``slim.assign_from_checkpoint_fn`` assigns them;
* the last bit of some float32 results differs from that of older releases of TensorFlow;
* ``slim.losses.cluster_loss`` needs scikit-learn.

TF-Slim itself uses no name that NumPy has removed; only its own tests use ``np.float``,
``np.bool`` and ``np.object``.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

from deep_reid.runtime.lazy_imports import LazyModule, without

_LEGACY_LAYER_MODULES = ("base", "convolutional", "core", "normalization", "pooling")

# (module, name) that TF-Slim uses -> (module, name) today, both below tensorflow.python.
_MOVED_NAMES = {
    ("framework.ops", "Tensor"): ("framework.tensor", "Tensor"),
    ("framework.ops", "IndexedSlices"): ("framework.indexed_slices", "IndexedSlices"),
    ("ops.array_ops", "stack"): ("ops.array_ops_stack", "stack"),
    ("ops.array_ops", "unstack"): ("ops.array_ops_stack", "unstack"),
    ("ops.control_flow_ops", "Assert"): ("ops.control_flow_assert", "Assert"),
    ("ops.control_flow_ops", "case"): ("ops.control_flow_case", "case"),
    ("ops.control_flow_ops", "cond"): ("ops.cond", "cond"),
    ("ops.control_flow_ops", "while_loop"): ("ops.while_loop", "while_loop"),
    ("ops.variables", "VariableV1"): ("ops.variable_v1", "VariableV1"),
    ("ops.variable_scope", "variable"): ("ops.variable_v1", "VariableV1"),
    **{
        ("ops.variable_scope", name): ("ops.resource_variables_toggle", name)
        for name in (
            "disable_resource_variables",
            "enable_resource_variables",
            "resource_variables_enabled",
        )
    },
}

_METRICS_OF_CONTRIB = {
    "confusion_matrix": ("ops.confusion_matrix", "confusion_matrix_v1"),
    "set_difference": ("ops.sets", "set_difference"),
    "set_intersection": ("ops.sets", "set_intersection"),
    "set_size": ("ops.sets", "set_size"),
    "set_union": ("ops.sets", "set_union"),
}


def _tensorflow_module(name):
    return importlib.import_module(f"tensorflow.python.{name}")


def _add_missing(target, name, module, source_name):
    if not hasattr(target, name):
        setattr(target, name, getattr(_tensorflow_module(module), source_name))


def _restore_moved_names():
    for (module, name), source in _MOVED_NAMES.items():
        _add_missing(_tensorflow_module(module), name, *source)


def _alias_legacy_layers(tensorflow_version):
    """Make ``tf_keras.legacy_tf_layers`` importable.

    ``tensorflow.python.layers`` loads that package, but the tf-keras wheel ships it only as
    ``tf_keras.src.legacy_tf_layers``.
    """
    try:
        package = importlib.import_module("tf_keras.src.legacy_tf_layers")
    except ImportError as error:
        raise ImportError(
            "TF-Slim's layers need the package tf-keras of TensorFlow's own minor version "
            f"({tensorflow_version}): "
            f"pip install 'tf-keras=={tensorflow_version.rpartition('.')[0]}.*'"
        ) from error
    sys.modules.setdefault("tf_keras.legacy_tf_layers", package)
    for name in _LEGACY_LAYER_MODULES:
        module = importlib.import_module(f"tf_keras.src.legacy_tf_layers.{name}")
        sys.modules.setdefault(f"tf_keras.legacy_tf_layers.{name}", module)


def _complete(slim):
    """Add the parts of ``tensorflow.contrib.slim`` that TF-Slim lacks."""
    importlib.import_module("tf_slim.nets")  # the import sets `slim.nets`
    _add_missing(slim, "variable_scope", "ops", "variable_scope")
    for name, source in _METRICS_OF_CONTRIB.items():
        _add_missing(slim.metrics, name, *source)
    _register_gradient_of_gdn(slim)


def _register_gradient_of_gdn(slim):
    """Register a gradient that TF-Slim names in the graph, but does not register."""
    ops = _tensorflow_module("framework.ops")
    if "GDNLowerBound" not in ops.gradient_registry.list():
        ops.RegisterGradient("GDNLowerBound")(slim.GDN._lower_bound_grad)


def import_slim(tensorflow_version: str) -> ModuleType:
    """Import TF-Slim, repaired for the installed TensorFlow.

    Parameters
    ----------
    tensorflow_version : str
        ``tf.__version__``.

    Returns
    -------
    module
        ``tf_slim``, which has ``nets`` and ``variable_scope``.

    Raises
    ------
    ImportError
        If tf-keras is missing, with the version to install.
    """
    _alias_legacy_layers(tensorflow_version)
    _restore_moved_names()
    with without("sklearn"):
        slim = importlib.import_module("tf_slim")
    _complete(slim)
    _find_scores_of_clusters()
    return slim


def _find_scores_of_clusters():
    """Let ``slim.losses.cluster_loss`` import scikit-learn when it is used."""
    losses = importlib.import_module("tf_slim.losses.metric_learning")
    if not losses.HAS_SKLEARN and importlib.util.find_spec("sklearn") is not None:
        losses.metrics, losses.HAS_SKLEARN = LazyModule("sklearn.metrics"), True

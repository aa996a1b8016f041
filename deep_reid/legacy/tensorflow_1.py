"""TensorFlow as old code sees it: release 1, in graph mode, with ``tf.contrib``."""

import functools
import importlib
import logging
import sys
import types
import warnings

_MISSING = object()
# In these, what is imported has to be found by the import system, not among attributes.
_INNER = ("python", "core", "compiler", "tools", "security", "tsl", "dtensor")


class _TensorFlow(types.ModuleType):
    """The module ``tensorflow``: names of ``tensorflow.compat.v1``, else of TensorFlow itself."""

    def __init__(self, v1, today):
        super().__init__("tensorflow", today.__doc__)
        self.__dict__.update(_v1=v1, _today=today)
        for name in ("__file__", "__path__", "__spec__", "__loader__", "__package__"):
            self.__dict__[name] = getattr(today, name)

    def __getattr__(self, name):
        value = self._find(name)
        if value is _MISSING:
            raise AttributeError(
                f"module 'tensorflow' has no attribute {name!r}", name=name, obj=self
            )
        setattr(self, name, value)
        return value

    def __dir__(self):
        return sorted({*dir(self._v1), *dir(self._today), "contrib"})

    def _find(self, name):
        from deep_reid.legacy import contrib

        if name == "contrib":
            return contrib.resolve("")
        if name == "compat":
            return contrib.Package("tensorflow.compat", self._find_in_compat)
        if name == "__all__":
            return [name for name in dir(self._v1) if not name.startswith("_")]
        for module in (self._v1, self._today):
            value = getattr(module, name, _MISSING)
            if value is not _MISSING:
                return value
        return sys.modules.get(f"tensorflow.{name}", _MISSING)

    def _find_in_compat(self, name):
        return self if name == "v1" else getattr(self._v1.compat, name)


@functools.cache
def load(engine):
    """Import TensorFlow and TF-Slim, repaired, and make the module that old code sees.

    Parameters
    ----------
    engine : {"own", "deep_reid"}
        With "own", progress is logged as TensorFlow 1 did.

    Returns
    -------
    module
    """
    from deep_reid.runtime import compat

    _silence_deprecations()
    _free_flag_names(compat.tf.flags.FLAGS)
    _log_once(compat.tf.get_logger())
    if engine == "own":
        compat.tf.get_logger().setLevel(logging.INFO)
    return _TensorFlow(compat.tf, importlib.import_module("tensorflow"))


def _silence_deprecations():
    deprecation = importlib.import_module("tensorflow.python.util.deprecation")
    deprecation._PRINT_DEPRECATION_WARNINGS = False
    warnings.filterwarnings("ignore", message=r"`(layer\.\w+|tf\.\S+)` is deprecated")
    warnings.filterwarnings("ignore", message=r"`\S+` is deprecated and will be removed in a fut")


def _log_once(logger):
    """Keep ``tf.app.run`` from a second line for each: it adds Abseil's handler to the root."""
    if logger.handlers:
        handler = importlib.import_module("absl.logging").get_absl_handler()
        handler.addFilter(lambda record: record.name != logger.name)


def _free_flag_names(flags):
    """Let scripts define flags that Abseil defined first: nearly each old one has ``log_dir``."""
    for name in flags:
        flags[name].allow_override = True


def import_name(name, fromlist, engine):
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
        The module, or ``tensorflow`` where nothing is taken from it.

    Raises
    ------
    ModuleNotFoundError
        If there is no such module.
    """
    tensorflow = load(engine)
    parts = name.split(".")
    module = _resolve(tensorflow, parts)
    # "import tensorflow.a.b as b" goes from attribute to attribute.
    for i in range(1, len(parts)):
        _bind(_resolve(tensorflow, parts[:i]), parts[i], _resolve(tensorflow, parts[: i + 1]))
    if not fromlist:
        return tensorflow
    for child in fromlist:
        _import_child(tensorflow, module, [*parts, child])
    return module


def _bind(parent, name, module):
    from deep_reid.legacy import contrib

    value = getattr(parent, name, _MISSING)
    # contrib.losses.metric_learning is a module, contrib.losses.python.metric_learning a package.
    may_differ = isinstance(parent, contrib.Package) and isinstance(value, types.ModuleType)
    if value is _MISSING or may_differ:
        setattr(parent, name, module)


def _import_child(tensorflow, module, parts):
    """Import what is taken from a module, if it is a module itself and not there yet."""
    if parts[-1] == "*" or hasattr(module, parts[-1]):
        return
    try:
        setattr(module, parts[-1], _resolve(tensorflow, parts))
    except ModuleNotFoundError as error:
        # Python says itself what cannot be taken from where.
        if error.name != ".".join(parts):
            raise


def _resolve(tensorflow, parts):
    """Find the module of a dotted name that starts with ``tensorflow``."""
    name = ".".join(parts)
    parts = parts[3:] if parts[:3] == ["tensorflow", "compat", "v1"] else parts[1:]
    if parts[:1] == ["contrib"]:
        from deep_reid.legacy import contrib

        return contrib.resolve(".".join(parts[1:]))
    module = None if parts[:1] and parts[0] in _INNER else _walk(tensorflow, parts)
    return _import_inner(name, parts) if module is None else module


def _walk(module, parts):
    """Go from attribute to attribute; None where that leads to no module."""
    for part in parts:
        module = getattr(module, part, None)
    return module if isinstance(module, types.ModuleType) else None


def _import_inner(name, parts):
    today = ".".join(["tensorflow", *parts])
    try:
        return importlib.import_module(today)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{today}.".startswith(f"{error.name}."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name) from None
        raise

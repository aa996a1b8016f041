"""Packages that hand on names of their modules, and import these when they are first asked for."""

import importlib


def hand_on(package, modules):
    """Create the ``__getattr__`` and ``__dir__`` of a package.

    A package that imported its modules at once would import TensorFlow with them, and its modules
    that do without could not be used alone.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    modules : dict of str -> str
        The module below the package that each name comes from.

    Returns
    -------
    __getattr__, __dir__ : callable
    """

    def get(name):
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    def list_names():
        return sorted(modules)

    return get, list_names

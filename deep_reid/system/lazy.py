"""Names of a package that are imported from its modules at their first use."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def hand_on(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Create the ``__getattr__`` and ``__dir__`` of a package.

    If the package imported its modules at once, it would import TensorFlow, which some of its
    modules do not need.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    modules : dict of str -> str
        The module below the package from which each name comes.

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

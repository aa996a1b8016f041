"""The data sets in a clone: stands for the folder ``datasets/`` beside this package.

The wheel has the files of that folder in place of this one: ``deep_reid.datasets.market1501`` is
importable in a clone and where the package is installed. In a clone the same module also has the
name ``datasets.market1501``. It is loaded once, whichever name is imported first.
"""

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[2] / "datasets"
_LONG, _SHORT = f"{__name__}.", "datasets."

__path__ = [str(_FOLDER)]


class _OtherNameFinder:
    """Finds a module of the folder that is loaded under its other name."""

    def find_spec(self, name, path=None, target=None):
        if name.startswith(_LONG):
            other_name = _SHORT + name.removeprefix(_LONG)
        elif name.startswith(_SHORT):
            other_name = _LONG + name.removeprefix(_SHORT)
        else:
            return None
        module = sys.modules.get(other_name)
        # Hugging Face and old code have packages of the name `datasets`, too.
        is_same = _is_in_folder(path[0]) and _is_in_folder(getattr(module, "__file__", None))
        return ModuleSpec(name, _Loaded(module)) if is_same else None


class _Loaded:
    """Returns a loaded module unchanged; importlib replaces its specification in between."""

    def __init__(self, module):
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec):
        return self._module

    def exec_module(self, module):
        module.__spec__ = self._spec


def _is_in_folder(path):
    return path is not None and Path(os.path.realpath(path)).is_relative_to(_FOLDER)


sys.meta_path.insert(0, _OtherNameFinder())

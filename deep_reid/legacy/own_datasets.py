"""The data sets of this package, beside old code that calls its own ``datasets``, too."""

import importlib.util
import os
from pathlib import Path

NAME = "deep_reid_datasets"
_PACKAGE = Path(__file__).resolve().parents[1]


def find_folder():
    """Find the folder of this package's data sets.

    Returns
    -------
    str or None
        None where ``deep_reid`` is installed without them.
    """
    for folder in (_PACKAGE / "datasets", _PACKAGE.parent / "datasets"):
        if (folder / "market1501.py").is_file() and (folder / "__init__.py").is_file():
            return str(folder)
    return None


class OwnDatasetsFinder:
    """Finds this package's data sets under the name `NAME`.

    The name ``datasets`` is taken by the old code's package in this process. The data sets import
    each other by relative names, so that they work under any name.

    Parameters
    ----------
    folder : str
        As `find_folder` returns it.
    """

    def __init__(self, folder):
        self._folder = folder

    def find_spec(self, name, path=None, target=None):
        """Find the package of the data sets; Python finds all modules in it.

        Parameters
        ----------
        name : str
            Full name of a module.
        path : list of str, optional
            Not used.
        target : module, optional
            Not used.

        Returns
        -------
        importlib.machinery.ModuleSpec or None
        """
        if name != NAME:
            return None
        return importlib.util.spec_from_file_location(
            name,
            os.path.join(self._folder, "__init__.py"),
            submodule_search_locations=[self._folder],
        )

"""Where the modules beside the script are found."""

import glob
import importlib
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

# A folder of data or notes beside the script must not hide these.
_DEPENDENCIES = {
    *("PIL", "absl", "cv2", "google", "h5py", "keras", "matplotlib", "numpy", "scipy"),
    *("sklearn", "tensorboard", "tensorflow", "tf_keras", "tf_slim", "tqdm", "wrapt"),
}


def is_missing(name: str, error: ModuleNotFoundError) -> bool:
    """Tell whether an import failed because the module itself does not exist.

    Parameters
    ----------
    name : str
        Dotted name of the module.
    error : ModuleNotFoundError
        What its import raised.

    Returns
    -------
    bool
        False if the module exists, and imports another one that does not.
    """
    return error.name is not None and f"{name}.".startswith(f"{error.name}.")


def import_if_found(name: str) -> ModuleType | None:
    """Import a module, if it exists.

    Parameters
    ----------
    name : str
        Dotted name.

    Returns
    -------
    module or None

    Raises
    ------
    ModuleNotFoundError
        If it exists, and imports another module that does not.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if is_missing(name, error):
            return None
        raise


class FolderFinder:
    """Finds folders of modules without ``__init__.py`` beside the script.

    Python prefers any other package of that name on ``sys.path``: this package's own ``datasets``,
    or that of Hugging Face.

    Parameters
    ----------
    folder : str
        The folder of the script.
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.path.realpath(folder)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module, or leave it to Python.

        Parameters
        ----------
        name : str
            Its full name.
        path : sequence of str, optional
            The folders of its package; None for a top-level module.
        target : module, optional
            Not used.

        Returns
        -------
        importlib.machinery.ModuleSpec or None
        """
        return self._find(name, path)

    def _find(self, name, path):
        folder = os.path.join(self._folder, name)
        if path is not None or name in sys.stdlib_module_names or name in _DEPENDENCIES:
            return None
        if not os.path.isdir(folder) or self._python_finds_it(name) or not _has_modules(folder):
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [folder]
        return spec

    def _python_finds_it(self, name):
        found = importlib.machinery.PathFinder.find_spec(name)
        if found is None or found.origin is None:
            return True
        return os.path.realpath(found.origin).startswith(self._folder + os.sep)


def _has_modules(folder):
    patterns = ("*.py", "*/*.py", "*/*/*.py")
    return any(next(glob.iglob(pattern, root_dir=folder), None) for pattern in patterns)

"""Which module a name of old code stands for."""

import glob
import importlib.machinery
import os
import sys

# What a folder of data or notes beside the script must not hide.
_DEPENDENCIES = {
    *("PIL", "absl", "cv2", "google", "h5py", "keras", "matplotlib", "numpy", "scipy"),
    *("sklearn", "tensorboard", "tensorflow", "tf_keras", "tf_slim", "tqdm", "wrapt"),
}


class FolderFinder:
    """Finds folders of modules without ``__init__.py`` beside the script.

    Python takes any other package of that name first, from wherever on ``sys.path``: this
    package's own ``datasets``, or that of Hugging Face.

    Parameters
    ----------
    folder : str
        The script's.
    """

    def __init__(self, folder):
        self._folder = os.path.realpath(folder)

    def find_spec(self, name, path=None, target=None):
        """Find a package, or leave it to Python.

        Parameters
        ----------
        name : str
            Its full name.
        path : list of str, optional
            The folders of the package it is in; None for a top-level one.
        target : module, optional
            Not used.

        Returns
        -------
        importlib.machinery.ModuleSpec or None
        """
        folder = os.path.join(self._folder, name)
        if path is not None or name in sys.stdlib_module_names or name in _DEPENDENCIES:
            return None
        if not os.path.isdir(folder) or self._python_finds_it(name) or not _has_modules(folder):
            return None
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
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

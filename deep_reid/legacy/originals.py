"""The original's modules, as this package has them: what ``--engine=deep_reid`` hands out."""

import ast
import importlib
import importlib.machinery
import os
import sys

from deep_reid import datasets

_TARGETS = {
    "train_app": "deep_reid.train_app",
    "queued_trainer": "deep_reid.queued_trainer",
    "losses": "deep_reid.losses",
    "metrics": "deep_reid.metrics",
    "nets.deep_sort.network_definition": "deep_reid.nets.deep_sort",
}
_DATASETS = ("datasets.util", "datasets.market1501", "datasets.mars")
_PACKAGES = ("nets", "nets.deep_sort", "datasets")
_RESIDUAL_NET = "nets.deep_sort.residual_net"
# The original's modules are beside these.
_SIGNS = ("train_app.py", "queued_trainer.py")


class OriginalFinder:
    """Finds this package's modules under the names that the original has.

    Names count at the top level, in the package of the module that is run, and in packages that
    have the original's main files.

    Parameters
    ----------
    old_code : deep_reid.legacy.old_code.OldCode
    module : str, optional
        Dotted name of the module that is run.
    say : callable
        Called with each line for the user.
    """

    def __init__(self, old_code, module, say):
        self._old_code = old_code
        self._root = module.partition(".")[0] if module and "." in module else None
        self._say = say
        self._targets = dict(_TARGETS)
        self._warned = set()
        # What comes from the old code all the same, and why.
        self._kept = {_RESIDUAL_NET: "deep_reid.nets.residual takes other arguments"}
        folder = os.path.realpath(datasets.__path__[0])
        if folder == os.path.join(old_code.folder, "datasets"):  # the script is in a clone
            self._own_datasets = None
        else:
            self._own_datasets = folder
            self._targets |= {name: f"deep_reid.{name}" for name in _DATASETS}

    def find_spec(self, name, path=None, target=None):
        """Find a module, or leave it to Python.

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
        original = self._original_name(name)
        if original in _PACKAGES and not self._is_in_old_code(name, path):
            return importlib.machinery.ModuleSpec(name, None, is_package=True)
        if original is None or original in _PACKAGES:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path)
        file = None if found is None else found.origin
        if original in self._targets:
            loader = _StandIn(original, self._targets, file, self._say, self._warned)
            return importlib.machinery.ModuleSpec(name, loader)
        if file is not None:
            self._say(f"{name} is {file}, because {self._kept[original]}")
        return None

    def _original_name(self, name):
        """Find the original's name for a module, which may be in a package today."""
        for original in (*self._targets, *self._kept, *_PACKAGES):
            root = name.removesuffix(original)
            if root == "" or (root != name and self._has_originals(root)):
                return original
        return None

    def _has_originals(self, root):
        """Tell whether a package, with a dot behind its name, is the original's folder."""
        package = root.removesuffix(".")
        if package == root:
            return False
        folders = getattr(sys.modules.get(package), "__path__", ())
        signs = [os.path.join(folder, sign) for folder in folders for sign in _SIGNS]
        # This package has these files, too.
        return any(
            self._old_code.holds(sign) and (package == self._root or os.path.isfile(sign))
            for sign in signs
        )

    def _is_in_old_code(self, name, path):
        """Tell whether the old code has a package, so that Python finds what else is in it."""
        module = name.rpartition(".")[2]
        for entry in sys.path if path is None else path:
            folder = os.path.realpath(os.path.join(entry, module))
            # A clone of this package may be on the path.
            is_own = folder == self._own_datasets
            if os.path.isdir(folder) and self._old_code.holds(folder) and not is_own:
                return True
        return False


class _StandIn:
    """Loads one module under another's name.

    Parameters
    ----------
    original : str
        Name of the module in the original.
    targets : dict from str to str
        Full names of this package's modules, by their names in the original.
    file : str or None
        The old code's own file of that name.
    say : callable
    warned : set of str
        Files that were warned of; grows.
    """

    def __init__(self, original, targets, file, say, warned):
        self._target = targets[original]
        self._targets = targets
        self._file = file
        self._say = say
        self._warned = warned

    def create_module(self, spec):
        """Leave it to Python to make a module, which is thrown away."""

    def exec_module(self, module):
        """Put this package's module in."""
        name = module.__name__
        target = importlib.import_module(self._target)
        sys.modules[name] = target
        instead = "" if self._file is None else f" instead of {self._file}"
        self._say(f"{name} is {target.__file__}{instead}")
        self._warn_of_missing(self._file, self._target)
        # The file that is not run would have run these, of which nothing else may speak.
        for path, target_name in self._find_imported_originals():
            self._warn_of_missing(path, target_name)

    def _warn_of_missing(self, file, target):
        missing = _public_names(file) - _names_of(importlib.import_module(target))
        missing = sorted(name for name in missing if name.rpartition(".")[0] not in missing)
        if missing and file not in self._warned:
            self._warned.add(file)
            self._say(
                f"warning: {os.path.basename(file)} of this folder has {', '.join(missing)}, which "
                f"{target} has not: --engine=own runs it"
            )

    def _find_imported_originals(self):
        """List files beside the replaced one that it imports, and what replaces each."""
        names = sorted(_imported_names(self._file) & set(self._targets))
        files = [os.path.join(os.path.dirname(self._file), *name.split(".")) for name in names]
        pairs = [
            (f"{file}.py", self._targets[name]) for file, name in zip(files, names, strict=True)
        ]
        return [pair for pair in pairs if os.path.isfile(pair[0])]


def _names_of(module):
    """List what a module has, and what its classes have."""
    names = set(dir(module))
    classes = [name for name in names if isinstance(getattr(module, name), type)]
    return names.union(*({f"{name}.{x}" for x in dir(getattr(module, name))} for name in classes))


def _public_names(file):
    """List the functions, classes and methods that a file defines, without running it."""
    names = set()
    for node in _definitions(_parse(file)):
        names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{method.name}" for method in _definitions(node)}
    return names


def _imported_names(file):
    """List the modules that a file imports on its top level, without the dots of relative ones."""
    names = set()
    for node in _parse(file).body:
        if isinstance(node, ast.ImportFrom):
            package = f"{node.module}." if node.module else ""
            names |= {package + alias.name for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def _parse(file):
    nothing = ast.Module([], [])
    if file is None:
        return nothing
    try:
        with open(file, "rb") as source:
            return ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):  # nothing of it is run
        return nothing


def _definitions(tree):
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [x for x in tree.body if isinstance(x, kinds) and not x.name.startswith("_")]

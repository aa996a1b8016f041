"""The original's modules, as this package has them: what ``--engine=deep_reid`` hands out."""

import ast
import functools
import importlib
import importlib.abc
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder

from deep_reid import datasets
from deep_reid.legacy.modules import FolderFinder
from deep_reid.legacy.old_code import OldCode

_TARGETS = {
    "train_app": "deep_reid.train_app",
    "queued_trainer": "deep_reid.queued_trainer",
    "losses": "deep_reid.losses",
    "metrics": "deep_reid.metrics",
    "nets.deep_sort.network_definition": "deep_reid.nets.deep_sort",
}
_DATASETS = ("datasets.util", "datasets.market1501", "datasets.mars")
_PACKAGES = ("nets", "nets.deep_sort", "datasets")
# Stays the old code's: `deep_reid.nets.residual` takes other arguments.
_RESIDUAL_NET = "nets.deep_sort.residual_net"
# A folder with one of these has the original's modules.
_SIGNS = ("train_app.py", "queued_trainer.py")


class OriginalFinder(FolderFinder):
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

    def __init__(self, old_code: OldCode, module: str | None, say: Callable[[str], None]) -> None:
        super().__init__(old_code.folder)
        self._old_code = old_code
        self._root = module.partition(".")[0] if module and "." in module else None
        self._say = say
        self._targets = dict(_TARGETS)
        self._warned: set[str] = set()
        self._own_datasets: str | None = os.path.realpath(datasets.__path__[0])
        if self._own_datasets == os.path.join(old_code.folder, "datasets"):
            self._own_datasets = None  # the script is in a clone of this package
        else:
            self._targets |= {name: f"deep_reid.{name}" for name in _DATASETS}

    def _find(self, name, path):
        original = self._original_name(name)
        if original in _PACKAGES and not self._is_in_old_code(name, path):
            return ModuleSpec(name, None, is_package=True)
        if original is None or original in _PACKAGES:
            return super()._find(name, path)
        found = PathFinder.find_spec(name, path)
        file = None if found is None else found.origin
        if original in self._targets:
            return ModuleSpec(name, _StandIn(functools.partial(self._load, original, name, file)))
        if file is not None:
            self._say(f"{name} is {file}, because deep_reid.nets.residual takes other arguments")
        return None

    def _original_name(self, name):
        """Find the original's name for a module, which may be in a package today."""
        for original in (*self._targets, _RESIDUAL_NET, *_PACKAGES):
            package = name.removesuffix(f".{original}")
            if name == original or (name != package and self._has_originals(package)):
                return original
        return None

    def _has_originals(self, package):
        """Tell whether a package has the original's modules."""
        folders = getattr(sys.modules.get(package), "__path__", ())
        signs = [os.path.join(folder, sign) for folder in folders for sign in _SIGNS]
        # This package has these files, too.
        return any(
            self._old_code.holds(sign) and (package == self._root or os.path.isfile(sign))
            for sign in signs
        )

    def _is_in_old_code(self, name, path):
        """Tell whether the old code has a package: then Python finds what else is in it."""
        module = name.rpartition(".")[2]
        entries = sys.path if path is None else path
        folders = [os.path.realpath(os.path.join(entry, module)) for entry in entries]
        # A clone of this package may be on the path.
        return any(
            os.path.isdir(folder) and self._old_code.holds(folder) and folder != self._own_datasets
            for folder in folders
        )

    def _load(self, original, name, file):
        """Import this package's module instead of the old code's file, and tell the user."""
        target = importlib.import_module(self._targets[original])
        instead = "" if file is None else f" instead of {file}"
        self._say(f"{name} is {target.__file__}{instead}")
        if file is not None:
            tree = _parse(file)
            self._warn_of_missing(file, tree, original)
            # These are not imported either if only the replaced file imports them.
            for other in sorted(_imported_names(tree) & self._targets.keys()):
                path = os.path.join(os.path.dirname(file), *other.split(".")) + ".py"
                self._warn_of_missing(path, _parse(path), other)
        return target

    def _warn_of_missing(self, file, tree, original):
        target = self._targets[original]
        missing = _missing_names(tree, importlib.import_module(target))
        if missing and file not in self._warned:
            self._warned.add(file)
            self._say(
                f"warning: {os.path.basename(file)} of this folder has {', '.join(missing)}, which "
                f"{target} lacks: --engine=own runs it"
            )


class _StandIn(importlib.abc.Loader):
    """Loads a module that exists under another name, instead of the one that Python created."""

    def __init__(self, load):
        self._load = load

    def exec_module(self, module):
        sys.modules[module.__name__] = self._load()


def _missing_names(tree, module):
    """List the public functions, classes and methods of a file that a module lacks."""
    missing = set()
    for node in _definitions(tree):
        if not hasattr(module, node.name):
            missing.add(node.name)
        elif isinstance(node, ast.ClassDef):
            known = dir(getattr(module, node.name))
            methods = {method.name for method in _definitions(node)}
            missing |= {f"{node.name}.{name}" for name in methods.difference(known)}
    return sorted(missing)


def _imported_names(tree):
    """List the modules that a file imports on its top level, without the dots of relative ones."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            package = f"{node.module}." if node.module else ""
            names |= {package + alias.name for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def _parse(file):
    try:
        with open(file, "rb") as source:
            return ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):  # nothing of the file is run
        return ast.Module([], [])


def _definitions(tree):
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [x for x in tree.body if isinstance(x, kinds) and not x.name.startswith("_")]

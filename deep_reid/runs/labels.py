"""Classes of a classifier, numbered from 0, and the names of their identities."""

import json
import os
import pathlib
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike

from deep_reid.errors import DataError
from deep_reid.system import files
from deep_reid.system.files import Path
from deep_reid.system.tables import list_some

LABELS_FILENAME = "labels.json"


def to_classes(
    labels: ArrayLike, name_of: Callable[[int], str] = str
) -> tuple[list[str], np.ndarray]:
    """Give the identities, in sorted order, the classes 0, 1, ...

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        The identity of each image.
    name_of : callable
        ``name_of(identity)`` returns the name of an identity.

    Returns
    -------
    class_names : list of C str
        The name of each class; the classes are sorted as the labels are.
    classes : np.ndarray of int64, shape (N,)
        The class of each image, in [0, C).
    """
    identities, classes = np.unique(np.asarray(labels, np.int64), return_inverse=True)
    return [name_of(int(identity)) for identity in identities], classes.astype(np.int64)


def save(run_dir: Path, class_names: Sequence[str]) -> None:
    """Write ``labels.json``: a JSON object that maps the name of each identity to its class.

    Parameters
    ----------
    run_dir : str or Path
    class_names : sequence of str
    """
    classes = {name: label for label, name in enumerate(class_names)}
    text = json.dumps(classes, indent=0, ensure_ascii=False)
    files.write_text(pathlib.Path(run_dir) / LABELS_FILENAME, text + "\n")


def load(run_dir: Path) -> list[str] | None:
    """Read the names of a run's classes.

    Parameters
    ----------
    run_dir : str or Path

    Returns
    -------
    list of str, or None
        The name of each class; None where the run has recorded none.

    Raises
    ------
    DataError
        If the file does not have the form that `save` writes.
    """
    path = pathlib.Path(run_dir) / LABELS_FILENAME
    try:
        classes = files.read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}): restore or delete it") from error
    if not isinstance(classes, dict) or list(classes.values()) != list(range(len(classes))):
        raise DataError(f"{path} does not number identities from 0 on: restore or delete it")
    return list(classes)


def check_same(run_dir: Path, class_names: Sequence[str]) -> None:
    """Check that a run continues with the identities that it began with.

    Parameters
    ----------
    run_dir : str or Path
    class_names : sequence of str

    Raises
    ------
    DataError
        If the run has other identities; the message names some.
    """
    earlier = load(run_dir)
    if earlier is None:
        return
    class_names = _as_recorded(class_names, earlier)
    if earlier == class_names:
        return
    new, missing = set(class_names) - set(earlier), set(earlier) - set(class_names)
    changes = [
        f"{len(names)} {title} ({list_some(sorted(names), at_most=3)})"
        for title, names in (("new", new), ("missing", missing))
        if names
    ]
    raise DataError(
        f"run {pathlib.Path(run_dir).name} was trained on {len(earlier)} identities, and now there "
        f"are {len(class_names)}: {', '.join(changes) or 'in another order'}; restore the data and "
        f"its split, or begin a new run from these weights: another run_id, and "
        f"--restore_path={os.fspath(run_dir)}"
    )


def check_unseen(run_dir: Path, names: Collection[str]) -> None:
    """Check that a run was not trained on identities that are now used for evaluation.

    Parameters
    ----------
    run_dir : str or Path
    names : collection of str
        Identities to evaluate on.

    Raises
    ------
    DataError
        If it was; the message names some.
    """
    earlier = load(run_dir) or []
    seen = sorted(set(_as_recorded(names, earlier)) & set(earlier))
    if seen:
        raise DataError(
            f"run {pathlib.Path(run_dir).name} was trained on {len(seen)} of the {len(names)} "
            f"identities to evaluate on ({list_some(seen, at_most=3)}): the data or its split has "
            "changed since; restore it"
        )


def _as_recorded(names, earlier):
    """Return names as a run has recorded them: releases up to 0.3 have left out leading zeros."""
    are_numbers = all(name.isdecimal() for name in (*names, *earlier))
    if are_numbers and not any(name.startswith("0") and name != "0" for name in earlier):
        return [str(int(name)) for name in names]
    return list(names)

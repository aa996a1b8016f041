"""Classes of a classifier, numbered from 0, and the names of their identities."""

import json
import pathlib

import numpy as np

from deep_reid.errors import DataError
from deep_reid.system import files

LABELS_FILENAME = "labels.json"

_MAX_NAMES = 3


def to_classes(labels, name_of=str):
    """Give the identities the classes 0, 1, ..., in sorted order.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        The identity of each image.
    name_of : callable
        Returns the name of an identity.

    Returns
    -------
    class_names : list of C str
        The name of each class; the classes are sorted as the labels are.
    classes : np.ndarray of int64, shape (N,)
        The class of each image, in [0, C).
    """
    identities, classes = np.unique(np.asarray(labels, np.int64), return_inverse=True)
    return [name_of(int(identity)) for identity in identities], classes.astype(np.int64)


def save(run_dir, class_names):
    """Write ``labels.json``: an object from the name of each identity to its class.

    Parameters
    ----------
    run_dir : str or Path
    class_names : sequence of str
    """
    classes = {name: label for label, name in enumerate(class_names)}
    text = json.dumps(classes, indent=0, ensure_ascii=False)
    files.write_text(pathlib.Path(run_dir) / LABELS_FILENAME, text + "\n")


def load(run_dir):
    """Read the names of a run's classes.

    Parameters
    ----------
    run_dir : str or Path

    Returns
    -------
    list of str, or None
        The name of each class; None where the run keeps none.

    Raises
    ------
    DataError
        If the file is not what `save` writes.
    """
    path = pathlib.Path(run_dir) / LABELS_FILENAME
    try:
        classes = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}): restore or delete it") from error
    if not isinstance(classes, dict) or list(classes.values()) != list(range(len(classes))):
        raise DataError(f"{path} does not number identities from 0 on: restore or delete it")
    return list(classes)


def check_same(run_dir, class_names):
    """Check that a run goes on with the identities that it began with.

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
    if earlier is None or earlier == list(class_names):
        return
    run_dir = pathlib.Path(run_dir)
    changes = [
        f"{len(names)} {title} ({_summarize(names)})"
        for title, names in (
            ("new", sorted(set(class_names) - set(earlier))),
            ("missing", sorted(set(earlier) - set(class_names))),
        )
        if names
    ]
    raise DataError(
        f"run {run_dir.name} was trained on {len(earlier)} identities, and now there are "
        f"{len(class_names)}: {', '.join(changes) or 'in another order'}; restore the data and its "
        f"split, or begin a new run from these weights: another run_id, and "
        f"--restore_path={run_dir}"
    )


def check_unseen(run_dir, names):
    """Check that a run was not trained on the identities that it is to be evaluated on.

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
    seen = sorted(set(names) & set(load(run_dir) or ()))
    if seen:
        raise DataError(
            f"run {pathlib.Path(run_dir).name} was trained on {len(seen)} of the {len(names)} "
            f"identities to evaluate on ({_summarize(seen)}): the data or its split has changed "
            "since; restore it"
        )


def _summarize(names):
    more = ", ..." if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more

"""The file ``STOP`` in a run's folder: training ends at the next step; free of TensorFlow.

Evaluation writes it when the scores no longer rise. Anyone else may, too.
"""

import contextlib
import os
import pathlib

from deep_reid.system import files
from deep_reid.system.files import Path

FILENAME = "STOP"


def request(run_dir: Path, reason: str) -> None:
    """Ask the training of a run to end.

    Parameters
    ----------
    run_dir : str or Path
    reason : str
        A line for the log of the training.
    """
    files.write_text(pathlib.Path(run_dir) / FILENAME, reason + "\n")


def is_requested(run_dir: Path) -> bool:
    """Tell whether the training of a run is asked to end.

    Parameters
    ----------
    run_dir : str or Path

    Returns
    -------
    bool
    """
    return os.path.lexists(os.path.join(run_dir, FILENAME))


def read_reason(run_dir: Path) -> str:
    """Return why the training of a run is asked to end.

    Parameters
    ----------
    run_dir : str or Path

    Returns
    -------
    str
        Its first line; empty for an empty file, as ``touch`` makes it.
    """
    with contextlib.suppress(OSError):
        text = files.read_regular(pathlib.Path(run_dir) / FILENAME).decode(errors="replace")
        return next(iter(text.splitlines()), "")
    return ""


def withdraw(run_dir: Path) -> bool:
    """Remove the request, so that a run can go on.

    Parameters
    ----------
    run_dir : str or Path

    Returns
    -------
    bool
        Whether there was one.
    """
    try:
        os.unlink(os.path.join(run_dir, FILENAME))
    except FileNotFoundError:
        return False
    return True

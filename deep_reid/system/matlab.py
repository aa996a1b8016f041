"""Files of MATLAB: features for the official evaluation codes, and parts of data sets."""

import zlib

import numpy as np
from scipy import io
from scipy.io.matlab import MatReadError

from deep_reid.errors import DataError, first_line
from deep_reid.system import files

VARIABLE_NAME = "features"
# SciPy's errors for damaged files. A file that is cut short may give an OSError without errno.
_READ_ERRORS = (
    EOFError,
    IndexError,
    MatReadError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    zlib.error,
)


def write_features(path: files.Path, features: np.ndarray) -> None:
    """Write features to a ``.mat`` file, whole or not at all.

    Parameters
    ----------
    path : str or Path
    features : np.ndarray of float32, shape (N, D)
        One *row* per image, in the order of the images. The variable's name is ``features``. The
        MATLAB codes of Market-1501 and MARS have one *column* per image: transpose it there.
    """
    with files.writing(path) as temporary:
        io.savemat(temporary, {VARIABLE_NAME: features}, appendmat=False, do_compression=False)


def read_variable(path: files.Path, name: str, way_out: str) -> np.ndarray:
    """Read a variable of a ``.mat`` file.

    Parameters
    ----------
    path : str or Path
    name : str
        Of the variable.
    way_out : str
        What to do if that fails; the end of the message.

    Returns
    -------
    np.ndarray

    Raises
    ------
    OSError
        If the file is missing, or its permissions forbid reading.
    DataError
        If it is damaged, of another format, or lacks the variable.
    """
    try:
        variables = io.loadmat(path, appendmat=False)
    except _READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{path} cannot be read as a MATLAB file of version 5 ({first_line(error)}): {way_out}"
        ) from error
    if name not in variables:
        others = sorted(other for other in variables if not other.startswith("__"))
        raise DataError(
            f"{path} has no variable {name!r} (it has {', '.join(others) or 'none'}): {way_out}"
        )
    return variables[name]

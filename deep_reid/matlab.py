"""Feature files for the official MATLAB evaluation codes."""

from scipy import io

from deep_reid import files

VARIABLE_NAME = "features"


def write_features(path, features):
    """Write features to a ``.mat`` file, whole or not at all.

    Parameters
    ----------
    path : str or Path
    features : np.ndarray of float32, shape (N, D)
        One *row* per image, in the order of the images. It is stored as the variable ``features``.
        The MATLAB codes of Market-1501 and MARS hold one *column* per image: transpose it there.
    """
    with files.replacing(path) as temporary:
        io.savemat(temporary, {VARIABLE_NAME: features}, appendmat=False, do_compression=False)

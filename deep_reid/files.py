"""Files that are written whole or not at all."""

import contextlib
import os
import pathlib
import tempfile


@contextlib.contextmanager
def replacing(path):
    """Write a file under a temporary name that becomes `path` when the block ends well.

    Missing parent folders are made. When the block raises, nothing is left behind, and a file that
    stood at `path` stays as it was.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    str
        Name to write to, in the folder of `path` and with its ending.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(
        prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
    )
    os.close(descriptor)
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def write_text(path, text):
    """Write a UTF-8 text file, whole or not at all.

    Parameters
    ----------
    path : str or Path
    text : str
    """
    with replacing(path) as temporary:
        pathlib.Path(temporary).write_text(text, encoding="utf-8")


def _flush_to_disk(filename):
    with open(filename, "rb") as file:
        os.fsync(file.fileno())


def _umask():
    # mkstemp makes files for the owner alone; results are for everybody the user means them for.
    umask = os.umask(0)
    os.umask(umask)
    return umask

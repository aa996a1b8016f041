"""Files that are written whole or not at all."""

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Iterator

Path = str | os.PathLike[str]
"""The type of paths in public signatures."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[str]:
    """Write a file under a temporary name, and rename it to `path` when the block has succeeded.

    Missing parent folders are made. If the block raises, or the disk is full, the temporary file is
    removed, and an earlier file at `path` stays as it was. After the block, the new file survives a
    power cut.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    str
        Name to write to, in the folder of `path` and with its ending.
    """
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor, temporary = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    os.close(descriptor)
    try:
        yield temporary
        flush_to_disk(temporary)
        os.chmod(temporary, 0o666 & ~umask())
        os.replace(temporary, path)
        flush_to_disk(path.parent)
    except OSError as error:
        # The error of a full disk names no file; others have the temporary name.
        if error.errno is not None and error.filename in (None, temporary):
            error.filename, error.filename2 = os.fspath(path), None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all.

    Parameters
    ----------
    path : str or Path
    text : str
    """
    with replacing(path) as temporary:
        pathlib.Path(temporary).write_text(text, encoding="utf-8")


def flush_to_disk(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk itself.

    Parameters
    ----------
    path : str or Path
    """
    is_folder = os.path.isdir(path)
    if is_folder and os.name != "posix":
        return  # Windows opens no folders
    # Windows flushes only files that are open for writing.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush folders.
        if not (is_folder and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def umask() -> int:
    """Return the process's umask.

    Only the owner may read a file of `tempfile`; the umask tells who may read the user's results.

    Returns
    -------
    int
    """
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Files that are written whole or not at all."""

import contextlib
import errno
import os
import pathlib
import tempfile


@contextlib.contextmanager
def replacing(path):
    """Write a file under a temporary name that becomes `path` when the block ends well.

    Missing parent folders are made. When the block raises, or the disk is full, nothing is left
    behind, and a file that stood at `path` stays as it was. When the block has ended, the file
    outlives a power cut.

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
        # A write to a full disk does not say what was written; the temporary name says nothing.
        if error.errno is not None and error.filename in (None, temporary):
            error.filename, error.filename2 = os.fspath(path), None
        raise
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


def flush_to_disk(path):
    """Wait until a file's content, or the names in a folder, are on the disk itself.

    Parameters
    ----------
    path : str or Path
    """
    is_folder = os.path.isdir(path)
    if is_folder and os.name != "posix":
        return  # cannot be opened there
    # Windows flushes only what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems know no flushing of folders.
        if not (is_folder and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def umask():
    """Return the process's umask.

    What `tempfile` makes is for the owner alone; results are for everybody the user means them for.

    Returns
    -------
    int
    """
    mask = os.umask(0)
    os.umask(mask)
    return mask

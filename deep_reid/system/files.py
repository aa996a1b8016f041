"""Files that are written completely or not at all."""

import contextlib
import errno
import io
import json
import os
import pathlib
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from typing import Any

Path = str | os.PathLike[str]
"""The type of paths in public signatures."""

_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


@contextlib.contextmanager
def replacing(path: Path, *, folder: Path | None = None) -> Iterator[str]:
    """Write a file under a temporary name that becomes `path` when the block ends well.

    Missing parent folders are made. When the block raises, or the disk is full, nothing is left
    behind, and a file at `path` stays as it was. When the block has ended, the file survives a
    power cut. A symbolic link at `path` is replaced, not followed: a run writes into its own folder
    only. `writing` follows links, for files that the user names.

    Parameters
    ----------
    path : str or Path
    folder : str or Path, optional
        Where the temporary file is, for those who remove what a killed process left. Default, and
        where that is no folder on the same file system: the folder of `path`.

    Yields
    ------
    str
        Name to write to, with the ending of `path`.

    Raises
    ------
    OSError
        If it cannot be written. The error names `path`.
    """
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    if folder is None or not _is_on_disk_of(path.parent, folder):
        folder = path.parent
    temporary = _create_temporary(path, folder)
    try:
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, path)
        flush_to_disk(path.parent)
    except OSError as error:
        # A write to a full disk does not name the file; the temporary name means nothing to users.
        if error.errno is not None and error.filename in (None, temporary):
            error.filename, error.filename2 = os.fspath(path), None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[str]:
    """Write a file that the user names, as `replacing` does, but through links, and into devices.

    Parameters
    ----------
    path : str or Path
        A link is followed. What is written to a device or a pipe is written when the block ends.

    Yields
    ------
    str
        Name to write to, with the ending of `path`.

    Raises
    ------
    OSError
        If it cannot be written, or is a folder. The error names `path`.
    """
    path = os.fspath(path)
    check_output(path)
    if os.path.isfile(path) or not os.path.exists(path):
        with replacing(os.path.realpath(path)) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory() as folder:
        temporary = os.path.join(folder, f"output{pathlib.Path(path).suffix}")
        yield temporary
        with open(temporary, "rb") as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target)


def check_output(path: Path) -> None:
    """Check, before the work that it needs, that a user may name this file for an output.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
        If it is a folder, or named like one, as ``new/``; or a parent is no folder; links are
        followed.
    """
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:  # a new file, perhaps where a link leads
        is_folder = os.fspath(path).endswith(_SEPARATORS)
    if is_folder:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))


def check_folder(path: Path) -> None:
    """Check that a folder is there, or can be made where it is wanted.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
        If it, or a parent, is a file.
    """
    with contextlib.suppress(FileNotFoundError):
        os.stat(os.path.join(path, ""))


def write_output(path: Path, content: str | bytes) -> None:
    """Write a file that the user names, as `writing` does; text becomes UTF-8.

    Parameters
    ----------
    path : str or Path
    content : str or bytes
    """
    content = content.encode() if isinstance(content, str) else content
    with writing(path) as temporary:
        pathlib.Path(temporary).write_bytes(content)


def write_text(path: Path, text: str, **kwargs: Any) -> None:
    """Write a UTF-8 text file of a run's own, whole or not at all.

    Parameters
    ----------
    path : str or Path
    text : str
    **kwargs
        As in `replacing`.
    """
    with replacing(path, **kwargs) as temporary:
        pathlib.Path(temporary).write_text(text, encoding="utf-8")


def open_own(path: Path, flags: int) -> int:
    """Open a file of a run's own that is changed in place, as `os.open` does, but through no link.

    A link would lead out of the run's folder, to a file that is not the run's.

    Parameters
    ----------
    path : str or Path
    flags : int

    Returns
    -------
    int
        A file descriptor.

    Raises
    ------
    OSError
        If it is a link or no regular file, or cannot be opened.
    """
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "is a symbolic link", os.fspath(path))
    if os.path.exists(path):
        _check_regular(path)
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def check_within(folder: Path, *paths: Path) -> None:
    """Check that files may be written into a folder: no link leads out of it.

    Parameters
    ----------
    folder : str or Path
        May be a link itself.
    *paths : str or Path
        In the folder; need not exist.

    Raises
    ------
    OSError
        If one is a link to elsewhere.
    """
    root = pathlib.Path(os.path.realpath(folder))
    for path in paths:
        if os.path.islink(path) and root not in pathlib.Path(os.path.realpath(path)).parents:
            reason = f"is a symbolic link that leads out of {os.fspath(folder)}"
            raise OSError(errno.ELOOP, reason, os.fspath(path))


def make_own_folder(path: Path) -> None:
    """Create a folder of a run's own; a link in its place, which may lead elsewhere, is removed.

    Parameters
    ----------
    path : str or Path
        The folder may exist.
    """
    if os.path.islink(path):
        os.unlink(path)
    os.makedirs(path, exist_ok=True)


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


def read_regular(path: Path) -> bytes:
    """Read a whole file that is a regular one: devices and pipes may have no end.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        If it is another kind of file, or cannot be read.
    """
    _check_regular(path)
    return pathlib.Path(path).read_bytes()


def read_text(path: Path, errors: str = "strict") -> str:
    """Read a text file in UTF-8 that is a regular one, as `read_regular` does.

    Parameters
    ----------
    path : str or Path
    errors : str
        As in `bytes.decode`.

    Returns
    -------
    str
        Lines end with a line feed, whatever ends them in the file.
    """
    return io.StringIO(read_regular(path).decode("utf-8", errors), newline=None).read()


def read_json(path: Path) -> Any:
    """Read a JSON file, which may hold anything.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    object

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no JSON, or more than Python can take in (nested thousands of times, or a number
        of thousands of digits).
    """
    return parse_json(read_regular(path).decode("utf-8"))


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, as `read_json` does."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _check_regular(path):
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))


def _is_on_disk_of(directory, folder):
    return os.path.isdir(folder) and os.stat(folder).st_dev == os.stat(directory).st_dev


def _create_temporary(path, folder):
    """Create an empty file with a name of its own, whose permissions follow from the umask."""
    while True:
        temporary = os.path.join(folder, f".{path.stem[:50]}-{secrets.token_hex(4)}{path.suffix}")
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        except OSError as error:
            error.filename = os.fspath(path)
            raise
        return temporary

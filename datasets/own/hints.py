"""Says where images are, if they are not where they were looked for."""

import os
from pathlib import Path

from .listing import SPLITS, is_image_name, shown
from .suspects import is_camera, split_of

_MOST_FOLDERS = 50  # to look into: a hint must not take minutes


def explain_no_images(directory: str | os.PathLike[str]) -> str:
    """Say what to do about a folder in which no identities were found.

    Parameters
    ----------
    directory : str or Path

    Returns
    -------
    str
        The way out, for a message.
    """
    folders = _folders(Path(directory))
    names = [folder.name for folder in folders]
    capitals = [name for name in names if name not in SPLITS and name.lower() in SPLITS]
    if any(_folders(Path(directory, name)) for name in capitals):
        return (
            f"the names of splits are in lower case: rename {', '.join(capitals)} to "
            f"{', '.join(map(str.lower, capitals))}"
        )
    inside = [folder for folder in folders if any(map(_holds_images, _folders(folder)))]
    if len(inside) > 1 and all(is_camera(folder.name) for folder in inside):
        return (
            f"its folders are cameras ({shown(inside[0].name)}) that hold folders of identities: "
            "add --name_pattern='(?P<camera>[^/]+)/(?P<identity>[^/]+)/'"
        )
    splits = [folder for folder in inside if split_of(folder.name)]
    if splits:
        return (
            f"it has identities in {shown(splits[0].name)}, but splits are called train, query and "
            f"gallery: rename the folder, or name it: {shown(str(splits[0]))}"
        )
    deeper = inside or [sub for folder in folders for sub in _folders(folder)
                        if any(map(_holds_images, _folders(sub)))]  # fmt: skip
    if deeper:
        return (
            "its folders hold folders of images, perhaps it was unpacked one level too deep: name "
            f"the folder above the identities, such as {shown(str(deeper[0]))}"
        )
    archives = [name for name in _names(Path(directory)) if name.lower().endswith((".zip", ".tar",
                ".gz", ".tgz", ".rar", ".7z"))]  # fmt: skip
    if archives:
        return f"unpack {shown(archives[0])}, and name the folder of the images"
    return "put them into one folder per identity, as .jpg, .jpeg, .png or .bmp files"


def find_deeper(directory: str | os.PathLike[str], name: str) -> Path | None:
    """Find the folder that has what was looked for in another folder.

    Parameters
    ----------
    directory : str or Path
        Where it was looked for.
    name : str
        Of a file or folder.

    Returns
    -------
    Path or None
        A folder in `directory`, or above it, that has it. None: there is none.
    """
    directory = Path(directory)
    above = Path(os.path.abspath(directory)).parent
    for folder in (*_folders(directory), above):
        if name and (folder / name).exists():
            return folder
    return None


def find_other_case(directory: str | os.PathLike[str], name: str) -> str | None:
    """Return what a folder calls a file or folder, if only capitals differ; None: nothing."""
    return next((one for one in _names(Path(directory)) if one.lower() == name.lower()), None)


def _names(directory):
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError:
        return []


def _folders(directory):
    names = (directory / name for name in _names(directory) if not name.startswith("@"))
    return [path for path in names if path.is_dir()][:_MOST_FOLDERS]


def _holds_images(directory):
    return any(is_image_name(name) for name in _names(directory))

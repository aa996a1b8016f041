"""Says where images are, if they are not where they were looked for."""

import os
from pathlib import Path

from .listing import SPLITS, is_image_name, shown
from .rows import explain_other_file
from .suspects import find_splits, is_camera

_CAMERA_FOLDERS = "'(?P<camera>[^/]+)/(?P<identity>[^/]+)/'"
_MOST_FOLDERS, _MOST_LEVELS = 50, 3  # to look into: a hint must not take minutes


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
    capitals = [name for name in names if is_split_in_capitals(name)]
    if any(_folders(Path(directory, name)) for name in capitals):
        return advise_lower_case(capitals)
    inside = [folder for folder in folders if any(map(_holds_images, _folders(folder)))]
    if len(inside) > 1 and all(is_camera(folder.name) for folder in inside):
        return (
            f"its folders are cameras ({shown(inside[0].name)}) that hold folders of identities: "
            f"add --name_pattern={_CAMERA_FOLDERS}"
        )
    parts = find_splits([folder.name for folder in inside])
    splits = [folder for folder in inside if folder.name in parts]
    if splits:
        # What people want to train on is rather in bbox_train than in bbox_test.
        split = min(splits, key=lambda folder: parts[folder.name] != "train")
        return (
            f"it has identities in {shown(split.name)}, but splits are called train, query and "
            f"gallery: rename the folder, or name it: {shown(str(split))}"
        )
    deeper = inside or _find_deeper_identities(folders)
    if deeper:
        return _advise_deeper(deeper[0])
    return (
        _explain_files(Path(directory), folders)
        or "put them into one folder per identity, as .jpg, .jpeg, .png or .bmp files"
    )


def _advise_deeper(folder):
    """Say what to name instead; `folder` holds folders of images."""
    if is_camera(folder.name):
        return (
            f"its folders hold cameras ({shown(folder.name)}) with folders of identities: name the "
            f"folder above, such as {shown(str(folder.parent))}, and add "
            f"--name_pattern={_CAMERA_FOLDERS}"
        )
    if find_splits([folder.name]):
        folder = folder.parent
    return (
        "its folders hold folders of images, perhaps it was unpacked one level too deep: name "
        f"the folder above the identities, such as {shown(str(folder))}"
    )


def _explain_files(directory, folders):
    """Say what a file is that lies where images should be; None: there is none."""
    for folder in (directory, *folders):
        for name in _names(folder):
            problem = explain_other_file(name)
            if problem and not is_image_name(name) and (folder / name).is_file():
                return f"{shown(os.path.relpath(folder / name, directory))} is {problem}"
    return None


def _find_deeper_identities(folders):
    """Return the folders that hold folders of images, on the first level that has some."""
    for _ in range(_MOST_LEVELS):
        folders = [sub for folder in folders for sub in _folders(folder)][:_MOST_FOLDERS]
        found = [folder for folder in folders if any(map(_holds_images, _folders(folder)))]
        if found:
            return found
    return []


def is_split_in_capitals(name: str) -> bool:
    """Return whether a folder would be a split in lower case, such as ``Train``."""
    return name not in SPLITS and name.lower() in SPLITS


def advise_lower_case(names: list[str]) -> str:
    """Return what to do about folders for which `is_split_in_capitals` holds."""
    lower = ", ".join(map(str.lower, names))
    return f"the names of splits are in lower case: rename {', '.join(names)} to {lower}"


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

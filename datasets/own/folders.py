"""Reads your own images from folders: one folder per identity.

The folder has one of two forms:

- folders of identities, ``DIR/IDENTITY/*.jpg``: all images are for training;
- folders of splits, ``train``, ``query`` and ``gallery`` (at least one), each with folders of
  identities, ``DIR/SPLIT/IDENTITY/*.jpg``.

A folder ``train`` that has images and no folders is an identity with this name.
"""

import logging
import os

from deep_reid.errors import DataError, MissingPathError

from .listing import SPLITS, Listing, is_image_name

_logger = logging.getLogger(__name__)


def read_folders(directory: str | os.PathLike[str]) -> Listing:
    """List the images of a folder with one folder per identity.

    Images are files whose names end in .jpg, .jpeg, .png or .bmp, in upper or lower case. Hidden
    files and folders are ignored. Everything else that is not an image in the folder of an identity
    is left out, with a warning. Links to files and folders are followed. Cameras are unknown.

    Parameters
    ----------
    directory : str or Path
        The folder of the identities, or of the splits.

    Returns
    -------
    Listing
        Checked, in the order train, query, gallery, then by identity and file name.

    Raises
    ------
    MissingPathError
        If the folder does not exist.
    DataError
        If it holds no images, or no folders of identities; if a training identity is also in
        another split, or is "-1" (junk).
    """
    directory = os.fspath(directory)
    if not os.path.isdir(directory):
        what = "is a file, not a folder" if os.path.exists(directory) else "does not exist"
        raise MissingPathError(f"{directory} {what}: name the folder of the images")
    reader = _Reader()
    if any(_holds_folders(os.path.join(directory, name)) for name in SPLITS):
        reader.read_splits(directory)
    else:
        reader.read_identities(directory, "train")
    reader.warn()
    return reader.listing(directory)


class _Reader:
    """Collects the images, and all that is left out."""

    def __init__(self):
        self.filenames, self.identities, self.splits = [], [], []
        self.ignored, self.empty = [], []

    def read_splits(self, directory):
        folders, images, others = _list_folder(directory)
        self._ignore(directory, images + others)
        strangers = [name for name in folders if name not in SPLITS]
        if strangers:
            _logger.warning(
                "%s has folders of splits: its %d other folders are left out, such as %s.",
                directory,
                len(strangers),
                strangers[0],
            )
        for split in SPLITS:
            if split in folders:
                self.read_identities(os.path.join(directory, split), split)

    def read_identities(self, directory, split):
        folders, images, others = _list_folder(directory)
        if images and not folders:
            raise DataError(
                f"{directory} holds images but no folders: put them into one folder per identity, "
                "named after it"
            )
        self._ignore(directory, images + others)
        for identity in folders:
            self._read_images(os.path.join(directory, identity), identity, split)

    def _read_images(self, directory, identity, split):
        folders, images, others = _list_folder(directory)
        self._ignore(directory, folders + others)
        if not images:
            self.empty.append(directory)
        self.filenames += [os.path.join(directory, name) for name in images]
        self.identities += [identity] * len(images)
        self.splits += [split] * len(images)

    def _ignore(self, directory, names):
        self.ignored += [os.path.join(directory, name) for name in names]

    def warn(self):
        not_images = "files and folders that are not images in the folder of an identity"
        for what, paths in ((not_images, self.ignored), ("identities without images", self.empty)):
            if paths:
                _logger.warning("%d %s are left out, such as %s.", len(paths), what, paths[0])

    def listing(self, directory):
        if not self.filenames:
            raise DataError(
                f"{directory} holds no images: put them into one folder per identity, as .jpg, "
                ".jpeg, .png or .bmp files"
            )
        return Listing(self.filenames, self.identities, None, self.splits).check(directory)


def _holds_folders(directory):
    return os.path.isdir(directory) and bool(_list_folder(directory)[0])


def _list_folder(directory):
    """Return the names of folders, images and others, each sorted, without hidden ones."""
    folders, images, others = [], [], []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file() and is_image_name(entry.name):
                images.append(entry.name)
            else:  # also a broken link with the name of an image
                others.append(entry.name)
    return sorted(folders), sorted(images), sorted(others)

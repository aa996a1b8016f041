"""Reads your own images from folders: one folder per identity, or with identities in file names.

Without a pattern for file names, the folder has one of two forms:

- folders of identities, ``DIR/IDENTITY/*.jpg``: all images are for training;
- folders of splits, ``train``, ``query`` and ``gallery`` (at least one), each with folders of
  identities, ``DIR/SPLIT/IDENTITY/*.jpg``.

A folder ``train`` that has images and no folders is an identity with this name, if there are
identities beside it that are no splits.

With a pattern that tells the identity, images can lie anywhere below the folder. The folders of the
benchmarks are splits: ``bounding_box_train``, ``query`` and ``bounding_box_test``.
"""

import logging
import os

from deep_reid.errors import DataError, MissingPathError
from deep_reid.system.name_patterns import EXAMPLE, PRESETS, NamePattern

from .hints import advise_lower_case, explain_no_images, is_split_in_capitals
from .listing import SPLITS, Listing, is_image_name, shown
from .suspects import SPLIT_WORDS, find_splits

_logger = logging.getLogger(__name__)

# Folders that NAS devices, macOS, Windows and Python make, in lower case.
_OF_SYSTEMS = frozenset(
    ("@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "@tmp", "__macosx",
     "$recycle.bin", "system volume information", "lost+found", "__pycache__")
)  # fmt: skip


def read_folders(directory: str | os.PathLike[str], pattern: NamePattern | None = None) -> Listing:
    """List the images of a folder.

    Images are files whose names end in .jpg, .jpeg, .png or .bmp, in upper or lower case. Hidden
    files and folders, and those of systems such as ``@eaDir``, are ignored. Everything else that is
    not an image of an identity is left out, with a warning. Links to files and folders are
    followed.

    Parameters
    ----------
    directory : str or Path
        The folder of the identities, or of the splits.
    pattern : NamePattern, optional
        Tells identity, camera and split from the names. Without it, cameras are unknown.

    Returns
    -------
    Listing
        Checked, in the order train, query, gallery, then by identity and file name.

    Raises
    ------
    MissingPathError
        If the folder does not exist.
    DataError
        If it holds no images, or no folders of identities; if folders are certainly splits or
        cameras and not identities; if a training identity is also in another split, or is "-1"
        (junk); if the pattern matches no image.
    """
    directory = os.fspath(directory)
    if not os.path.isdir(directory):
        what = "is a file, not a folder" if os.path.exists(directory) else "does not exist"
        raise MissingPathError(f"{directory} {what}: name the folder of the images")
    reader = _Reader(directory, pattern)
    if reader.tells_identities:
        reader.read_tree(directory)
    elif any(_holds_folders(os.path.join(directory, name)) for name in SPLITS):
        reader.read_splits(directory)
    else:
        reader.read_identities(directory, "train")
    listing = reader.listing()
    reader.warn()  # not before: in what is refused, nothing is left out
    return listing


class _Reader:
    """Collects the images, and all that is left out."""

    def __init__(self, directory, pattern):
        self.directory, self.pattern = directory, pattern
        self.filenames, self.identities, self.cameras, self.splits = [], [], [], []
        self.ignored, self.empty, self.strange = [], [], []
        self.beside_splits = []
        self.tells_identities = pattern is not None and (
            "identity" in pattern.groups or not pattern.groups
        )

    def read_splits(self, directory):
        folders, images, others = _list_folder(directory)
        self._ignore(directory, images + others)
        self.beside_splits = [name for name in folders if name not in SPLITS]
        capitals = [name for name in self.beside_splits if is_split_in_capitals(name)]
        if capitals:
            raise DataError(f"{shown(directory)}: {advise_lower_case(capitals)}")
        for split in SPLITS:
            if split in folders:
                self.read_identities(os.path.join(directory, split), split)

    def read_tree(self, directory):
        """Read all images below a folder; their names tell the identities."""
        if not self.pattern.groups:
            raise DataError(
                f"the names of {self.pattern.text}'s images tell no identity: name one of its "
                f"lists, such as --dataset={shown(directory)}/"
                f"{PRESETS[self.pattern.text].list_example}"
            )
        folders, _, _ = _list_folder(directory)
        split_folders = (
            {} if "split" in self.pattern.groups else _find_split_folders(directory, folders)
        )
        if not split_folders:
            self._read_below(directory, "train", set())
            return
        self.beside_splits = [name for name in folders if name not in split_folders.values()]
        for split in SPLITS:
            if split in split_folders:
                self._read_below(os.path.join(directory, split_folders[split]), split, set())

    def _read_below(self, directory, split, above):
        # A link may lead back to a folder above.
        status = os.stat(directory)
        key = status.st_dev, status.st_ino
        if key in above:
            return
        folders, images, others = _list_folder(directory)
        self._ignore(directory, others)
        for name in images:
            self._add(os.path.join(directory, name), "", split)
        for name in folders:
            self._read_below(os.path.join(directory, name), split, above | {key})

    def _add(self, filename, identity, split):
        found = {}
        if self.pattern is not None:
            path = os.path.relpath(filename, self.directory).replace(os.sep, "/")
            found = self.pattern.match(path)
            if found is None:
                self.strange.append(filename)
                return
        self.filenames.append(filename)
        self.identities.append(found.get("identity", identity))
        self.cameras.append(found.get("camera"))
        self.splits.append(_settle_split(found["split"]) if "split" in found else split)

    def read_identities(self, directory, split):
        folders, images, others = _list_folder(directory)
        if images and not folders:
            raise DataError(
                f"{shown(directory)} holds images but no folders: put them into one folder per "
                "identity, named after it, or read the identities from the names of the files, "
                f"such as --name_pattern='{EXAMPLE}'"
            )
        self._ignore(directory, images + others)
        for identity in folders:
            self._read_images(os.path.join(directory, identity), identity, split)

    def _read_images(self, directory, identity, split):
        folders, images, others = _list_folder(directory)
        self._ignore(directory, folders + others)
        if not images:
            self.empty.append(directory)
        for name in images:
            self._add(os.path.join(directory, name), identity, split)

    def _ignore(self, directory, names):
        self.ignored += [os.path.join(directory, name) for name in names]

    def warn(self):
        """Name what the listing leaves out."""
        if self.beside_splits:
            _logger.warning(
                "%s has folders of splits: its %d other folders are left out, such as %s.",
                shown(self.directory),
                len(self.beside_splits),
                shown(self.beside_splits[0]),
            )
        for names, text in (
            (self.ignored, "files and folders that are not images in the folder of an identity"),
            (self.empty, "identities without images"),
            (self.strange, "images whose names do not match --name_pattern"),
        ):
            if names:
                _logger.warning(
                    "%d %s are left out, such as %s.", len(names), text, shown(names[0])
                )

    def listing(self):
        if not self.filenames and self.strange:
            raise DataError(
                f"none of the {len(self.strange)} images of {shown(self.directory)} matches "
                f"--name_pattern={self.pattern.text}, such as {shown(self.strange[0])}: it must "
                "match from the start of the file name; begin with .* to pass over some of it"
            )
        if not self.filenames:
            raise DataError(f"{shown(self.directory)} holds no images: "
                            f"{explain_no_images(self.directory)}")  # fmt: skip
        cameras = self.cameras if self.pattern and "camera" in self.pattern.groups else None
        return Listing(self.filenames, self.identities, cameras, self.splits).check(self.directory)


def _find_split_folders(directory, folders):
    """Return the folder of each split, by the names of the folders."""
    parts: dict[str, list[str]] = {}
    for name, part in find_splits(folders).items():
        parts.setdefault(part, []).append(name)
    if "query" in parts and "gallery" not in parts and "test" in parts:
        # As in Market-1501: bounding_box_test is the gallery of the queries.
        parts["gallery"] = parts["test"]
    found = {}
    for split in SPLITS:
        names = parts.get(split, [])
        if len(names) > 1 and split not in names:
            raise DataError(
                f"{shown(directory)} has more than one folder of the split {split} "
                f"({', '.join(map(shown, names))}): rename one of them to {split}"
            )
        if names:
            found[split] = split if split in names else names[0]
    if not found and ("test" in parts or "val" in parts):
        name = shown((parts.get("test") or parts["val"])[0])
        raise DataError(
            f"{shown(directory)} has the folder {name}, but neither train, query nor gallery: name "
            f"{os.path.join(shown(directory), name)} to train on it"
        )
    return found


def _settle_split(name):
    split = SPLIT_WORDS.get(name.lower(), name)
    return "gallery" if split == "test" else split


def _holds_folders(directory):
    return os.path.isdir(directory) and bool(_list_folder(directory)[0])


def _list_folder(directory):
    """Return the names of folders, images and others, each sorted, without hidden ones."""
    folders, images, others = [], [], []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _OF_SYSTEMS:
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file() and is_image_name(entry.name):
                images.append(entry.name)
            else:  # also a broken link with the name of an image
                others.append(entry.name)
    return sorted(folders), sorted(images), sorted(others)

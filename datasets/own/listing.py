"""Lists of your own images, with the names of identities and cameras in the data."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from deep_reid.errors import DataError
from deep_reid.errors import printable as shown
from deep_reid.samplers.galleries import JUNK_LABEL

from . import suspects

SPLITS = ("train", "query", "gallery")
"""The parts of a data set."""

JUNK_NAME = str(JUNK_LABEL)
"""The name of images without a known person; the ranking of a test ignores them."""

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
"""Endings of image files, in lower case."""

_MAX_QUOTED = 200


@dataclasses.dataclass(frozen=True)
class Listing:
    """Image files, with identity, camera and split of each.

    Parameters
    ----------
    filenames : list of N str
        Paths of the image files.
    identities : list of N str
        The name of the person on each image. "-1" is junk; only a gallery may have it.
    cameras : list of N str, or None
        The name of the camera of each image. None: unknown.
    splits : list of N str
        One of `SPLITS` for each image.
    places : sequence of N str, optional
        The place of each entry in its source, for messages, such as "people.csv, line 7". None:
        the images are from folders, and messages name the image.

    Raises
    ------
    DataError
        If the lengths differ.
    """

    filenames: list[str]
    identities: list[str]
    cameras: list[str] | None
    splits: list[str]
    places: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("identities", "cameras", "splits", "places"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.filenames):
                raise DataError(
                    f"{name} ({len(values)}) must have one entry for each of the "
                    f"{len(self.filenames)} file names"
                )

    def __len__(self) -> int:
        return len(self.filenames)

    def place(self, row: int) -> str:
        """Return the place of an entry, for messages.

        Parameters
        ----------
        row : int

        Returns
        -------
        str
        """
        return shown(self.filenames[row] if self.places is None else self.places[row])

    def rows(self, *splits: str) -> list[int]:
        """List the entries of one or more splits.

        Parameters
        ----------
        *splits : str
            Of `SPLITS`.

        Returns
        -------
        list of int
            Row numbers, increasing.
        """
        return [row for row, split in enumerate(self.splits) if split in splits]

    def check(
        self, source: str | os.PathLike[str] = "the listing", is_list: bool = False
    ) -> "Listing":
        """Check each entry, and that no two entries contradict each other.

        Parameters
        ----------
        source : str or Path
            Name of the data in messages.
        is_list : bool
            Whether somebody has written the identities into a list. Otherwise, the names of the
            files must not contradict them.

        Returns
        -------
        Listing
            The listing itself.

        Raises
        ------
        DataError
            If it is empty; if a split is unknown; if an identity has no name, or a name that is not
            UTF-8, or is certainly a split or a camera; if junk is in ``train``; if an identity is
            in ``train`` and in ``query`` or ``gallery``; if a file is listed under two identities,
            or twice in a split.
        """
        if not len(self):
            raise DataError(f"{source} holds no images: give at least one")
        self._check_names()
        self._check_entries()
        suspects.check(self.identities, self.filenames, shown(os.fspath(source)), is_list)
        self._check_overlap()
        self._check_files()
        return self

    def _check_names(self):
        """Check that all names are UTF-8: reports, lists and TensorFlow cannot have others."""
        wrong = [row for row, name in enumerate(self.filenames) if not is_utf_8(name)]
        if wrong:
            raise DataError(
                f"the name of {shown(self.filenames[wrong[0]])} is not UTF-8: rename the file or "
                f"folder ({len(wrong)} of {len(self)} images have such a path)"
            )

    def _check_entries(self):
        # The names of a million entries are few.
        for split in set(self.splits) - set(SPLITS):
            raise DataError(
                f"{self.place(self.splits.index(split))}: the split {quoted(split)} is unknown: it "
                "must be train, query or gallery"
            )
        names = set(self.identities)
        for identity in names:
            if not identity.strip():
                row = self.identities.index(identity)
                raise DataError(f"{self.place(row)} has no identity: name the person")
        if JUNK_NAME not in names:
            return
        pairs = zip(self.identities, self.splits, strict=True)
        junk = next((row for row, pair in enumerate(pairs) if pair == (JUNK_NAME, "train")), None)
        if junk is not None:
            raise DataError(
                f"{self.place(junk)} has the identity {JUNK_NAME}, which means junk and cannot be "
                "trained on: move the image to the gallery, or leave it out"
            )

    def _check_overlap(self):
        if len(set(self.splits)) == 1:
            return
        trained = self._first_rows("train")
        tested = self._first_rows("query", "gallery")
        common = [identity for identity in trained if identity in tested]
        if common:
            train_row, test_row = trained[common[0]], tested[common[0]]
            raise DataError(
                f"identity {quoted(common[0])} is in train ({self.place(train_row)}) and in "
                f"{self.splits[test_row]} ({self.place(test_row)}); the test would be on persons "
                "that were trained on: keep all images of a person in train or none "
                f"({len(common)} of the identities break the rule)"
            )

    def _first_rows(self, *splits):
        rows: dict[str, int] = {}
        for row in self.rows(*splits):
            rows.setdefault(self.identities[row], row)
        return rows

    def _check_files(self):
        rows_of: dict[str, list[int]] = {}
        for row in self._rows_of_repeated_files():
            rows_of.setdefault(_spelling(self.filenames[row], os.getcwd()), []).append(row)
        for rows in rows_of.values():
            first, *others = rows
            for row in others:
                self._check_pair(first, row)
            # A query may also be in the gallery. Twice in one split, it would find itself.
            in_split: dict[str, int] = {}
            for row in rows:
                before = in_split.setdefault(self.splits[row], row)
                if before != row:
                    raise DataError(
                        f"{quoted(self.filenames[row])} is listed twice ({self.place(before)} and "
                        f"{self.place(row)}): it would match itself; remove one of the entries"
                    )

    def _check_pair(self, first, row):
        if self.identities[first] != self.identities[row]:
            raise DataError(
                f"{quoted(self.filenames[row])} is listed as {quoted(self.identities[first])} "
                f"({self.place(first)}) and as {quoted(self.identities[row])} "
                f"({self.place(row)}): an image shows one person; remove one of the entries"
            )

    def _rows_of_repeated_files(self):
        """Return the rows whose file has another row, too; by hashes, which take little memory."""
        directory = os.getcwd()
        hashes = np.fromiter(
            (hash(_spelling(name, directory)) for name in self.filenames), np.int64, len(self)
        )
        values, counts = np.unique(hashes, return_counts=True)
        return np.flatnonzero(np.isin(hashes, values[counts > 1])).tolist()


def _spelling(filename, directory):
    """Return the one spelling of a file that may have several, such as a.jpg and ./a.jpg."""
    path = filename if filename.startswith("/") else f"{directory}/{filename}"
    # Most paths have one spelling alone: for a million of them, the time counts.
    if os.sep == "/" and "/." not in path and "//" not in path:
        return path
    return os.path.normcase(os.path.normpath(os.path.join(directory, filename)))


def is_utf_8(name: str) -> bool:
    """Return whether a name of a file is UTF-8, as most programs expect."""
    # Python's mark for bytes that are not UTF-8. Most names are ASCII, which is fast to tell.
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def quoted(text: str) -> str:
    """Quote a text of the data so that it fits into one line of a message.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        Line breaks are escaped; a long text is cut after 200 characters.
    """
    return repr(text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "...")


def is_image_name(name: str) -> bool:
    """Return whether a file is an image, by its name.

    Parameters
    ----------
    name : str
        Without a folder.

    Returns
    -------
    bool
        Whether it has one of the `IMAGE_ENDINGS`, in upper or lower case, and is not hidden (such
        as the ``._*`` files of macOS).
    """
    return name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")

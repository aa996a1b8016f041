"""Lists of people's own images, with identities and cameras by the names the data gives them."""

import dataclasses
import os

from deep_reid.errors import DataError
from deep_reid.samplers.galleries import JUNK_LABEL

SPLITS = ("train", "query", "gallery")
"""What an image can be for."""

JUNK_NAME = str(JUNK_LABEL)
"""The name of what is no person, or cannot be told: ignored in a test's ranking."""

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
"""Endings of the image files that are looked for, in lower case."""

_MAX_QUOTED = 200


@dataclasses.dataclass(frozen=True)
class Listing:
    """Image files, who is seen on them and where, and what they are for.

    Parameters
    ----------
    filenames : list of N str
        Paths of the image files.
    identities : list of N str
        The name of the person on each image. "-1" is junk, in a gallery.
    cameras : list of N str, or None
        The name of the camera of each image. None: not known.
    splits : list of N str
        One of `SPLITS` for each image.
    places : list of N str, optional
        Where each entry stands, for messages: such as "people.csv, line 7". None: the file's path
        says it.

    Raises
    ------
    DataError
        If the lengths differ.
    """

    filenames: list[str]
    identities: list[str]
    cameras: list[str] | None
    splits: list[str]
    places: list[str] | None = None

    def __post_init__(self):
        for name in ("identities", "cameras", "splits", "places"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.filenames):
                raise DataError(
                    f"{name} ({len(values)}) must have one entry for each of the "
                    f"{len(self.filenames)} file names"
                )

    def __len__(self):
        return len(self.filenames)

    def place(self, row):
        """Say where an entry stands.

        Parameters
        ----------
        row : int

        Returns
        -------
        str
        """
        return self.filenames[row] if self.places is None else self.places[row]

    def rows(self, *splits):
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

    def check(self, source="the listing"):
        """Check that the entries go together.

        Parameters
        ----------
        source : str or Path
            What the listing was read from, for messages.

        Returns
        -------
        Listing
            The listing itself.

        Raises
        ------
        DataError
            If it is empty; if a split is unknown or an identity has no name; if junk is to be
            trained on; if an identity is in ``train`` and in ``query`` or ``gallery``; if a file
            is listed under two identities.
        """
        if not len(self):
            raise DataError(f"{source} holds no images: give at least one")
        self._check_entries()
        self._check_overlap()
        self._check_files()
        return self

    def _check_entries(self):
        for row, (identity, split) in enumerate(zip(self.identities, self.splits, strict=True)):
            if split not in SPLITS:
                raise DataError(f"{self.place(row)}: {unknown_split(split)}")
            if not identity.strip():
                raise DataError(f"{self.place(row)} has no identity: name the person")
            if identity == JUNK_NAME and split == "train":
                raise DataError(
                    f"{self.place(row)} has the identity {JUNK_NAME}, which means junk and "
                    "cannot be trained on: move the image to the gallery, or leave it out"
                )

    def _check_overlap(self):
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
        rows = {}
        for row in self.rows(*splits):
            rows.setdefault(self.identities[row], row)
        return rows

    def _check_files(self):
        seen = {}
        for row, filename in enumerate(self.filenames):
            # The same file may be written in two ways, such as a.jpg and ./a.jpg.
            path = os.path.normcase(os.path.abspath(filename))
            first = seen.setdefault(path, row)
            if self.identities[first] != self.identities[row]:
                raise DataError(
                    f"{quoted(filename)} is listed as {quoted(self.identities[first])} "
                    f"({self.place(first)}) and as {quoted(self.identities[row])} "
                    f"({self.place(row)}): an image is of one person, remove one of the entries"
                )
            # A query may be in the gallery, too, but twice in one split it would find itself.
            first = seen.setdefault((path, self.splits[row]), row)
            if first != row:
                raise DataError(
                    f"{quoted(filename)} is listed twice ({self.place(first)} and "
                    f"{self.place(row)}): it would be found as a match of itself; remove one of "
                    "the entries"
                )


def unknown_split(name):
    """Say that a split is unknown.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        The end of an error message.
    """
    return f"the split {quoted(name)} is unknown: it must be train, query or gallery"


def quoted(text):
    """Quote a text of people's data so that it fits into one line of a message.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        With line breaks escaped, and cut after 200 characters.
    """
    return repr(text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "...")


def is_image_name(name):
    """Say whether a file is an image by its name.

    Parameters
    ----------
    name : str
        Without a folder.

    Returns
    -------
    bool
        Whether it has one of the `IMAGE_ENDINGS`, in any case, and is not hidden (as the ``._*``
        files of macOS are).
    """
    return name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")

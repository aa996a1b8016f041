"""Lists of your own images, with the names of identities and cameras in the data."""

import dataclasses
import os
from typing import Any

from deep_reid.errors import DataError
from deep_reid.samplers.galleries import JUNK_LABEL

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
    places : list of N str, optional
        The place of each entry in its source, for messages, such as "people.csv, line 7". None:
        messages name the image.

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
        return self.filenames[row] if self.places is None else self.places[row]

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

    def check(self, source: str | os.PathLike[str] = "the listing") -> "Listing":
        """Check each entry, and that no two entries contradict each other.

        Parameters
        ----------
        source : str or Path
            Name of the data in messages.

        Returns
        -------
        Listing
            The listing itself.

        Raises
        ------
        DataError
            If it is empty; if a split is unknown or an identity has no name; if junk is in
            ``train``; if an identity is in ``train`` and in ``query`` or ``gallery``; if a file is
            listed under two identities, or twice in a split.
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
                raise DataError(
                    f"{self.place(row)}: the split {quoted(split)} is unknown: it must be train, "
                    "query or gallery"
                )
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
        rows: dict[str, int] = {}
        for row in self.rows(*splits):
            rows.setdefault(self.identities[row], row)
        return rows

    def _check_files(self):
        seen: dict[Any, int] = {}
        for row, filename in enumerate(self.filenames):
            # One file may have two spellings, such as a.jpg and ./a.jpg.
            path = os.path.normcase(os.path.abspath(filename))
            first = seen.setdefault(path, row)
            if self.identities[first] != self.identities[row]:
                raise DataError(
                    f"{quoted(filename)} is listed as {quoted(self.identities[first])} "
                    f"({self.place(first)}) and as {quoted(self.identities[row])} "
                    f"({self.place(row)}): an image shows one person; remove one of the entries"
                )
            # A query may also be in the gallery. Twice in one split, it would find itself.
            first = seen.setdefault((path, self.splits[row]), row)
            if first != row:
                raise DataError(
                    f"{quoted(filename)} is listed twice ({self.place(first)} and "
                    f"{self.place(row)}): it would match itself; remove one of the entries"
                )


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

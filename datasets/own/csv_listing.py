"""Reads your own images from a list: ``path,identity[,camera][,split]``.

Cells are separated by commas, semicolons, tabs or spaces (`datasets.own.rows`). A header is
optional. With a header, the columns may have any order and several names (`HEADER_NAMES`), and
unknown columns are ignored. Without a header, the path is the cell with the ending of an image, or
the first; the others have the order above. The third of three columns is the split if it holds only
names of splits, else the camera.
"""

import array
import itertools
import logging
import os
import re
from collections.abc import Sequence

import numpy as np

from deep_reid.errors import DataError, MissingPathError
from deep_reid.system.name_patterns import NamePattern

from .listing import SPLITS, Listing, is_image_name, quoted, shown
from .rows import FORM, SEPARATORS, place_of, read_rows
from .suspects import SPLIT_WORDS

COLUMNS = ("path", "identity", "camera", "split")
"""The columns, in the order that they have without a header."""

HEADER_NAMES = {
    "path": ("path", "imagepath", "imgpath", "filepath", "filename", "file", "fid", "image", "img",
             "imagename", "imgname"),
    "identity": ("identity", "personid", "pid", "person", "vehicleid", "vid", "vehicle",
                 "objectid", "subjectid", "itemid", "classid", "id", "label", "class"),
    "camera": ("camera", "cameraid", "camid", "cam", "cameraname"),
    "split": ("split", "subset", "partition", "set", "evaluationstatus"),
}  # fmt: skip
"""What a header can call each column, the best first, without ``_`` and in lower case."""

# A folder is listed if many of its files are in the table, and few others seem to be in it.
_MIN_TO_SCAN, _SCAN_FACTOR = 32, 8

_logger = logging.getLogger(__name__)


def read_csv(path: str | os.PathLike[str], pattern: NamePattern | None = None) -> Listing:
    r"""List the images of a list.

    The file is UTF-8, with or without a byte order mark. Spaces around cells and empty lines are
    ignored. An empty split is ``train``.

    Parameters
    ----------
    path : str or Path
        The list. The paths in it are relative to its folder, or absolute, with ``/`` or ``\``.
    pattern : NamePattern, optional
        Tells from the paths what the list has no column for.

    Returns
    -------
    Listing
        Checked, in the order of the file. Cameras are None if no row has one.

    Raises
    ------
    MissingPathError
        If the file, or an image in it, does not exist.
    DataError
        If the file does not have this form; the message names the line. If a training identity is
        also in another split, or is "-1" (junk); if an image has two identities.
    """
    table = _Table(path, pattern)
    columns = table.columns
    for name in ("path", "identity"):
        _check_full(name, columns[name], table.places)
    names = columns["path"]
    _locate(names, os.path.dirname(path), pattern.list_forms if pattern else ("{}",))
    splits = columns.get("split")
    listing = Listing(
        names,
        columns["identity"],
        _cameras(columns.get("camera"), table.places),
        ["train"] * len(names) if splits is None else [cell.lower() or "train" for cell in splits],
        table.places,
    ).check(path, is_list=True)
    _check_files(path, listing)
    return listing


class _Places(Sequence):
    """The places of the rows, as text when it is needed: a million texts take 100 MB."""

    def __init__(self, path):
        self._path, self.lines = path, array.array("Q")

    def __len__(self):
        return len(self.lines)

    def __getitem__(self, row):
        return place_of(self._path, self.lines[row])


class _Table:
    """Reads a list row by row, and keeps its columns."""

    def __init__(self, path, pattern):
        self.path, self.pattern = path, pattern
        self.in_names = pattern.groups if pattern else frozenset()
        self.places = _Places(path)
        self.columns = {}
        rows = read_rows(path, "identity" in self.in_names)
        line, first = next(rows, (0, None))
        if first is None:
            raise DataError(f"{path} is empty: write one row {FORM} for each image")
        header = self._read_header(place_of(path, line), first)
        width = len(first)
        names = header or self._name_columns(place_of(path, line), first)
        if not header:
            self._collect(names, [(line, first)], width)
        self._collect(names, rows, width)
        if not len(self.places):
            raise DataError(f"{path} holds no images: write rows {FORM} below the header")
        self._settle_third(names, header)
        self._complete()

    def _read_header(self, place, first):
        """Return the column of each cell (None: ignored); None if the row is no header."""
        cells = [re.sub(r"[\W_]", "", cell.lower()) for cell in first]
        is_known = {*cells} & {*HEADER_NAMES["path"], *HEADER_NAMES["identity"]}
        has_images = any(map(is_image_name, first))
        if {cell.lower() for cell in first}.isdisjoint(COLUMNS) and (has_images or not is_known):
            return None
        found = quoted(",".join(cell.lower() for cell in first))
        header: list[str | None] = [None] * len(cells)
        for name, aliases in HEADER_NAMES.items():
            alias = next((alias for alias in aliases if alias in cells), None)
            if alias is None:
                if name == "path" or (name == "identity" and name not in self.in_names):
                    raise DataError(
                        f"{place}: the header has no column {name}, it is {found}; it must name "
                        f"the columns {FORM}"
                    )
                continue
            if cells.count(alias) > 1:
                raise DataError(f"{place}: the header {found} has {alias} twice: rename one column")
            header[cells.index(alias)] = name
        chosen = [f"{name} = {cell}" for name, cell in zip(header, first, strict=True) if name]
        _logger.info("Columns of %s: %s.", shown(os.fspath(self.path)), shown(", ".join(chosen)))
        return header

    def _name_columns(self, place, first):
        """Return the columns of a list without a header."""
        least = 1 if "identity" in self.in_names else 2
        if len(first) == 1:
            _check_separator(place, first[0])
        if not least <= len(first) <= len(COLUMNS):
            raise DataError(
                f"{place}: the row has {_count(len(first))}, but without a header it must be "
                f"{FORM}; for other columns, name them in a first line"
            )
        rest = list(COLUMNS[1 : len(first)])
        images = [column for column, cell in enumerate(first) if is_image_name(cell)]
        rest.insert(images[0] if len(images) == 1 else 0, "path")
        return rest

    def _collect(self, names, rows, width):
        columns = {name: self.columns.setdefault(name, []) for name in names if name}
        path, append_path = names.index("path"), columns.pop("path").append
        others = [(names.index(name), column.append) for name, column in columns.items()]
        # Names of identities, cameras and splits are kept once, not once for each row.
        kept: dict[str, str] = {}
        keep, note = kept.setdefault, self.places.lines.append
        for line, cells in rows:
            if len(cells) != width:
                self._refuse_width(place_of(self.path, line), cells, width)
            note(line)
            append_path(cells[path])
            for number, append in others:
                append(keep(cells[number], cells[number]))

    def _refuse_width(self, place, cells, width):
        if len(cells) == 1:
            _check_separator(place, cells[0])
        raise DataError(
            f"{place}: the row has {_count(len(cells))}, but there are {width} columns: write one "
            "cell for each, and quotes around cells with separators"
        )

    def _settle_third(self, names, header):
        """Tell whether the third of three columns without a header is the split."""
        if header or len(names) != 3:
            return
        values = {cell.lower() for cell in set(self.columns["camera"])} - {""}
        if values and values <= {*SPLITS, *SPLIT_WORDS}:
            self.columns["split"] = self.columns.pop("camera")

    def _complete(self):
        """Fill in the columns that the list does not have, from the names of the files."""
        missing = [
            name for name in COLUMNS[1:] if name in self.in_names and name not in self.columns
        ]
        if not missing:
            if "identity" not in self.columns:
                raise DataError(f"{self.path} has no identities: write rows {FORM}")
            return
        for name in missing:
            self.columns[name] = []
        for row, path in enumerate(self.columns["path"]):
            found = self.pattern.match(path.replace("\\", "/"))
            if found is None:
                raise DataError(
                    f"{self.places[row]}: {quoted(path)} does not match {self.pattern.text}: "
                    "correct --name_pattern, or remove the row"
                )
            for name in missing:
                self.columns[name].append(found[name])


def _check_separator(place, row):
    for separator in SEPARATORS:
        if separator in row:
            raise DataError(
                f"{place}: the cells of all rows must be separated alike, but this row has "
                f"{separator!r}: save the table with commas"
            )


def _count(num_cells):
    return f"{num_cells} cell" if num_cells == 1 else f"{num_cells} cells"


def _check_full(name, cells, places):
    if "" in cells:
        place = places[cells.index("")]
        raise DataError(f"{place}: the {name} is empty: fill it, or remove the row")


def _cameras(cells, places):
    if cells is None or not any(cells):
        return None
    if not all(cells):
        empty = cells.index("")
        full = next(row for row, cell in enumerate(cells) if cell)
        raise DataError(
            f"{places[empty]} has no camera, but {places[full]} has one: "
            f"name the camera in every row or in none ({cells.count('')} rows have none)"
        )
    return cells


def _locate(names, directory, forms):
    """Replace each path of a list by that of its image; `forms` are those of a `Preset`."""
    prefix = os.path.join(directory, "")
    form = next((form for form in forms if os.path.isfile(prefix + form.format(names[0]))), "{}")
    for row, name in enumerate(names):
        path = name if os.path.isabs(name) else prefix + form.format(name)
        if form != "{}":
            path = os.path.normpath(path)
        # Windows writes backslashes; elsewhere, a name may have one.
        if "\\" in path and os.sep != "\\" and not os.path.isfile(path):
            path = path.replace("\\", "/")
        names[row] = path


def _check_files(path, listing):
    missing = _find_missing(listing.filenames)
    if missing:
        is_header = missing == [0] and len(listing) > 1
        raise MissingPathError(
            f"{listing.place(missing[0])}: {quoted(listing.filenames[missing[0]])} does not "
            f"exist or is not a file; paths must be absolute or relative to the folder of {path} "
            f"({len(missing)} of {len(listing)} images are missing)"
            + "; if it is a header, call its columns path, identity, camera and split"
            * is_header
        )


def _find_missing(filenames):
    """Return the rows whose file does not exist.

    To list a folder takes a third of the time of asking for each of its files.
    """
    rows_of: dict[str, array.array[int]] = {}
    for row, filename in enumerate(filenames):
        folder = filename.rpartition(os.sep)[0]
        rows = rows_of.get(folder)
        if rows is None:
            rows = rows_of[folder] = array.array("Q")
        rows.append(row)
    missing = []
    for folder, rows in rows_of.items():
        has_folder = filenames[rows[0]].startswith(folder + os.sep)
        hashes = _hash_names(folder + os.sep if has_folder else ".", len(rows))
        start = len(folder) + has_folder
        names = np.fromiter((hash(filenames[row][start:]) for row in rows), np.int64, len(rows))
        unseen = np.flatnonzero(np.isin(names, hashes, invert=True)).tolist()
        missing += [rows[i] for i in unseen if not os.path.isfile(filenames[rows[i]])]
    return sorted(missing)


def _hash_names(folder, num_listed):
    """Return the hashes of the names of a folder's files: of a million, names take 100 MB."""
    most = _SCAN_FACTOR * num_listed
    hashes = array.array("q")
    if num_listed < _MIN_TO_SCAN:
        return hashes
    try:
        with os.scandir(folder) as entries:
            for entry in itertools.islice(entries, most):
                if entry.is_file():
                    hashes.append(hash(entry.name))
    except (OSError, ValueError):  # the folder does not exist, or its name cannot be one
        pass
    return hashes

"""Reads your own images from a table: ``path,identity[,camera][,split]`` in a CSV file.

A header is optional. With a header, the columns may have any order, and unknown columns are
ignored. Without a header, the columns have the order above; the third of three columns is the split
if it holds only names of splits, else the camera.
"""

import csv
import io
import os
import pathlib

from deep_reid.errors import DataError, MissingPathError

from .listing import SPLITS, Listing, quoted

COLUMNS = ("path", "identity", "camera", "split")
"""The columns, in the order that they have without a header; the first two are required."""

_FORM = "path,identity[,camera][,split]"


def read_csv(path: str | os.PathLike[str]) -> Listing:
    """List the images of a CSV file.

    The file is UTF-8, with or without a byte order mark. Spaces around cells and empty lines are
    ignored. An empty split is ``train``.

    Parameters
    ----------
    path : str or Path
        The CSV file. The paths in it are relative to its folder, or absolute.

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
    names, rows = _name_columns(path, _split_rows(path, _read_text(path)))
    columns = {name: [cells[i] for _, cells in rows] for i, name in enumerate(names) if name}
    places = [place for place, _ in rows]
    for name in ("path", "identity"):
        _check_full(name, columns[name], places)
    directory = os.path.dirname(path)
    listing = Listing(
        [os.path.join(directory, name) for name in columns["path"]],
        columns["identity"],
        _cameras(columns.get("camera"), places),
        [cell.lower() or "train" for cell in columns.get("split", [""] * len(rows))],
        places,
    ).check(path)
    _check_files(path, listing)
    return listing


def _read_text(path):
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder, not a CSV file: name the file")
    try:
        data = pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingPathError(f"{path} does not exist: name a CSV file of {_FORM} rows") from None
    way_out = "save the table as CSV in UTF-8"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line_of(data.decode("latin-1"), error.start)
        raise DataError(f"{path}, line {line}: this is not UTF-8; {way_out}") from None
    # Python 3.10 refuses this character, later versions read it.
    if "\0" in text:
        line = _line_of(text, text.index("\0"))
        raise DataError(f"{path}, line {line}: a NUL byte is not text; {way_out}")
    return text


def _line_of(text, position):
    return sum(1 for _ in io.StringIO(text[: position + 1], newline=""))


def _split_rows(path, text):
    """Return for each row its place, which is the line where it starts, and its cells."""
    # Before the rows are parsed: with another separator, errors about quotes would mislead.
    first = text.lstrip().partition("\n")[0]
    if "," not in first:
        _check_separator(f"{path}, line 1", first)
    # Without strict, a quote that is never closed would swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    rows, place = [], f"{path}, line 1"
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append((place, cells))
            place = f"{path}, line {reader.line_num + 1}"
    except csv.Error as error:
        raise DataError(f"{place}: {error}; check the quotes of this row") from None
    if not rows:
        raise DataError(f"{path} is empty: write one row {_FORM} for each image")
    return rows


def _check_separator(place, row):
    for separator in (";", "\t"):
        if separator in row:
            raise DataError(
                f"{place}: cells must be separated by commas, not by {separator!r}: save the table "
                "with commas"
            )


def _name_columns(path, rows):
    """Return the name of each column (None: ignored) and the rows without the header."""
    place, first = rows[0]
    header = [cell.lower() for cell in first]
    has_header = not set(header).isdisjoint(COLUMNS)
    rows = rows[has_header:]
    names = _read_header(place, header) if has_header else None
    _check_widths(rows, len(first) if has_header else None)
    if not rows:
        raise DataError(f"{path} holds no images: write rows {_FORM} below the header")
    return names or _guess_columns(rows), rows


def _read_header(place, header):
    found = quoted(",".join(header))
    for name in ("path", "identity"):
        if name not in header:
            raise DataError(
                f"{place}: the header has no column {name}, it is {found}; it must name the "
                f"columns {_FORM}"
            )
    for name in COLUMNS:
        if header.count(name) > 1:
            raise DataError(f"{place}: the header {found} has {name} twice: rename one column")
    return [name if name in COLUMNS else None for name in header]


def _check_widths(rows, width):
    for place, cells in rows:
        if len(cells) == 1:
            _check_separator(place, cells[0])
        if width is None:
            width = len(cells)
            if not 2 <= width <= len(COLUMNS):
                raise DataError(
                    f"{place}: the row has {_count(width)}, but without a header it must be "
                    f"{_FORM}; for other columns, name them in a first line"
                )
        if len(cells) != width:
            raise DataError(
                f"{place}: the row has {_count(len(cells))}, but there are {width} columns: write "
                "one cell for each, and quotes around cells with commas"
            )


def _count(num_cells):
    return f"{num_cells} cell" if num_cells == 1 else f"{num_cells} cells"


def _guess_columns(rows):
    width = len(rows[0][1])
    if width == 3:
        third = {cells[2].lower() for _, cells in rows} - {""}
        if third and third <= set(SPLITS):
            return ["path", "identity", "split"]
    return list(COLUMNS[:width])


def _check_full(name, cells, places):
    for cell, place in zip(cells, places, strict=True):
        if not cell:
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


def _check_files(path, listing):
    missing = [row for row, name in enumerate(listing.filenames) if not os.path.isfile(name)]
    if missing:
        raise MissingPathError(
            f"{listing.place(missing[0])}: {quoted(listing.filenames[missing[0]])} does not "
            f"exist or is not a file; paths must be absolute or relative to the folder of {path} "
            f"({len(missing)} of {len(listing)} images are missing)"
        )

"""Reads the rows of a table: cells that are separated by commas, semicolons, tabs or spaces."""

import csv
import io
import os
import pathlib
from collections.abc import Iterator

from deep_reid.errors import DataError, MissingPathError

from .listing import IMAGE_ENDINGS, is_image_name, shown

FORM = "path,identity[,camera][,split]"
"""The form of a row without a header."""

SEPARATORS = (",", ";", "\t")
_NUM_SNIFFED_BYTES = 1 << 16
_NUM_SNIFFED_LINES = 50

# What people name instead of a list: the beginning of the file, its ending, and the way out.
_UNPACK = "unpack it, and name the folder of the images"
_CONVERT = "write its images to files, and name their folder"
_OTHERS = (
    ((b"PK\3\4", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b", b"\xfd7zXZ", b"BZh91AY"),
     (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz"), "an archive", _UNPACK),
    ((b"\x89HDF\r\n\x1a\n",), (".h5", ".hdf5", ".hdf"), "an HDF5 file", _CONVERT),
    ((b"MATLAB 5.0",), (".mat",), "a MATLAB file", _CONVERT),
    ((b"\x93NUMPY",), (".npy", ".npz"), "a NumPy file", _CONVERT),
    ((), (".pkl", ".pickle", ".pt", ".pth", ".tfrecord", ".tfrecords", ".parquet", ".mdb",
          ".lmdb", ".arrow", ".feather", ".sqlite", ".db", ".pb", ".ckpt"),
     "a file of another program", _CONVERT),
    ((b"\xff\xd8\xff", b"\x89PNG\r\n"), IMAGE_ENDINGS, "an image",
     "name the folder of the images"),
    ((b"GIF8",), (".webp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".ppm", ".pgm",
                  ".jp2", ".dds"), "an image of another format",
     "convert the images to .jpg, .png or .bmp, and name their folder"),
    ((), (".mp4", ".avi", ".mov", ".mkv"), "a video",
     "write its frames to img1/000001.jpg, ..., and its boxes to gt/gt.txt"),
    ((), (".xlsx", ".xls", ".ods"), "a workbook", "save the table as CSV in UTF-8"),
    ((b"%PDF",), (".pdf", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".md"), "no table",
     f"write one row {FORM} for each image"),
)  # fmt: skip


def read_rows(
    path: str | os.PathLike[str], may_be_one_column: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Read the rows of a table one after the other.

    The file is UTF-8, with or without a byte order mark. Its first line may be ``sep=,``, which
    Excel writes. Otherwise the separator is what splits all rows alike: commas, semicolons or tabs,
    else spaces. Spaces around cells and empty lines are ignored.

    Parameters
    ----------
    path : str or Path
    may_be_one_column : bool
        Whether lines that end as images do may be paths with spaces.

    Yields
    ------
    line : int
        Where the row starts.
    cells : list of str

    Raises
    ------
    MissingPathError
        If the file does not exist.
    DataError
        If it is no table.
    """
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder, not a CSV file: name the file")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            separator, has_mark = _find_separator(path, may_be_one_column)
            _refuse_nul(path)
            if has_mark:
                next(file)
            yield from _split(file, separator, path, has_mark)
    except FileNotFoundError:
        raise MissingPathError(f"{path} does not exist: name a CSV file of {FORM} rows") from None
    except UnicodeDecodeError:
        raise _encoding_error(path) from None


def place_of(path: str | os.PathLike[str], line: int) -> str:
    """Return the name of a line, for messages."""
    return f"{shown(os.fspath(path))}, line {line}"


def _encoding_error(path):
    data = pathlib.Path(path).read_bytes()
    line = 1
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = data.decode("latin-1")[: error.start + 1]
        line = sum(1 for _ in io.StringIO(text, newline=""))
    return DataError(f"{place_of(path, line)}: this is not UTF-8; save the table as CSV in UTF-8")


def _refuse_nul(path):
    """Refuse NUL bytes, which Python 3.10 does not read, and later versions do."""
    with open(path, "rb") as file:
        if not any(b"\0" in chunk for chunk in iter(lambda: file.read(1 << 20), b"")):
            return
    # As `_encoding_error` does: what is not UTF-8 is the first thing to mend.
    with open(path, encoding="utf-8-sig", newline="") as lines:
        line = [number for number, text in enumerate(lines, 1) if "\0" in text][0]
    raise DataError(
        f"{place_of(path, line)}: a NUL byte is not text; save the table as CSV in UTF-8"
    )


def _find_separator(path, may_be_one_column):
    """Return the separator (None: white space), and whether the first line names it."""
    with open(path, "rb") as file:
        head = file.read(_NUM_SNIFFED_BYTES)
    _refuse_others(path, head)
    lines = io.StringIO(head.decode("utf-8-sig", "ignore"), newline=None).readlines()
    if len(head) == _NUM_SNIFFED_BYTES and len(lines) > 1:
        del lines[-1]  # only a part of it was read
    mark = lines[0].rstrip("\n") if lines else ""
    if mark.lower() in [f"sep={separator}" for separator in (*SEPARATORS, "|")]:
        return mark[4], True
    lines = [line for line in lines if line.strip()][:_NUM_SNIFFED_LINES]
    return _guess_separator(lines, may_be_one_column), False


def explain_other_file(name: str, head: bytes = b"") -> str | None:
    """Say what a file is that is no list of images, and what to do.

    Parameters
    ----------
    name : str
    head : bytes
        Its beginning, if it is known.

    Returns
    -------
    str or None
        The end of a sentence. None: it can be a list.
    """
    ending = os.path.splitext(name)[1].lower()
    for beginnings, endings, what, way_out in _OTHERS:
        if ending in endings or head.startswith(beginnings):
            return f"{what}, not a list of images: {way_out}"
    return None


def _refuse_others(path, head):
    problem = explain_other_file(os.fspath(path), head)
    if problem:
        raise DataError(f"{shown(os.fspath(path))} is {problem}")


def _guess_separator(lines, may_be_one_column):
    first = lines[0] if lines else ""
    for separator in SEPARATORS:
        if all(separator in line for line in lines[:1]) and _splits_alike(lines, separator):
            return separator
    for separator in SEPARATORS:
        if separator in first:
            return separator
    is_one_column = may_be_one_column and is_image_name(os.path.basename(first.strip()))
    return "," if is_one_column or len(first.split()) < 2 else None


def _splits_alike(lines, separator):
    try:
        widths = {len(row) for row in csv.reader(lines, delimiter=separator) if any(row)}
    except csv.Error:
        return False
    return len(widths) == 1 and min(widths) > 1


def _split(lines, separator, path, has_mark):
    if separator is None:
        yield from _split_at_spaces(lines, path)
        return
    # Without strict, a quote that is never closed would swallow the rest of the file.
    is_plain = separator not in (" ", "\t")
    try:
        reader = csv.reader(lines, strict=True, skipinitialspace=is_plain, delimiter=separator)
        start = 1 + has_mark
        strip = str.strip
        for row in reader:
            cells = [*map(strip, row)]
            if any(cells):
                yield start, cells
            start = reader.line_num + 1 + has_mark
    except csv.Error as error:
        raise DataError(f"{place_of(path, start)}: {error}; check the quotes of this row") from None


def _split_at_spaces(lines, path):
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if '"' in line:
            try:
                row = next(csv.reader([line.strip()], strict=True, delimiter=" "))
            except csv.Error as error:
                raise DataError(
                    f"{place_of(path, number)}: {error}; check the quotes of this row"
                ) from None
            cells = [cell.strip() for cell in row if cell.strip()]
        if cells:
            yield number, cells

"""Files of MATLAB: features for the official evaluation codes, and parts of data sets.

Files are read here, and not by SciPy, whose reader is compiled and trusts what a file says: a
single changed byte can end the process. This reader takes arrays of numbers only.
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import io

from deep_reid.errors import DataError, first_line
from deep_reid.system import files

VARIABLE_NAME = "features"

_HEADER_SIZE = 128
_VERSION_5 = 0x0100
_VERSION_7_3 = 0x0200
_ORDERS = {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15
_IS_COMPLEX = 0x0800
# NumPy's types of the numbers in a file.
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
# MATLAB's classes of numbers: double, single, int8 to uint64.
_NUMERIC_CLASSES = range(6, 16)
# The types of numbers of MATLAB 4, and the kinds of its matrices: full, text, sparse.
_OLD_NUMBERS = ("f8", "f4", "i4", "i2", "u2", "u1")
_OLD_FULL, _OLD_SPARSE = 0, 2
_OLD_HEADER_SIZE = 20
# Flags, sizes and name of a variable, before its numbers.
_MAX_PREAMBLE = 1024


def write_features(path: files.Path, features: np.ndarray) -> None:
    """Write features to a ``.mat`` file, whole or not at all.

    Parameters
    ----------
    path : str or Path
    features : np.ndarray of float32, shape (N, D)
        One *row* per image, in the order of the images. The variable's name is ``features``. The
        MATLAB codes of Market-1501 and MARS have one *column* per image: transpose it there.
    """
    with files.writing(path) as temporary:
        io.savemat(temporary, {VARIABLE_NAME: features}, appendmat=False, do_compression=False)


def read_variable(path: files.Path, name: str, way_out: str) -> np.ndarray:
    """Read an array of numbers from a ``.mat`` file of version 4, or of 5, compressed or not.

    Parameters
    ----------
    path : str or Path
    name : str
        Of the variable.
    way_out : str
        What to do if that fails; the end of the message.

    Returns
    -------
    np.ndarray
        Of the type in which the numbers are stored, which may be shorter than MATLAB's type. It is
        read-only.

    Raises
    ------
    OSError
        If the file is missing, or its permissions forbid reading.
    DataError
        If it is damaged, of another format, or lacks the variable.
    """
    others = []
    try:
        data = memoryview(files.read_regular(path))
        is_old = _read_old_header(data, 0) is not None
        for variable in _list_old_variables(data) if is_old else _list_variables(data):
            if variable.name == name:
                return variable.read()
            variable.read_content()  # raises if its checksum is wrong: the name may be wrong, too
            if variable.name.isidentifier():  # MATLAB's own data have no name
                others.append(variable.name)
    except (ValueError, struct.error, zlib.error, MemoryError) as error:
        raise DataError(
            f"{os.fspath(path)} cannot be read as a MATLAB file of version 4 or 5 "
            f"({first_line(error) or 'it needs more memory than there is'}): {way_out}"
        ) from error
    raise DataError(
        f"{os.fspath(path)} has no variable {name!r} "
        f"(it has {', '.join(sorted(others)) or 'none'}): {way_out}"
    )


class _Element(NamedTuple):
    """A part of a file; some consist of parts."""

    kind: int
    content: memoryview
    end: int


class _Variable(NamedTuple):
    """A variable whose name is known, and whose numbers are not read yet."""

    name: str
    flags: int
    shape: tuple[int, ...]
    content: memoryview
    inflater: "zlib._Decompress | None"
    size: int
    order: str

    def read(self) -> np.ndarray:
        """Return the array of numbers."""
        if self.flags & 0xFF not in _NUMERIC_CLASSES or self.flags & _IS_COMPLEX:
            raise _not_numbers(self.name)
        kind, numbers, _ = _read_element(self.read_content(), 0, self.order)
        if kind not in _NUMBERS:
            raise ValueError(f"numbers of the unknown type {kind}")
        dtype = np.dtype(self.order + _NUMBERS[kind])
        if len(numbers) != math.prod(self.shape) * dtype.itemsize:
            raise ValueError(
                f"the variable {self.name!r} of shape {self.shape} has {len(numbers)} bytes"
            )
        return np.frombuffer(numbers, dtype).reshape(self.shape, order="F")

    def read_content(self) -> memoryview:
        """Return what follows the name, without compression."""
        if self.inflater is None:
            return self.content
        missing = self.size - len(self.content)
        rest = self.inflater.decompress(self.inflater.unconsumed_tail, max(1, missing))
        # At the end, zlib compares a checksum.
        self.inflater.decompress(self.inflater.unconsumed_tail, 1)
        return memoryview(bytes(self.content) + rest)


class _OldVariable(NamedTuple):
    """A matrix in a file of MATLAB 4."""

    name: str
    is_of_numbers: bool
    numbers: np.ndarray

    def read(self) -> np.ndarray:
        """Return the array of numbers."""
        if not self.is_of_numbers:
            raise _not_numbers(self.name)
        return self.numbers

    def read_content(self) -> None:
        """Do nothing: there is no checksum."""


class _OldHeader(NamedTuple):
    """What precedes the name of a matrix in a file of MATLAB 4."""

    order: str
    code: int
    num_rows: int
    num_columns: int
    is_complex: int
    name_length: int


def _not_numbers(name):
    return ValueError(f"the variable {name!r} is not an array of real numbers")


def _read_old_header(data, start):
    """Return the header of a matrix of MATLAB 4; None if there is none."""
    if len(data) - start < _OLD_HEADER_SIZE:
        return None
    for machine, order in enumerate("<>"):
        header = _OldHeader(order, *struct.unpack_from(f"{order}5I", data, start))
        is_known = header.code // 100 == machine * 10 and header.code % 10 <= _OLD_SPARSE
        if is_known and header.code % 100 // 10 < len(_OLD_NUMBERS):
            return header if header.is_complex <= 1 and header.name_length > 1 else None
    return None


def _list_old_variables(data: memoryview) -> Iterator[_OldVariable]:
    start = 0
    while start < len(data):
        header = _read_old_header(data, start)
        if header is None:
            raise ValueError("a variable of an unknown type, or cut short")
        start += _OLD_HEADER_SIZE
        name = bytes(data[start : start + header.name_length]).rstrip(b"\0")
        start += header.name_length
        dtype = np.dtype(header.order + _OLD_NUMBERS[header.code % 100 // 10])
        shape = header.num_rows, header.num_columns
        size = math.prod(shape) * dtype.itemsize
        numbers = data[start : start + size]
        start += size * (1 + header.is_complex)
        if start > len(data):
            raise ValueError("it is cut short")
        yield _OldVariable(
            name=str(name, "latin-1"),
            is_of_numbers=header.code % 10 == _OLD_FULL and not header.is_complex,
            numbers=np.frombuffer(numbers, dtype).reshape(shape, order="F"),
        )


def _list_variables(data: memoryview) -> Iterator[_Variable]:
    order = _ORDERS.get(bytes(data[126:_HEADER_SIZE]), "")
    version = struct.unpack_from(f"{order}H", data, 124)[0] if order else None
    if version == _VERSION_7_3:
        raise ValueError("it is of version 7.3; MATLAB writes version 5 by save -v7")
    if version != _VERSION_5:
        raise ValueError("it does not begin as such a file")
    start = _HEADER_SIZE
    while start < len(data):
        kind, content, start = _read_element(data, start, order)
        inflater = None
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            head = memoryview(inflater.decompress(content, _MAX_PREAMBLE))
            kind, size = struct.unpack_from(f"{order}2I", head)
            content = head[8:]
        else:
            size = len(content)
        if kind != _MATRIX:
            raise ValueError(f"a variable of the unknown type {kind}")
        yield _read_preamble(content, inflater, size, order)


def _read_preamble(content, inflater, size, order):
    """Read what precedes the numbers of a variable."""
    _, flags, start = _read_element(content, 0, order)
    _, shape, start = _read_element(content, start, order)
    _, name, start = _read_element(content, start, order)
    sizes = tuple(np.frombuffer(shape, f"{order}i4").tolist())
    if not sizes or min(sizes) < 0 or len(sizes) > 32:
        raise ValueError(f"a variable of the shape {sizes}")
    return _Variable(
        name=str(name, "latin-1"),
        flags=struct.unpack_from(f"{order}I", flags)[0],
        shape=sizes,
        content=content[start:],
        inflater=inflater,
        size=size - start,
        order=order,
    )


def _read_element(data, start, order):
    """Read an element: its type and size, then its content, up to a multiple of 8 bytes."""
    kind, size = struct.unpack_from(f"{order}2I", data, start)
    if kind >> 16:  # at most 4 bytes, which follow instead of the size
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise ValueError(f"a short element of {size} bytes")
        return _Element(kind, data[start + 4 : start + 4 + size], start + 8)
    start += 8
    content = data[start : start + size]
    if len(content) < size:
        raise ValueError("it is cut short")
    return _Element(kind, content, start + size + (0 if kind == _COMPRESSED else -size % 8))

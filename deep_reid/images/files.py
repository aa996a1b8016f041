"""What TensorFlow cannot do with image files: EXIF orientation, BMP, reasons of errors.

Works on the files' bytes and is free of TensorFlow. The results equal those of ``cv2.imread``, with
which trackers read images for the frozen graph.
"""

import io
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from PIL import Image

from deep_reid.errors import DataError

MAX_SIZE = 1 << 28
"""Bytes that a file of an image may have: 256 MB."""

ORIENTATION_TAG = 0x0112
UPRIGHT = 1

_JPEG, _PNG, _BMP, _GIF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8"

# A JPEG consists of segments, up to the image data. Some markers have no content.
_START_OF_SCAN, _APPLICATION_1 = 0xDA, 0xE1
_WITHOUT_CONTENT = (0x00, 0x01, *range(0xD0, 0xDA), 0xFF)

_NAMES = {_JPEG: "JPEG", _PNG: "PNG", _BMP: "BMP", _GIF: "GIF"}

# The start of EXIF data in JPEG, PNG and WebP files. The headers are read here, and not by OpenCV,
# because OpenCV 4.11, the oldest supported version, decodes no GIF, does not turn WebP, and
# overlooks EXIF behind XMP. Pillow warns of everything that is wrong in a file, and takes the
# orientation from other metadata if EXIF has none.
_EXIF = re.compile(rb"(?:Exif\0\0|eXIf|EXIF[\0-\xff]{4})(?P<tiff>II\*\0|MM\0\*)")


def read_orientation(contents: bytes) -> int:
    """Read from EXIF how an image must be turned to be upright.

    Parameters
    ----------
    contents : bytes
        A whole JPEG, PNG or WebP file.

    Returns
    -------
    int
        EXIF's number, 1 to 8. It is 1 (upright) if EXIF is missing, wrong or damaged, or behind the
        image data of a JPEG, where a second image may be. An orientation in XMP is ignored, as by
        OpenCV.
    """
    if contents.startswith(_JPEG):
        matches = map(_EXIF.match, _list_application_data(contents))
        match = next(filter(None, matches), None)
    else:
        match = _EXIF.search(contents)
    if match is None:
        return UPRIGHT
    try:
        orientation = _find_orientation(memoryview(match.string)[match.start("tiff") :])
    except struct.error:
        return UPRIGHT
    return orientation if orientation in range(1, 9) else UPRIGHT


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror an image by its orientation.

    Parameters
    ----------
    image : np.ndarray, shape (H, W, C)
    orientation : int
        EXIF's number, 1 to 8.

    Returns
    -------
    np.ndarray, shape (H, W, C), or (W, H, C) for orientations of at least 5
        May be a view.
    """
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def decode_with_opencv(contents: bytes, num_channels: int) -> np.ndarray:
    """Decode a BMP or WebP file, as it is stored.

    TensorFlow reads the palettes of BMP wrongly, and 2.16 does not know WebP.

    Parameters
    ----------
    contents : bytes
    num_channels : {1, 3}

    Returns
    -------
    np.ndarray of uint8, shape (H, W, num_channels)
        Gray or RGB, without an alpha channel, and not turned upright.

    Raises
    ------
    DataError
        If the file is truncated, damaged, or another one that begins as these do.
    """
    name = "WebP" if contents.startswith(b"RIFF") else "BMP"
    # Some versions of OpenCV fill what is missing of a BMP with gray or black.
    if name == "BMP" and _is_truncated_bmp(contents):
        raise DataError("the BMP image is truncated: replace the file")
    flags = cv2.IMREAD_GRAYSCALE if num_channels == 1 else cv2.IMREAD_COLOR_RGB
    try:
        image = cv2.imdecode(
            np.frombuffer(contents, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:  # for example if the header has an enormous size
        image = None
    if image is None:
        raise DataError(f"the {name} image is damaged: replace the file")
    return image.reshape(*image.shape[:2], num_channels)


def explain_contents(contents: bytes) -> str:
    """Explain why a file cannot be decoded.

    Parameters
    ----------
    contents : bytes
        The contents of a file that the input pipeline cannot decode.

    Returns
    -------
    str
        Such as ``"it is empty"``.
    """
    if not contents:
        return "it is empty"
    for magic, name in _NAMES.items():
        if contents.startswith(magic):
            fault = "truncated" if _is_truncated(contents, magic) else "damaged"
            return f"it is a {fault} {name} image"
    other = _identify(contents)
    alternative = f"but {other}" if other else "or its beginning is missing"
    return f"it is not a JPEG, PNG or BMP image, {alternative}"


def explain_file(filename: str | os.PathLike[str]) -> str:
    """Explain why a file cannot be read or decoded.

    Parameters
    ----------
    filename : str or Path
        A file that the input pipeline cannot read.

    Returns
    -------
    str
        Such as ``"it does not exist"``.
    """
    try:
        return explain_contents(read(filename))
    except DataError as error:
        return str(error)
    except OSError as error:
        return explain_os_error(error)


def read(filename: str | os.PathLike[str]) -> bytes:
    """Read a whole file, if `find_endless` does not find it.

    Parameters
    ----------
    filename : str or Path

    Returns
    -------
    bytes

    Raises
    ------
    DataError
        If it may have no end. The message is a reason, as `explain_file` returns it.
    OSError
        If it cannot be read.
    """
    reason = _explain_status(os.stat(filename))
    if reason is not None:
        raise DataError(reason)
    with open(filename, "rb") as file:
        return file.read()


def unreadable(filename: str | os.PathLike[str]) -> DataError:
    """Return the error for an image that cannot be read, with the reason.

    Parameters
    ----------
    filename : str or Path

    Returns
    -------
    DataError
    """
    return DataError(
        f"image {os.fsdecode(filename)} cannot be read ({explain_file(filename)}): replace the "
        "file, or remove it from the data set"
    )


def read_for_network(
    filename: str | os.PathLike[str], image_shape: tuple[int, int, int]
) -> np.ndarray:
    """Read an image as a tracker does, by OpenCV, and resize it.

    Parameters
    ----------
    filename : str or Path
    image_shape : tuple of int
        (height, width, channels).

    Returns
    -------
    np.ndarray of uint8, shape (height, width, channels)
        BGR or gray.

    Raises
    ------
    DataError
        If it cannot be read. The message names the file.
    """
    height, width, num_channels = image_shape
    flags = cv2.IMREAD_GRAYSCALE if num_channels == 1 else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(read(filename), np.uint8), flags)
    except (OSError, DataError, cv2.error):
        image = None
    if image is None:
        raise unreadable(filename)
    return cv2.resize(image, (width, height)).reshape(image_shape)


def find_endless(filenames: Iterable[str | os.PathLike[str]]) -> str | os.PathLike[str] | None:
    """Find the first file that must not be read: a device, a pipe, or larger than `MAX_SIZE`.

    Devices and pipes may have no end: to read a link to one takes all memory, or for ever.

    Parameters
    ----------
    filenames : iterable of str or Path

    Returns
    -------
    str or Path or None
        None also for files that do not exist: reading them raises an error.
    """
    for filename in filenames:
        try:
            status = os.stat(filename)
        except OSError:
            continue
        if _explain_status(status) is not None:
            return filename
    return None


def explain_os_error(error: OSError) -> str:
    """Explain why a file cannot be read.

    Parameters
    ----------
    error : OSError

    Returns
    -------
    str
    """
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "it does not exist"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, PermissionError):
        return "you have no permission to read it"
    return error.strerror or type(error).__name__


def _explain_status(status):
    """Explain why a file must not be read; None if it may be."""
    if stat.S_ISDIR(status.st_mode):
        return None  # reading it raises an error
    if not stat.S_ISREG(status.st_mode):
        return "it is a device or a pipe, not a file"
    if status.st_size > MAX_SIZE:
        return f"it has {status.st_size} bytes, more than the limit of {MAX_SIZE}"
    return None


def _list_application_data(contents: bytes) -> Iterator[bytes]:
    """List the segments of a JPEG that may hold EXIF, up to the image data."""
    position = 2
    while True:
        position = contents.find(b"\xff", position) + 1
        if not 0 < position < len(contents) or contents[position] == _START_OF_SCAN:
            return
        marker = contents[position]
        if marker not in _WITHOUT_CONTENT:
            start = position + 3
            position += 1 + int.from_bytes(contents[position + 1 : start], "big")
            if marker == _APPLICATION_1:
                yield contents[start:position]


def _find_orientation(tiff):
    """Return the orientation from the first directory of EXIF data, which are in TIFF format."""
    order = "<" if tiff[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}4xI", tiff)
    (num_entries,) = struct.unpack_from(f"{order}H", tiff, start)
    for number in range(num_entries):
        tag, value = struct.unpack_from(f"{order}H6xH", tiff, start + 2 + 12 * number)
        if tag == ORIENTATION_TAG:
            return value
    return UPRIGHT


def _is_truncated(contents, magic):
    if magic == _JPEG:
        # Image data never contain these markers. A thumbnail ends before the image data start.
        start_of_scan, end_of_image = b"\xff\xda", b"\xff\xd9"
        return contents.rfind(end_of_image) <= contents.rfind(start_of_scan)
    if magic == _PNG:
        return b"IEND" not in contents
    if magic == _BMP:
        return _is_truncated_bmp(contents)
    return not contents.endswith(b";")


def _is_truncated_bmp(contents):
    """Compare the size of a BMP file with the size of the pixels in its header.

    Ignores the file size in the header: some programs write nonsense there.
    """
    try:
        offset, header_size = struct.unpack_from("<10xII", contents)
        if header_size == 12:  # OS/2
            width, height, depth = struct.unpack_from("<18xHH2xH", contents)
            compression = packed_size = 0
        else:
            fields = struct.unpack_from("<18xii2xHII", contents)
            width, height, depth, compression, packed_size = fields
    except struct.error:
        return True
    is_run_length_encoded = compression in (1, 2)
    row_size = (abs(width) * depth + 31) // 32 * 4
    size = packed_size if is_run_length_encoded else row_size * abs(height)
    return len(contents) < offset + size


def _identify(contents):
    try:
        with Image.open(io.BytesIO(contents)) as image:
            return image.format
    except Exception:  # noqa: BLE001
        # Pillow's readers do not say what they raise for damaged files. Its answer would only make
        # the message more precise.
        return None

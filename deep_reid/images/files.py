"""What TensorFlow cannot do with image files: EXIF orientation, BMP, reasons of errors.

Works on the files' bytes and is free of TensorFlow. The results equal those of ``cv2.imread``, with
which trackers read images for the frozen graph.
"""

import io
import os
import re
import struct

import cv2
import numpy as np
from PIL import Image

from deep_reid.errors import DataError

ORIENTATION_TAG = 0x0112
UPRIGHT = 1

_JPEG, _PNG, _BMP, _GIF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8"

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
        EXIF's number, 1 to 8. It is 1 (upright) if EXIF is missing, wrong or damaged. An
        orientation in XMP is ignored, as by OpenCV.
    """
    match = _EXIF.search(contents)
    if match is None:
        return UPRIGHT
    try:
        orientation = _find_orientation(memoryview(contents)[match.start("tiff") :])
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


def decode_bmp(contents: bytes, num_channels: int) -> np.ndarray:
    """Decode a BMP file with OpenCV.

    Parameters
    ----------
    contents : bytes
    num_channels : {1, 3}

    Returns
    -------
    np.ndarray of uint8, shape (H, W, num_channels)
        Gray or RGB, without an alpha channel.

    Raises
    ------
    DataError
        If the file is truncated or damaged.
    """
    # Some versions of OpenCV fill what is missing with gray or black.
    if _is_truncated_bmp(contents):
        raise DataError("the BMP image is truncated: replace the file")
    flags = cv2.IMREAD_GRAYSCALE if num_channels == 1 else cv2.IMREAD_COLOR_RGB
    try:
        image = cv2.imdecode(np.frombuffer(contents, np.uint8), flags)
    except cv2.error:  # for example if the header has an enormous size
        image = None
    if image is None:
        raise DataError("the BMP image is damaged: replace the file")
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
        with open(filename, "rb") as file:
            return explain_contents(file.read())
    except OSError as error:
        return explain_os_error(error)


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
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None

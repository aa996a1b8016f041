"""Decodes image files to the same pixels as ``cv2.imread``, and resizes them.

Images are RGB, or gray for a network with one channel. They are turned upright by their EXIF
orientation, reduced from 16 bits to 8, and lose their alpha channel.
"""

import functools
from collections.abc import Iterable, Sequence

import numpy as np

from deep_reid.errors import DataError, MissingPathError
from deep_reid.images import files
from deep_reid.runtime.compat import tf
from deep_reid.runtime.mapping import map_images
from deep_reid.runtime.sessions import IN_OWN_THREAD, create_session_config

# Two ways to decode JPEG files; pixels differ by up to some gray levels. The original trained and
# evaluated with the first, TensorFlow's default. OpenCV, which trackers use to read images for the
# frozen graph, has the second: it is used for features that leave the package, so that they equal
# the graph's.
ORIGINAL_DCT = "INTEGER_FAST"
OPENCV_DCT = "INTEGER_ACCURATE"

# A plain JPEG, as most programs write it: this pattern is its header up to the image data, with the
# standard Huffman tables, and nothing else. So it has no EXIF, and is neither CMYK nor progressive.
# All other files take a slower way. (To search each whole file for EXIF would take 5 % of the
# decoding time of a small JPEG. The pattern cannot contain bytes above 127: "\C" is any byte.)
_HUFFMAN_DC = r"\C\C\x00\x1f{}\C{{28}}"
_HUFFMAN_AC = r"\C\C\x00\C{}\x00\x02\x01{}\C{{162}}"
_PLAIN = (
    r"\C\C(\C\C\x00\x10JFIF\x00\C{9})?"
    # Quantization table of luminance
    r"\C\C\x00C\x00\C{64}("
    # Color: table of chrominance, size, Huffman tables, start of the image data
    r"\C\C\x00C\x01\C{64}\C\C\x00\x11\x08\C{4}\x03\C{9}"
    + _HUFFMAN_DC.format(r"\x00")
    + _HUFFMAN_AC.format(r"\x10", r"\x03\x03\x02\x04\x03\x05\x05\x04\x04\x00\x00\x01\x7d")
    + _HUFFMAN_DC.format(r"\x01")
    + _HUFFMAN_AC.format(r"\x11", r"\x02\x04\x04\x03\x04\x07\x05\x04\x04\x00\x01\x02\x77")
    + r"\C\C\x00\x0c\x03\C{6}\x00\x3f\x00|"
    # Gray
    r"\C\C\x00\x0b\x08\C{4}\x01\C{3}"
    + _HUFFMAN_DC.format(r"\x00")
    + _HUFFMAN_AC.format(r"\x10", r"\x03\x03\x02\x04\x03\x05\x05\x04\x04\x00\x00\x01\x7d")
    + r"\C\C\x00\x08\x01\C\C\x00\x3f\x00)\C*"
)


def decode_image(contents: tf.Tensor, num_channels: int, jpeg_dct: str = ORIGINAL_DCT) -> tf.Tensor:
    """Decode a JPEG, PNG, BMP or GIF file by its content; its name does not matter.

    Parameters
    ----------
    contents : tf.Tensor of string, shape ()
        The bytes of a whole file.
    num_channels : {1, 3}
    jpeg_dct : {"INTEGER_FAST", "INTEGER_ACCURATE"}
        How to decode JPEG files: as the original does, or as OpenCV does.

    Returns
    -------
    tf.Tensor of uint8, shape (H, W, num_channels)
        RGB or gray, upright. The static shape is unknown. Evaluation raises a
        ``tf.errors.OpError`` if the file is truncated, damaged or not an image.
    """
    # Plain JPEGs pass this test and nothing else: each op costs time there.
    return tf.cond(
        _is_plain(contents),
        lambda: tf.io.decode_jpeg(contents, channels=num_channels, dct_method=jpeg_dct),
        lambda: _decode_special(contents, num_channels, jpeg_dct),
    )


def decode_files(
    filenames: tf.Tensor, image_shape: Sequence[int], jpeg_dct: str = ORIGINAL_DCT
) -> tf.Tensor:
    """Decode and resize image files.

    Parameters
    ----------
    filenames : tf.Tensor of string, shape (N,)
    image_shape : tuple of int
        (height, width, channels) of the images, with 1 or 3 channels.
    jpeg_dct : {"INTEGER_FAST", "INTEGER_ACCURATE"}
        As in `decode_image`.

    Returns
    -------
    tf.Tensor of float32, shape (N,) + image_shape
        RGB or gray, in [0, 255].
    """

    def decode_and_resize(filename):
        contents = tf.io.read_file(filename)
        return tf.cond(
            _is_plain(contents),
            lambda: _decode_plain(contents, image_shape, jpeg_dct),
            lambda: _resize_one(_decode_special(contents, image_shape[2], jpeg_dct), image_shape),
        )

    # To squeeze all images at once is faster than one by one.
    images = map_images(decode_and_resize, [filenames], tf.float32, (1, *image_shape))
    return tf.squeeze(images, axis=1)


def resize(images: tf.Tensor, image_shape: Sequence[int]) -> tf.Tensor:
    """Resize images bilinearly as the original does, without half-pixel centers.

    Parameters
    ----------
    images : tf.Tensor of uint8, shape (N, H, W, C), or (N, H, W) for gray images
    image_shape : tuple of int
        (height, width, channels).

    Returns
    -------
    tf.Tensor of float32, shape (N, height, width, C), or without C if `images` has none
        `images` itself, of uint8, if they already have this size.
    """
    height, width, _ = image_shape
    if images.get_shape().as_list()[1:3] == [height, width]:
        return images
    if images.get_shape().ndims == 4:
        return tf.image.resize_images(images, (height, width))
    resized = tf.image.resize_images(images[..., tf.newaxis], (height, width))
    return tf.squeeze(resized, axis=3)


def find_unreadable_image(filenames: Iterable[str], num_channels: int) -> DataError | None:
    """Find the first of a batch's files that cannot be decoded.

    Parameters
    ----------
    filenames : iterable of str
    num_channels : {1, 3}

    Returns
    -------
    DataError or None
        An error that names the file, `MissingPathError` if it does not exist. None if every file
        can be decoded.
    """
    for filename, error in find_decoding_errors(filenames, num_channels).items():
        if isinstance(error, tf.errors.NotFoundError):
            return MissingPathError(
                f"image {filename} does not exist: restore the file, or remove it from the data set"
            )
        return files.unreadable(filename)
    return None


def check_ends(filenames: Iterable[str]) -> None:
    """Check that files may be read: `decode_files` would read a link to a device without end.

    Parameters
    ----------
    filenames : iterable of str

    Raises
    ------
    DataError
        If one is a device or a pipe, or far larger than an image.
    """
    endless = files.find_endless(filenames)
    if endless is not None:
        raise files.unreadable(endless)


def find_decoding_errors(
    filenames: Iterable[str], num_channels: int
) -> dict[str, tf.errors.OpError]:
    """Decode files one by one, in a graph of their own.

    Parameters
    ----------
    filenames : iterable of str
    num_channels : {1, 3}

    Returns
    -------
    dict of str -> tf.errors.OpError
        The files that cannot be decoded, in their order.
    """
    decoding_errors = {}
    with (
        tf.Graph().as_default(),
        tf.device("/cpu:0"),
        tf.Session(config=create_session_config()) as session,
    ):
        filename_var = tf.placeholder(tf.string, ())
        image = decode_image(tf.io.read_file(filename_var), num_channels)
        for filename in filenames:
            try:
                if files.find_endless([filename]) is not None:
                    raise tf.errors.InvalidArgumentError(None, None, "the file may have no end")
                session.run(image.op, {filename_var: filename}, options=IN_OWN_THREAD)
            except tf.errors.OpError as error:
                decoding_errors[filename] = error
    return decoding_errors


def _is_plain(contents):
    return tf.strings.regex_full_match(contents, _PLAIN)


def _decode_special(contents, num_channels, jpeg_dct):
    """Add the ops for all files but plain JPEGs, as a function: one node that plain JPEGs skip.

    Without the function, skipping the ops would take 7 % of the time of a small plain JPEG.
    """
    decode = tf.function(
        lambda contents: _turn_upright(contents, _decode_any(contents, num_channels, jpeg_dct)),
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    with tf.device("/cpu:0"):
        return decode(contents)


def _decode_any(contents, num_channels, jpeg_dct):
    def with_opencv():
        decode = functools.partial(files.decode_with_opencv, num_channels=num_channels)
        return _call_python(decode, contents)

    return tf.case(
        [
            (_starts_with(contents, b"BM"), with_opencv),
            (_starts_with(contents, b"RIFF"), with_opencv),
            (tf.io.is_jpeg(contents), lambda: _decode_jpeg(contents, num_channels, jpeg_dct)),
            (
                _starts_with(contents, b"\x89PNG"),
                lambda: tf.io.decode_png(contents, channels=num_channels),
            ),
        ],
        default=lambda: _decode_other(contents, num_channels),
    )


def _decode_jpeg(contents, num_channels, jpeg_dct):
    def decode(channels):
        return tf.io.decode_jpeg(contents, channels=channels, dct_method=jpeg_dct)

    if num_channels == 3:
        return decode(3)
    is_cmyk = tf.equal(tf.image.extract_jpeg_shape(contents)[2], 4)
    # TensorFlow does not decode CMYK to gray.
    return tf.cond(is_cmyk, lambda: tf.image.rgb_to_grayscale(decode(3)), lambda: decode(1))


def _decode_other(contents, num_channels):
    image = tf.io.decode_image(contents, channels=3, expand_animations=False)
    if num_channels == 3:
        return image
    image.set_shape((None, None, 3))
    return tf.image.rgb_to_grayscale(image)


def _turn_upright(contents, image):
    def turn(contents, image):
        image = files.turn_upright(image, files.read_orientation(contents))
        return np.ascontiguousarray(image)

    # JPEG has Exif, PNG eXIf and WebP EXIF. In other files the word does no harm.
    return tf.cond(
        tf.strings.regex_full_match(contents, r"\C*(?i:exif)\C*"),
        lambda: _call_python(turn, contents, image),
        lambda: image,
    )


def _call_python(function, *inputs):
    return tf.numpy_function(function, inputs, tf.uint8, stateful=False)


def _starts_with(contents, magic):
    return tf.equal(tf.strings.substr(contents, 0, len(magic)), magic)


def _decode_plain(contents, image_shape, jpeg_dct):
    """Decode and resize a plain JPEG.

    To halve an image, as all of MARS, resizing takes each second pixel. The last row and column are
    not needed: without them, the same pixels are taken with aligned corners. This saves more than
    the decoding of the row and column: the rows of a whole image mostly have a multiple of 32 bytes
    and are then written past the cache, which makes resizing slow.
    """
    height, width, num_channels = image_shape
    options = {"channels": num_channels, "dct_method": jpeg_dct}

    def halve():
        window = (0, 0, 2 * height - 1, 2 * width - 1)
        image = tf.io.decode_and_crop_jpeg(contents, window, **options)
        return _resize_one(image, image_shape, align_corners=True)

    size = tf.image.extract_jpeg_shape(contents)[:2]
    return tf.cond(
        tf.reduce_all(tf.equal(size, (2 * height, 2 * width))),
        halve,
        lambda: _resize_one(tf.io.decode_jpeg(contents, **options), image_shape),
    )


def _resize_one(image, image_shape, align_corners=False):
    """Resize an image, and return it as a batch of one."""
    return tf.raw_ops.ResizeBilinear(
        images=tf.expand_dims(image, 0), size=image_shape[:2], align_corners=align_corners
    )

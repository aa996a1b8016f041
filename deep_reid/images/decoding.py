"""Decodes image files to the pixels of ``cv2.imread``, and resizes them.

Images are RGB, or gray for a network of one channel; turned upright as their EXIF orientation
says, 16 bit reduced to 8, without their alpha channel.
"""

import contextlib

import numpy as np

from deep_reid.errors import DataError, MissingPathError
from deep_reid.images import files
from deep_reid.runtime.compat import tf
from deep_reid.runtime.mapping import map_images
from deep_reid.runtime.sessions import IN_OWN_THREAD, create_session_config

# How JPEG files are decoded: their pixels differ by up to some gray levels. The original trained
# and evaluated with the first, TensorFlow's default. OpenCV, which the frozen graph is fed from,
# has the second: features that leave the package are computed with it, to agree with the graph's.
ORIGINAL_DCT = "INTEGER_FAST"
OPENCV_DCT = "INTEGER_ACCURATE"

# What is seen in the first bytes of files that are more than a plain JPEG: other formats, and
# metadata, of which EXIF may be a part. EXIF comes first in most files, but XMP, Photoshop's data
# or a color profile may come before it. (A search through the whole file takes 5 % of the time
# that a small JPEG takes; the patterns cannot contain bytes above 127.)
_HEADER_SIZE = 1024
_METADATA = r"Exif\x00|http:|Photoshop|ICC_PROFILE"
_ADOBE = "Adobe"  # CMYK files have it, and some others
_SPECIAL = r"(BM|\CPNG|GIF8|RIFF)\C*|\C*({})\C*"


def decode_image(contents, num_channels, jpeg_dct=ORIGINAL_DCT):
    """Decode a JPEG, PNG, BMP or GIF file by its content, whatever its name says.

    Parameters
    ----------
    contents : tf.Tensor of string, shape ()
        The bytes of a whole file.
    num_channels : {1, 3}
    jpeg_dct : {"INTEGER_FAST", "INTEGER_ACCURATE"}
        How JPEG files are decoded: as by the original, or as by OpenCV.

    Returns
    -------
    tf.Tensor of uint8, shape (H, W, num_channels)
        RGB, or gray; upright. Evaluating it raises a ``tf.errors.OpError`` over a file that is
        truncated, damaged or no image. The static shape is not known.
    """
    # Nothing but this test is added to the way of plain JPEGs: each op counts there.
    return tf.cond(
        _is_special(contents, num_channels),
        lambda: _decode_special(contents, num_channels, jpeg_dct),
        lambda: tf.io.decode_jpeg(contents, channels=num_channels, dct_method=jpeg_dct),
    )


def decode_files(filenames, image_shape, jpeg_dct=ORIGINAL_DCT):
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
            _is_special(contents, image_shape[2]),
            lambda: _resize_one(_decode_special(contents, image_shape[2], jpeg_dct), image_shape),
            lambda: _decode_plain(contents, image_shape, jpeg_dct),
        )

    # To squeeze all images at once takes less time than one by one.
    images = map_images(decode_and_resize, [filenames], tf.float32, (1, *image_shape))
    return tf.squeeze(images, axis=1)


def resize(images, image_shape):
    """Resize images as the original does, without half-pixel centers.

    Parameters
    ----------
    images : tf.Tensor of uint8, shape (N, H, W, C), or (N, H, W) for gray images
    image_shape : tuple of int
        (height, width, channels).

    Returns
    -------
    tf.Tensor of float32, shape (N, height, width, C), or without C where `images` has none
        uint8 where the images have this size already.
    """
    height, width, _ = image_shape
    if images.get_shape().as_list()[1:3] == [height, width]:
        return images
    if images.get_shape().ndims == 4:
        return tf.image.resize_images(images, (height, width))
    resized = tf.image.resize_images(images[..., tf.newaxis], (height, width))
    return tf.squeeze(resized, axis=3)


def find_unreadable_image(filenames, num_channels):
    """Find out which of a batch's files makes decoding fail.

    Parameters
    ----------
    filenames : sequence of str
    num_channels : int

    Returns
    -------
    MissingPathError, DataError or None
        An error that names the file. None where each file can be read.
    """
    with open_decoder(num_channels) as decode:
        for filename in filenames:
            try:
                decode(filename)
            except tf.errors.NotFoundError:
                return MissingPathError(
                    f"image {filename} does not exist: restore the file, or remove it from the "
                    "data set"
                )
            except tf.errors.OpError:
                return DataError(
                    f"image {filename} cannot be read ({files.explain_file(filename)}): "
                    "replace the file, or remove it from the data set"
                )
    return None


@contextlib.contextmanager
def open_decoder(num_channels):
    """Try files one by one, in a graph of their own.

    Parameters
    ----------
    num_channels : {1, 3}

    Yields
    ------
    callable
        ``decode(filename)`` raises a ``tf.errors.OpError`` over a file that cannot be read.
    """
    with (
        tf.Graph().as_default(),
        tf.device("/cpu:0"),
        tf.Session(config=create_session_config()) as session,
    ):
        filename_var = tf.placeholder(tf.string, ())
        image = _decode_file(filename_var, num_channels)
        yield lambda filename: session.run(
            image.op, {filename_var: filename}, options=IN_OWN_THREAD
        )


def _is_special(contents, num_channels):
    markers = _METADATA if num_channels == 3 else f"{_METADATA}|{_ADOBE}"
    header = tf.strings.substr(contents, 0, _HEADER_SIZE)
    return tf.strings.regex_full_match(header, _SPECIAL.format(markers))


def _decode_special(contents, num_channels, jpeg_dct):
    """Add the ops for all but plain JPEGs, as a function: one node that plain JPEGs skip.

    Ops of their own, though skipped as well, would take 7 % of the time of a small plain JPEG.
    """
    decode = tf.function(
        lambda contents: _turn_upright(contents, _decode_any(contents, num_channels, jpeg_dct)),
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    with tf.device("/cpu:0"):
        return decode(contents)


def _decode_any(contents, num_channels, jpeg_dct):
    def decode_bmp(contents):
        return np.ascontiguousarray(files.decode_bmp(contents, num_channels))

    return tf.case(
        [
            (_starts_with(contents, b"BM"), lambda: _call_python(decode_bmp, contents)),
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

    # JPEG writes Exif, PNG eXIf and WebP EXIF. In other files the word does no harm.
    return tf.cond(
        tf.strings.regex_full_match(contents, r"\C*(?i:exif)\C*"),
        lambda: _call_python(turn, contents, image),
        lambda: image,
    )


def _call_python(function, *inputs):
    return tf.numpy_function(function, inputs, tf.uint8, stateful=False)


def _starts_with(contents, magic):
    return tf.equal(tf.strings.substr(contents, 0, len(magic)), magic)


def _decode_file(filename, num_channels, jpeg_dct=ORIGINAL_DCT):
    return decode_image(tf.io.read_file(filename), num_channels, jpeg_dct)


def _decode_plain(contents, image_shape, jpeg_dct):
    """Decode and resize a plain JPEG.

    To resize an image of twice the size, as those of MARS are, takes each second pixel. Without the
    last row and column, the last pixels to take are its corners: the same pixels. It saves more
    than to decode these. Rows of a whole image, most often of a multiple of 32 bytes, are written
    past the cache, from where resizing would have to read them.
    """
    height, width, num_channels = image_shape
    options = {"channels": num_channels, "dct_method": jpeg_dct}

    def take_each_second_pixel():
        window = (0, 0, 2 * height - 1, 2 * width - 1)
        image = tf.io.decode_and_crop_jpeg(contents, window, **options)
        return _resize_one(image, image_shape, align_corners=True)

    size = tf.image.extract_jpeg_shape(contents)[:2]
    return tf.cond(
        tf.reduce_all(tf.equal(size, (2 * height, 2 * width))),
        take_each_second_pixel,
        lambda: _resize_one(tf.io.decode_jpeg(contents, **options), image_shape),
    )


def _resize_one(image, image_shape, align_corners=False):
    """Return a batch of one."""
    return tf.raw_ops.ResizeBilinear(
        images=tf.expand_dims(image, 0), size=image_shape[:2], align_corners=align_corners
    )

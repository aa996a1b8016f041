"""From file names or arrays to the network's input: the one way in, for every mode.

``decode -> resize -> preprocess``. Images are RGB from the moment they are decoded, or gray for a
network of one channel. Files are decoded as ``cv2.imread`` does it: turned upright as their EXIF
orientation says, 16 bit reduced to 8, without their alpha channel.
"""

import contextlib
import functools
import os

import numpy as np

from deep_reid import image_files
from deep_reid.compat import tf
from deep_reid.config import as_image_shape
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.mapping import map_images
from deep_reid.sessions import IN_OWN_THREAD, create_session_config

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


def as_image_source(images_or_filenames):
    """Check images at the door, and tell whether they are to be read from files.

    Parameters
    ----------
    images_or_filenames : sequence of str or Path, uint8 array (N, H, W, C), or sequence of arrays
        Arrays of a sequence must have one shape; they are stacked.

    Returns
    -------
    images_or_filenames : np.ndarray
        File names as objects of type str, shape (N,), or uint8 images, shape (N, H, W, C).
    read_from_file : bool

    Raises
    ------
    TypeError
        If it is anything else.
    """
    if not isinstance(images_or_filenames, np.ndarray):
        images_or_filenames = _stack(images_or_filenames)
    if images_or_filenames.dtype.kind == "O":
        images_or_filenames = _stack(images_or_filenames.tolist())
    if images_or_filenames.dtype.kind in "UO":
        return np.array([str(os.fspath(name)) for name in images_or_filenames], dtype=object), True
    if images_or_filenames.dtype != np.uint8 or images_or_filenames.ndim != 4:
        raise TypeError(
            f"images of type {images_or_filenames.dtype} and shape {images_or_filenames.shape} "
            "are not supported: use file names, or a uint8 array of shape (N, height, width, "
            "channels)"
        )
    return images_or_filenames, False


def check_image_shape(images, read_from_file, image_shape):
    """Return the network's input shape, from the images where it is not given.

    Parameters
    ----------
    images : np.ndarray
        As `as_image_source` returns them.
    read_from_file : bool
    image_shape : tuple of int, optional
        (height, width, channels).

    Returns
    -------
    tuple of int

    Raises
    ------
    UsageError
        If there is no shape for images that are read from files, it is no shape of an image, or the
        number of channels differs.
    """
    if image_shape is not None:
        image_shape = as_image_shape(image_shape)
        if not read_from_file and images.shape[3] != image_shape[2]:
            raise UsageError(
                f"images of shape {images.shape} do not have the {image_shape[2]} channels of "
                f"image_shape {image_shape}: convert them, or change image_shape"
            )
        return image_shape
    if read_from_file:
        raise UsageError(
            "image_shape must be given for images that are read from files: for example "
            "image_shape=(128, 64, 3)"
        )
    return tuple(images.shape[1:])


def create_image_input(
    preprocess_fn, image_shape, read_from_file, is_training=False, *, jpeg_dct=ORIGINAL_DCT
):
    """Create a placeholder for file names or images, and the network's input from it.

    Parameters
    ----------
    preprocess_fn : callable
        ``preprocess_fn(image, is_training=...)`` takes one image (H, W, C), uint8 or, where it was
        resized, float32 in [0, 255], and returns float32 (H, W, C). With an attribute
        ``takes_batches = True`` it is called once for the batch (N, H, W, C).
    image_shape : tuple of int
        (height, width, channels) to which images are resized.
    read_from_file : bool
        Whether the placeholder takes file names (str) or arrays (uint8, any height and width).
    is_training : bool
        Handed to `preprocess_fn`.
    jpeg_dct : {"INTEGER_FAST", "INTEGER_ACCURATE"}
        How JPEG files are decoded: as by the original, or as by OpenCV.

    Returns
    -------
    placeholder : tf.Tensor of string, shape (N,), or uint8, shape (N, any, any, C)
    images : tf.Tensor of float32, shape (N,) + image_shape

    Raises
    ------
    UsageError
        If `image_shape` is none, or files are to be read, which gives RGB or gray, by a
        `preprocess_fn` that expects BGR, or to another number of channels.
    """
    image_shape = as_image_shape(image_shape)
    if read_from_file and image_shape[2] not in (1, 3):
        raise UsageError(
            f"image_shape {image_shape} has {image_shape[2]} channels, but files are "
            "decoded to 3 (RGB) or 1 (gray): change image_shape"
        )
    if read_from_file and expects_bgr(preprocess_fn):
        raise UsageError(
            "preprocess_fn has input_is_bgr=True, but files are decoded to RGB: leave it out, it "
            "is for arrays that were read with OpenCV"
        )
    if read_from_file:
        placeholder = tf.placeholder(tf.string, (None,), name="filenames")
        images = _decode_files(placeholder, image_shape, jpeg_dct)
    else:
        placeholder = tf.placeholder(tf.uint8, (None, None, None, image_shape[2]), name="arrays")
        images = _resize(placeholder, image_shape)
    return placeholder, apply_preprocessing(preprocess_fn, images, is_training)


def apply_preprocessing(preprocess_fn, images, is_training=False):
    """Preprocess a batch: in one call where the function takes batches, else image by image.

    Parameters
    ----------
    preprocess_fn, is_training
        As in `create_image_input`.
    images : tf.Tensor of uint8 or float32, shape (N, H, W, C)

    Returns
    -------
    tf.Tensor of float32, shape (N, H, W, C)
    """
    preprocess_fn = functools.partial(preprocess_fn, is_training=is_training)
    if getattr(_unwrap(preprocess_fn), "takes_batches", False):
        return preprocess_fn(images)
    return tf.map_fn(preprocess_fn, images, dtype=tf.float32, back_prop=False)


def expects_bgr(preprocess_fn):
    """Tell whether a preprocessing function was told to expect BGR images.

    Parameters
    ----------
    preprocess_fn : callable

    Returns
    -------
    bool
        True for ``functools.partial(preprocess, input_is_bgr=True)``.
    """
    return bool(getattr(preprocess_fn, "keywords", {}).get("input_is_bgr", False))


def create_error_explainer(read_from_file, image_shape):
    """Create a function that finds out which file of a batch cannot be read.

    Parameters
    ----------
    read_from_file : bool
    image_shape : tuple of int
        (height, width, channels).

    Returns
    -------
    callable
        ``explain_error(batch)`` for `deep_reid.queued_trainer.QueuedTrainer`, where the first array
        of a batch are the images: `find_unreadable_image`, or None where they are no files.
    """
    if not read_from_file:
        return lambda batch: None
    return lambda batch: find_unreadable_image(batch[0], image_shape[2])


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
                    f"image {filename} cannot be read ({image_files.explain_file(filename)}): "
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


def decode_image(contents, num_channels, jpeg_dct=ORIGINAL_DCT):
    """Decode a JPEG, PNG, BMP or GIF file by its content, whatever its name says.

    Parameters
    ----------
    contents : tf.Tensor of string, shape ()
        The bytes of a whole file.
    num_channels : {1, 3}
    jpeg_dct : {"INTEGER_FAST", "INTEGER_ACCURATE"}
        As in `create_image_input`.

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


def _stack(images_or_filenames):
    if isinstance(images_or_filenames, (str, os.PathLike)):
        raise TypeError(f"{images_or_filenames!r} is one file name: use a list of file names")
    items = list(images_or_filenames)
    if all(isinstance(item, (str, os.PathLike)) for item in items):
        return np.array([os.fspath(item) for item in items], dtype=object)
    if not all(isinstance(item, np.ndarray) for item in items):
        kinds = sorted({type(item).__name__ for item in items})
        raise TypeError(
            f"images of type {', '.join(kinds)} are not supported: use file names (str or Path), "
            "or uint8 arrays of shape (height, width, channels)"
        )
    shapes = sorted({item.shape for item in items})
    if len(shapes) > 1:
        raise TypeError(
            f"image arrays of different shapes ({shapes[0]}, {shapes[1]}) cannot be stacked: "
            "resize them to one shape, or pass file names"
        )
    return np.stack(items)


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
        return np.ascontiguousarray(image_files.decode_bmp(contents, num_channels))

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
        image = image_files.turn_upright(image, image_files.read_orientation(contents))
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


def _decode_files(filenames, image_shape, jpeg_dct):
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


def _resize(images, image_shape):
    images = tf.image.resize_images(images, image_shape[:2])
    images.set_shape((None, *image_shape))
    return images


def _unwrap(function):
    while isinstance(function, functools.partial):
        function = function.func
    return function

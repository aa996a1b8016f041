"""The one way in: files and arrays become the network's input."""

import concurrent.futures
import functools
import io
import os
import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image, ImageOps

from deep_reid.compat import tf
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.images import decoding, pipeline
from deep_reid.images.source import as_image_source, check_image_shape
from deep_reid.nets import deep_sort
from deep_reid.runtime.sessions import IN_OWN_THREAD, create_session_config

pytestmark = pytest.mark.usefixtures("graph")

IMAGE_SHAPE = (128, 64, 3)
PREPROCESS_BGR = functools.partial(deep_sort.preprocess, input_is_bgr=True)


def read_in(images_or_filenames, preprocess_fn=deep_sort.preprocess, image_shape=IMAGE_SHAPE):
    """Take images the whole way from the door to the network's input."""
    images, read_from_file = as_image_source(images_or_filenames)
    image_shape = check_image_shape(images, read_from_file, image_shape)
    array_shape = None if read_from_file else images.shape[1:]
    return create_reader(preprocess_fn, image_shape, read_from_file, array_shape)(images)


@functools.cache
def create_reader(preprocess_fn, image_shape, read_from_file, array_shape):
    """Build the network's input in a graph of its own, once for all tests."""
    with tf.Graph().as_default() as graph:
        placeholder, input_var = pipeline.create_image_input(
            preprocess_fn, image_shape, read_from_file, array_shape=array_shape
        )
    assert input_var.get_shape().as_list() == [None, *image_shape]
    session = tf.Session(graph=graph)
    return lambda images: session.run(input_var, {placeholder: images})


@pytest.fixture
def picture():
    """RGB picture of 40 x 30 with other content in each corner and channel."""
    red, green = np.meshgrid(np.arange(30) * 8, np.arange(40) * 6)
    picture = np.stack([red, green, (red + green) // 3], axis=-1).astype(np.uint8)
    picture[:10, :10] = (250, 20, 90)
    return picture


def write_image(path, rgb_picture):
    assert cv2.imwrite(str(path), rgb_picture[..., ::-1])
    return str(path)


@pytest.fixture
def png(tmp_path, picture):
    """The picture as a file without loss."""
    return write_image(tmp_path / "picture.png", picture)


class TestGoldenFiles:
    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_decoded_resized_and_preprocessed_as_by_the_original(self, reference, number, tmp_path):
        path = tmp_path / "image.jpg"
        path.write_bytes(reference[f"jpeg{number}_bytes"].tobytes())
        expected = reference[f"jpeg{number}_preprocessed"][np.newaxis]
        np.testing.assert_allclose(read_in([path]), expected, rtol=1e-5, atol=1e-6)

    def test_images_of_different_sizes_go_into_one_batch(self, reference, tmp_path):
        paths = [tmp_path / f"{number}.jpg" for number in range(3)]
        for number, path in enumerate(paths):
            path.write_bytes(reference[f"jpeg{number}_bytes"].tobytes())
        expected = [reference[f"jpeg{number}_preprocessed"] for number in range(3)]
        np.testing.assert_allclose(read_in(paths), expected, rtol=1e-5, atol=1e-6)


class TestDoor:
    @pytest.mark.parametrize(
        "names",
        [
            ["a/b.jpg", "ä.png"],
            [Path("a/b.jpg"), "ä.png"],
            (Path("a/b.jpg"), Path("ä.png")),
            np.array(["a/b.jpg", "ä.png"]),
            np.array(["a/b.jpg", "ä.png"], dtype=object),
            np.array([Path("a/b.jpg"), Path("ä.png")], dtype=object),
        ],
        ids=["str", "mixed", "Path", "array of str", "objects of str", "objects of Path"],
    )
    def test_names_of_files_become_an_array_of_str(self, names):
        source, read_from_file = as_image_source(names)
        assert read_from_file is True
        assert source.dtype == object
        assert source.tolist() == [str(Path("a/b.jpg")), "ä.png"]
        assert {type(name) for name in source} == {str}

    def test_an_array_of_images_is_taken_as_it_is(self):
        images = np.zeros((2, 4, 3, 3), np.uint8)
        source, read_from_file = as_image_source(images)
        assert read_from_file is False
        assert source is images

    @pytest.mark.parametrize("make_sequence", [list, tuple, iter])
    def test_a_sequence_of_arrays_is_stacked(self, make_sequence):
        images = np.random.RandomState(0).randint(0, 256, (3, 4, 2, 3), np.uint8)
        source, read_from_file = as_image_source(make_sequence(images))
        assert read_from_file is False
        assert source.dtype == np.uint8
        np.testing.assert_array_equal(source, images)

    def test_no_images_are_no_file_names_to_read(self):
        source, _ = as_image_source([])
        assert source.shape == (0,)

    @pytest.mark.parametrize(
        "source",
        [
            "a.jpg",
            Path("a.jpg"),
            3,
            None,
            [1, 2],
            [None],
            [b"a.jpg"],
            ["a.jpg", np.zeros((4, 2, 3), np.uint8)],
            [[["a.jpg"]]],
            np.array([1, None], dtype=object),
            np.array([["a.jpg"], ["b.jpg"]]),
            np.zeros((4, 2, 3), np.uint8),
            np.zeros((1, 1, 4, 2, 3), np.uint8),
            np.zeros((1, 4, 2, 3), np.float32),
            np.zeros((1, 4, 2, 3), np.int64),
            [np.zeros((4, 2, 3), np.float32)],
            [np.zeros(4, np.uint8)],
            [np.zeros((4, 2, 3), np.uint8), np.zeros((4, 3, 3), np.uint8)],
        ],
    )
    def test_anything_else_is_a_type_error(self, source):
        with pytest.raises(TypeError):
            as_image_source(source)

    def test_the_message_for_one_name_says_what_to_do(self):
        with pytest.raises(TypeError, match=r"'a\.jpg' is one file name: use a list"):
            as_image_source("a.jpg")

    def test_the_message_for_a_wrong_array_names_its_type_and_shape(self):
        with pytest.raises(TypeError, match=r"float32 and shape \(1, 4, 2, 3\).*uint8"):
            as_image_source(np.zeros((1, 4, 2, 3), np.float32))

    def test_the_message_for_different_sizes_names_them(self):
        images = [np.zeros((height, 2, 3), np.uint8) for height in (5, 4)]
        with pytest.raises(TypeError, match=r"\(4, 2, 3\), \(5, 2, 3\)"):
            as_image_source(images)


class TestImageShape:
    def test_arrays_have_their_own(self):
        shape = check_image_shape(np.zeros((2, 4, 3, 1), np.uint8), False, None)
        assert shape == (4, 3, 1)

    def test_a_given_one_comes_first_as_plain_integers(self):
        shape = check_image_shape(np.zeros((2, 4, 3, 3), np.uint8), False, np.array([8, 6, 3]))
        assert shape == (8, 6, 3)
        assert {type(size) for size in shape} == {int}

    def test_files_need_one(self):
        names = np.array(["a.jpg"], dtype=object)
        with pytest.raises(UsageError, match=r"image_shape=\(128, 64, 3\)"):
            check_image_shape(names, True, None)
        assert check_image_shape(names, True, [128, 64, 3]) == IMAGE_SHAPE


def create_recording_preprocess():
    """Create a preprocessing function with a list of the (rank, is_training) of its calls."""

    def preprocess_fn(image, is_training=False, factor=1.0):
        preprocess_fn.calls.append((image.get_shape().ndims, is_training))
        return factor * tf.cast(image, tf.float32)

    preprocess_fn.calls = []
    return preprocess_fn


@pytest.mark.parametrize("wraps", [0, 1, 2])
@pytest.mark.parametrize("is_training", [False, True])
class TestCallsOfPreprocessing:
    def apply(self, preprocess_fn, wraps, is_training):
        for _ in range(wraps):
            preprocess_fn = functools.partial(preprocess_fn, factor=3.0)
        images = np.arange(5 * 4 * 2 * 3, dtype=np.uint8).reshape(5, 4, 2, 3)
        tensor = pipeline.apply_preprocessing(preprocess_fn, tf.constant(images), is_training)
        with tf.Session() as session:
            np.testing.assert_array_equal(session.run(tensor), (3.0 if wraps else 1.0) * images)

    def test_a_function_that_takes_batches_is_called_once_with_the_batch(self, wraps, is_training):
        preprocess_fn = create_recording_preprocess()
        preprocess_fn.takes_batches = True
        self.apply(preprocess_fn, wraps, is_training)
        assert preprocess_fn.calls == [(4, is_training)]

    @pytest.mark.parametrize("takes_batches", [None, False])
    def test_another_function_is_given_single_images(self, takes_batches, wraps, is_training):
        preprocess_fn = create_recording_preprocess()
        if takes_batches is not None:
            preprocess_fn.takes_batches = takes_batches
        self.apply(preprocess_fn, wraps, is_training)
        assert preprocess_fn.calls == [(3, is_training)]  # built once, run for each image


class TestChannelOrder:
    """Whichever way an image comes in, the network sees the same."""

    @pytest.fixture
    def from_file(self, png):
        return read_in([png])

    def test_an_array_read_as_rgb_gives_what_its_file_gives(self, from_file, png):
        rgb_picture = cv2.cvtColor(cv2.imread(png), cv2.COLOR_BGR2RGB)
        np.testing.assert_allclose(read_in([rgb_picture]), from_file, atol=1e-6)

    def test_an_array_read_with_opencv_gives_it_when_it_says_so(self, from_file, png):
        np.testing.assert_allclose(
            read_in([cv2.imread(png)], PREPROCESS_BGR), from_file, atol=1e-6
        )  # fmt: skip

    def test_an_array_read_with_opencv_that_does_not_say_so_is_another_image(self, from_file, png):
        assert abs(read_in([cv2.imread(png)]) - from_file).max() > 0.1

    @pytest.mark.parametrize("wraps", [1, 2])
    def test_files_are_never_bgr(self, png, wraps):
        preprocess_fn = PREPROCESS_BGR
        for _ in range(wraps - 1):
            preprocess_fn = functools.partial(preprocess_fn)
        with pytest.raises(UsageError, match="files are decoded to RGB"):
            read_in([png], preprocess_fn)

    @pytest.mark.parametrize(
        "preprocess_fn, answer",
        [
            (PREPROCESS_BGR, True),
            (deep_sort.preprocess, False),
            (functools.partial(deep_sort.preprocess), False),
            (functools.partial(deep_sort.preprocess, input_is_bgr=False), False),
            (functools.partial(PREPROCESS_BGR, input_is_bgr=False), False),
            (lambda image, is_training: image, False),
        ],
    )
    def test_a_function_is_asked_what_it_expects(self, preprocess_fn, answer):
        assert pipeline.expects_bgr(preprocess_fn) is answer


class TestFormats:
    @pytest.mark.parametrize("ending", ["png", "bmp"])
    def test_formats_without_loss_give_the_picture(self, ending, tmp_path, picture):
        path = write_image(tmp_path / f"picture.{ending}", picture)
        result = read_in([path], image_shape=picture.shape)
        np.testing.assert_allclose(result[0], picture / 255.0, atol=1e-6)

    def test_the_content_decides_and_not_the_name(self, tmp_path, picture, png):
        path = Path(png).rename(tmp_path / "picture.jpg.jpg")
        result = read_in([path], image_shape=picture.shape)
        np.testing.assert_allclose(result[0], picture / 255.0, atol=1e-6)

    @pytest.mark.parametrize("ending", ["png", "jpg"])
    def test_gray_files_get_three_equal_channels(self, ending, tmp_path, picture):
        path = str(tmp_path / f"gray.{ending}")
        assert cv2.imwrite(path, picture[..., 1])
        assert cv2.imread(path, cv2.IMREAD_UNCHANGED).ndim == 2
        result = read_in([path], image_shape=picture.shape)[0]
        np.testing.assert_array_equal(result, np.repeat(result[..., :1], 3, axis=-1))
        np.testing.assert_allclose(result[..., 0], picture[..., 1] / 255.0, atol=0.05)

    def test_transparency_is_left_out(self, tmp_path, picture):
        path = str(tmp_path / "rgba.png")
        alpha = np.full((*picture.shape[:2], 1), 128, np.uint8)
        assert cv2.imwrite(path, np.concatenate([picture[..., ::-1], alpha], axis=-1))
        result = read_in([path], image_shape=picture.shape)
        np.testing.assert_allclose(result[0], picture / 255.0, atol=1e-6)

    def test_color_files_become_gray_for_a_network_of_one_channel(self, png):
        assert read_in([png], image_shape=(40, 30, 1)).shape == (1, 40, 30, 1)

    def test_all_formats_go_into_one_batch(self, tmp_path, picture, png):
        gray, color = str(tmp_path / "gray.jpg"), str(tmp_path / "color.jpg")
        cv2.imwrite(gray, picture[:20, :, 0])
        write_image(color, picture[:, :17])
        names = [gray, png, color]
        single = [read_in([name])[0] for name in names]
        np.testing.assert_array_equal(read_in(names), single)


@pytest.fixture
def save(tmp_path):
    """Write an image with Pillow, or with OpenCV what Pillow cannot write."""

    def save(image, file_format, **kwargs):
        path = tmp_path / f"Bild von Müller.{file_format.lower()}"
        if isinstance(image, np.ndarray):
            assert cv2.imwrite(str(path), image)
        else:
            image.save(path, file_format, **kwargs)
        return path

    return save


def create_exif(orientation, tag=0x0112):
    exif = Image.Exif()
    exif[tag] = orientation
    return exif.tobytes()


def decode(path, num_channels, jpeg_dct=decoding.OPENCV_DCT):
    """Decode a file, without resizing it."""
    return create_decoder(num_channels, jpeg_dct)(path)


@functools.cache
def create_decoder(num_channels, jpeg_dct, size=None):
    """Build the decoding of a file in a graph of its own, once for all tests; resize if asked."""
    with tf.Graph().as_default() as graph:
        filename_var = tf.placeholder(tf.string, ())
        image = decoding.decode_image(tf.io.read_file(filename_var), num_channels, jpeg_dct)
        if size is not None:
            image.set_shape((None, None, num_channels))
            image = tf.image.resize_images(image, size)
    session = tf.Session(graph=graph)
    return lambda path: session.run(image, {filename_var: str(path)})


IS_OLD_OPENCV = tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 13)


def read_with_opencv(path, num_channels):
    flags = cv2.IMREAD_GRAYSCALE if num_channels == 1 else cv2.IMREAD_COLOR_RGB
    if not IS_OLD_OPENCV:
        image = cv2.imread(str(path), flags)
        return image.reshape(*image.shape[:2], num_channels)
    # It reads no GIF, turns no WebP, and overlooks EXIF data behind others: as newer versions do.
    image = cv2.imread(str(path), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        image = np.array(Image.open(path).convert("RGB"))
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if num_channels == 1 else image
    stored = Image.fromarray(image)
    stored.getexif().update(Image.open(path).getexif())
    image = np.array(ImageOps.exif_transpose(stored))
    return image.reshape(*image.shape[:2], num_channels)


def check_equal_to_opencv(path, num_channels, jpeg_dct=decoding.OPENCV_DCT, tolerance=0):
    image, expected = decode(path, num_channels, jpeg_dct), read_with_opencv(path, num_channels)
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.ptp(expected) > 100, "the image shows nothing"
    np.testing.assert_allclose(image.astype(int), expected.astype(int), rtol=0, atol=tolerance)


def create_bmp_of_4_bits():
    """An image of 5 x 3 with 16 gray levels, in a format that neither library writes."""
    palette = b"".join(bytes([17 * i, 17 * i, 17 * i, 0]) for i in range(16))
    rows = bytes.fromhex("012340000f0f0f000a5c3000")
    info = struct.pack("<IiiHHIIiiII", 40, 5, 3, 1, 4, 0, len(rows), 0, 0, 16, 0)
    offset = 14 + len(info) + len(palette)
    header = struct.pack("<2sIHHI", b"BM", offset + len(rows), 0, 0, offset)
    return header + info + palette + rows


RANDOM = np.random.RandomState(0)
LOSSLESS = {
    "PNG color": lambda image: (image, "PNG", {}),
    "PNG gray": lambda image: (image.convert("L"), "PNG", {}),
    "PNG gray with alpha": lambda image: (image.convert("LA"), "PNG", {}),
    "PNG alpha": lambda image: (add_alpha(image), "PNG", {}),
    "PNG palette": lambda image: (image.quantize(64), "PNG", {}),
    "PNG palette of 4 bits": lambda image: (image.quantize(9), "PNG", {"bits": 4}),
    "PNG palette with a transparent color": lambda image: (
        image.quantize(64), "PNG", {"transparency": 3}
    ),
    "PNG palette with transparency": lambda image: (
        image.quantize(64), "PNG", {"transparency": bytes(range(0, 256, 4))}
    ),
    "PNG color with a transparent one": lambda image: (
        image, "PNG", {"transparency": (250, 20, 90)}
    ),
    "PNG 1 bit": lambda image: (image.convert("1"), "PNG", {}),
    "PNG gray 16 bits": lambda _: (RANDOM.randint(0, 2**16, (9, 7), np.uint16), "PNG", {}),
    "PNG color 16 bits": lambda _: (RANDOM.randint(0, 2**16, (9, 7, 3), np.uint16), "PNG", {}),
    "PNG alpha 16 bits": lambda _: (RANDOM.randint(0, 2**16, (9, 7, 4), np.uint16), "PNG", {}),
    "BMP 24 bits": lambda image: (image, "BMP", {}),
    "BMP 32 bits": lambda image: (add_alpha(image), "BMP", {}),
    "BMP 32 bits of OpenCV": lambda image: (np.array(add_alpha(image)), "BMP", {}),
    "BMP gray": lambda image: (image.convert("L"), "BMP", {}),
    "BMP palette": lambda image: (image.quantize(64), "BMP", {}),
    "BMP 1 bit": lambda image: (image.convert("1"), "BMP", {}),
}  # fmt: skip


def add_alpha(image):
    image = image.copy()
    image.putalpha(Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(40, 30)))
    return image


@pytest.mark.parametrize("num_channels", [1, 3])
class TestSameAsOpenCV:
    """The frozen graph is fed with what OpenCV reads: features must not depend on the way in."""

    @pytest.mark.parametrize("kind", LOSSLESS)
    def test_formats_without_loss(self, kind, num_channels, picture, save):
        image, file_format, kwargs = LOSSLESS[kind](Image.fromarray(picture))
        check_equal_to_opencv(save(image, file_format, **kwargs), num_channels)

    def test_bmp_of_4_bits(self, num_channels, tmp_path):
        (tmp_path / "image.bmp").write_bytes(create_bmp_of_4_bits())
        check_equal_to_opencv(tmp_path / "image.bmp", num_channels)
        first_row = decode(tmp_path / "image.bmp", num_channels)[0, :, 0]  # the last in the file
        assert first_row.tolist() == [0x00, 0xAA, 0x55, 0xCC, 0x33]

    def test_a_bmp_file_upside_down(self, num_channels, tmp_path):
        contents = bytearray(create_bmp_of_4_bits())
        contents[22:26] = struct.pack("<i", -3)
        (tmp_path / "image.bmp").write_bytes(contents)
        check_equal_to_opencv(tmp_path / "image.bmp", num_channels)

    # Both have libjpeg-turbo: equal for the same transform. The original's fast one is less exact,
    # by some gray levels; at steep edges of colors by more.
    @pytest.mark.parametrize(
        "jpeg_dct, tolerance",
        [(decoding.OPENCV_DCT, 0), (decoding.ORIGINAL_DCT, 8)],
    )
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    @pytest.mark.parametrize("kwargs", [{"subsampling": 0}, {"subsampling": 2, "progressive": 1}])
    def test_a_jpeg_has_the_pixels_that_opencv_reads(
        self, num_channels, picture, save, jpeg_dct, tolerance, mode, kwargs
    ):
        path = save(Image.fromarray(picture).convert(mode), "JPEG", quality=95, **kwargs)
        check_equal_to_opencv(path, num_channels, jpeg_dct, tolerance)

    # TensorFlow rounds the product of ink and black another way than OpenCV: 3 gray levels.
    @pytest.mark.parametrize(
        "jpeg_dct, tolerance",
        [(decoding.OPENCV_DCT, 3), (decoding.ORIGINAL_DCT, 16)],
    )
    @pytest.mark.parametrize("is_ycck", [False, True])
    def test_jpeg_for_print(self, num_channels, tmp_path, jpeg_dct, tolerance, is_ycck):
        path = write_cmyk(tmp_path / "cmyk.jpg", is_ycck)
        check_equal_to_opencv(path, num_channels, jpeg_dct, tolerance)

    @pytest.mark.parametrize("file_format", ["GIF", "WEBP"])
    def test_other_formats_as_far_as_tensorflow_reads_them(
        self, num_channels, picture, save, file_format
    ):
        path = save(Image.fromarray(picture).quantize(64).convert("RGB"), "WEBP", lossless=True)
        if file_format == "GIF":
            path = save(Image.fromarray(picture).quantize(64), "GIF")
        # Gray is computed from color with other rounding.
        check_equal_to_opencv(path, num_channels, tolerance=1 if num_channels == 1 else 0)


def write_cmyk(path, is_ycck):
    """Write squares of colors as a JPEG file of four inks, directly or as YCbCr and black."""
    inks = RANDOM.randint(0, 256, (6, 5, 4)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    buffer = io.BytesIO()
    Image.fromarray(inks, "CMYK").save(buffer, "JPEG", quality=98, subsampling=0)
    contents = bytearray(buffer.getvalue())
    if is_ycck:  # The same data, with another meaning.
        contents[contents.index(b"Adobe") + 11] = 2
    path.write_bytes(contents)
    return path


@pytest.mark.parametrize("num_channels", [1, 3])
class TestOrientation:
    @pytest.mark.parametrize(
        "jpeg_dct, tolerance",
        [(decoding.OPENCV_DCT, 0), (decoding.ORIGINAL_DCT, 8)],
    )
    @pytest.mark.parametrize("orientation", range(10))  # 0 and 9 do not exist
    def test_a_jpeg_is_turned_as_by_opencv(
        self, num_channels, picture, save, orientation, jpeg_dct, tolerance
    ):
        exif = create_exif(orientation)
        path = save(Image.fromarray(picture), "JPEG", quality=95, exif=exif)
        check_equal_to_opencv(path, num_channels, jpeg_dct, tolerance)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("file_format, kwargs", [("PNG", {}), ("WEBP", {"lossless": True})])
    def test_other_formats_are_turned_as_by_opencv(
        self, num_channels, picture, save, orientation, file_format, kwargs
    ):
        exif = create_exif(orientation)
        path = save(Image.fromarray(picture), file_format, exif=exif, **kwargs)
        tolerance = 1 if (file_format, num_channels) == ("WEBP", 1) else 0
        check_equal_to_opencv(path, num_channels, tolerance=tolerance)

    @pytest.mark.parametrize("is_ycck", [False, True])
    def test_jpeg_for_print(self, num_channels, tmp_path, is_ycck):
        path = write_cmyk(tmp_path / "cmyk.jpg", is_ycck)
        insert(path, 2, create_segment(0xE1, create_exif(6)))
        assert decode(path, num_channels).shape == (40, 48, num_channels)
        check_equal_to_opencv(path, num_channels, tolerance=3)

    @pytest.mark.parametrize(
        "marker, data",
        [
            (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>" + bytes(9000)),
            (0xED, b"Photoshop 3.0\x008BIM" + bytes(9000)),
            (0xE2, b"ICC_PROFILE\0\1\1" + bytes(9000)),
            (0xE2, b"short"),
        ],
    )
    def test_other_metadata_may_come_first(self, num_channels, picture, save, marker, data):
        exif = create_exif(6)
        path = save(Image.fromarray(picture), "JPEG", quality=95, exif=exif)
        insert(path, 2, create_segment(marker, data))
        assert decode(path, num_channels).shape == (30, 40, num_channels)
        check_equal_to_opencv(path, num_channels)

    @pytest.mark.parametrize(
        "kwargs", [{}, {"optimize": True}, {"progressive": True}, {"gray": True}]
    )
    def test_wherever_it_is(self, num_channels, picture, save, kwargs):
        """Before, between and behind all segments, with a comment before it."""
        image = Image.fromarray(picture)
        if kwargs == {"gray": True}:
            image, kwargs = image.convert("L"), {}
        plain = save(image, "JPEG", quality=95, **kwargs).read_bytes()
        contents_var = tf.placeholder(tf.string, ())
        decoded = decoding.decode_image(contents_var, num_channels, decoding.OPENCV_DCT)
        with tf.Session() as session:
            upright = session.run(decoded, {contents_var: plain})
            for size in (0, 65, 1100, 60_000):
                comment = create_segment(0xFE, b"\0" * size) if size else b""
                data = comment + create_segment(0xE1, create_exif(6))
                for position in list_segments(plain):
                    contents = plain[:position] + data + plain[position:]
                    turned = session.run(decoded, {contents_var: contents})
                    np.testing.assert_array_equal(
                        turned, upright.transpose(1, 0, 2)[:, ::-1], f"{size} at {position}"
                    )

    def test_behind_the_image_data_it_is_of_another_image(self, num_channels, picture, save):
        path = save(Image.fromarray(picture), "JPEG", quality=95)
        shape = decode(path, num_channels).shape
        insert(path, path.stat().st_size, create_segment(0xE1, create_exif(6)))
        assert decode(path, num_channels).shape == shape
        check_equal_to_opencv(path, num_channels)

    def test_xmp_says_nothing_about_the_orientation(self, num_channels, picture, save):
        exif = create_exif("a camera", tag=0x0110)
        path = save(Image.fromarray(picture), "JPEG", quality=95, exif=exif)
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:D tiff:Orientation="6"/></x:xmpmeta>'
        insert(path, 2, create_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))
        check_equal_to_opencv(path, num_channels)

    def test_damaged_metadata_does_no_harm(self, num_channels, picture, save):
        path = save(Image.fromarray(picture), "JPEG", quality=95)
        insert(path, 2, create_segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff\0"))
        check_equal_to_opencv(path, num_channels)


def list_segments(contents):
    """Return where the segments of a JPEG begin, up to the image data."""
    positions = [2]
    while contents[positions[-1] + 1] != 0xDA:
        start = positions[-1] + 2
        positions.append(start + int.from_bytes(contents[start : start + 2], "big"))
    return positions


def create_segment(marker, data):
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data


def insert(path, position, data):
    contents = path.read_bytes()
    path.write_bytes(contents[:position] + data + contents[position:])


def resize_whole(path, image_shape):
    """Decode all of a file as in training, and resize it, as the original does."""
    return create_decoder(image_shape[2], decoding.ORIGINAL_DCT, image_shape[:2])(path)


def leave_as_it_is(image, is_training):
    return tf.cast(image, tf.float32)


class TestResizing:
    """However much of an image is decoded, the pixels are those of the original."""

    @pytest.mark.parametrize("num_channels", [1, 3])
    @pytest.mark.parametrize(
        "kwargs",
        [
            {"subsampling": "4:4:4"},
            {"subsampling": "4:2:2"},
            {"subsampling": "4:2:0"},
            {"subsampling": "4:2:0", "progressive": True},
        ],
    )
    @pytest.mark.parametrize(
        "size, image_shape",
        [
            ((256, 128), (128, 64)),
            ((54, 18), (27, 9)),
            ((34, 32), (17, 16)),
            ((18, 18), (6, 6)),
            ((40, 32), (40, 16)),
            ((2, 2), (1, 1)),
            ((40, 30), (40, 30)),
            ((256, 127), (128, 64)),
            ((255, 127), (128, 64)),
            ((20, 10), (40, 20)),
        ],
    )
    def test_a_jpeg_that_is_decoded_in_part_has_the_pixels_of_the_whole(
        self, save, size, image_shape, kwargs, num_channels
    ):
        noise = RANDOM.randint(0, 256, (*size, 3)).astype(np.uint8)
        path = save(Image.fromarray(noise), "JPEG", quality=95, **kwargs)
        image_shape = (*image_shape, num_channels)
        result = read_in([path], leave_as_it_is, image_shape)
        np.testing.assert_array_equal(result[0], resize_whole(path, image_shape))

    def test_jpeg_for_print(self, tmp_path):
        path = write_cmyk(tmp_path / "cmyk.jpg", is_ycck=True)
        result = read_in([path], leave_as_it_is, (24, 20, 3))
        np.testing.assert_array_equal(result[0], resize_whole(path, (24, 20, 3)))

    def test_sizes_and_kinds_in_one_batch(self, tmp_path, picture, png):
        names = [png]
        for height, width in ((128, 64), (256, 128), (200, 90), (64, 32), (512, 256)):
            names.append(str(tmp_path / f"{height}.jpg"))
            assert cv2.imwrite(names[-1], cv2.resize(picture, (width, height)))
        names.append(str(tmp_path / "turned.jpg"))
        Image.fromarray(picture).resize((256, 128)).save(names[-1], exif=create_exif(6))
        expected = [resize_whole(name, IMAGE_SHAPE) for name in names]
        np.testing.assert_array_equal(read_in(names, leave_as_it_is), expected)

    def test_a_truncated_file_is_no_image(self, save, picture):
        path = save(Image.fromarray(picture), "JPEG", quality=95)
        contents = path.read_bytes()
        for share in (0.3, 0.6, 0.9):
            path.write_bytes(contents[: int(share * len(contents))])
            with pytest.raises(tf.errors.OpError):
                read_in([path], image_shape=(20, 15, 3))


class TestGraphOfFiles:
    """Some images are decoded or turned by Python functions in the graph."""

    @pytest.fixture
    def names(self, tmp_path, picture):
        names = []
        for orientation in range(1, 9):
            names.append(str(tmp_path / f"{orientation}.jpg"))
            Image.fromarray(picture).save(names[-1], exif=create_exif(orientation))
        names.append(write_image(tmp_path / "picture.bmp", picture))
        return names

    def test_sessions_in_several_threads(self, names):
        placeholder, input_var = pipeline.create_image_input(
            deep_sort.preprocess, IMAGE_SHAPE, read_from_file=True
        )
        with tf.Session() as session:
            expected = session.run(input_var, {placeholder: names})
            with concurrent.futures.ThreadPoolExecutor(4) as executor:
                results = executor.map(
                    lambda _: session.run(input_var, {placeholder: names}), range(20)
                )
                for result in results:
                    np.testing.assert_array_equal(result, expected)

    def test_plain_jpegs_never_enter_python(self, names, tmp_path, picture, monkeypatch):
        def fail(*_):
            raise AssertionError

        monkeypatch.setattr(decoding.files, "read_orientation", fail)
        path = write_image(tmp_path / "plain.jpg", picture)
        assert read_in([path]).shape == (1, *IMAGE_SHAPE)
        with pytest.raises(tf.errors.OpError):
            read_in(names[:1])

    def test_all_is_done_in_the_thread_that_asks_for_it(self, names, monkeypatch):
        # On a drive that hangs, only this one must hang.
        threads = set()

        def read_orientation(_):
            threads.add(threading.get_ident())
            return 1

        monkeypatch.setattr(decoding.files, "read_orientation", read_orientation)
        placeholder, input_var = pipeline.create_image_input(
            deep_sort.preprocess, IMAGE_SHAPE, read_from_file=True
        )
        with tf.Session(config=create_session_config()) as session:
            session.run(input_var, {placeholder: names}, options=IN_OWN_THREAD)
        assert threads == {threading.get_ident()}

    def test_the_graph_can_be_written(self, graph, tmp_path):
        pipeline.create_image_input(deep_sort.preprocess, IMAGE_SHAPE, True)
        tf.train.write_graph(graph, str(tmp_path), "graph.pbtxt")
        graph_def = text_format.Parse((tmp_path / "graph.pbtxt").read_text(), tf.GraphDef())
        assert graph_def == graph.as_graph_def()

    def test_all_kinds_go_into_one_batch(self, names):
        single = [read_in([name])[0] for name in names]
        np.testing.assert_array_equal(read_in(names), single)

    def test_no_files_give_no_images(self):
        assert read_in([]).shape == (0, *IMAGE_SHAPE)

    @pytest.mark.parametrize("num_channels", [2, 4])
    def test_files_have_one_or_three_channels(self, names, num_channels):
        with pytest.raises(UsageError, match=rf"{num_channels} channels.*3 \(RGB\) or 1 \(gray\)"):
            read_in(names, image_shape=(8, 4, num_channels))


class TestArrays:
    def test_images_of_another_size_are_resized_as_files_are(self, picture, png):
        assert picture.shape != IMAGE_SHAPE
        np.testing.assert_allclose(read_in([picture]), read_in([png]), atol=1e-6)

    def test_images_of_the_right_size_stay_as_they_are(self, picture):
        result = read_in([picture], image_shape=None)
        np.testing.assert_allclose(result[0], picture / 255.0, rtol=1e-6)

    def test_resizing_has_no_half_pixel_centers(self):
        # Twice as wide: even columns are the old ones, odd ones lie between them.
        column = np.array([0, 100, 40], np.uint8)[np.newaxis, :, np.newaxis]
        image = np.broadcast_to(column, (1, 3, 1))
        result = read_in([image], lambda image, is_training: image, (1, 6, 1))
        assert result.ravel().tolist() == [0, 50, 100, 70, 40, 40]

    @pytest.mark.parametrize("height", [40, 20])
    def test_one_graph_takes_any_number_of_images(self, picture, height):
        images = np.stack([picture[:height]] * 3)
        placeholder, input_var = pipeline.create_image_input(
            deep_sort.preprocess, IMAGE_SHAPE, read_from_file=False, array_shape=images.shape[1:]
        )
        with tf.Session() as session:
            for num_images in (0, 1, 3):
                result = session.run(input_var, {placeholder: images[:num_images]})
                assert result.shape == (num_images, *IMAGE_SHAPE)

    def test_without_a_shape_arrays_are_of_the_networks(self, picture):
        placeholder, _ = pipeline.create_image_input(deep_sort.preprocess, (40, 30, 3), False)
        assert placeholder.get_shape().as_list() == [None, 40, 30, 3]

    def test_training_is_handed_on(self, picture):
        tf.set_random_seed(1)
        placeholder, input_var = pipeline.create_image_input(
            deep_sort.preprocess, picture.shape, read_from_file=False, is_training=True
        )
        with tf.Session() as session:
            result = session.run(input_var, {placeholder: np.stack([picture] * 20)})
        values, plain = result[:, 20, 5, 0], picture[20, 5, 0] / 255.0
        assert 0 < np.isclose(values, plain).sum() < 20


class TestUnreadableImages:
    @pytest.fixture
    def unreadable(self, tmp_path, png):
        content = Path(png).read_bytes()
        paths = {kind: tmp_path / f"{kind}.jpg" for kind in ("missing", "empty", "text", "cut")}
        paths["empty"].write_bytes(b"")
        paths["text"].write_text("no image at all")
        paths["cut"].write_bytes(content[: len(content) // 2])
        return {kind: str(path) for kind, path in paths.items()}

    def test_a_missing_file_is_named(self, unreadable, png):
        error = decoding.find_unreadable_image([png, unreadable["missing"], png], 3)
        assert type(error) is MissingPathError
        assert f"{unreadable['missing']} does not exist" in str(error)

    @pytest.mark.parametrize("kind", ["empty", "text", "cut"])
    def test_a_corrupt_file_is_named(self, unreadable, png, kind):
        error = decoding.find_unreadable_image([png, unreadable[kind], png], 3)
        assert type(error) is DataError
        assert f"{unreadable[kind]} cannot be read" in str(error)
        assert "\n" not in str(error)

    @pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut"])
    def test_the_pipeline_fails_where_the_search_finds_something(self, unreadable, kind):
        with pytest.raises(tf.errors.OpError):
            read_in([unreadable[kind]])

    def test_a_folder_is_no_image(self, tmp_path):
        error = decoding.find_unreadable_image([str(tmp_path)], 3)
        assert isinstance(error, DataError)
        assert str(tmp_path) in str(error)

    def test_the_first_of_several_is_named(self, unreadable):
        names = [unreadable["empty"], unreadable["missing"]]
        assert names[0] in str(decoding.find_unreadable_image(names, 3))

    def test_readable_files_give_no_error(self, png):
        assert decoding.find_unreadable_image([png, png], 3) is None
        assert decoding.find_unreadable_image([], 3) is None

    def test_the_search_adds_nothing_to_the_graph(self, graph, png):
        decoding.find_unreadable_image([png], 3)
        assert graph.get_operations() == []

    def test_a_batch_of_files_is_explained_by_its_first_array(self, unreadable, png):
        explain_error = pipeline.create_error_explainer(True, IMAGE_SHAPE)
        names = np.array([png, unreadable["empty"]], dtype=object)
        assert unreadable["empty"] in str(explain_error([names, np.array([3, 4])]))
        assert explain_error([names[:1], np.array([3])]) is None

    def test_arrays_have_nothing_to_search(self):
        explain_error = pipeline.create_error_explainer(False, IMAGE_SHAPE)
        assert explain_error([np.zeros((1, *IMAGE_SHAPE), np.uint8)]) is None


class TestReasons:
    KINDS = ("JPEG", "PNG", "BMP", "GIF")

    @pytest.fixture
    def contents(self, picture):
        def encode(file_format):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, file_format)
            return buffer.getvalue()

        return encode

    def explain(self, path, num_channels):
        error = decoding.find_unreadable_image([str(path)], num_channels)
        if error is None:
            return None
        assert "\n" not in str(error)
        assert str(path) in str(error)
        return str(error)

    @pytest.mark.parametrize("num_channels", [1, 3])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
    def test_a_truncated_file_is_called_so(self, kind, contents, tmp_path, share, num_channels):
        data, path = contents(kind), tmp_path / "image"
        path.write_bytes(data)
        assert self.explain(path, num_channels) is None
        path.write_bytes(data[: int(share * len(data))])
        assert f"it is a truncated {kind} image" in self.explain(path, num_channels)

    def test_a_truncated_turned_jpeg(self, save, picture):
        path = save(Image.fromarray(picture), "JPEG", exif=create_exif(6))
        path.write_bytes(path.read_bytes()[:-100])
        assert "it is a truncated JPEG image" in self.explain(path, 3)

    @pytest.mark.parametrize("kind, position", [("PNG", 60), ("BMP", 28)])
    def test_a_damaged_file_is_called_so(self, kind, contents, tmp_path, position):
        data = bytearray(contents(kind))
        data[position] ^= 0x55
        (tmp_path / "image").write_bytes(data)
        assert "cannot be read (it is a " in self.explain(tmp_path / "image", 3)

    @pytest.mark.parametrize(
        "data, reason",
        [
            (b"", "it is empty"),
            (b"BM", "it is a truncated BMP image"),
            (b"BMW " * 20, "it is a truncated BMP image"),
            (b"text", "it is not a JPEG, PNG or BMP image, or its beginning is missing"),
        ],
    )
    def test_other_contents_are_called_by_their_kind(self, data, reason, tmp_path):
        (tmp_path / "image.jpg").write_bytes(data)
        assert f"({reason})" in self.explain(tmp_path / "image.jpg", 3)

    def test_other_formats_are_named(self, contents, tmp_path):
        (tmp_path / "image.jpg").write_bytes(contents("TIFF"))
        assert "not a JPEG, PNG or BMP image, but TIFF" in self.explain(tmp_path / "image.jpg", 3)

    def test_a_folder_is_called_so(self, tmp_path):
        assert "(it is a folder)" in self.explain(tmp_path, 3)

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
    )
    def test_a_file_without_permission_is_called_so(self, png):
        os.chmod(png, 0)
        assert "(you have no permission to read it)" in self.explain(png, 3)

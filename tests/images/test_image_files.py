"""Functions on the bytes of image files: orientation, BMP, and what is wrong with them."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.base import read_images
from deep_reid.errors import DataError
from deep_reid.evaluation import pictures
from deep_reid.images import files

COLORS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3) * 4


def encode(image, file_format, **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **kwargs)
    return buffer.getvalue()


def encode_turned(orientation, file_format="JPEG", image=COLORS):
    exif = Image.Exif()
    exif[files.ORIENTATION_TAG] = orientation
    return encode(Image.fromarray(image), file_format, exif=exif.tobytes())


class TestOrientation:
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_the_orientation_is_found_in_each_format(self, orientation, file_format):
        assert files.read_orientation(encode_turned(orientation, file_format)) == orientation

    @pytest.mark.parametrize(
        "contents",
        [
            b"",
            b"no image",
            encode(Image.fromarray(COLORS), "JPEG"),
            encode_turned(0),
            encode_turned(9),
            encode_turned(6).replace(b"Exif\0\0MM", b"Exif\0\0XX"),
            encode_turned(6)[:40],
        ],
        ids=["empty", "text", "none", "0", "9", "damaged", "truncated"],
    )
    def test_is_upright_where_nothing_is_known(self, contents):
        assert files.read_orientation(contents) == 1

    def test_any_damage_leaves_a_valid_number(self):
        random = np.random.RandomState(0)
        for file_format in ("JPEG", "PNG", "WEBP"):
            contents = encode_turned(6, file_format)
            for _ in range(300):
                damaged = bytearray(contents)
                for position in random.randint(0, min(len(damaged), 120), 5):
                    damaged[position] = random.randint(256)
                assert files.read_orientation(bytes(damaged)) in range(1, 9)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("num_channels", [1, 3])
    def test_images_are_turned_as_opencv_does(self, orientation, num_channels):
        contents = np.frombuffer(encode_turned(orientation, "PNG"), np.uint8)
        expected = cv2.imdecode(contents, cv2.IMREAD_COLOR)[..., ::-1][..., :num_channels]
        turned = files.turn_upright(COLORS[..., :num_channels], orientation)
        np.testing.assert_array_equal(turned, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_ways_to_read_a_file_turn_it(orientation, tmp_path):
    path = tmp_path / "turned.png"
    path.write_bytes(encode_turned(orientation, "PNG"))
    expected = files.turn_upright(COLORS, orientation)
    (image,) = read_images([path], expected.shape)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(pictures.read_picture(path, *expected.shape[:2]), expected)


class TestBmp:
    @pytest.fixture(params=["RGB", "L", "P", "1"])
    def contents(self, request):
        return encode(Image.fromarray(COLORS).convert(request.param), "BMP")

    def test_a_color_bmp_is_decoded_as_by_pillow(self, contents):
        image = files.decode_with_opencv(contents, 3)
        assert image.dtype == np.uint8
        expected = np.array(Image.open(io.BytesIO(contents)).convert("RGB"))
        np.testing.assert_array_equal(image, expected)

    def test_gray_has_one_channel(self, contents):
        image = files.decode_with_opencv(contents, 1)
        assert image.shape == (5, 4, 1)
        gray = cv2.imdecode(np.frombuffer(contents, np.uint8), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(image[..., 0], gray)

    def test_all_that_is_cut_off_is_missed(self, contents):
        for size in range(len(contents)):
            with pytest.raises(DataError, match="truncated"):
                files.decode_with_opencv(contents[:size], 3)

    def test_a_wrong_size_of_the_file_in_its_header_does_no_harm(self, contents):
        contents = contents[:2] + struct.pack("<I", 10**6) + contents[6:]
        assert files.decode_with_opencv(contents, 3).shape == COLORS.shape

    def test_a_bmp_of_os2_is_decoded_and_a_truncated_one_refused(self):
        header = struct.pack("<2sIHHI IHHHH", b"BM", 0, 0, 0, 26, 12, 1, 2, 1, 24)
        contents = header + bytes([1, 2, 3, 0, 4, 5, 6, 0])
        image = files.decode_with_opencv(contents, 3)
        assert image.tolist() == [[[6, 5, 4]], [[3, 2, 1]]]
        with pytest.raises(DataError, match="truncated"):
            files.decode_with_opencv(contents[:-1], 3)

    @pytest.mark.parametrize("width", [0, 2**31 - 1, -(2**31)])
    def test_nonsense_is_an_error(self, contents, width):
        contents = contents[:18] + struct.pack("<ii", width, 1) + contents[26:]
        with pytest.raises(DataError):
            files.decode_with_opencv(contents, 3)


class TestReasons:
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "GIF"])
    def test_truncated_and_damaged(self, file_format):
        contents = encode(Image.fromarray(COLORS), file_format)
        truncated, damaged = (
            f"it is a {how} {file_format} image" for how in ("truncated", "damaged")
        )
        assert files.explain_contents(contents[: len(contents) - 20]) == truncated
        assert files.explain_contents(contents) == damaged

    def test_a_thumbnail_is_not_the_end(self):
        contents = encode(Image.fromarray(COLORS), "JPEG")
        segment = b"\xff\xe1" + (len(contents) + 2).to_bytes(2, "big") + contents
        truncated = contents[:2] + segment + contents[2:-20]
        assert files.explain_contents(truncated) == "it is a truncated JPEG image"

    def test_contents_that_are_no_image_are_explained(self):
        tiff = encode(Image.fromarray(COLORS), "TIFF")
        explain = files.explain_contents
        assert explain(b"") == "it is empty"
        assert explain(tiff) == "it is not a JPEG, PNG or BMP image, but TIFF"
        assert explain(b"?") == "it is not a JPEG, PNG or BMP image, or its beginning is missing"

    def test_a_file_that_is_empty_gone_or_a_folder_is_explained(self, tmp_path):
        (tmp_path / "empty").touch()
        assert files.explain_file(tmp_path / "empty") == "it is empty"
        assert files.explain_file(tmp_path / "gone") == "it does not exist"
        assert files.explain_file(tmp_path / "empty" / "x") == "it does not exist"
        assert files.explain_file(tmp_path) == "it is a folder"

    def test_errors_of_the_system(self):
        explain = files.explain_os_error
        assert explain(PermissionError(13, "x")) == "you have no permission to read it"
        assert explain(OSError(5, "Input/output error")) == "Input/output error"
        assert explain(OSError()) == "OSError"

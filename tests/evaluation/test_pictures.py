"""Strips of rankings and sprites: what is drawn where, in which colors."""

import cv2
import numpy as np
import pytest

from deep_reid.evaluation import pictures

RED, GREEN, BLUE = (np.full((8, 4, 3), color, np.uint8) for color in np.eye(3, dtype=int) * 255)


def decode(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


class TestReadPicture:
    def test_files_and_arrays_come_in_true_colors(self, tmp_path):
        cv2.imwrite(str(tmp_path / "red.png"), RED[..., ::-1])
        for source in (tmp_path / "red.png", str(tmp_path / "red.png"), RED):
            picture = pictures.read_picture(source, 16, 6)
            assert picture.shape == (16, 6, 3)
            assert np.all(picture == RED[0, 0])

    def test_gray_arrays_become_color_pictures(self):
        picture = pictures.read_picture(np.full((4, 4, 1), 7, np.uint8), 2, 2)
        np.testing.assert_array_equal(picture, np.full((2, 2, 3), 7))

    def test_a_file_that_cannot_be_read_is_gray(self, tmp_path):
        assert np.all(pictures.read_picture(tmp_path / "gone.jpg", 4, 4) == 128)


class TestStrip:
    def test_probe_first_then_matches_in_green_and_others_in_red(self):
        strip = pictures.draw_strip(BLUE, [GREEN, RED], [False, True])
        height = 8 + 6
        assert strip.shape == (height + pictures.CAPTION_HEIGHT, 3 * (4 + 6), 3)
        strip, captions = strip[:height], np.split(strip[height:], 3, axis=1)
        assert all(np.any(caption < 128) for caption in captions)
        assert not np.array_equal(captions[1], captions[2])
        cells = np.split(strip, 3, axis=1)
        frames = (pictures.PROBE_COLOR, pictures.NO_MATCH_COLOR, pictures.MATCH_COLOR)
        for cell, image, frame in zip(cells, (BLUE, GREEN, RED), frames, strict=True):
            np.testing.assert_array_equal(cell[3:-3, 3:-3], image)
            border = np.ones(cell.shape[:2], bool)
            border[3:-3, 3:-3] = False
            assert np.all(cell[border] == frame)


class TestSprite:
    @pytest.mark.parametrize(("num_images", "size"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3)])
    def test_images_fill_a_square_grid_row_by_row(self, num_images, size):
        images = np.stack([np.full((8, 4, 3), index, np.uint8) for index in range(num_images)])
        sprite = pictures.draw_sprite(images)
        assert sprite.shape == (size * 8, size * 4, 3)
        for index in range(size * size):
            row, column = divmod(index, size)
            cell = sprite[row * 8 : (row + 1) * 8, column * 4 : (column + 1) * 4]
            assert np.all(cell == (index if index < num_images else 255))


def test_png_keeps_the_colors():
    np.testing.assert_array_equal(decode(pictures.encode_png(RED)), RED)

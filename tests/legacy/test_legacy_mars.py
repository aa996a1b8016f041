"""Readers of MARS and crops of lists, called as code for the original calls them."""

import os
import pathlib

import cv2
import numpy as np
import pytest
from jpegs import imread_all, write_images

from datasets import mars, util
from deep_reid.errors import MissingPathError, UsageError

MARS_NAMES = [
    "00-1C1T0001F001.jpg",
    "0000C1T0002F001.jpg",
    "0002C2T0001F001.jpg",
    "0002C2T0001F002.jpg",
    "0003C6T0014F010.jpg",
]


@pytest.fixture(scope="module")
def mars_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("mars")
    for folder, names in (("bbox_train", MARS_NAMES[2:]), ("bbox_test", MARS_NAMES)):
        for name in names:
            write_images(root / folder / name[:4], [name], (256, 128, 3))
        (root / folder / "Thumbs.db").touch()
    return root


class TestMars:
    READERS = [
        ("read_train_split", ""),
        ("read_test_split", ""),
        ("read_train_test_directory", "bbox_train"),
        ("read_train_test_directory", "bbox_test"),
    ]

    def test_image_shape_is_that_of_the_files(self, mars_root):
        filenames, *_ = mars.read_train_split_to_str(str(mars_root))
        assert cv2.imread(filenames[0]).shape == mars.IMAGE_SHAPE == (256, 128, 3)

    @pytest.mark.parametrize("kind", [str, pathlib.Path])
    def test_names_are_four_lists(self, mars_root, kind):
        directory = kind(mars_root / "bbox_test")
        filenames, ids, camera_indices, tracklets = mars.read_train_test_directory_to_str(directory)
        assert filenames == [str(mars_root / "bbox_test" / x[:4] / x) for x in MARS_NAMES]
        assert ids == [-1, 0, 2, 2, 3]
        assert camera_indices == [1, 1, 2, 2, 6]
        assert tracklets == [1, 2, 1, 1, 14]

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_split_is_its_directory(self, mars_root, split):
        read = getattr(mars, f"read_{split}_split_to_str")
        expected = mars.read_train_test_directory_to_str(directory=str(mars_root / f"bbox_{split}"))
        assert read(str(mars_root)) == read(dataset_dir=str(mars_root)) == expected
        assert all(isinstance(column, list) for column in expected)

    def test_the_id_is_the_number_of_the_folder(self, tmp_path):
        for folder, name in (
            ("0005", "0002C1T0003F001.jpg"),
            ("12", "0012C4T0001F001.jpg"),
            ("junk", "junkC2T0001F001.jpg"),
            ("-7", "00-1C3T0001F001.jpg"),
            ("0x10", "0010C3T0001F001.jpg"),
        ):
            write_images(tmp_path / folder, [name], (8, 4, 3))
        filenames, ids, cameras, _ = mars.read_train_test_directory_to_str(str(tmp_path))
        found = {
            os.path.basename(os.path.dirname(f)): i for f, i in zip(filenames, ids, strict=True)
        }
        assert found == {"0005": 5, "12": 12, "junk": -1, "-7": -1, "0x10": -1}
        assert sorted(cameras) == [1, 2, 3, 3, 4]

    def test_file_names_begin_with_the_folder_as_it_was_given(self, mars_root, monkeypatch):
        monkeypatch.chdir(mars_root)
        filenames, *_ = mars.read_train_test_directory_to_str("./bbox_test")
        assert filenames[0] == os.path.join("./bbox_test", MARS_NAMES[0][:4], MARS_NAMES[0])
        assert mars.read_test_split_to_str(".")[0][0] == os.path.join(
            "./bbox_test", "00-1", MARS_NAMES[0]
        )

    @pytest.mark.parametrize("reader, folder", READERS)
    def test_images_are_small_bgr_arrays_and_three_int64_arrays(self, mars_root, reader, folder):
        directory = os.path.join(str(mars_root), folder)
        images, *numbers = getattr(mars, f"{reader}_to_image")(directory)
        filenames, *lists = getattr(mars, f"{reader}_to_str")(directory)
        expected = [cv2.resize(image, (64, 128)) for image in imread_all(filenames)]
        assert np.array_equal(images, expected)
        assert images.dtype == np.uint8
        assert [array.dtype for array in numbers] == [np.int64] * 3
        assert [array.tolist() for array in numbers] == lists

    @pytest.mark.parametrize("reader, folder", READERS)
    @pytest.mark.parametrize("image_shape", [mars.IMAGE_SHAPE[:2], mars.IMAGE_SHAPE, [256, 128]])
    def test_images_of_the_files_own_size_are_as_they_are(
        self, mars_root, reader, folder, image_shape
    ):
        directory = os.path.join(str(mars_root), folder)
        by_position = getattr(mars, f"{reader}_to_image")(directory, image_shape)
        by_name = getattr(mars, f"{reader}_to_image")(directory, image_shape=image_shape)
        filenames, *_ = getattr(mars, f"{reader}_to_str")(directory)
        assert np.array_equal(by_position[0], imread_all(filenames))
        assert np.array_equal(by_name[0], by_position[0])

    @pytest.mark.parametrize("image_shape", [(128,), (128, 64, 1), (0, 64), (1, 128, 64, 3)])
    def test_other_shapes_are_refused(self, mars_root, image_shape):
        with pytest.raises(UsageError, match="image_shape"):
            mars.read_train_split_to_image(str(mars_root), image_shape)

    def test_arrays_are_sliced_after_the_split(self, mars_root):
        images, ids, cameras, tracklets = mars.read_train_split_to_image(str(mars_root))
        train, valid = util.create_validation_split(ids, 1, seed=1234)
        assert len(images[train]) + len(images[valid]) == len(images)
        assert not set(ids[train]) & set(ids[valid])
        assert len(cameras[train]) == len(tracklets[train]) == len(train)

    @pytest.mark.parametrize("kind", ["str", "image"])
    def test_a_missing_directory_is_named(self, tmp_path, kind):
        read = getattr(mars, f"read_train_test_directory_to_{kind}")
        with pytest.raises(MissingPathError, match="bbox_train does not exist"):
            read(str(tmp_path / "bbox_train"))


class TestCropToShape:
    def test_crops_of_a_list_have_one_shape(self, tmp_path):
        shapes = {"a.jpg": (90, 120, 3), "b.jpg": (301, 77, 3), "c.jpg": (128, 64, 3)}
        for name, shape in shapes.items():
            write_images(tmp_path, [name], shape)
        images = [cv2.imread(str(tmp_path / name)) for name in shapes]
        patches = util.crop_to_shape(images, (128, 64))
        assert patches.shape == (3, 128, 64, 3)
        assert patches.dtype == np.uint8
        # 45 of 120 columns; 154 of 301 rows, from 73.5 on.
        windows = [images[0][:, 37:82], images[1][73:227], images[2]]
        expected = [cv2.resize(x, (64, 128), interpolation=cv2.INTER_CUBIC) for x in windows]
        assert np.array_equal(patches, expected)

    def test_arguments_may_be_given_by_name(self):
        images = [np.zeros((30, 40, 3), np.uint8), np.zeros((50, 20, 3), np.uint8)]
        assert util.crop_to_shape(images=images, patch_shape=(64, 64)).shape == (2, 64, 64, 3)

    def test_crops_make_vehicles_of_different_sizes_an_array_to_train_on(self, tmp_path):
        names = [f"{i:04d}_c00{i}_{i:08d}_0.jpg" for i in range(1, 5)]
        for i, name in enumerate(names):
            write_images(tmp_path, [name], (80 + 9 * i, 110 - 7 * i, 3))
        images = util.crop_to_shape([cv2.imread(str(tmp_path / n)) for n in names], (96, 96))
        ids = np.asarray([int(n.split("_")[0]) for n in names], np.int64)
        rows, _ = util.create_validation_split(ids, 1, seed=1)
        assert images[rows].shape == (3, 96, 96, 3)

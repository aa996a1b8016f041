"""Splits, reading images, and what all data sets have in common."""

import logging
import os

import cv2
import numpy as np
import pytest

from datasets import synthetic
from datasets.base import ReidDataset, Split, list_jpegs, read_images
from datasets.custom import Custom
from datasets.market1501 import Market1501
from datasets.mars import Mars
from datasets.util import create_validation_split
from deep_reid.errors import DataError, MissingPathError, UsageError


class ToyDataset(ReidDataset):
    """Takes its training labels from the names of the files, ``LABEL_CAMERA.jpg``."""

    NAME = "toy"
    TITLE = "Toy"
    IMAGE_SHAPE = (8, 4, 3)
    MAX_LABEL = 1200
    NUM_GALLERIES = 2
    DEFAULT_DIR = "./resources/toy"
    HOMEPAGE = "http://toy.example"
    CAN_BE_DRAWN = True
    TRAIN_DIR = "train"
    TEST_SPLITS = ("gallery", "query")

    def _read_train(self):
        return self._read("train")

    @property
    def gallery(self):
        return self._read("gallery")

    @property
    def query(self):
        raise DataError("the query list is damaged")

    def _read(self, name):
        names = list_jpegs(self.find(self.dataset_dir, name))
        labels, cameras = zip(*(n.removesuffix(".jpg").split("_") for n in names), strict=True)
        return Split(names, np.array(labels, int), np.array(cameras, int))

    def export_files(self):
        return {}


def make_toy(root, labels, folder="train"):
    (root / folder).mkdir(exist_ok=True)
    for label in labels:
        for camera in (1, 2, 4):
            (root / folder / f"{label}_{camera}.jpg").touch()
    return root


class TestSplit:
    def test_it_counts_images_identities_cameras_and_tracklets(self):
        split = Split(list("abcdef"), [-1, 0, 3, 3, 3, 3], [1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 1, 2])
        assert len(split) == 6
        assert split.num_identities == 2
        assert split.num_cameras == 2
        assert split.num_tracklets == 5
        assert Split(["a"], [1], [1]).num_tracklets is None

    def test_fields_are_int64_vectors_and_frozen(self):
        split = Split(("a", "b"), [1, 2], (3, 4), [5, 6])
        assert split.filenames == ["a", "b"]
        assert split.labels.dtype == split.cameras.dtype == split.tracklets.dtype == np.int64
        with pytest.raises(AttributeError):
            split.labels = [1]

    @pytest.mark.parametrize("field", ["labels", "cameras", "tracklets"])
    def test_lengths_that_differ_are_refused(self, field):
        fields = {"labels": [1, 2], "cameras": [1, 2], "tracklets": [1, 2], field: [1, 2, 3]}
        with pytest.raises(DataError, match=rf"{field} \(3,\) .* 2 file names"):
            Split(["a", "b"], **fields)

    @pytest.mark.parametrize(
        "indices, expected", [([2, 0], "ca"), ([True, False, True], "ac"), ([], ""), ([-1], "c")]
    )
    def test_subset_takes_rows_in_the_order_given(self, indices, expected):
        split = Split(list("abc"), [1, 2, 3], [4, 5, 6], [7, 8, 9])
        subset = split.subset(indices)
        rows = ["abc".index(name) for name in expected]
        assert subset.filenames == list(expected)
        for field in ("labels", "cameras", "tracklets"):
            np.testing.assert_array_equal(getattr(subset, field), getattr(split, field)[rows])
            assert getattr(subset, field).dtype == np.int64
        assert Split(["a"], [1], [1]).subset([0]).tracklets is None


class TestReadImages:
    def test_colors_are_rgb(self, tmp_path):
        red_in_bgr = np.zeros((8, 4, 3), np.uint8)
        red_in_bgr[..., 2] = 255
        cv2.imwrite(str(tmp_path / "red.png"), red_in_bgr)
        images = read_images([tmp_path / "red.png"], (8, 4, 3))
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, np.broadcast_to([255, 0, 0], (1, 8, 4, 3)))

    def test_images_of_another_size_are_resized_bilinearly(self, tmp_path):
        bgr = np.random.RandomState(0).randint(0, 256, (30, 21, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "a.png"), bgr)
        cv2.imwrite(str(tmp_path / "b.png"), bgr[:16, :8])
        images = read_images([str(tmp_path / "a.png"), str(tmp_path / "b.png")], (16, 8, 3))
        expected = cv2.resize(bgr, (8, 16), interpolation=cv2.INTER_LINEAR)[..., ::-1]
        np.testing.assert_array_equal(images[0], expected)
        np.testing.assert_array_equal(images[1], bgr[:16, :8, ::-1])

    def test_gray_files_get_three_channels(self, tmp_path):
        cv2.imwrite(str(tmp_path / "gray.png"), np.full((8, 4), 77, np.uint8))
        np.testing.assert_array_equal(read_images([tmp_path / "gray.png"], (8, 4, 3)), 77)

    def test_the_orientation_tag_is_obeyed(self, tmp_path):
        # An EXIF segment with one entry: orientation (0x0112), short, 6 (turn by 90 degrees).
        tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
        exif = b"Exif\0\0" + tiff
        segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        upper_white = np.zeros((16, 16, 3), np.uint8)
        upper_white[:8] = 255
        jpeg = cv2.imencode(".jpg", upper_white)[1].tobytes()
        (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
        (image,) = read_images([tmp_path / "turned.jpg"], (16, 16, 3))
        np.testing.assert_array_equal(image, cv2.imread(str(tmp_path / "turned.jpg"))[..., ::-1])
        assert image[:, :6].max() < 50
        assert image[:, 10:].min() > 200

    @pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff"])
    def test_a_file_that_is_no_image_is_named(self, tmp_path, content):
        (tmp_path / "broken.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"broken\.jpg cannot be decoded"):
            read_images([tmp_path / "broken.jpg"], (8, 4, 3))

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(MissingPathError, match=r"absent\.jpg does not exist"):
            read_images([tmp_path / "absent.jpg"], (8, 4, 3))

    @pytest.mark.parametrize("shape", [(8, 4), (8, 4, 1), (0, 4, 3), (8, 4, 3, 3)])
    def test_a_shape_that_is_no_image_shape_is_refused(self, shape):
        with pytest.raises(UsageError, match="must be .height, width, 3"):
            read_images([], shape)

    def test_no_files_give_an_empty_array_of_images(self):
        assert read_images([], (8, 4, 3)).shape == (0, 8, 4, 3)


def test_list_jpegs_is_sorted_and_leaves_out_other_files(tmp_path, monkeypatch):
    for name in ("b.jpg", "Thumbs.db", "c.JPG", "._a.jpg", "a.jpg.jpg", "notes.txt", "d.png"):
        (tmp_path / name).touch()
    names = sorted(os.listdir(tmp_path), reverse=True)
    monkeypatch.setattr(os, "listdir", lambda _: names)
    assert list_jpegs(tmp_path) == ["a.jpg.jpg", "b.jpg", "c.JPG"]


class TestReidDataset:
    def test_train_and_validation_are_the_seeded_identity_split(self, tmp_path):
        dataset = ToyDataset(make_toy(tmp_path, range(100, 130)), 0.2, seed=7)
        names = list_jpegs(tmp_path / "train")
        labels = [int(name.split("_")[0]) for name in names]
        train, validation = create_validation_split(labels, 0.2, seed=7)
        assert dataset.train.filenames == [names[row] for row in train]
        assert dataset.validation.filenames == [names[row] for row in validation]
        assert dataset.validation.num_identities == 6
        assert dataset.train is dataset.train

    def test_by_default_a_tenth_of_the_identities_is_for_validation(self, tmp_path):
        dataset = ToyDataset(make_toy(tmp_path, range(100, 130)))
        assert (dataset.num_validation_identities, dataset.seed) == (0.1, 1234)
        assert dataset.validation.num_identities == 3

    def test_num_classes_is_one_more_than_the_largest_label(self, tmp_path):
        assert ToyDataset(make_toy(tmp_path, [1])).num_classes == 1201

    def test_a_missing_data_set_says_where_to_get_it_and_how_to_draw_one(self, tmp_path):
        with pytest.raises(MissingPathError) as error:
            ToyDataset(tmp_path / "absent")
        assert str(error.value) == (
            f"Toy was not found: {tmp_path}/absent does not exist; get the data set from "
            "http://toy.example, or draw a synthetic one: python -m datasets.synthetic "
            f"--layout toy --output_dir {tmp_path}/absent"
        )

    def test_drawing_is_proposed_only_where_there_is_such_a_layout(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ToyDataset, "CAN_BE_DRAWN", False)
        with pytest.raises(MissingPathError, match="from http://toy.example$"):
            ToyDataset(tmp_path / "absent")
        drawn = [known.NAME for known in (Market1501, Mars, Custom) if known.CAN_BE_DRAWN]
        assert drawn == [name for name in synthetic.LAYOUTS if name in ("market1501", "mars")]

    def test_a_missing_training_folder_is_named_but_not_overdrawn(self, tmp_path):
        with pytest.raises(MissingPathError, match=r"/train does not exist.*--output_dir DIR$"):
            ToyDataset(tmp_path)

    def test_the_test_folders_are_not_needed_to_train(self, tmp_path):
        dataset = ToyDataset(make_toy(tmp_path, range(20)))
        assert len(dataset.train) + len(dataset.validation) == 60
        with pytest.raises(MissingPathError, match="/gallery does not exist"):
            _ = dataset.gallery

    @pytest.mark.parametrize("label", [-1, 1201])
    def test_labels_out_of_range_are_refused_with_the_first_file(self, tmp_path, label):
        dataset = ToyDataset(make_toy(tmp_path, [0, 3, 1200, label]))
        message = rf"^{label}_1\.jpg has the identity {label}, .* in 0\.\.1200: .*3 files"
        with pytest.raises(DataError, match=message):
            _ = dataset.train

    @pytest.mark.parametrize(
        "num_validation, words",
        [(1, "CMC over one identity is always 1"), (0, "eval mode does not")],
    )
    def test_too_few_validation_identities_are_warned_of_once(
        self, tmp_path, caplog, num_validation, words
    ):
        dataset = ToyDataset(make_toy(tmp_path, range(9)), num_validation)
        assert dataset.validation.num_identities == num_validation
        assert dataset.train.num_identities == 9 - num_validation
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.name == "datasets.base"
        assert words in record.getMessage()
        assert f"{num_validation} of the 9 identities of {tmp_path}" in record.getMessage()

    def test_two_validation_identities_are_enough(self, tmp_path, caplog):
        assert ToyDataset(make_toy(tmp_path, range(9)), 2).validation.num_identities == 2
        assert not caplog.records

    def test_summary_leaves_out_what_is_missing_and_warns_of_what_is_broken(self, tmp_path, caplog):
        dataset = ToyDataset(make_toy(tmp_path, range(1000, 1020)))
        assert dataset.summary_table() == (
            "split       images  identities  cameras\n"
            "train           54          18        3\n"
            "validation       6           2        3"
        )
        (record,) = caplog.records
        assert "query split is left out" in record.getMessage()
        assert "the query list is damaged" in record.getMessage()

    def test_summary_has_the_test_splits_that_are_there(self, tmp_path):
        dataset = ToyDataset(make_toy(tmp_path, range(20)))
        make_toy(tmp_path, range(-1, 400), folder="gallery")
        last = dataset.summary_table().splitlines()[-1]
        assert last.split() == ["gallery", "1,203", "400", "3"]


def test_without_queries_there_is_no_official_test(tmp_path):
    (tmp_path / "train").mkdir()

    class NoQueries(ToyDataset):
        TEST_SPLITS = ()

    with pytest.raises(UsageError, match="has no queries"):
        NoQueries(tmp_path, needs_train=False).test_set()


class TestHints:
    @pytest.mark.parametrize(("inside", "named"), [("", "x"), ("x", "x"), ("x/y", "x")])
    def test_a_folder_too_deep_or_too_high_names_the_right_one(self, tmp_path, inside, named):
        (tmp_path / "x" / "bounding_box_train").mkdir(parents=True)
        (tmp_path / "x" / "y").mkdir()
        if inside == named:
            assert Market1501.find(tmp_path / inside, "bounding_box_train")
            return
        with pytest.raises(MissingPathError, match=f"name {tmp_path / named}$"):
            Market1501.find(tmp_path / inside, "bounding_box_train")

    @pytest.mark.parametrize("name", ["Bounding_Box_Train", "BOUNDING_BOX_TRAIN"])
    def test_a_folder_in_other_capitals_is_named(self, tmp_path, name):
        (tmp_path / name).mkdir()
        with pytest.raises(MissingPathError, match=f"has {name}, but .* rename it"):
            Market1501.find(tmp_path, "bounding_box_train")

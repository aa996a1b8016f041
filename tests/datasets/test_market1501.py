"""Reader of the Market-1501 layout."""

import os

import cv2
import numpy as np
import pytest

from datasets import market1501
from datasets.market1501 import Market1501, parse_filename
from deep_reid.errors import DataError, MissingPathError

TRAIN = [
    "0002_c1s1_000451_03.jpg",
    "0002_c2s1_000451_01.jpg.jpg",
    "0007_c3s3_077419_03.jpg",
    "0010_c6s3_077392_03.jpg",
    "1501_c6s4_000001_01.jpg",
]
TEST = ["-1_c1s1_000401_03.jpg", "0000_c1s1_000151_01.jpg", "0003_c4s6_015641_02.jpg"]
QUERY = ["0003_c1s6_015971_00.jpg"]
SPLITS = {"bounding_box_train": TRAIN, "bounding_box_test": TEST, "query": QUERY}


@pytest.fixture
def root(tmp_path):
    for folder, names in SPLITS.items():
        (tmp_path / folder).mkdir()
        for i, name in enumerate(reversed(names)):
            # One gray value per file, so that its image can be recognized.
            image = np.full((128, 64, 3), 20 * (len(names) - i), np.uint8)
            cv2.imwrite(str(tmp_path / folder / name), image)
        (tmp_path / folder / "Thumbs.db").write_bytes(b"not an image")
    return tmp_path


def paths(root, folder, names):
    return [os.path.join(root, folder, name) for name in names]


def test_constants_are_those_of_the_original():
    assert market1501.MAX_LABEL == 1501
    assert market1501.IMAGE_SHAPE == (128, 64, 3)
    assert Market1501.NUM_GALLERIES == 10
    assert Market1501.DEFAULT_DIR == "./resources/Market-1501-v15.09.15"


@pytest.mark.parametrize(
    "name, expected",
    [
        ("0002_c1s1_000451_03.jpg", (2, 1, 1, 451, 3)),
        ("1501_c6s4_001902_11.jpg.jpg", (1501, 6, 4, 1902, 11)),
        ("-1_c3s2_000000_00.jpg", (-1, 3, 2, 0, 0)),
        ("0000_c1s1_000151_01.JPG", (0, 1, 1, 151, 1)),
        ("some/folder/0012_c5s1_000451_03.jpg", (12, 5, 1, 451, 3)),
    ],
)
def test_a_file_name_is_parsed_into_its_numbers(name, expected):
    info = parse_filename(name)
    assert info == expected
    assert (info.person, info.camera, info.sequence, info.frame, info.detection) == expected


@pytest.mark.parametrize(
    "name",
    [
        "0002_c1_000451_03.jpg",
        "0002_c1s1_000451.jpg",
        "x0002_c1s1_000451_03.jpg",
        "0002_c1s1_000451_03.jpg.png",
        "0002_c1s1_000451_03_jpg",
        "-2_c1s1_000451_03.jpg",
        "0002C1T0001F001.jpg",
        "",
    ],
)
def test_parse_filename_refuses_other_names_in_one_line(name):
    with pytest.raises(DataError) as error:
        parse_filename(name)
    message = str(error.value)
    assert message.startswith(name)
    assert "PPPP_cCsS_FFFFFF_DD.jpg" in message
    assert "\n" not in message


def test_training_images_are_listed_in_sorted_order(root):
    filenames, ids, cameras = market1501.read_train_split_to_str(root)
    assert filenames == paths(root, "bounding_box_train", TRAIN)
    assert ids == [2, 2, 7, 10, 1501]
    assert cameras == [1, 2, 3, 6, 6]


def test_order_does_not_depend_on_the_file_system(root, monkeypatch):
    expected = market1501.read_train_split_to_str(root)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path), reverse=True))
    assert market1501.read_train_split_to_str(root) == expected


def test_gallery_keeps_junk_and_distractors(root):
    filenames, ids, cameras = market1501.read_gallery_split_to_str(root)
    assert filenames == paths(root, "bounding_box_test", TEST)
    assert ids == [-1, 0, 3]
    assert cameras == [1, 1, 4]


def test_queries_have_files_identities_and_cameras(root):
    expected = (paths(root, "query", QUERY), [3], [1])
    assert market1501.read_query_split_to_str(str(root)) == expected


def assert_images_are_of(images, filenames, image_shape):
    assert images.shape == (len(filenames), *(image_shape or (128, 64, 3)))
    assert images.dtype == np.uint8
    expected = 20 * np.arange(1, len(filenames) + 1)
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), expected, atol=2)


@pytest.mark.parametrize("image_shape", [None, (64, 32, 3)])
def test_images_come_with_the_labels_of_their_files(root, image_shape):
    filenames, ids, cameras = market1501.read_train_split_to_str(root)
    arguments = {} if image_shape is None else {"image_shape": image_shape}
    images, image_ids, image_cameras = market1501.read_train_split_to_image(root, **arguments)
    assert (image_ids.tolist(), image_cameras.tolist()) == (ids, cameras)
    assert_images_are_of(images, filenames, image_shape)


@pytest.mark.parametrize("image_shape", [None, (64, 32, 3)])
def test_test_images_come_with_the_labels_of_their_files(root, image_shape):
    gallery, gallery_ids, query, query_ids, good_mask = market1501.read_test_split_to_str(root)
    arguments = {} if image_shape is None else {"image_shape": image_shape}
    found = market1501.read_test_split_to_image(root, **arguments)
    assert (found[1].tolist(), found[3].tolist()) == (gallery_ids, query_ids)
    assert_images_are_of(found[0], gallery, image_shape)
    assert_images_are_of(found[2], query, image_shape)
    np.testing.assert_array_equal(found[4], good_mask)


def test_images_are_bgr(root):
    blue_in_bgr = np.zeros((128, 64, 3), np.uint8)
    blue_in_bgr[..., 0] = 200
    cv2.imwrite(str(root / "bounding_box_train" / TRAIN[0]), blue_in_bgr)
    images, _, _ = market1501.read_train_split_to_image(root)
    np.testing.assert_allclose(images[0].mean(axis=(0, 1)), [200, 0, 0], atol=6)


@pytest.mark.parametrize(
    "reader, folder",
    [
        (market1501.read_train_split_to_str, "bounding_box_train"),
        (market1501.read_test_split_to_str, "bounding_box_test"),
        (market1501.read_gallery_split_to_str, "bounding_box_test"),
        (market1501.read_query_split_to_str, "query"),
    ],
)
class TestBadFolders:
    def test_a_missing_folder_says_where_to_get_it_and_how_to_draw_one(
        self, tmp_path, reader, folder
    ):
        with pytest.raises(MissingPathError) as error:
            reader(tmp_path)
        message = str(error.value)
        assert f"{tmp_path}/{folder} does not exist" in message
        assert "http://zheng-lab.cecs.anu.edu.au/Project/project_reid.html" in message
        assert "python -m datasets.synthetic --layout market1501" in message
        assert "\n" not in message

    def test_a_folder_without_images_is_named(self, tmp_path, reader, folder):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Thumbs.db").touch()
        with pytest.raises(DataError, match=rf"{folder} has no \.jpg files"):
            reader(tmp_path)

    def test_a_name_of_another_form(self, root, reader, folder):
        (root / folder / "me.jpg").touch()
        with pytest.raises(DataError, match=rf"{folder}/me\.jpg is not named like"):
            reader(root)


def test_data_set_has_all_splits(root):
    dataset = Market1501(root, num_validation_identities=1)
    names = dataset.train.filenames + dataset.validation.filenames
    assert sorted(names) == paths(root, "bounding_box_train", TRAIN)
    assert dataset.validation.num_identities == 1
    assert dataset.train.tracklets is None
    assert dataset.gallery.labels.tolist() == [-1, 0, 3]
    assert dataset.query.cameras.tolist() == [1]
    assert dataset.num_classes == 1502


def test_export_is_of_all_files_in_sorted_order(root):
    assert Market1501(root).export_files() == {
        "feat_test.mat": paths(root, "bounding_box_test", TEST),
        "feat_query.mat": paths(root, "query", QUERY),
    }


def test_summary_has_four_splits(root):
    lines = Market1501(root, 2).summary_table().splitlines()
    table = {line.split()[0]: line.split()[1:] for line in lines}
    assert list(table) == ["split", "train", "validation", "gallery", "query"]
    assert table["split"] == ["images", "identities", "cameras"]
    assert table["gallery"] == ["3", "2", "2"]
    assert table["query"] == ["1", "1", "1"]


def test_training_works_with_the_training_folder_alone(root):
    for folder in ("bounding_box_test", "query"):
        (root / folder).rename(root / f"no_{folder}")
    dataset = Market1501(root, 2)
    assert dataset.train.num_identities == 2
    assert [line.split()[0] for line in dataset.summary_table().splitlines()] == [
        "split",
        "train",
        "validation",
    ]
    with pytest.raises(MissingPathError, match="bounding_box_test does not exist"):
        dataset.export_files()


def test_an_identity_above_the_largest_label_is_refused(root):
    (root / "bounding_box_train" / "1502_c1s1_000001_01.jpg").touch()
    with pytest.raises(DataError, match=r"1502_c1s1_000001_01\.jpg .* in 0\.\.1501"):
        _ = Market1501(root).train

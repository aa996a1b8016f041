"""Reader of the MARS layout."""

import os
import random

import cv2
import numpy as np
import pytest

from datasets import mars
from datasets.mars import Mars, parse_filename
from deep_reid.errors import DataError, MissingPathError

TRAIN = [
    "0001C1T0001F001.jpg",
    "0001C1T0001F002.jpg",
    "0001C2T0003F001.jpg",
    "0003C6T0011F010.jpg",
    "0007C4T0001F001.jpg",
    "1500C5T0002F101.jpg",
]
TEST = [
    "00-1C1T0001F001.jpg",
    "0000C1T0002F001.jpg",
    "0002C2T0001F001.jpg",
    "0002C2T0001F002.jpg",
    "0002C3T0004F001.jpg",
]
OFFICIAL_ORDER = [TEST[i] for i in (2, 0, 4, 1, 3)]


def gray_value(person):
    """Gray of the images of a person, by which they can be recognized."""
    return 50 + 20 * (person % 10)


def write_images(folder, names):
    for name in names:
        (folder / name[:4]).mkdir(parents=True, exist_ok=True)
        person = -1 if name.startswith("00-1") else int(name[:4])
        image = np.full((256, 128, 3), gray_value(person), np.uint8)
        cv2.imwrite(str(folder / name[:4] / name), image)


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path / "bbox_train", TRAIN)
    write_images(tmp_path / "bbox_test", TEST)
    (tmp_path / "bbox_train" / "Thumbs.db").touch()
    (tmp_path / "bbox_train" / "0001" / "Thumbs.db").touch()
    (tmp_path / "info").mkdir()
    (tmp_path / "info" / "test_name.txt").write_text("\r\n".join(OFFICIAL_ORDER) + "\r\n\r\n")
    return tmp_path


def paths(root, folder, names):
    return [os.path.join(root, folder, name[:4], name) for name in names]


def test_constants_are_those_of_the_original():
    assert mars.MAX_LABEL == 1500
    assert mars.IMAGE_SHAPE == (256, 128, 3)
    assert Mars.IMAGE_SHAPE == (128, 64, 3)
    assert Mars.NUM_GALLERIES == 20
    assert Mars.DEFAULT_DIR == "./resources/MARS-evaluation-master"


@pytest.mark.parametrize(
    "name, expected",
    [
        ("0001C1T0001F001.jpg", (1, 1, 1, 1)),
        ("1500C6T0123F1045.jpg", (1500, 6, 123, 1045)),
        ("00-1C2T0003F004.jpg", (-1, 2, 3, 4)),
        ("junkC2T0003F004.jpg", (-1, 2, 3, 4)),
        ("0000C2T0003F004.JPG", (0, 2, 3, 4)),
        ("some/folder/0012C5T0001F002.jpg", (12, 5, 1, 2)),
    ],
)
def test_a_file_name_is_parsed_into_its_numbers(name, expected):
    info = parse_filename(name)
    assert info == expected
    assert (info.person, info.camera, info.tracklet, info.frame) == expected


@pytest.mark.parametrize(
    "name",
    ["0001C1T0001.jpg", "001C1T0001F001.jpg", "-1C1T0001F001.jpg", "0001C1T0001F001.png", "",
     "x0001C1T0001F001.jpg", "0002_c1s1_000451_03.jpg"],
)  # fmt: skip
def test_parse_filename_refuses_other_names_in_one_line(name):
    with pytest.raises(DataError) as error:
        parse_filename(name)
    message = str(error.value)
    assert message.startswith(name)
    assert "PPPPCcTttttFfff.jpg" in message
    assert "\n" not in message


def test_training_images_have_identities_cameras_and_tracklets(root):
    filenames, ids, cameras, tracklets = mars.read_train_split_to_str(root)
    assert filenames == paths(root, "bbox_train", TRAIN)
    assert ids == [1, 1, 1, 3, 7, 1500]
    assert cameras == [1, 1, 2, 6, 4, 5]
    assert tracklets == [1, 1, 3, 11, 1, 2]


@pytest.mark.parametrize("split", ["train", "test"])
def test_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch, split):
    names = [f"{p:04d}C1T0001F{f:03d}.jpg" for p in range(1, 9) for f in range(1, 5)]
    expected = paths(tmp_path, f"bbox_{split}", names)
    write_images(tmp_path / f"bbox_{split}", random.Random(0).sample(names, len(names)))
    listdir, scandir = os.listdir, os.scandir
    shuffle = random.Random(1)

    def shuffled(items):
        return shuffle.sample(items := list(items), len(items))

    monkeypatch.setattr(os, "listdir", lambda path: shuffled(listdir(path)))
    monkeypatch.setattr(os, "scandir", lambda path: shuffled(scandir(path)))
    filenames, ids, _, _ = getattr(mars, f"read_{split}_split_to_str")(tmp_path)
    assert filenames == expected
    assert ids == [p for p in range(1, 9) for _ in range(4)]


def test_test_images_are_in_the_official_order(root):
    filenames, ids, cameras, tracklets = mars.read_test_split_to_str(root)
    assert filenames == paths(root, "bbox_test", OFFICIAL_ORDER)
    assert ids == [2, -1, 2, 0, 2]
    assert cameras == [2, 1, 3, 1, 2]
    assert tracklets == [1, 1, 4, 2, 1]


def test_test_images_are_sorted_without_the_official_order(root):
    (root / "info" / "test_name.txt").unlink()
    filenames, ids, _, _ = mars.read_test_split_to_str(root)
    assert filenames == paths(root, "bbox_test", TEST)
    assert ids == [-1, 0, 2, 2, 2]


def test_the_official_order_is_read_without_a_look_at_each_file(root):
    (root / "info" / "test_name.txt").write_text("0009C1T0001F001.jpg\n")
    filenames, *_ = mars.read_test_split_to_str(root)
    assert filenames == paths(root, "bbox_test", ["0009C1T0001F001.jpg"])


def test_training_images_are_resized_and_keep_their_labels(root):
    images, ids, cameras, tracklets = mars.read_train_split_to_image(root)
    assert images.shape == (6, 128, 64, 3)
    assert images.dtype == np.uint8
    numbers = [column.tolist() for column in (ids, cameras, tracklets)]
    assert numbers == list(mars.read_train_split_to_str(root)[1:])
    expected = [gray_value(person) for person in ids]
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), expected, atol=2)


def test_test_images_are_resized_and_keep_their_labels(root):
    images, ids, cameras, tracklets = mars.read_test_split_to_image(root, image_shape=(64, 40, 3))
    assert images.shape == (5, 64, 40, 3)
    numbers = [column.tolist() for column in (ids, cameras, tracklets)]
    assert numbers == list(mars.read_test_split_to_str(root)[1:])
    expected = [gray_value(person) for person in ids]
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), expected, atol=2)


@pytest.mark.parametrize(
    "reader, folder",
    [
        (mars.read_train_split_to_str, "bbox_train"),
        (mars.read_test_split_to_str, "bbox_test"),
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
        assert "http://zheng-lab.cecs.anu.edu.au/Project/project_mars.html" in message
        assert "python -m datasets.synthetic --layout mars" in message
        assert "\n" not in message

    def test_a_folder_without_images_is_named(self, tmp_path, reader, folder):
        (tmp_path / folder / "0001").mkdir(parents=True)
        (tmp_path / folder / "0001C1T0001F001.jpg").touch()  # in no folder of a person
        with pytest.raises(DataError, match=rf"{folder} has no \.jpg files in folders"):
            reader(tmp_path)

    def test_a_name_of_another_form(self, tmp_path, reader, folder):
        write_images(tmp_path / folder, TRAIN)
        (tmp_path / folder / "0001" / "me.jpg").touch()
        with pytest.raises(DataError, match=rf"{folder}/0001/me\.jpg is not named like"):
            reader(tmp_path)


@pytest.mark.parametrize("content, message", [("\n", "names no images"), ("a\n", "not named like")])
def test_a_damaged_official_order_is_refused(root, content, message):
    (root / "info" / "test_name.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        mars.read_test_split_to_str(root)


def test_data_set_has_its_splits(root):
    dataset = Mars(root, num_validation_identities=2)
    names = dataset.train.filenames + dataset.validation.filenames
    assert sorted(names) == paths(root, "bbox_train", TRAIN)
    assert dataset.validation.num_identities == 2
    assert dataset.gallery.filenames == paths(root, "bbox_test", OFFICIAL_ORDER)
    assert not hasattr(dataset, "query")
    assert dataset.num_classes == 1501
    by_name = dict(zip(dataset.train.filenames, dataset.train.tracklets.tolist(), strict=True))
    assert all(parse_filename(name).tracklet == number for name, number in by_name.items())


def test_export_is_in_the_official_order_and_not_without_it(root):
    files = Mars(root).export_files()
    assert files == {"feat_test.mat": paths(root, "bbox_test", OFFICIAL_ORDER)}
    (root / "info" / "test_name.txt").unlink()
    with pytest.raises(MissingPathError, match=r"test_name\.txt does not exist"):
        Mars(root).export_files()


def test_summary_has_tracklets(root):
    lines = Mars(root, 2).summary_table().splitlines()
    table = {line.split()[0]: line.split()[1:] for line in lines}
    assert list(table) == ["split", "train", "validation", "gallery"]
    assert table["split"] == ["images", "identities", "cameras", "tracklets"]
    assert table["gallery"] == ["5", "2", "3", "4"]


def test_an_identity_above_the_largest_label_is_refused(root):
    write_images(root / "bbox_train", ["1501C1T0001F001.jpg"])
    with pytest.raises(DataError, match=r"1501C1T0001F001\.jpg .* in 0\.\.1500"):
        _ = Mars(root).train

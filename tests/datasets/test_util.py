"""Identity split, limit per identity, and cropping."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import datasets.util
import deep_reid.samplers.galleries
from datasets.util import create_validation_split, crop_to_shape, limit_num_elements_per_identity
from deep_reid.errors import DataError, UsageError

REFERENCE = np.load(Path(__file__).parents[1] / "data" / "reference.npz", allow_pickle=False)


def test_gallery_draw_has_its_old_name():
    new = deep_reid.samplers.galleries.create_cmc_probe_and_gallery
    assert datasets.util.create_cmc_probe_and_gallery is new


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("name, amount", [("frac01", 0.1), ("frac03", 0.3), ("abs2", 2)])
def test_split_is_the_reference_split(number, name, amount):
    labels = REFERENCE[f"split{number}_labels"]
    train, valid = create_validation_split(labels, amount, seed=1234 + number)
    np.testing.assert_array_equal(train, REFERENCE[f"split{number}_{name}_train"])
    np.testing.assert_array_equal(valid, REFERENCE[f"split{number}_{name}_valid"])


@pytest.mark.parametrize(
    "amount, expected", [(0, 0), (3, 3), (np.int64(3), 3), (18, 18), (0.0, 0), (0.1, 1), (0.99, 18)]
)
def test_split_has_the_number_of_identities_and_every_row_once(amount, expected):
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(19) * 7, 3))
    train, valid = create_validation_split(labels, amount, seed=5)
    assert len(set(labels[valid])) == expected
    assert not set(labels[train]) & set(labels[valid])
    assert sorted([*train, *valid]) == list(range(len(labels)))


def test_split_depends_on_the_seed_alone():
    labels = list(range(100))
    first, again, other = (create_validation_split(labels, 0.3, seed=s)[1] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "amount, message",
    [
        (-1, "at least 0"),
        (-0.1, "share of the identities"),
        (1.0, "share of the identities"),
        (2.0, "share of the identities"),
        (float("nan"), "share of the identities"),
        (5, r"less than the number of identities \(5\)"),
        (6, "use at most 4"),
        ("2", "must be a number of identities"),
        (True, "must be a number of identities"),
        (None, "must be a number of identities"),
    ],
)
def test_split_refuses_amounts_out_of_range(amount, message):
    with pytest.raises(UsageError, match=message):
        create_validation_split([1, 2, 3, 4, 5, 5], amount)


def test_split_refuses_no_labels_and_images_for_labels():
    with pytest.raises(DataError, match="data_y is empty"):
        create_validation_split([], 0.1)
    with pytest.raises(UsageError, match="must be a vector"):
        create_validation_split([[1, 2]], 0.1)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_limit_is_the_reference_limit(number):
    mask = limit_num_elements_per_identity(REFERENCE[f"split{number}_labels"], 3, seed=5)
    np.testing.assert_array_equal(mask, REFERENCE[f"limit{number}_max3_seed5"])
    assert mask.dtype == bool


def test_limit_keeps_the_smaller_of_limit_and_number_of_images():
    labels = np.repeat([4, 9, 2, 7], [1, 2, 3, 10])
    mask = limit_num_elements_per_identity(labels, 2, seed=0)
    assert [int(mask[labels == y].sum()) for y in (4, 9, 2, 7)] == [1, 2, 2, 2]
    assert limit_num_elements_per_identity([], 2).shape == (0,)


@pytest.mark.parametrize("limit", [0, -1, 2.5, None])
def test_limit_below_one_is_refused(limit):
    with pytest.raises(UsageError, match="at least 1"):
        limit_num_elements_per_identity([1, 1, 2], limit)


@pytest.mark.parametrize(
    "shape, patch_shape, window",
    [
        ((40, 30), (20, 10), (0, 40, 5, 25)),  # too wide: the sides go
        ((60, 20), (20, 10), (10, 50, 0, 20)),  # too high: top and bottom go
        ((40, 20), (20, 10), (0, 40, 0, 20)),  # the aspect ratio of the patch: nothing goes
        ((41, 20), (80, 40), (0, 40, 0, 20)),  # an odd border; enlarged
        ((43, 31), (64, 32), (0, 43, 4, 25)),  # 21.5 pixels wide, 4.75 to the left of them
        ((31, 21), (32, 64), (10, 20, 0, 21)),  # 10.5 pixels high, 10.25 above them
    ],
)
def test_crop_takes_the_largest_central_window_and_resizes_it(shape, patch_shape, window):
    images = np.random.RandomState(0).randint(0, 256, (3, *shape, 3), np.uint8)
    top, bottom, left, right = window
    expected = [
        cv2.resize(image[top:bottom, left:right], patch_shape[::-1], interpolation=cv2.INTER_CUBIC)
        for image in images
    ]
    patches = crop_to_shape(images, patch_shape)
    np.testing.assert_array_equal(patches, expected)
    assert patches.dtype == np.uint8


def test_crop_does_not_stretch_a_disk():
    image = cv2.circle(np.zeros((100, 100, 3), np.uint8), (50, 50), 20, (255, 255, 255), -1)
    (patch,) = crop_to_shape(image[np.newaxis], (128, 64))
    rows, columns = np.nonzero(patch[..., 0] > 127)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1


@pytest.mark.parametrize("num_channels", [1, 3, 4])
def test_crop_keeps_channels_and_accepts_an_image_shape(num_channels):
    images = np.full((2, 50, 50, num_channels), 9, np.uint8)
    patches = crop_to_shape(images, (16, 8, num_channels))
    np.testing.assert_array_equal(patches, np.full((2, 16, 8, num_channels), 9))


def test_crop_to_the_same_shape_gives_a_copy():
    images = np.zeros((1, 16, 8, 3), np.uint8)
    patches = crop_to_shape(images, (16, 8))
    patches += 1
    assert images.max() == 0


def test_crop_takes_images_of_different_shapes():
    shapes = [(40, 30, 3), (128, 64, 3), (17, 90, 3), (300, 20, 3)]
    images = [np.random.RandomState(i).randint(0, 256, s, np.uint8) for i, s in enumerate(shapes)]
    patches = crop_to_shape(images, (128, 64))
    assert patches.shape == (4, 128, 64, 3)
    assert patches.dtype == np.uint8
    for patch, image in zip(patches, images, strict=True):
        np.testing.assert_array_equal(patch, crop_to_shape(image[np.newaxis], (128, 64))[0])


@pytest.mark.parametrize("collect", [list, tuple, iter])
def test_crop_takes_gray_images_of_two_dimensions(collect):
    images = [np.full((20 + i, 30), i, np.uint8) for i in range(3)]
    patches = crop_to_shape(collect(images), (16, 8))
    np.testing.assert_array_equal(patches, np.arange(3)[:, None, None] * np.ones((16, 8)))


def test_crop_takes_a_batch_of_gray_images():
    assert crop_to_shape(np.zeros((3, 20, 30), np.uint8), (16, 8)).shape == (3, 16, 8)


@pytest.mark.parametrize("channels", [slice(None, None, -1), slice(1, 2), [0, 1, 2, 0, 1, 2]])
def test_crop_treats_each_channel_alike(channels):
    image = np.random.RandomState(0).randint(0, 256, (50, 40, 3), np.uint8)
    expected = crop_to_shape([image], (20, 10))[..., channels]
    np.testing.assert_array_equal(crop_to_shape([image[..., channels]], (20, 10)), expected)


def test_crop_of_no_images():
    assert crop_to_shape(np.zeros((0, 9, 9, 3), np.uint8), (4, 2)).shape == (0, 4, 2, 3)


@pytest.mark.parametrize(
    "images, patch_shape, message",
    [
        (np.zeros((8, 8, 3), np.uint8), (4, 2), "must be uint8 of shape"),
        (np.zeros((1, 8, 8, 3), np.float32), (4, 2), "must be uint8 of shape"),
        (np.zeros((1, 0, 8, 3), np.uint8), (4, 2), "must be uint8 of shape"),
        (np.zeros((8, 8), np.uint8), (4, 2), "must be uint8 of shape"),
        ([], (4, 2), "images is empty"),
        ([np.zeros((8, 8, 3), np.uint8), None], (4, 2), r"images\[1\] \(NoneType\)"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)], (4, 2), r"images\[1\]"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 1), np.uint8)], (4, 2), r"images\[1\]"),
        ([np.zeros((8, 8, 3), np.float32)], (4, 2), r"images\[0\] \(float32, .*must be uint8"),
        ([np.zeros((0, 8, 3), np.uint8)], (4, 2), r"images\[0\] .* not empty"),
        ([np.zeros((1, 8, 8, 3), np.uint8)], (4, 2), r"images\[0\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), (4, 0), r"must be \(height, width\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), (4,), r"must be \(height, width\)"),
    ],
)
def test_crop_refuses_what_is_no_batch_or_no_patch(images, patch_shape, message):
    with pytest.raises(UsageError, match=message) as error:
        crop_to_shape(images, patch_shape)
    assert "\n" not in str(error.value)

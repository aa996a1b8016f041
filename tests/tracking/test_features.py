"""Features in the files of Deep SORT's generate_detections, and those that would break it."""

import cv2
import numpy as np
import pytest
from tracks import write_rows, write_sequence

from deep_reid.errors import DataError
from deep_reid.tracking import features, sequences

NUM_VALUES = 128


def encode(frame, boxes):
    """Compute features that show which pixels and which boxes were given."""
    random = np.random.default_rng(int(frame.astype(np.int64).sum()))
    return np.stack([random.normal(size=NUM_VALUES) + box.sum() for box in boxes]).astype("f4")


@pytest.fixture
def folder(tmp_path):
    folder = write_sequence(tmp_path / "a", 5)
    # Frames out of order, one without detections, one with several.
    rows = [(frame, -1, 3.25 * frame, 2, 8, 16) for frame in (4, 1, 1, 5, 2, 1)]
    write_rows(folder / "det/det.txt", rows, "0.5,-1,-1,-1")
    return folder


def generate_detections(folder, encoder):
    """Compute what Deep SORT's tools/generate_detections.py writes; Apache License 2.0."""
    detections_in = np.loadtxt(folder / "det/det.txt", delimiter=",")
    detections_out = []
    frame_indices = detections_in[:, 0].astype(int)
    for frame_idx in range(frame_indices.min(), frame_indices.max() + 1):
        rows = detections_in[frame_indices == frame_idx]
        if not len(rows):
            continue
        image = cv2.imread(str(folder / "img1" / f"{frame_idx:06d}.png"), cv2.IMREAD_COLOR)
        found = encoder(image, rows[:, 2:6].copy())
        detections_out += [np.r_[(row, feature)] for row, feature in zip(rows, found, strict=True)]
    return np.asarray(detections_out)


def test_the_file_is_that_of_deep_sort(folder, tmp_path):
    (path,) = sequences.find([folder])
    sequence = sequences.load(path)
    counts = []
    found = features.compute(sequence, encode, counts.append)
    assert (found.dtype, found.shape) == (np.float32, (6, NUM_VALUES))
    assert counts == [3, 1, 1, 1]
    features.write(tmp_path / "out" / "a.npy", sequence.detections, found)
    written = np.load(tmp_path / "out" / "a.npy", allow_pickle=False)
    expected = generate_detections(folder, encode)
    assert (written.shape, written.dtype) == ((6, 138), expected.dtype)
    np.testing.assert_array_equal(written, expected)


@pytest.mark.parametrize(
    ("value", "kind"), [(0.0, "zero"), (np.nan, "not finite"), (np.inf, "not finite")]
)
@pytest.mark.parametrize("row", [0, 2])
def test_features_without_a_length_are_refused(folder, value, kind, row):
    def encode_badly(frame, boxes):
        found = encode(frame, boxes)
        if len(boxes) == 3:
            found[row] = value
        return found

    (path,) = sequences.find([folder])
    with pytest.raises(DataError, match=f"000001.png, detection {row}: its feature is {kind}"):
        features.compute(sequences.load(path), encode_badly)


def test_one_value_that_is_not_a_number_is_enough(folder):
    found = np.ones((3, NUM_VALUES), np.float32)
    features.check(found, "row")
    features.check(found * 1e-30, "row")  # short, but it has a length
    found[1, 7] = np.nan
    with pytest.raises(DataError, match="row 1: its feature is not finite, and Deep SORT divides"):
        features.check(found, "row")


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_frame_that_cannot_be_read(folder, content):
    (folder / "img1/000004.png").write_bytes(content)
    (path,) = sequences.find([folder])
    with pytest.raises(DataError, match=r"frame .*000004.png cannot be decoded") as caught:
        features.compute(sequences.load(path), encode)
    assert "\n" not in str(caught.value)

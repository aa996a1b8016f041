"""Deep SORT's tracks: what the tracker gets, and what is written."""

import numpy as np
import pytest

from deep_reid.tracking import deep_sort

pytest.importorskip("deep_sort_realtime", reason="needs the extra 'track'")


def detect(frames, tracks, confidence=0.9):
    """Detections of persons who walk, and features that tell them apart."""
    rows = [
        (frame, -1, 60.0 * track + 2 * frame, 20, 20, 40, confidence, -1, -1, -1)
        for frame in frames
        for track in tracks
    ]
    features = np.tile(np.eye(8, dtype=np.float32)[list(tracks)], (len(frames), 1))
    return np.array(rows, np.float64).reshape(-1, 10), features


def test_two_persons_are_two_tracks_from_the_frame_that_confirms_them():
    tracks = deep_sort.track(*detect(range(1, 11), (0, 1)), range(1, 11), 0.2)
    # Deep SORT confirms a track with its third detection.
    assert sorted(set(tracks[:, 0])) == list(range(3, 11))
    assert np.bincount(tracks[:, 1].astype(int)).tolist() == [0, 8, 8]
    for frame, track, *box in tracks:
        expected = [60.0 * (track - 1) + 2 * frame, 20, 20, 40]
        np.testing.assert_allclose(box, expected, atol=2)


def test_a_track_is_written_one_frame_beyond_its_last_detection():
    tracks = deep_sort.track(*detect(range(1, 6), (0,)), range(1, 11), 0.2)
    assert tracks[:, 0].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(("gap", "same"), [(5, True), (29, True), (40, False)])
def test_a_track_is_found_again_for_thirty_frames(gap, same):
    frames = [*range(1, 6), *range(6 + gap, 12 + gap)]
    detections, features = detect(frames, (0,))
    detections[:, 2] = 50  # the person stands still
    tracks = deep_sort.track(detections, features, range(1, 60), 0.2)
    assert (len(set(tracks[:, 1])) == 1) == same


def test_frames_count_also_without_detections_and_images():
    detections, features = detect([3, 4, 5, 6], (0,))
    tracks = deep_sort.track(detections, features, range(0, 9), 0.2)
    assert tracks[:, 0].tolist() == [5, 6, 7]


@pytest.mark.parametrize(("least", "count"), [(0.0, 2), (0.3, 2), (0.5, 1), (0.95, 0)])
def test_detections_of_low_confidence_are_left_out_with_their_features(least, count):
    detections, features = detect(range(1, 8), (0, 1))
    detections[::2, 6] = 0.3
    settings = deep_sort.TrackerSettings(min_confidence=least)
    tracks = deep_sort.track(detections, features, range(1, 8), 0.2, settings)
    assert len(set(tracks[:, 1])) == count


@pytest.mark.parametrize(("most", "count"), [(1.0, 2), (0.5, 1)])
def test_of_two_boxes_that_overlap_the_less_confident_is_left_out(most, count):
    detections, features = detect(range(1, 8), (0, 1))
    detections[1::2, 2:6] = detections[::2, 2:6] + 2
    detections[1::2, 6] = 0.8
    settings = deep_sort.TrackerSettings(nms_max_overlap=most)
    tracks = deep_sort.track(detections, features, range(1, 8), 0.2, settings)
    assert len(set(tracks[:, 1])) == count


def test_the_threshold_decides_whether_appearance_finds_a_person_again():
    detections, features = detect([*range(1, 6), *range(15, 20)], (0,))
    detections[:, 2] = 50
    turned = np.float32([0.8, 0.6, 0, 0, 0, 0, 0, 0])  # at a cosine distance of 0.2
    features[5:] = turned
    for distance, count in ((0.1, 2), (0.3, 1)):
        tracks = deep_sort.track(detections, features, range(1, 20), distance)
        assert len(set(tracks[:, 1])) == count


def test_results_are_written_as_deep_sort_does(tmp_path):
    deep_sort.write(tmp_path / "tracks" / "a.txt", np.array([[3, 12, 1.005, -2, 30.128, 4e3]]))
    text = (tmp_path / "tracks" / "a.txt").read_text()
    assert text == f"3,12,{1.005:.2f},-2.00,30.13,4000.00,1,-1,-1,-1\n"
    deep_sort.write(tmp_path / "none.txt", np.empty((0, 6)))
    assert (tmp_path / "none.txt").read_bytes() == b""

"""Sequences to track in: detections, the truth, and what is wrong with them."""

import os

import numpy as np
import pytest
from tracks import walk, write_frames, write_rows, write_sequence

from deep_reid.errors import DataError, MissingPathError, ReidError
from deep_reid.tracking import sequences


def load_one(folder):
    (path,) = sequences.find([folder])
    return sequences.load(path)


class TestFind:
    def test_a_sequence_and_a_folder_of_sequences(self, tmp_path):
        for name in ("b", "a", "c"):
            write_sequence(tmp_path / "all" / name)
        folders = [tmp_path / "all" / name for name in "abc"]
        assert sequences.find([tmp_path / "all"]) == folders
        assert sequences.find([folders[1]]) == folders[1:2]

    def test_a_sequence_that_is_named_twice_is_found_once_where_it_is_named_first(self, tmp_path):
        folders = [write_sequence(tmp_path / "all" / name) for name in "abc"]
        (tmp_path / "link").symlink_to(folders[1])
        found = sequences.find([tmp_path / "all" / "b", tmp_path / "all", tmp_path / "link"])
        assert found == [folders[1], folders[0], folders[2]]

    @pytest.mark.parametrize(
        ("with_detections", "with_truth"), [(True, True), (True, False), (False, True)]
    )
    def test_either_boxes_are_enough(self, tmp_path, with_detections, with_truth):
        write_sequence(tmp_path / "a", 8, None, with_detections, with_truth)
        sequence = load_one(tmp_path)
        assert len(sequence.detections) > 8
        assert (sequence.truth is not None) == with_truth
        assert sequence.are_made != with_detections

    def test_two_sequences_of_one_name(self, tmp_path):
        for name in ("one", "two"):
            write_sequence(tmp_path / name / "a")
        with pytest.raises(DataError, match="one/a and .*two/a have one name"):
            sequences.find([tmp_path / "one", tmp_path / "two"])

    def test_a_name_that_is_not_utf8(self, tmp_path):
        write_sequence(tmp_path / "all" / "a")
        path = os.path.join(os.fsencode(tmp_path / "all"), b"\xe9")
        os.rename(tmp_path / "all" / "a", path)
        with pytest.raises(DataError, match="not UTF-8: rename"):
            sequences.find([tmp_path / "all"])

    @pytest.mark.parametrize("name", ["missing", "file"])
    def test_no_folder(self, tmp_path, name):
        (tmp_path / "file").write_text("")
        with pytest.raises(MissingPathError, match=f"{name} does not exist or is not a folder"):
            sequences.find([tmp_path / name])

    @pytest.mark.parametrize("content", [None, "other/photo.jpg"])
    def test_no_sequences(self, tmp_path, content):
        folder = tmp_path / "all"
        folder.mkdir()
        if content:
            (folder / content).parent.mkdir()
            (folder / content).write_text("")
        with pytest.raises(DataError, match="all has no sequences: a sequence is a folder with"):
            sequences.find([folder])


class TestDetections:
    @pytest.mark.parametrize("num_columns", [6, 7, 8, 9, 10, 12])
    def test_a_row_has_ten_columns_whatever_the_file_has(self, tmp_path, num_columns):
        folder = write_sequence(tmp_path / "a")
        columns = ["2", "-1", "1.5", "2.5", "8", "16", "0.7", "3", "4", "5", "6", "7"]
        (folder / "det/det.txt").write_text(",".join(columns[:num_columns]) + "\n")
        row = [2.0, -1.0, 1.5, 2.5, 8.0, 16.0, 1.0, -1.0, -1.0, -1.0]
        given = [float(cell) for cell in columns[:num_columns]][:10]
        row[: len(given)] = given
        assert load_one(folder).detections.tolist() == [row]

    def test_rows_are_in_the_order_of_frames_and_then_of_the_file(self, tmp_path):
        folder = write_sequence(tmp_path / "a")
        rows = [(frame, -1, left, 5, 8, 16) for left in (9, 3, 6) for frame in (4, 2, 7)]
        write_rows(folder / "det/det.txt", rows, "1,-1,-1,-1")
        expected = [(frame, left) for frame in (2, 4, 7) for left in (9, 3, 6)]
        assert [(row[0], row[2]) for row in load_one(folder).detections.tolist()] == expected

    def test_flat_boxes_are_left_out_and_counted(self, tmp_path, caplog):
        folder = write_sequence(tmp_path / "a")
        rows = [(1, -1, 5, 5, 8, 16), (1, -1, 5, 5, 0, 16), (1, -1, 5, 5, 8, -1)]
        write_rows(folder / "det/det.txt", rows, "1,-1,-1,-1")
        assert len(load_one(folder).detections) == 1
        assert "det.txt left out: 2 with no positive width and height" in caplog.text

    def test_those_that_are_made_have_gaps_and_jitter_and_are_always_the_same(self, tmp_path):
        num_frames = 60
        rows = walk(num_frames, tracks=range(1, 11))
        folder = write_sequence(tmp_path / "a", num_frames, rows, with_detections=False)
        sequence = load_one(folder)
        assert sequence.are_made
        found = sequence.detections
        # An eighth of each track is a gap, and 4 % of the rest are missed.
        assert 0.78 < len(found) / len(rows) < 0.90
        assert (np.diff(found[:, 0]) >= 0).all()
        assert (found[:, 1] == -1).all()
        assert (found[:, 6] == 1).all()
        truth = sequence.truth.boxes
        shifts = [
            np.abs(truth[truth[:, 0] == row[0], 2:] - row[2:6]).max(axis=1).min() for row in found
        ]
        assert 0 < np.mean(shifts) < 0.1 * 16
        np.testing.assert_array_equal(load_one(folder).detections, found)
        other = write_sequence(tmp_path / "b", num_frames, rows, with_detections=False)
        assert load_one(other).detections.shape != found.shape

    def test_those_that_are_made_show_nobody_who_is_hidden(self, tmp_path):
        folder = write_sequence(tmp_path / "a", 30, with_detections=False)
        rows = walk(30, tracks=(1,))
        write_rows(folder / "gt/gt.txt", rows, "1,1,0.3")
        with open(folder / "gt/gt.txt", "a", encoding="ascii") as file:
            file.write("3,2,5,5,8,16,1,1,1.0\n")
        found = load_one(folder).detections
        assert found[:, 0].tolist() in ([], [3.0])


class TestTruth:
    def test_what_counts_and_what_is_ignored(self, tmp_path):
        folder = write_sequence(tmp_path / "MOT17-01")
        kinds = [(1, 1), (1, 0), (3, 1), (3, 0), (7, 1), (7, 0), (12, 0), (6, 0)]
        rows = [f"1,{track},5,5,8,16,{flag},{kind},0.1" for track, (kind, flag) in enumerate(kinds)]
        (folder / "gt/gt.txt").write_text("\n".join(rows))
        truth = load_one(folder).truth
        assert truth.boxes[:, 1].tolist() == [0]  # a hidden person counts, too
        assert truth.others[:, 1].tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert truth.others[truth.is_ignored, 1].tolist() == [4, 5, 6]
        os.rename(folder, tmp_path / "MOT20-01")
        truth = load_one(tmp_path / "MOT20-01").truth
        assert truth.others[truth.is_ignored, 1].tolist() == [4, 5, 6, 7]

    @pytest.mark.parametrize("ending", ["", ",1", ",1,3", ",1,3,0.5", ",1,-1,-1,-1"])
    def test_without_pedestrians_all_boxes_count(self, tmp_path, ending):
        folder = write_sequence(tmp_path / "a")
        (folder / "gt/gt.txt").write_text(f"1,1,5,5,8,16{ending}\n2,1,5,5,8,16{ending}\n")
        truth = load_one(folder).truth
        assert truth.boxes.tolist() == [[1, 1, 5, 5, 8, 16], [2, 1, 5, 5, 8, 16]]
        assert not len(truth.others)


# What is done to a good sequence, and the message.
FAULTS = {
    "no frames": (
        lambda f: [p.unlink() for p in (f / "img1").iterdir()],
        "a/img1, the folder of the frames, has no .jpg",
    ),
    "no folder of frames": (lambda f: os.rename(f / "img1", f / "x"), "img1.*does not exist"),
    "other names": (
        lambda f: [p.rename(p.with_name(f"x{p.name}")) for p in (f / "img1").iterdir()],
        "no image that is named by its frame number",
    ),
    "no boxes": (
        lambda f: [p.unlink() for p in (f / "gt/gt.txt", f / "det/det.txt")],
        "a has neither det/det.txt nor gt/gt.txt: run a detector",
    ),
    "empty det.txt": (lambda f: (f / "det/det.txt").write_text("\n"), "det.txt has no detections"),
    "only flat boxes": (
        lambda f: (f / "det/det.txt").write_text("1,-1,5,5,0,16,1\n"), "has no detections"
    ),
    "binary det.txt": (lambda f: (f / "det/det.txt").write_bytes(b"\xff\xfe"), "is not text"),
    "few columns": (
        lambda f: (f / "det/det.txt").write_text("1,-1,5,5,8,16,1\n1,-1,5,5,8\n"),
        "det.txt, line 2: the row has 5 of at least six columns",
    ),
    "not finite": (
        lambda f: (f / "det/det.txt").write_text("1,-1,nan,5,8,16,1\n"),
        "det.txt, line 1: 'nan' is not a number",
    ),
    "no confidence": (
        lambda f: (f / "det/det.txt").write_text("1,-1,5,5,8,16,high\n"),
        "det.txt, line 1: 'high' is not a number",
    ),
    "half a frame": (
        lambda f: (f / "det/det.txt").write_text("1.5,-1,5,5,8,16,1\n"), "is not a whole number"
    ),
    "a frame without an image": (
        lambda f: (f / "det/det.txt").write_text("1,-1,5,5,8,16,1\n9,-1,5,5,8,16,1\n"),
        "det.txt, line 2: frame 9 has no image",
    ),
    "truth without an image": (
        lambda f: (f / "gt/gt.txt").write_text("9,1,5,5,8,16,1\n"),
        "gt.txt, line 1: frame 9 has no image",
    ),
    "two boxes of a track": (
        lambda f: (f / "gt/gt.txt").write_text("1,1,5,5,8,16,1\n1,1,9,5,8,16,1\n"),
        "gt.txt, line 2: track 1 has a second box in frame 1",
    ),
    "no box counts": (
        lambda f: (f / "gt/gt.txt").write_text("1,1,5,5,8,16,0\n"), "has no box that counts"
    ),
    "damaged seqinfo.ini": (
        lambda f: (f / "seqinfo.ini").write_text("imDir=img1"), "seqinfo.ini cannot be read"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_one_line(tmp_path, fault):
    folder = write_sequence(tmp_path / "a")
    damage, message = FAULTS[fault]
    damage(folder)
    with pytest.raises(ReidError, match=message) as caught:
        load_one(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rate"), [(None, 25), ("30", 30), ("7.5", 7.5), ("0", 25), ("fast", 25), ("-3", 25)]
)
def test_the_frame_rate(tmp_path, text, rate):
    folder = write_sequence(tmp_path / "a")
    if text is not None:
        (folder / "seqinfo.ini").write_text(f"[Sequence]\nframeRate={text}\n")
    assert load_one(folder).frame_rate == rate


def test_frames_between_the_first_and_the_last_belong_to_the_sequence(tmp_path):
    folder = write_sequence(tmp_path / "a", with_truth=False)
    for path in (folder / "img1").iterdir():
        path.unlink()
    (folder / "img1").rmdir()
    write_frames(folder / "img1", 3, first=5)
    write_frames(folder / "x", 1, first=11)
    os.rename(folder / "x/000011.png", folder / "img1/000011.png")
    write_rows(folder / "det/det.txt", [(5, -1, 5, 5, 8, 16)], "1")
    assert load_one(folder).frame_numbers == range(5, 12)


class TestSplit:
    @pytest.mark.parametrize(
        ("names", "train"),
        [("a", "a"), ("ab", "a"), ("abc", "a"), ("abcd", "ab"), ("dcba", "ab"), ("ABcd", "c")],
    )
    def test_the_first_half_of_those_with_truth_is_for_training(self, tmp_path, names, train):
        loaded = [
            load_one(write_sequence(tmp_path / name, with_truth=name.islower())) for name in names
        ]
        parts = sequences.split(loaded, None)
        assert {name for name, part in parts.items() if part == sequences.TRAIN} == set(train)
        assert list(parts) == list(names)

    def test_training_sequences_are_named(self, tmp_path):
        loaded = [load_one(write_sequence(tmp_path / name)) for name in "abc"]
        assert sequences.split(loaded, ["c"]) == {"a": "test", "b": "test", "c": "train"}

    def test_they_need_the_truth(self, tmp_path):
        loaded = [load_one(write_sequence(tmp_path / "a", with_truth=False))]
        assert sequences.split(loaded, None) == {"a": "test"}
        with pytest.raises(DataError, match="a has no gt/gt.txt, and a threshold is chosen"):
            sequences.split(loaded, ["a"])

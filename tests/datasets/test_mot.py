"""Reader of MOTChallenge sequences: which boxes, which pixels, and when crops are written."""

import multiprocessing
import os
import re
import signal
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import images
from datasets.custom import Custom
from datasets.own import boxes, crops, mot
from deep_reid.errors import DataError, MissingPathError, ReidError

HEIGHT, WIDTH = 24, 32
BOXES = "1,1,2,3,10,12,1,1,1\n2,1,4,3,10,12,1,1,0.5\n2,7,20,0,8,20,1,1,1\n"


def frame(number):
    """A frame of noise: each crop is one of a kind."""
    random = np.random.RandomState(number)
    return random.randint(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def write_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def write_sequence(directory, boxes=BOXES, numbers=(1, 2, 3), image_dir="img1", ending=".png"):
    directory = Path(directory)
    for number in numbers:
        write_image(directory / image_dir / f"{number:06d}{ending}", frame(number))
    (directory / "gt").mkdir(parents=True, exist_ok=True)
    content = boxes if isinstance(boxes, bytes) else boxes.encode()
    (directory / "gt" / "gt.txt").write_bytes(content)
    return directory


@pytest.fixture
def sequence(tmp_path):
    """Write tmp_path/SEQ with some boxes, and read it: {identity/frame: crop}."""

    def read(boxes=BOXES, **settings):
        listing = mot.read_sequences(
            write_sequence(tmp_path / "SEQ", boxes, **settings), tmp_path / "crops"
        )
        return {"/".join(Path(name).parts[-2:]): cv2.imread(name) for name in listing.filenames}

    return read


def error_of(call, *arguments, error_type=DataError, **keywords):
    with pytest.raises(error_type) as error:
        call(*arguments, **keywords)
    assert type(error.value) is error_type
    assert "\n" not in str(error.value)
    return str(error.value)


class TestFindSequences:
    def test_the_folder_itself(self, tmp_path):
        directory = write_sequence(tmp_path / "A")
        write_sequence(directory / "B")
        assert mot.is_sequence(str(directory))
        assert mot.find_sequences(str(directory)) == [directory]

    def test_its_direct_subfolders_sorted(self, tmp_path):
        for name in ("b", "c", "a", ".hidden", "deep/d"):
            write_sequence(tmp_path / name)
        (tmp_path / "no").mkdir()
        (tmp_path / "file").touch()
        assert not mot.is_sequence(tmp_path)
        assert mot.find_sequences(tmp_path) == [tmp_path / name for name in "abc"]

    def test_where_there_are_no_sequences_none_are_found(self, tmp_path):
        (tmp_path / "gt").mkdir()
        (tmp_path / "file").touch()
        assert mot.find_sequences(tmp_path) == []
        assert mot.find_sequences(tmp_path / "nowhere") == []
        assert mot.find_sequences(tmp_path / "file") == []


class TestListing:
    def test_tracks_are_identities_and_sequences_are_cameras(self, tmp_path):
        write_sequence(tmp_path / "data" / "B", "3,12,0,0,4,4\n1,12,0,0,4,4\n")
        write_sequence(tmp_path / "data" / "A", "1,12,0,0,4,4\n1,2,0,0,4,4\n")
        listing = mot.read_sequences(tmp_path / "data", tmp_path / "crops")
        assert listing.identities == ["A_000002", "A_000012", "B_000012", "B_000012"]
        assert listing.cameras == ["A", "A", "B", "B"]
        assert listing.splits == ["train"] * 4
        assert [Path(name).parts[-2:] for name in listing.filenames] == [
            ("A_000002", "000001.png"),
            ("A_000012", "000001.png"),
            ("B_000012", "000001.png"),
            ("B_000012", "000003.png"),
        ]

    def test_the_folder_is_named_after_the_data_and_its_state(self, tmp_path, monkeypatch):
        monkeypatch.chdir(write_sequence(tmp_path / "SEQ"))
        listing = mot.read_sequences(".", "../crops")
        folder = Path(listing.filenames[0]).parent.parent
        assert re.fullmatch("SEQ-[0-9a-f]{12}", folder.name)
        assert set(listing.cameras) == {"SEQ"}
        # By an absolute path, the same crops are found.
        assert mot.read_sequences(tmp_path / "SEQ", tmp_path / "crops").identities
        assert os.listdir(tmp_path / "crops") == [folder.name]

    def test_names_of_all_alphabets(self, tmp_path):
        directory = write_sequence(tmp_path / "Straße 李", image_dir="img1")
        listing = mot.read_sequences(directory, tmp_path / "Bilder ä")
        assert listing.identities[0] == "Straße 李_000001"
        assert all(map(os.path.isfile, listing.filenames))

    def test_one_log_line_says_what_was_cut_and_left_out(self, sequence, caplog, tmp_path):
        caplog.set_level("INFO")
        sequence(BOXES + "3,1,0,0,5,5,0,1,1\n3,2,0,0,0,5,1,1,1\n3,3,40,0,5,5,1,1,1\n")
        (record,) = caplog.records
        message = record.getMessage()
        assert message.startswith("3 crops of 2 tracks")
        for words in ("1 with flag 0", "1 with no positive width", "1 outside", str(tmp_path)):
            assert words in message


class TestPixels:
    @pytest.mark.parametrize(
        "box, window",
        [
            ("2,3,10,12", np.s_[3:15, 2:12]),
            ("2.9,3.9,10,12", np.s_[3:15, 2:12]),
            ("2.5,3.5,10.5,12.6", np.s_[3:16, 2:13]),
            ("0,0,32,24", np.s_[:, :]),
            ("-0.5,-0.5,10,12", np.s_[0:11, 0:9]),
            ("-5,-6,10,12", np.s_[0:6, 0:5]),
            ("30,20,10,12", np.s_[20:24, 30:32]),
            ("31,23,1,1", np.s_[23:24, 31:32]),
            ("-1e300,-1e300,1.5e300,1.5e300", np.s_[:, :]),
            ("1,1,1e308,1e308", np.s_[1:, 1:]),
        ],
    )
    def test_crops_are_the_pixels_of_the_frame(self, sequence, box, window):
        crops = sequence(f"2,5,{box}\n")
        np.testing.assert_array_equal(crops["SEQ_000005/000002.png"], frame(2)[window])

    def test_all_crops_of_all_frames(self, sequence):
        crops = sequence()
        assert sorted(crops) == [
            "SEQ_000001/000001.png",
            "SEQ_000001/000002.png",
            "SEQ_000007/000002.png",
        ]
        np.testing.assert_array_equal(crops["SEQ_000001/000001.png"], frame(1)[3:15, 2:12])
        np.testing.assert_array_equal(crops["SEQ_000001/000002.png"], frame(2)[3:15, 4:14])
        np.testing.assert_array_equal(crops["SEQ_000007/000002.png"], frame(2)[0:20, 20:28])

    def test_of_jpegs_what_is_decoded_from_them(self, sequence, tmp_path):
        crops = sequence(ending=".jpg")
        decoded = cv2.imread(str(tmp_path / "SEQ" / "img1" / "000002.jpg"))
        np.testing.assert_array_equal(crops["SEQ_000007/000002.png"], decoded[0:20, 20:28])

    @pytest.mark.parametrize(
        "box", ["32,0,5,5", "0,24,5,5", "-5,0,5,5", "0,-5.5,5,5", "3.2,0,0.5,5", "1e308,0,1e308,1"]
    )
    def test_boxes_with_nothing_inside_the_frame_are_left_out(self, sequence, box):
        assert list(sequence(f"1,1,0,0,5,5\n1,2,{box}\n")) == ["SEQ_000001/000001.png"]

    def test_a_frame_is_decoded_once(self, sequence, monkeypatch):
        decoded = []

        def note(path, kind):
            decoded.append(path.name)
            return images.read_bgr_image(path, kind)

        monkeypatch.setattr(crops, "read_bgr_image", note)
        sequence()
        assert sorted(decoded) == ["000001.png", "000002.png"]


class TestRows:
    @pytest.mark.parametrize(
        "row",
        [
            "1,4,0,0,5,5",
            "1,4,0,0,5,5,1",
            "1,4,0,0,5,5,1,7",
            "1,4,0,0,5,5,1,7,0.2",
            "1,4,0,0,5,5,1,7,-1",
            "1,4,0,0,5,5,1,-1,-1,-1",
            "1,4,0,0,5,5,1,1,0,0",
            "1,4,0,0,5,5,1,7,0,0,x",
            "1.0,4.0,0.0,0.0,5.0,5.0,1.0",
            " 1 , 4 , 0 , 0 , 5 , 5 , 0.9 ",
            "1e0,+4,0,0,5,5,-1",
        ],
    )
    def test_forms_of_a_box_that_is_kept(self, sequence, row):
        assert list(sequence(row)) == ["SEQ_000004/000001.png"]

    @pytest.mark.parametrize(
        "row",
        [
            "1,4,0,0,5,5,0",
            "1,4,0,0,5,5,0.0,1,1",
            "1,4,0,0,5,5,0,-1,-1,-1",
            "1,-1,0,0,5,5,1",
            "1,4,0,0,5,5,1,1,0.19",
            "1,4,0,0,0,5,1",
            "1,4,0,0,5,-5,1",
            "99,4,0,0,5,5,0",  # frames are needed for what is kept alone
        ],
    )
    def test_boxes_that_are_left_out(self, sequence, row):
        assert list(sequence(f"{row}\n1,5,0,0,5,5\n")) == ["SEQ_000005/000001.png"]

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n \n"])
    @pytest.mark.parametrize("start", ["", "\ufeff"])
    def test_line_ends_and_blank_lines(self, sequence, start, end):
        assert len(sequence(start + end.join(BOXES.split("\n")))) == 3

    @pytest.mark.parametrize(
        "row, words",
        [
            ("1,4,0,0,5", ["5 of at least six columns"]),
            ("1 4 0 0 5 5 1", ["1 of at least six columns", "separated by commas"]),
            ("x,4,0,0,5,5", ["'x' is not a number"]),
            ("1,4,0,0,five,5,1", ["'five' is not a number"]),
            ("1,4,0,0,5,5,", ["'' is not a number"]),
            ("1,4,nan,0,5,5", ["'nan' is not a number"]),
            ("1,4,0,0,5,1e999", ["'1e999' is not a number"]),
            ("1,4,0,0,5,1_0", ["'1_0' is not a number"]),
            ("1.5,4,0,0,5,5", ["'1.5' is not a whole number"]),
            ("1,4.5,0,0,5,5", ["'4.5' is not a whole number"]),
            ("1,1e300,0,0,5,5", ["'1e300' is not a whole number"]),
            ("1,4,0,0,5,5,1,1,1.5", ["visibility 1.5 must be in 0..1"]),
            ("1,4,0,0,5,5,1,1,-0.5", ["visibility -0.5 must be in 0..1"]),
            ("9,4,0,0,5,5\n8,4,0,0,5,5\n9,5,0,0,5,5", ["frame 9 has no image", "2 frames"]),
            ("1,1,7,7,5,5", ["track 1 has a second box in frame 1", "line 1"]),
        ],
    )
    def test_errors_name_file_and_line(self, sequence, tmp_path, row, words):
        message = error_of(sequence, f"1,1,0,0,5,5\n\n{row}\n")
        assert message.startswith(f"{tmp_path}/SEQ/gt/gt.txt, line 3: ")
        for word in words:
            assert word in message
        assert not (tmp_path / "crops").exists()

    def test_ground_truth_that_is_no_text(self, sequence):
        assert "gt.txt is not text" in error_of(sequence, b"1,1,0,0,5,5\n\xff\n")


class TestNumbering:
    """Boxes and images count from different numbers: the numbers are named, no row is dropped."""

    @pytest.mark.parametrize(
        ("first_box", "first_image"), [(0, 1), (1, 2), (5, 1), (0, 7), (100, 1), (1, 100)]
    )
    def test_the_first_numbers_of_both_are_compared(self, sequence, first_box, first_image):
        boxes = "".join(f"{first_box + i},1,0,0,5,5\n" for i in range(3))
        numbers = [first_image + i for i in range(3)]
        message = error_of(sequence, boxes, numbers=numbers)
        assert f"the boxes begin in frame {first_box}, the images with {first_image}" in message
        assert f"add {first_image - first_box} to the first column" in message
        assert "remove" not in message

    def test_boxes_from_1_and_images_from_0_are_warned_of(self, sequence, caplog):
        # With one box less than images, no frame is missing.
        assert len(sequence("1,1,0,0,5,5\n2,1,0,0,5,5\n", numbers=(0, 1, 2))) == 2
        assert "the boxes begin in frame 1, the images with 0" in caplog.text

    @pytest.mark.parametrize("boxes", ["0,1,0,0,5,5\n", "0,1,0,0,5,5,0\n1,1,0,0,5,5\n"])
    def test_both_from_0(self, sequence, caplog, boxes):
        sequence(boxes, numbers=(0, 1, 2))
        assert "begin in frame" not in caplog.text

    @pytest.mark.parametrize(
        "form", ["frame_{:06d}.png", "img{:05d}.png", "{:06d}_left.png", "a-{}.png"]
    )
    def test_images_that_are_not_named_by_numbers(self, tmp_path, form):
        directory = write_sequence(tmp_path / "SEQ", numbers=())
        for number in (1, 2, 3):
            write_image(directory / "img1" / form.format(number), frame(number))
        message = error_of(mot.read_sequences, directory, tmp_path / "crops")
        assert "such as 000001.png: rename " + form.format(1) in message


class TestClasses:
    BOXES = "1,1,0,0,5,5,1,1\n1,2,0,0,5,5,1,3\n2,3,0,0,5,5,1,7,0.9\n2,4,0,0,5,5,0,1\n"

    @pytest.mark.parametrize(
        ("classes", "tracks"),
        [((), [1, 2, 3]), (("1",), [1]), (("1", "7"), [1, 3]), (("07", "3"), [2, 3])],
    )
    def test_only_these_are_cut_out(self, tmp_path, classes, tracks):
        directory = write_sequence(tmp_path / "SEQ", self.BOXES)
        listing = mot.read_sequences(directory, tmp_path / "crops", classes)
        assert listing.identities == [f"SEQ_{track:06d}" for track in tracks]

    def test_each_choice_has_its_own_crops(self, tmp_path):
        directory = write_sequence(tmp_path / "SEQ", self.BOXES)
        for classes in ((), ("1",), ("1", "3"), ("3", "1")):
            mot.read_sequences(directory, tmp_path / "crops", classes)
        assert len(os.listdir(tmp_path / "crops")) == 3

    @pytest.mark.parametrize(
        ("boxes", "classes", "words"),
        [
            (BOXES, ["9"], ["3 of other classes", "--mot_classes"]),
            ("1,1,0,0,5,5\n", ["1"], ["line 1", "no class"]),
            ("1,1,0,0,5,5,1,-1,-1,-1\n", ["1"], ["line 1", "10 columns", "no class"]),
            (BOXES, ["Pedestrian"], ["Pedestrian", "numbers"]),
        ],
    )
    def test_wrong_classes_are_named_and_nothing_is_cut(self, tmp_path, boxes, classes, words):
        directory = write_sequence(tmp_path / "SEQ", boxes)
        with pytest.raises(ReidError) as error:
            mot.read_sequences(directory, tmp_path / "crops", classes)
        for word in words:
            assert word in str(error.value)
        assert not list(tmp_path.glob("crops/*"))


def write_kitti(directory, sequences):
    for name, labels in sequences.items():
        (directory / "label_02").mkdir(parents=True, exist_ok=True)
        (directory / "label_02" / f"{name}.txt").write_text(labels)
        for number in range(3):
            write_image(directory / "image_02" / name / f"{number:06d}.png", frame(number))
    return directory


def kitti_row(frame, track, kind, occluded=0, box="2 3 12 15"):
    return f"{frame} {track} {kind} 0 {occluded} -1.57 {box} 1.5 1.6 3.9 0 1 20 -1.5\n"


class TestKitti:
    LABELS = (
        kitti_row(0, 1, "Car") + kitti_row(1, 1, "Car", 1) + kitti_row(2, 1, "Car", 2)
        + kitti_row(0, 2, "Pedestrian", 3) + kitti_row(1, -1, "DontCare", -1)
    )  # fmt: skip

    def test_labels_are_read(self, tmp_path):
        data = write_kitti(tmp_path / "training", {"0000": self.LABELS, "0001": self.LABELS})
        assert mot.holds_sequences(data)
        listing = mot.read_sequences(data, tmp_path / "crops")
        assert listing.identities[:3] == ["0000_000001", "0000_000001", "0000_000002"]
        assert set(listing.cameras) == {"0000", "0001"}
        crop = cv2.imread(listing.filenames[1])
        np.testing.assert_array_equal(crop, frame(1)[3:15, 2:12])

    @pytest.mark.parametrize(("classes", "count"), [(["car"], 2), (["Pedestrian"], 1), ((), 3)])
    def test_classes_have_names(self, tmp_path, classes, count):
        data = write_kitti(tmp_path / "training", {"0000": self.LABELS})
        assert len(mot.read_sequences(data, tmp_path / "crops", classes)) == count

    def test_a_row_of_another_form(self, tmp_path):
        data = write_kitti(tmp_path / "training", {"0000": "0 1 Car 0 0\n"})
        message = error_of(mot.read_sequences, data, tmp_path / "crops")
        assert "label_02/0000.txt, line 1: the row has 5 of at least ten columns" in message


class TestIncomplete:
    """What is certainly a part of sequences, or above them, is no folder of identities."""

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (["det/det.txt", "img1/1.jpg"], "no gt/gt.txt"),
            (["img1/1.jpg"], "no gt/gt.txt"),
            (["seqinfo.ini", "img1/1.jpg"], "no gt/gt.txt"),
            (["A/det/det.txt", "A/img1/1.jpg", "B/img1/1.jpg"], "no gt/gt.txt in A, B (2 seq"),
            (["train/A/gt/gt.txt", "test/B/det/det.txt"], "/train"),
            (["MOT17/train/A/gt/gt.txt"], "/MOT17/train"),
            (["training/label_02/0000.txt", "training/image_02/0000/0.png"], "/training"),
            (
                [
                    "training/label_02/0000.txt",
                    "training/image_02/0000/0.png",
                    "testing/image_02/0000/0.png",
                ],
                "name {}/training",
            ),
            (["image_02/0000/000000.png"], "has no label_02"),
            (["label_02/0000.txt"], "has no image_02"),
        ],
    )
    def test_what_is_missing_is_named(self, tmp_path, names, words):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        assert words.format(tmp_path) in error_of(mot.holds_sequences, tmp_path)

    @pytest.mark.parametrize("part", ["img1", "gt", "gt/gt.txt", "img1/000001.png", "seqinfo.ini"])
    def test_a_part_of_a_sequence(self, tmp_path, part):
        directory = write_sequence(tmp_path / "SEQ")
        (directory / "seqinfo.ini").touch()
        assert f"name {directory}" in error_of(mot.holds_sequences, directory / part)

    @pytest.mark.parametrize("part", ["image_02", "label_02", "label_02/0000.txt", "image_02/0000"])
    def test_a_part_of_kitti(self, tmp_path, part):
        """Two sequences of frames would be two identities."""
        data = write_kitti(tmp_path / "training", {"0000": "", "0001": ""})
        assert f"name {data}" in error_of(Custom(data / part, 0).test_set)

    def test_a_list_beside_a_sequence_is_no_part(self, tmp_path):
        directory = write_sequence(tmp_path / "SEQ")
        (directory / "list.csv").touch()
        assert not mot.holds_sequences(directory / "list.csv")

    @pytest.mark.parametrize("names", [["a/1.jpg", "b/2.jpg"], ["train/a/1.jpg"], [], ["x.txt"]])
    def test_other_folders_hold_no_sequences(self, tmp_path, names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        assert not mot.holds_sequences(tmp_path)

    def test_a_name_that_is_not_utf_8(self, tmp_path):
        directory = write_sequence(tmp_path / os.fsdecode(b"\xe9"))
        message = error_of(mot.read_sequences, directory, tmp_path / "crops")
        assert "is not UTF-8: rename the folder" in message
        assert not (tmp_path / "crops").exists()

    def test_sequences_without_ground_truth_among_others(self, tmp_path, caplog):
        write_sequence(tmp_path / "A")
        (tmp_path / "B" / "det").mkdir(parents=True)
        (tmp_path / "B" / "det" / "det.txt").touch()
        assert set(mot.read_sequences(tmp_path, tmp_path / ".crops").cameras) == {"A"}
        assert "1 sequences have no gt/gt.txt and are left out: B" in caplog.text


class TestNothingLeft:
    @pytest.mark.parametrize(
        "boxes, words",
        [
            ("1,1,0,0,5,5,0\n1,2,0,0,5,5,0\n", ["all 2 boxes", "2 with flag 0", "column"]),
            ("1,1,0,0,5,5,1,1,0\n", ["1 with a visibility below 0.2", "leave the columns"]),
            ("1,-1,0,0,5,5,1\n", ["1 with a negative id"]),
            ("1,1,0,0,0,0\n", ["1 with no positive width and height"]),
            ("1,1,99,0,5,5\n1,2,0,0,5,5,0\n2,1,99,0,5,5\n", ["2 outside", "1 with flag 0"]),
            ("\n\n", ["is empty"]),
            ("", ["is empty"]),
        ],
    )
    def test_the_message_says_why(self, sequence, tmp_path, boxes, words):
        message = error_of(sequence, boxes)
        assert str(tmp_path / "SEQ") in message
        for word in words:
            assert word in message
        assert not list(tmp_path.glob("crops/*"))


class TestFrames:
    def test_the_folder_named_in_seqinfo(self, tmp_path):
        directory = write_sequence(tmp_path / "SEQ", image_dir="my frames")
        (directory / "seqinfo.ini").write_text("[Sequence]\nname=100%\nimDir=my frames\n")
        assert len(mot.read_sequences(directory, tmp_path / "crops")) == 3

    @pytest.mark.parametrize(
        "text", ["", "[Sequence]\nname=SEQ\n", "[Sequence]\nimDir=\n", "[x]\n"]
    )
    def test_seqinfo_without_a_folder(self, tmp_path, text):
        directory = write_sequence(tmp_path / "SEQ")
        (directory / "seqinfo.ini").write_text(text)
        assert len(mot.read_sequences(directory, tmp_path / "crops")) == 3

    @pytest.mark.parametrize(
        "content", [b"imDir=img1\n", b"[Sequence\n", b"\xff\xfe", b"[a]\n[a]\n"]
    )
    def test_seqinfo_of_another_form(self, tmp_path, content):
        directory = write_sequence(tmp_path / "SEQ")
        (directory / "seqinfo.ini").write_bytes(content)
        message = error_of(mot.read_sequences, directory, tmp_path / "crops")
        assert message.startswith(f"{directory}/seqinfo.ini cannot be read")

    @pytest.mark.parametrize("name", ["nowhere", "\0", "x" * 5000])
    def test_no_folder_of_frames(self, tmp_path, name):
        directory = write_sequence(tmp_path / "SEQ")
        (directory / "seqinfo.ini").write_text(f"[Sequence]\nimDir={name}\n")
        call = (mot.read_sequences, directory, tmp_path / "crops")
        assert "folder of the frames" in error_of(*call, error_type=MissingPathError)

    def test_frames_of_kitti_have_no_seqinfo(self, tmp_path):
        data = write_kitti(tmp_path / "training", {"0000": ""})
        (data / "label_02" / "0001.txt").touch()
        call = (mot.read_sequences, data, tmp_path / "crops")
        message = error_of(*call, error_type=MissingPathError)
        assert "image_02/0001" in message
        assert "seqinfo" not in message

    @pytest.mark.parametrize("names", [[], ["000001.webp", "000002.webp"], ["video.mp4"]])
    def test_no_images_that_can_be_read(self, tmp_path, names):
        directory = write_sequence(tmp_path / "SEQ", "1,1,0,0,5,5\n", numbers=())
        (directory / "img1").mkdir()
        for name in names:
            (directory / "img1" / name).touch()
        message = error_of(mot.read_sequences, directory, tmp_path / "crops")
        assert "img1, the folder of the frames, has no .jpg, .jpeg, .png or .bmp" in message

    @pytest.mark.parametrize("name", ["1.png", "0000000001.PNG", "01.bmp", "001.JPeG"])
    def test_the_number_of_a_frame_is_that_of_its_name(self, tmp_path, name):
        directory = write_sequence(tmp_path / "SEQ", "1,1,0,0,5,5\n", numbers=())
        write_image(directory / "img1" / name, frame(1))
        (directory / "img1" / "._1.png").touch()
        (directory / "img1" / "thumb.png").touch()
        (directory / "img1" / "1.txt").touch()
        (directory / "img1" / "2.png").symlink_to("nowhere.png")
        assert len(mot.read_sequences(directory, tmp_path / "crops")) == 1

    def test_two_images_of_one_frame(self, tmp_path):
        directory = write_sequence(tmp_path / "SEQ")
        write_image(directory / "img1" / "1.png", frame(1))
        message = error_of(mot.read_sequences, directory, tmp_path / "crops")
        assert "two images of frame 1, 000001.png and 1.png" in message

    @pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
    def test_an_unreadable_frame_is_named_and_leaves_nothing_behind(self, tmp_path, content):
        boxes = "".join(f"{number},1,0,0,5,5\n" for number in range(1, 21))
        directory = write_sequence(tmp_path / "SEQ", boxes, numbers=range(1, 21))
        (directory / "img1" / "000007.png").write_bytes(content)
        message = error_of(mot.read_sequences, directory, tmp_path / "crops")
        assert message.startswith(f"frame {directory}/img1/000007.png cannot be decoded")
        assert os.listdir(tmp_path / "crops") == []

    def test_no_such_folder(self, tmp_path):
        call = (mot.read_sequences, tmp_path / "nowhere", tmp_path / "crops")
        assert "does not exist" in error_of(*call, error_type=MissingPathError)

    def test_a_folder_without_sequences_is_refused_with_the_file_it_lacks(self, tmp_path):
        assert "gt/gt.txt" in error_of(mot.read_sequences, tmp_path, tmp_path / "crops")


def test_a_sequence_of_mot17_is_read_once(tmp_path, caplog):
    for name in ("MOT17-02-SDP", "MOT17-02-DPM", "MOT17-02-FRCNN", "MOT17-04-SDP"):
        write_sequence(tmp_path / "data" / name)
    listing = mot.read_sequences(tmp_path / "data", tmp_path / "crops")
    assert sorted(set(listing.cameras)) == ["MOT17-02-DPM", "MOT17-04-SDP"]
    (record,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert "MOT17-02-FRCNN, MOT17-02-SDP" in record.getMessage()


def test_sequences_with_the_same_boxes_are_two_by_other_names(tmp_path):
    for name in ("A", "B"):
        write_sequence(tmp_path / "data" / name)
    assert len(mot.read_sequences(tmp_path / "data", tmp_path / "crops")) == 6


def read_in_process(directory, crops_dir, barrier):
    barrier.wait(30)
    mot.read_sequences(directory, crops_dir)


class TestCrops:
    @pytest.fixture
    def data(self, tmp_path):
        return write_sequence(tmp_path / "SEQ")

    def test_a_second_call_finds_them_ready(self, data, tmp_path, monkeypatch, caplog):
        caplog.set_level("INFO")
        first = mot.read_sequences(data, tmp_path / "crops")
        times = [os.stat(name).st_mtime_ns for name in first.filenames]
        monkeypatch.setattr(crops, "read_bgr_image", None)
        assert mot.read_sequences(data, tmp_path / "crops") == first
        assert [os.stat(name).st_mtime_ns for name in first.filenames] == times
        assert "3 crops" in caplog.records[-1].getMessage()
        assert "are ready" in caplog.records[-1].getMessage()

    @pytest.mark.parametrize("change", ["boxes", "frame", "time", "name", "visibility"])
    def test_other_data_gives_other_crops(self, data, tmp_path, monkeypatch, change):
        mot.read_sequences(data, tmp_path / "crops")
        image = data / "img1" / "000003.png"
        if change == "boxes":
            write_sequence(data, BOXES + "\n")
        elif change == "frame":
            image.write_bytes(image.read_bytes() + b"\0")
        elif change == "time":
            os.utime(image, ns=(0, 0))
        elif change == "name":
            image.rename(image.with_name("4.png"))
        else:
            monkeypatch.setattr(boxes, "MIN_VISIBILITY", 0.6)
        listing = mot.read_sequences(data, tmp_path / "crops")
        assert len(os.listdir(tmp_path / "crops")) == 2
        assert len(listing) == (2 if change == "visibility" else 3)

    def test_others_can_read_them_as_they_can_any_file(self, data, tmp_path):
        mot.read_sequences(data, tmp_path / "crops")
        (folder,) = (tmp_path / "crops").iterdir()
        (tmp_path / "plain").mkdir()
        assert folder.stat().st_mode == (tmp_path / "plain").stat().st_mode

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
    def test_nothing_is_left_behind(self, data, tmp_path, monkeypatch, error):
        cut = crops.cut

        def fail(image, box):
            if box.track == 7:
                raise error
            return cut(image, box)

        monkeypatch.setattr(crops, "cut", fail)
        with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else OSError):
            mot.read_sequences(data, tmp_path / "crops")
        assert os.listdir(tmp_path / "crops") == []

    def test_nothing_is_left_behind_after_ctrl_c(self, data, tmp_path, monkeypatch):
        def interrupt(path, kind):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.2)
            return images.read_bgr_image(path, kind)

        monkeypatch.setattr(crops, "read_bgr_image", interrupt)
        monkeypatch.setattr(os, "cpu_count", lambda: 1)
        with pytest.raises(KeyboardInterrupt):
            mot.read_sequences(data, tmp_path / "crops")
        assert os.listdir(tmp_path / "crops") == []

    def test_after_an_error_waiting_frames_are_not_begun(self, tmp_path, monkeypatch):
        numbers = range(1, 201)
        boxes = "".join(f"{number},1,0,0,5,5\n" for number in numbers)
        data = write_sequence(tmp_path / "SEQ", boxes, numbers=numbers)
        (data / "img1" / "000001.png").write_bytes(b"")
        begun, never = [], threading.Event()

        def slow(path, kind):
            begun.append(path)
            if path.name != "000001.png":
                never.wait(0.05)
            return images.read_bgr_image(path, kind)

        monkeypatch.setattr(crops, "read_bgr_image", slow)
        error_of(mot.read_sequences, data, tmp_path / "crops")
        assert len(begun) < 100

    def test_what_was_ready_meanwhile_is_used(self, data, tmp_path, monkeypatch):
        cut_all = crops.cut_all
        other = {}

        def be_slower(jobs, target):
            monkeypatch.setattr(crops, "cut_all", cut_all)
            other["listing"] = mot.read_sequences(data, tmp_path / "crops")
            other["times"] = [os.stat(n).st_mtime_ns for n in other["listing"].filenames]
            return cut_all(jobs, target)

        monkeypatch.setattr(crops, "cut_all", be_slower)
        listing = mot.read_sequences(data, tmp_path / "crops")
        assert listing == other["listing"]
        assert [os.stat(name).st_mtime_ns for name in listing.filenames] == other["times"]
        assert len(os.listdir(tmp_path / "crops")) == 1

    def test_a_folder_that_cannot_be_put_in_place_is_an_error(self, data, tmp_path, monkeypatch):
        def fail(source, target):
            raise PermissionError(13, "Permission denied", target)

        monkeypatch.setattr(os, "rename", fail)
        with pytest.raises(PermissionError):
            mot.read_sequences(data, tmp_path / "crops")
        assert os.listdir(tmp_path / "crops") == []

    def test_threads_at_once_make_one_folder(self, data, tmp_path):
        with ThreadPoolExecutor(4) as pool:
            arguments = [data] * 4, [tmp_path / "crops"] * 4
            listings = list(pool.map(mot.read_sequences, *arguments))
        assert all(listing == listings[0] for listing in listings)
        assert len(os.listdir(tmp_path / "crops")) == 1

    def test_processes_at_once_make_one_folder(self, data, tmp_path):
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(2)
        arguments = (data, tmp_path / "crops", barrier)
        processes = [context.Process(target=read_in_process, args=arguments) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
        assert len(os.listdir(tmp_path / "crops")) == 1
        assert len(mot.read_sequences(data, tmp_path / "crops")) == 3


MOT_CELLS = st.sampled_from(
    ["", "0", "1", "2", "-1", "1.0", "0.5", "-3.7", "5", "1e308", "-1e308", "1e999", "nan", "inf"]
    + ["1_0", "x", " 1 ", "\u0661", "9" * 400, "\0", "\x85", '"1"']
)
MOT_FILES = (
    st.binary(max_size=100)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
    | st.lists(
        st.lists(st.sampled_from("0125") | MOT_CELLS, min_size=5, max_size=11).map(",".join)
        | st.tuples(
            st.sampled_from("12"),
            st.integers(1, 10**9).map(str),
            *(st.floats(allow_nan=False, allow_infinity=False).map(str) for _ in range(4)),
        ).map(",".join),
        max_size=4,
    ).map(lambda rows: "\n".join(rows).encode())
)


@settings(max_examples=200)
@given(MOT_FILES)
def test_any_ground_truth_gives_crops_or_one_clear_line(content):
    with tempfile.TemporaryDirectory() as directory:
        data = write_sequence(Path(directory, "SEQ"), content, numbers=(1, 2))
        crops_dir = Path(directory, "crops")
        try:
            listing = mot.read_sequences(data, crops_dir)
        except DataError as error:
            assert len(str(error).splitlines()) == 1
            assert not crops_dir.exists() or not os.listdir(crops_dir)
        else:
            assert all(cv2.imread(name).size for name in listing.filenames)

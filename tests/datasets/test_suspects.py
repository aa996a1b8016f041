"""Splits and cameras are not taken for identities, and identities are not taken for these."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.own import suspects
from datasets.own.folders import read_folders
from deep_reid.errors import DataError

PARTS = ["train", "test", "query", "gallery", "val", "training", "testing", "validation", "probe"]
FORMS = [
    "{}", "bounding_box_{}", "image_{}", "images_{}", "{}_images", "{}-all", "gt_{}", "{}_bbox",
    "{}Set", "{} set", "multi-{}", "{}_crops", "{}2017",
]  # fmt: skip
CAMERA_FORMS = [
    "cam_{}", "cam{}", "Cam-{}", "camera_{}", "Camera {}", "CAM_{}", "{}_cam", "image_{}",
]  # fmt: skip
CASES = [str, str.upper, str.title]


def write(directory, *names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def refusal(directory):
    with pytest.raises(DataError) as error:
        read_folders(directory)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestRefused:
    @pytest.fixture(autouse=True)
    def _nothing_but_the_refusal(self, caplog):
        """What is left out of data that are refused is no matter, and would mislead."""
        yield
        assert not caplog.get_records("call")

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("change", CASES)
    @pytest.mark.parametrize("parts", [*itertools.combinations(PARTS[:5], 2), PARTS[:3], PARTS])
    def test_folders_of_splits_are_suspect(self, form, change, parts):
        names = [change(form.format(part)) for part in parts]
        assert suspects.find_suspects(names) == ("splits", names)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("part", PARTS)
    def test_one_split_alone(self, form, part):
        if "2017" not in form:
            assert suspects.find_suspects([form.format(part)])[0] == "splits"

    @pytest.mark.parametrize("form", CAMERA_FORMS)
    @pytest.mark.parametrize("numbers", ["ab", "12", ["00", "01", "02"], ["02", "03"], "123456"])
    def test_folders_of_cameras_are_suspect(self, form, numbers):
        if form in ("cam{}",) and not numbers[0].isdecimal():
            numbers = [number.upper() for number in numbers]
        if form.startswith("image") and not numbers[0].isdecimal():
            return
        names = [form.format(number) for number in numbers]
        assert suspects.find_suspects(names) == ("cameras", names)

    @pytest.mark.parametrize(
        "form", ["cars_{}", "{}-A", "mask_{}_v2", "person {}", "seq01-{}", "Füße_{}"]
    )
    @pytest.mark.parametrize("change", CASES)
    @pytest.mark.parametrize("parts", [*itertools.combinations(PARTS[:5], 2), PARTS[:3]])
    def test_folders_that_differ_in_the_split_alone(self, form, change, parts):
        names = [form.format(change(part)) for part in parts]
        assert suspects.find_suspects(names) == ("splits", names)
        # One alone can be a thing, and a few among many identities can be two things.
        assert suspects.find_suspects(names[:1]) is None
        assert suspects.find_suspects(names + [f"{i:04d}" for i in range(20)]) is None

    @pytest.mark.parametrize(
        "names",
        [
            ["eval", "train"], ["holdout", "train"], ["queries", "database"],
            ["query", "reference"], ["training", "validate"], ["distractors", "query"],
        ],
    )  # fmt: skip
    def test_other_words_for_splits(self, names):
        assert suspects.find_suspects(names) == ("splits", names)

    @pytest.mark.parametrize(
        "names",
        [
            ["cam1_day", "cam1_night"], ["lobby_cam", "gate_cam"], ["Camera Lobby", "Camera Hall"],
            ["seq1_cam1", "seq1_cam2"], ["cctv1", "cctv2"], ["ipcam-1", "ipcam-2"],
            ["caméra1", "caméra2"], ["cámara A", "cámara B"], ["ch01", "ch02"],
            ["cam_rgb", "cam_thermal"],
        ],
    )  # fmt: skip
    def test_other_words_for_cameras(self, names):
        assert suspects.find_suspects(names) == ("cameras", names)

    def test_cameras_of_a_car(self):
        names = ["CAM_FRONT", "CAM_BACK", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"]
        assert suspects.find_suspects(names) == ("cameras", names)

    @pytest.mark.parametrize(
        "names",
        [["images"], ["image"], ["crops"], ["train", "images"], ["img1"], ["labeled", "detected"]],
    )
    def test_folders_of_images(self, names):
        assert suspects.find_suspects(names)[1] == names

    def test_splits_among_a_few_others(self):
        names = ["bounding_box_test", "bounding_box_train", "query", "gt_bbox"]
        assert suspects.find_suspects(names)[0] == "splits"

    def test_market_1501_names_its_pattern(self, tmp_path):
        for folder in ("bounding_box_train", "bounding_box_test", "query"):
            write(tmp_path, *(f"{folder}/000{i}_c{i}s1_000451_03.jpg" for i in range(1, 5)))
        assert "add --name_pattern=market1501" in refusal(tmp_path)

    def test_names_of_another_data_set_do_not_name_a_pattern(self, tmp_path):
        """GRID's names begin as those of CUHK03, whose pattern would make two of each person."""
        for number, folder in enumerate(("probe", "gallery"), 1):
            write(tmp_path, *(f"{folder}/{i:04d}_{number}_25023_107_32_106.jpg" for i in range(4)))
        assert "--name_pattern=cuhk03" not in refusal(tmp_path)

    @pytest.mark.parametrize("folders", [("cam_a", "cam_b"), ("train", "val"), ("images",)])
    def test_without_known_names_a_way_out_is_shown(self, tmp_path, folders):
        write(tmp_path, *(f"{folder}/{i}.jpg" for folder in folders for i in range(4)))
        message = refusal(tmp_path)
        assert "--name_pattern='(?P<identity>" in message
        assert "one folder per identity" in message

    @pytest.mark.parametrize(
        "beside", ["readme.txt", "query/Thumbs.db", "gt_query/a.mat", "empty/sub/x", "@eaDir/x"]
    )
    @pytest.mark.parametrize(
        "names",
        [
            [f"{folder}/0002_c1s1_000451_03.jpg" for folder in
             ("bounding_box_train", "bounding_box_test", "query")],
            ["cam_a/1.jpg", "cam_b/1.jpg"],
            ["train/cam_1/1.jpg", "train/cam_2/1.jpg", "other/1.jpg"],
            ["train/a/1.jpg", "query/a/1.jpg", "other/1.jpg"],
        ],
    )  # fmt: skip
    def test_what_lies_beside_is_not_named(self, tmp_path, names, beside):
        write(tmp_path, *names, beside, f"{names[0].split('/')[0]}/sub/deeper/x.txt")
        refusal(tmp_path)

    def test_inside_a_split_too(self, tmp_path):
        write(tmp_path, "train/cam_1/1.jpg", "train/cam_2/1.jpg")
        assert "cam_1, cam_2 are cameras, not identities" in refusal(tmp_path)

    def test_folders_of_any_name_by_the_names_of_their_files(self, tmp_path):
        names = [f"c{i % 3}/{i:04d}_c{i % 3}s1_000451_03.jpg" for i in range(12)]
        write(tmp_path, *names)
        message = refusal(tmp_path)
        assert "has 3 identities (c0, c1, c2), but its files are named after 12" in message
        assert "--name_pattern=market1501" in message


class TestAccepted:
    @pytest.mark.parametrize(
        "names",
        [
            ["train", "bus", "car"],
            ["Val", "Dev", "Ann", "Bob", "Zoe"],
            ["Camilla", "Cameron", "Cam"],
            ["Cama", "Camb"],
            ["train 1", "train 2", "train 3"],
            ["test", "0001", "0002"],
            ["box", "frame"],
            ["c1", "c2"],
            ["1", "2"],
            ["a", "b"],
            ["cam_1", "Ann", "Bob", "Zoe"],
            ["Test Person", "Query Ltd"],
            ["trainer", "tester"],
        ],
    )
    def test_folders_of_identities_are_not_suspect(self, names):
        assert suspects.find_suspects(names) is None

    @settings(max_examples=300)
    @given(st.lists(st.integers(0, 9999).map("{:04d}".format), min_size=1, unique=True))
    def test_folders_of_numbers_are_not_suspect(self, names):
        assert suspects.find_suspects(names) is None

    @settings(max_examples=300)
    @given(st.lists(st.text(min_size=1), min_size=1, unique=True))
    def test_any_text_ends_in_an_answer(self, names):
        found = suspects.find_suspects(names)
        assert found is None or set(found[1]) <= set(names)

    def test_files_of_the_identity_that_their_folder_is_named_after(self, tmp_path):
        names = [f"{i:04d}/{i:04d}_c{c}s1_000451_03.jpg" for i in range(5) for c in range(3)]
        write(tmp_path, *names)
        assert len(read_folders(tmp_path)) == 15

"""Identity, camera and split from the names of files."""

import argparse
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.custom import Custom
from datasets.market1501 import Market1501
from datasets.own.folders import read_folders
from deep_reid.cli import settings as cli_settings
from deep_reid.cli.arguments import ArgumentParser
from deep_reid.config import RunConfig
from deep_reid.config.kinds import FileNamePattern
from deep_reid.errors import DataError, UsageError
from deep_reid.system.name_patterns import PRESETS, NamePattern, guess_preset

NUMBERS = r"(?P<identity>\d+)_c(?P<camera>\d+)"


def write(directory, *names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def read(directory, pattern):
    """Entries as (path in the folder, identity, camera, split)."""
    listing = read_folders(directory, NamePattern(pattern))
    names = [os.path.relpath(name, directory) for name in listing.filenames]
    cameras = listing.cameras or [None] * len(names)
    return [*zip(names, listing.identities, cameras, listing.splits, strict=True)]


class TestPattern:
    @pytest.mark.parametrize(
        ("pattern", "path", "told"),
        [
            (NUMBERS, "0002_c1s1_1.jpg", {"identity": "0002", "camera": "1"}),
            (NUMBERS, "x/0002_c1.jpg", {"identity": "0002", "camera": "1"}),
            # Junk of Market-1501 is not person 1, and other numbers are not passed over.
            (NUMBERS, "-1_c1s1_1.jpg", None),
            (NUMBERS, "a0002_c1.jpg", None),
            (NUMBERS, "0002_c1/1.jpg", None),
            (".*?" + NUMBERS, "img_0002_c1.jpg", {"identity": "0002", "camera": "1"}),
            ("(?P<identity>[^/]+)/", "a/b/c.jpg", {"identity": "b"}),
            ("(?P<camera>[^/]+)/(?P<identity>[^/]+)/", "r/a/b/c.jpg",
             {"camera": "a", "identity": "b"}),
            ("(?P<identity>[^/]+)_", "a_b/c.jpg", None),
            ("(?P<identity>a?)", "b.jpg", None),
        ],
    )  # fmt: skip
    def test_matches_from_the_start_of_a_name(self, pattern, path, told):
        assert NamePattern(pattern).match(path) == told

    @pytest.mark.parametrize("name", PRESETS)
    def test_presets_read_their_example(self, name):
        preset, pattern = PRESETS[name], NamePattern(name)
        if preset.pattern:
            assert set(pattern.match(preset.example)) == {"identity", "camera"}
            assert pattern.match("nothing.jpg") is None
            assert guess_preset([preset.example, f"data/{preset.example}"]) == name
        else:
            assert pattern.groups == set()

    @pytest.mark.parametrize(
        ("name", "path", "identity", "camera"),
        [
            ("market1501", "bounding_box_test/-1_c3s2_000451_00.jpg", "-1", "3"),
            ("market1501", "query/1501_c6s3_091432_00.jpg", "1501", "6"),
            ("dukemtmc", "7141_c8_f0093221.jpg", "7141", "8"),
            ("veri", "image_query/0776_c020_00084925_0.jpg", "0776", "020"),
            ("msmt17", "0000_000_15_0303afternoon_0008_0.jpg", "0000", "15"),
            ("msmt17", "0000_000_15_0303noon_0008_0_ex.jpg", "0000", "15"),
            ("cuhk03", "images_labeled/5_012_2_07.png", "5_012", "2"),
            ("viper", "VIPeR/cam_b/873_180.bmp", "873", "cam_b"),
        ],
    )
    def test_a_preset_reads_identity_and_camera(self, name, path, identity, camera):
        assert NamePattern(name).match(path) == {"identity": identity, "camera": camera}

    @pytest.mark.parametrize(
        "text", ["", "(", "(?P<identity>", r"\d+", "(?P<id>.)", "(.)", "market", "(?P<identity>.)["]
    )
    def test_what_is_no_pattern_is_refused(self, text):
        with pytest.raises(UsageError, match="market1501") as error:
            NamePattern(text)
        assert "\n" not in str(error.value)
        with pytest.raises(argparse.ArgumentTypeError):
            FileNamePattern().read(text)

    @settings(max_examples=300)
    @given(st.text(max_size=30), st.text(max_size=30))
    def test_any_text_is_a_pattern_or_refused(self, text, path):
        try:
            told = NamePattern(text).match(path)
        except UsageError:
            return
        assert told is None or all(told.values())


class TestFolders:
    def test_a_flat_folder(self, tmp_path):
        write(tmp_path, "0002_c1s1.jpg", "0002_c3s1.jpg", "0007_c2.png")
        assert read(tmp_path, NUMBERS) == [
            ("0002_c1s1.jpg", "0002", "1", "train"),
            ("0002_c3s1.jpg", "0002", "3", "train"),
            ("0007_c2.png", "0007", "2", "train"),
        ]

    def test_images_anywhere_below(self, tmp_path):
        write(tmp_path, "a/b/0001_c1.jpg", "0002_c1.jpg", ".x/0003_c1.jpg", "@eaDir/0004_c1.jpg")
        assert [row[1] for row in read(tmp_path, NUMBERS)] == ["0002", "0001"]

    def test_a_link_to_a_folder_above_ends(self, tmp_path):
        write(tmp_path, "a/0001_c1.jpg", "a/0002_c1.jpg")
        (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
        assert len(read(tmp_path, NUMBERS)) == 2

    @pytest.mark.parametrize(
        ("train", "query", "gallery"),
        [
            ("bounding_box_train", "query", "bounding_box_test"),
            ("image_train", "image_query", "image_test"),
            ("train", "query", "gallery"),
            ("Train", "Probe", "Gallery"),
            ("training_images", "query_images", "gallery_images"),
            ("cars_train", "cars_query", "cars_gallery"),
        ],
    )
    def test_splits_by_the_names_of_folders(self, tmp_path, caplog, train, query, gallery):
        write(tmp_path, f"{train}/0001_c1.jpg", f"{query}/0002_c1.jpg", f"{gallery}/0002_c2.jpg",
              "gt_bbox/0001_c1.jpg")  # fmt: skip
        rows = [(identity, split) for _, identity, _, split in read(tmp_path, NUMBERS)]
        assert rows == [("0001", "train"), ("0002", "query"), ("0002", "gallery")]
        assert "other folders are left out, such as gt_bbox" in caplog.text

    def test_training_and_test_that_number_their_persons_alike(self, tmp_path, caplog):
        """MSMT17_V2: person 0 of the one folder is not person 0 of the other."""
        write(tmp_path, *(f"mask_{part}_v2/0000/0000_000_0{i}_0303morning_0008_0.jpg"
                          for i, part in enumerate(["train", "test"])))  # fmt: skip
        assert [row[2:] for row in read(tmp_path, "msmt17")] == [("00", "train")]
        assert "other folders are left out, such as mask_test_v2" in caplog.text

    def test_two_folders_of_one_split(self, tmp_path):
        write(tmp_path, "image_train/0001_c1.jpg", "train_all/0001_c1.jpg")
        with pytest.raises(DataError, match="more than one folder of the split train"):
            read(tmp_path, NUMBERS)
        write(tmp_path, "train/0001_c1.jpg")
        assert len(read(tmp_path, NUMBERS)) == 1

    @pytest.mark.parametrize("name", ["test", "val", "bounding_box_test"])
    def test_neither_training_nor_query_nor_gallery(self, tmp_path, name):
        write(tmp_path, f"{name}/0001_c1.jpg")
        with pytest.raises(DataError, match=f"has the folder {name}, but neither train"):
            read(tmp_path, NUMBERS)

    def test_splits_by_the_names_of_files(self, tmp_path):
        write(tmp_path, "train-1.jpg", "query-2.jpg", "test-2.png", "Gallery-3.png")
        pattern = "(?P<split>[A-Za-z]+)-(?P<identity>.)"
        assert sorted(row[3] for row in read(tmp_path, pattern)) == [
            "gallery", "gallery", "query", "train"
        ]  # fmt: skip

    def test_cameras_of_folders_of_identities(self, tmp_path):
        write(tmp_path, "train/Ann/c1_1.jpg", "query/Bob/c1_1.jpg", "gallery/Bob/c2_1.jpg")
        assert [row[1:] for row in read(tmp_path, r"c(?P<camera>\d+)")] == [
            ("Ann", "1", "train"), ("Bob", "1", "query"), ("Bob", "2", "gallery")
        ]  # fmt: skip

    def test_names_of_another_form_are_left_out_and_counted(self, tmp_path, caplog):
        write(tmp_path, "0001_c1.jpg", "x.jpg", "-1_c1.jpg")
        assert len(read(tmp_path, NUMBERS)) == 1
        assert "2 images whose names do not match --name_pattern are left out" in caplog.text

    @pytest.mark.parametrize("names", [["x.jpg"], ["a/x.jpg", "b/y.jpg"]])
    def test_no_name_matches(self, tmp_path, names):
        write(tmp_path, *names)
        with pytest.raises(DataError, match="none of the . images"):
            read(tmp_path, NUMBERS)

    def test_vehicleid_has_lists(self, tmp_path):
        write(tmp_path, "image/0000001.jpg")
        with pytest.raises(DataError, match=r"--dataset=.*/train_test_split/train_list.txt"):
            read(tmp_path, "vehicleid")


class TestDataset:
    """A data set in the layout of Market-1501 is read as its own reader reads it."""

    def test_a_folder_of_market_1501_is_read_as_by_its_own_reader(self, drawn_market1501):
        own = Custom(drawn_market1501, 0, name_pattern="market1501")
        official = Market1501(drawn_market1501, 0)
        for name in ("train", "query", "gallery"):
            one, other = getattr(own, name), getattr(official, name)
            assert one.filenames == other.filenames
            names = ["0000" if label == 0 else f"{label:04d}" for label in other.labels]
            names = [name.replace("-001", "-1") for name in names]
            assert [own.name_of(label) for label in one.labels.tolist()] == names
            np.testing.assert_array_equal(one.cameras, other.cameras)
        assert own.test_set().is_cross_camera

    @pytest.mark.parametrize("flag", ["name_pattern", "mot_classes"])
    def test_only_some_data_sets_have_the_flags(self, flag, capsys):
        value = {"name_pattern": "veri", "mot_classes": "1"}[flag]
        args = ArgumentParser(Custom).parse_args([f"--{flag}", value])
        assert flag in args.given
        with pytest.raises(SystemExit):
            ArgumentParser(Market1501).parse_args([f"--{flag}", value])
        assert f"--{flag}" in capsys.readouterr().err

    def test_a_run_keeps_it_but_not_for_other_data(self, tmp_path):
        RunConfig((128, 64, 3), dataset="people", name_pattern="veri", mot_classes=["1"]).save(
            tmp_path
        )
        parser = ArgumentParser(Custom)

        def settle(*argv):
            config = cli_settings.settle(parser.parse_args(argv), Custom, tmp_path)
            return config.name_pattern, config.mot_classes

        assert settle("--mode=test") == ("veri", ("1",))
        assert settle("--mode=test", "--dataset=./people") == ("veri", ("1",))
        assert settle("--mode=test", "--dataset=others") == (None, ())
        assert settle("--mode=test", "--dataset=others", "--name_pattern=viper") == ("viper", ())

    def test_what_has_no_meaning_is_refused(self, tmp_path):
        write(tmp_path, "a/1.jpg", "b/1.jpg")
        with pytest.raises(UsageError, match="--mot_classes has no meaning"):
            _ = Custom(tmp_path, mot_classes=["1"]).train
        write(tmp_path, "gt/gt.txt", "img1/000001.jpg")
        with pytest.raises(UsageError, match="--name_pattern has no meaning"):
            _ = Custom(tmp_path, name_pattern="veri").train

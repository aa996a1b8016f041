"""Images of one's own: forms, labels, cameras, splits, and the test on them."""

import csv
import logging

import cv2
import numpy as np
import pytest

from datasets import custom
from datasets.custom import Custom
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.scoring import protocols


def write_folders(directory, counts, split=""):
    """Write as many images per identity as told; no two are equal."""
    random = np.random.default_rng(len(counts))
    for name, count in counts.items():
        folder = directory / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            image = random.integers(0, 256, (8, 4, 3), np.uint8)
            cv2.imwrite(str(folder / f"{number}.png"), image)
    return directory


def write_csv(directory, rows):
    """Write a CSV file with a header and the images that it names."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        cv2.imwrite(str(directory / row[0]), np.full((8, 4, 3), number, np.uint8))
    header = ["path", "identity", "camera", "split"][: len(rows[0])]
    with open(directory / "people.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return directory / "people.csv"


def identities(dataset, split):
    return {dataset.name_of(label) for label in split.labels.tolist()}


class TestForms:
    COUNTS = {"anna": 2, "Bjørn B.": 3, "carl": 2, "dora": 2, "emil": 2}

    def test_folders_of_identities(self, tmp_path):
        dataset = Custom(write_folders(tmp_path, self.COUNTS))
        assert len(dataset.train) + len(dataset.validation) == 11
        both = identities(dataset, dataset.train) | identities(dataset, dataset.validation)
        assert both == set(self.COUNTS)

    def test_there_is_a_class_for_each_label(self, tmp_path):
        """Asked for where --config is of a run without compact labels."""
        dataset = Custom(write_folders(tmp_path, self.COUNTS))
        labels = [*dataset.train.labels.tolist(), *dataset.validation.labels.tolist()]
        assert {*labels} == {*range(1, dataset.num_classes)}

    def test_a_csv_file(self, tmp_path):
        rows = [[f"{i}.png", name] for i, name in enumerate(["b", "a", "b", "a"] * 2)]
        dataset = Custom(write_csv(tmp_path, rows), 0)
        assert dataset.train.labels.tolist() == [2, 1, 2, 1] * 2
        assert dataset.train.cameras.tolist() == [1] * 8
        assert dataset.train.filenames[3] == str(tmp_path / "3.png")

    def test_a_mot_sequence(self, tmp_path, monkeypatch):
        monkeypatch.setattr(custom, "CROPS_DIR", str(tmp_path / "crops"))
        sequence = tmp_path / "walk"
        (sequence / "gt").mkdir(parents=True)
        (sequence / "img1").mkdir()
        frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
        lines = []
        for number in (1, 2, 3):
            cv2.imwrite(str(sequence / "img1" / f"{number:06d}.png"), frame)
            lines += [f"{number},{track},{10 * track},5,8,16,1,1,1" for track in (1, 2)]
        (sequence / "gt" / "gt.txt").write_text("\n".join(lines))
        dataset = Custom(sequence)
        assert len(dataset.train) == 6
        assert identities(dataset, dataset.train) == {"walk_000001", "walk_000002"}
        crop = cv2.imread(dataset.train.filenames[0])
        np.testing.assert_array_equal(crop, frame[5:21, 10:18])

    def test_nothing_there_says_what_may_be_there_and_how_to_draw_it(self, tmp_path):
        with pytest.raises(MissingPathError) as caught:
            Custom(tmp_path / "people")
        for part in ("people does not exist", "one folder of images per identity", "CSV",
                     "MOTChallenge", "--layout folders --output_dir"):  # fmt: skip
            assert part in str(caught.value)

    def test_cameras_are_numbered_from_1_in_the_order_of_their_names(self, tmp_path):
        names = ["west", "east", "north", "east"]
        rows = [[f"{i}.png", "ab"[i % 2], name] for i, name in enumerate(names)]
        assert Custom(write_csv(tmp_path, rows), 0).train.cameras.tolist() == [3, 1, 2, 1]


class TestValidation:
    @pytest.mark.parametrize(
        ("num_identities", "number", "expected"),
        [(2, 0.1, 0), (3, 0.1, 0), (4, 0.1, 2), (5, 0.1, 2), (30, 0.1, 3), (30, 0.5, 15),
         (30, 0.0, 0), (30, 0, 0), (30, 1, 1), (30, 28, 28)],
    )  # fmt: skip
    def test_a_share_is_two_at_least_where_there_are_four(
        self, tmp_path, num_identities, number, expected
    ):
        names = [f"{i:03d}" for i in range(num_identities)]
        dataset = Custom(write_folders(tmp_path, dict.fromkeys(names, 2)), number)
        assert dataset.validation.num_identities == expected
        train = identities(dataset, dataset.train)
        assert len(train) == num_identities - expected
        assert not train & identities(dataset, dataset.validation)

    def test_the_seed_chooses_the_identities(self, tmp_path):
        write_folders(tmp_path, {f"{i:03d}": 2 for i in range(30)})
        chosen = [
            identities(d, d.validation) for d in (Custom(tmp_path, 5, seed) for seed in (1, 1, 2))
        ]
        assert chosen[0] == chosen[1] != chosen[2]

    def test_identities_with_one_image_are_trained_on_and_a_line_says_so(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        counts = {**{f"single{i}": 1 for i in range(8)}, "anna": 2, "carl": 3}
        dataset = Custom(write_folders(tmp_path, counts), 0.9)
        assert identities(dataset, dataset.validation) == {"anna", "carl"}
        assert "8 identities with a single image are trained on, and left out" in caplog.text

    @pytest.mark.parametrize("number", [4, 5, 100])
    def test_more_than_there_are_is_refused(self, tmp_path, number):
        write_folders(tmp_path, {"a": 2, "b": 2, "c": 2, "d": 2, "e": 1})
        dataset = Custom(tmp_path, number)
        with pytest.raises(UsageError, match=r"is too large: 4 of the 5 .* use at most 3"):
            _ = dataset.train

    def test_one_identity_is_too_few_to_train_on(self, tmp_path):
        dataset = Custom(write_folders(tmp_path, {"anna": 5}))
        with pytest.raises(DataError, match=r"has one identity to train on \(anna\)"):
            _ = dataset.train

    def test_no_images_are_too_few(self, tmp_path):
        with pytest.raises(DataError, match="no"):
            _ = Custom(tmp_path).train


class TestTestSet:
    def test_queries_and_gallery_are_used_where_there_are_some(self, tmp_path):
        for split, names in {"train": "abcd", "query": "ef", "gallery": "efg"}.items():
            write_folders(tmp_path, dict.fromkeys(names, 3), split)
        dataset = Custom(tmp_path)
        test_set = dataset.test_set()
        assert len(test_set.query_images) == 6
        assert len(test_set.gallery_images) == 9
        assert {dataset.name_of(x) for x in set(test_set.query_labels.tolist())} == {"e", "f"}
        assert min(test_set.gallery_labels) > 0  # 0 would be a distractor
        assert set(dataset.list_splits()) == {"train", "validation", "query", "gallery"}

    def test_junk_of_the_gallery_is_junk(self, tmp_path):
        for split, names in {"train": "ab", "query": "e", "gallery": ["e", "-1"]}.items():
            write_folders(tmp_path, dict.fromkeys(names, 2), split)
        dataset = Custom(tmp_path)
        assert sorted(set(dataset.gallery.labels.tolist())) == [-1, 3]
        assert dataset.name_of(-1) == "-1"

    def test_queries_without_a_gallery_are_refused(self, tmp_path):
        for split, names in {"train": "ab", "query": "ef"}.items():
            write_folders(tmp_path, dict.fromkeys(names, 3), split)
        with pytest.raises(MissingPathError, match="no images of the split 'gallery'"):
            Custom(tmp_path).test_set()

    def test_else_each_image_of_the_validation_is_the_query_in_turn(self, tmp_path):
        write_folders(tmp_path, dict.fromkeys("abcdefgh", 3))
        dataset = Custom(tmp_path)
        test_set = dataset.test_set()
        assert test_set.gallery_images == dataset.validation.filenames
        assert test_set.query_images is None
        np.testing.assert_array_equal(protocols.find_self_indices(test_set), np.arange(6))
        assert not test_set.is_cross_camera
        assert dataset.export_files() == {"feat_test.mat": dataset.validation.filenames}

    def test_without_any_of_these_there_is_no_test(self, tmp_path):
        write_folders(tmp_path, dict.fromkeys("ab", 3))
        with pytest.raises(DataError, match="--num_validation"):
            Custom(tmp_path).test_set()

    def test_training_images_are_not_needed_for_a_test(self, tmp_path):
        for split in ("query", "gallery"):
            write_folders(tmp_path, dict.fromkeys("ab", 2), split)
        dataset = Custom(tmp_path, needs_train=False)
        assert len(dataset.test_set().query_images) == 4
        with pytest.raises(MissingPathError, match="no images of the split 'train'"):
            _ = dataset.train

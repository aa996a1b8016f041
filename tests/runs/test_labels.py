"""Classes from names: their order, their file, and what must not change."""

import json

import numpy as np
import pytest

from deep_reid.errors import DataError
from deep_reid.runs import labels

NAMES = ["anna", "Bjørn B.", "zoë"]


class TestToClasses:
    def test_classes_are_numbered_in_the_order_of_the_labels(self):
        names, classes = labels.to_classes([7, -3, 7, 20])
        assert names == ["-3", "7", "20"]
        assert classes.tolist() == [1, 0, 1, 2]
        assert classes.dtype == np.int64

    def test_names_come_from_the_data_set(self):
        names, _ = labels.to_classes([2, 1], {1: "anna", 2: "zoë"}.__getitem__)
        assert names == ["anna", "zoë"]


class TestFile:
    def test_what_is_saved_is_loaded(self, tmp_path):
        labels.save(tmp_path, NAMES)
        assert labels.load(tmp_path) == NAMES

    def test_the_file_maps_names_to_classes(self, tmp_path):
        labels.save(tmp_path, NAMES)
        text = (tmp_path / "labels.json").read_text(encoding="utf-8")
        assert json.loads(text) == {"anna": 0, "Bjørn B.": 1, "zoë": 2}
        assert "Bjørn" in text

    def test_a_run_without_the_file_has_none(self, tmp_path):
        assert labels.load(tmp_path) is None

    @pytest.mark.parametrize(
        "content", ["", "{", "[1]", '{"a": 1}', '{"a": 0, "b": 0}', '{"a": "0"}', "[" * 100_000]
    )
    def test_another_file_is_named(self, tmp_path, content):
        (tmp_path / "labels.json").write_text(content)
        with pytest.raises(DataError, match=r"labels.json .*restore or delete it"):
            labels.load(tmp_path)


class TestCheckSame:
    def test_the_same_names_or_no_record_are_right(self, tmp_path):
        labels.check_same(tmp_path, NAMES)
        labels.save(tmp_path, NAMES)
        labels.check_same(tmp_path, tuple(NAMES))

    @pytest.mark.parametrize(
        ("names", "parts"),
        [
            ([*NAMES, "carl"], ["trained on 3 identities", "now there are 4", "1 new (carl)"]),
            (NAMES[1:], ["1 missing (anna)"]),
            (
                ["b", "c", "d", "e", *NAMES[2:]],
                ["4 new (b, c, d and 1 more)", "2 missing (Bjørn B., a"],
            ),
            (NAMES[::-1], ["in another order"]),
        ],
    )
    def test_others_are_named_with_the_way_out(self, tmp_path, names, parts):
        labels.save(tmp_path, NAMES)
        with pytest.raises(DataError) as caught:
            labels.check_same(tmp_path, names)
        for part in [*parts, tmp_path.name, "restore the data", f"--restore_path={tmp_path}"]:
            assert part in str(caught.value)
        assert labels.load(tmp_path) == NAMES


class TestCheckUnseen:
    def test_others_are_right(self, tmp_path):
        labels.check_unseen(tmp_path, NAMES)
        labels.save(tmp_path, NAMES)
        labels.check_unseen(tmp_path, ["carl", "dora"])

    def test_one_that_was_trained_on_is_named(self, tmp_path):
        labels.save(tmp_path, NAMES)
        with pytest.raises(DataError, match=r"1 of the 2 identities to evaluate on \(zoë\)"):
            labels.check_unseen(tmp_path, ["carl", "zoë"])


class TestNumbersOfEarlierReleases:
    """These recorded the persons of Market-1501 and MARS as 2, which the files name 0002."""

    def test_a_run_goes_on(self, tmp_path):
        labels.save(tmp_path, ["0", "2", "11", "1500"])
        labels.check_same(tmp_path, ["0000", "0002", "0011", "1500"])
        labels.check_same(tmp_path, ["0", "2", "11", "1500"])
        with pytest.raises(DataError, match=r"1 new"):
            labels.check_same(tmp_path, ["0000", "0002", "0011", "1500", "1501"])

    def test_they_are_found_among_those_to_evaluate_on(self, tmp_path):
        labels.save(tmp_path, ["0", "2", "11"])
        labels.check_unseen(tmp_path, ["0012", "1100"])
        with pytest.raises(DataError, match=r"1 of the 2 identities to evaluate on \(11\)"):
            labels.check_unseen(tmp_path, ["0011", "0012"])

    @pytest.mark.parametrize("recorded", [["01", "1"], ["1", "anna"], ["007"]])
    def test_names_of_ones_own_data_are_compared_as_they_are(self, tmp_path, recorded):
        labels.save(tmp_path, recorded)
        labels.check_same(tmp_path, recorded)
        labels.check_unseen(tmp_path, ["001", "7"])
        with pytest.raises(DataError, match="was trained on"):
            labels.check_same(tmp_path, ["001", *recorded[1:]])

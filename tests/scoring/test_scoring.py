"""From features to scores: what is read, checked, averaged, tabulated and written."""

import contextlib
import itertools
import json
import shutil

import numpy as np
import pytest
from scipy import io

from datasets.base import Split
from datasets.protocols import create_image_test_set, create_track_test_set
from deep_reid.errors import DataError, MissingPathError
from deep_reid.scoring import protocols, ranking
from deep_reid.system.tables import align

TRACKS = [[1, 2, 7, 1], [3, 3, 0, 2], [4, 6, 7, 2]]


def create_test_set(gallery_names=("a.jpg", "b.jpg", "c.jpg"), query_names=("q.jpg",)):
    gallery = Split([f"g/{name}" for name in gallery_names], [7, 0, 7], [1, 2, 2])
    query = Split([f"q/{name}" for name in query_names], [7] * len(query_names), [1])
    return create_image_test_set("images", query, gallery)


def create_result():
    gallery = protocols.create_feature_sets(
        create_test_set(), [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]], [[1.0, 0.0]]
    )
    return ranking.rank(*gallery)


class TestLoadFeatures:
    FEATURES = np.arange(6, dtype=np.float32).reshape(3, 2)

    def test_mat_and_npy(self, tmp_path):
        io.savemat(tmp_path / "f.mat", {"features": self.FEATURES})
        np.save(tmp_path / "f.npy", self.FEATURES)
        for name in ("f.mat", "f.npy"):
            np.testing.assert_array_equal(protocols.load_features(tmp_path / name), self.FEATURES)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(MissingPathError, match=r"f.mat do not exist: --mode=export"):
            protocols.load_features(tmp_path / "f.mat")

    def test_a_mat_file_without_the_variable_names_those_it_has(self, tmp_path):
        io.savemat(tmp_path / "f.mat", {"feat": self.FEATURES, "labels": [1]})
        with pytest.raises(DataError, match=r"no variable 'features' \(it has feat, labels\)"):
            protocols.load_features(tmp_path / "f.mat")

    @pytest.mark.parametrize("name", ["f.mat", "f.npy"])
    @pytest.mark.parametrize("content", [b"", b"x", b"text" * 99])
    def test_a_file_of_another_kind(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            protocols.load_features(tmp_path / name)

    @pytest.mark.parametrize(
        "shape",
        ["(99999999999,)", "(3, 99999999999)", "(3, -2)", "(2.5,)", "(2**70,)",
         "(4294967296, 4294967296)", "(" * 400, "'x'", "None", "3", "(3, 2", "3, 2)\n"],
    )  # fmt: skip
    def test_a_npy_file_with_a_header_that_is_wrong(self, tmp_path, shape):
        np.save(tmp_path / "f.npy", self.FEATURES)
        content = (tmp_path / "f.npy").read_bytes()
        header = content[10:128].replace(b"(3, 2)", shape.encode())
        size = len(header).to_bytes(2, "little")
        (tmp_path / "f.npy").write_bytes(content[:8] + size + header + content[128:])
        with pytest.raises(DataError, match="f.npy cannot be read") as info:
            protocols.load_features(tmp_path / "f.npy")
        assert "\n" not in str(info.value)

    def test_a_npy_file_that_is_damaged_anywhere(self, tmp_path):
        np.save(tmp_path / "f.npy", self.FEATURES)
        content = (tmp_path / "f.npy").read_bytes()
        for position, value in itertools.product(range(128), b"\0\xff({'09f"):
            changed = content[:position] + bytes([value]) + content[position + 1 :]
            (tmp_path / "f.npy").write_bytes(changed)
            with contextlib.suppress(DataError):
                protocols.load_features(tmp_path / "f.npy")

    def test_an_archive_is_not_features(self, tmp_path):
        np.savez(tmp_path / "f.npz", self.FEATURES)
        (tmp_path / "f.npz").rename(tmp_path / "f.npy")
        with pytest.raises(DataError, match="f.npy cannot be read"):
            protocols.load_features(tmp_path / "f.npy")

    def test_a_mat_file_that_is_damaged_anywhere(self, tmp_path):
        path = tmp_path / "f.mat"
        io.savemat(path, {"features": np.random.default_rng(1).random(3000)}, do_compression=True)
        content = path.read_bytes()
        damaged = [content[:size] for size in range(0, 300, 7)]
        for position in range(130, 300, 11):
            changed = bytearray(content)
            changed[position] ^= 255
            damaged.append(bytes(changed))
        for part in damaged:
            path.write_bytes(part)
            with pytest.raises(DataError, match="f.mat cannot be read"):
                protocols.load_features(path)


class TestFeatureSets:
    def test_images_are_items(self):
        query, gallery = protocols.create_feature_sets(create_test_set(), np.eye(3), [[1, 2, 3]])
        np.testing.assert_array_equal(gallery.features, np.eye(3))
        np.testing.assert_array_equal(query.features, [[1, 2, 3]])
        np.testing.assert_array_equal(gallery.labels, [7, 0, 7])
        np.testing.assert_array_equal(query.cameras, [1])

    def test_a_track_is_the_mean_of_its_images_normalized_again(self):
        features = np.array([[1, 0], [0, 1], [0, 2], [3, 0], [3, 0], [0, 3]], np.float32)
        test_set = create_track_test_set("tracks", TRACKS, [1, 3], list)
        query, gallery = protocols.create_feature_sets(test_set, features)
        expected = [[0.5**0.5, 0.5**0.5], [0, 1], [2 / 5**0.5, 1 / 5**0.5]]
        np.testing.assert_allclose(gallery.features, expected, rtol=1e-6)
        np.testing.assert_array_equal(query.features, gallery.features[[0, 2]])

    def test_the_wrong_number_of_rows(self):
        with pytest.raises(DataError, match=r"shape \(2, 3\), but the gallery has 3 images"):
            protocols.create_feature_sets(create_test_set(), np.eye(3)[:2], [[1, 2, 3]])
        with pytest.raises(DataError, match=r"query features .* the query has 1 images"):
            protocols.create_feature_sets(create_test_set(), np.eye(3), np.eye(3))

    def test_columns_for_rows(self):
        with pytest.raises(DataError, match="transpose them"):
            protocols.create_feature_sets(create_test_set(), np.zeros((128, 3)), [[1, 2, 3]])

    def test_features_that_are_no_numbers(self):
        with pytest.raises(DataError, match="row 1 of the gallery features is not finite"):
            protocols.create_feature_sets(
                create_test_set(), [[0, 1], [np.nan, 1], [1, 1]], [[1.0, 0.0]]
            )

    def test_features_of_different_dimensions_are_refused(self):
        sets = protocols.create_feature_sets(create_test_set(), np.eye(3), [[1.0, 0.0]])
        with pytest.raises(DataError, match="dimension 2 and the gallery features 3"):
            ranking.rank(*sets)


class TestSelfIndices:
    def test_a_query_is_found_by_its_file_name(self):
        test_set = create_test_set(query_names=("c.jpg",))
        np.testing.assert_array_equal(protocols.find_self_indices(test_set), [2])

    def test_a_namesake_of_another_identity_is_not_itself(self):
        test_set = create_test_set(query_names=("b.jpg",))
        np.testing.assert_array_equal(protocols.find_self_indices(test_set), [-1])

    def test_a_namesake_of_other_content_is_not_itself(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name, content in {"q/a.jpg": "one", "g/a.jpg": "two", "q/c.jpg": "three"}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
        shutil.copy("q/c.jpg", "g/c.jpg")
        query = Split(["q/a.jpg", "q/c.jpg"], [7, 7], [1, 1])
        gallery = Split(["g/a.jpg", "g/c.jpg"], [7, 7], [1, 1])
        test_set = create_image_test_set("images", query, gallery)
        np.testing.assert_array_equal(protocols.find_self_indices(test_set), [-1, 1])

    def test_and_is_nowhere_where_there_is_none(self):
        np.testing.assert_array_equal(protocols.find_self_indices(create_test_set()), [-1])

    def test_a_query_track_is_itself(self):
        test_set = create_track_test_set("tracks", TRACKS, [1, 3], list)
        np.testing.assert_array_equal(protocols.find_self_indices(test_set), [0, 2])


class TestItemImages:
    def test_an_image_is_its_own(self):
        query, gallery = protocols.list_item_images(create_test_set())
        assert (query, gallery) == (["q/q.jpg"], ["g/a.jpg", "g/b.jpg", "g/c.jpg"])

    def test_a_track_is_shown_by_the_image_in_its_middle(self):
        test_set = create_track_test_set("tracks", TRACKS, [3], lambda: list("abcdef"))
        assert protocols.list_item_images(test_set) == (["e"], ["a", "c", "e"])


class TestOutput:
    def test_the_table_has_both_definitions_by_name_and_all_counts(self):
        header, *rows = protocols.format_table({"score": create_result()})
        table = dict(rows)
        assert header == ["score, in %", "score"]
        assert table["rank-1"] == "100.00"
        assert table["mAP (standard)"] == "100.00"
        assert table["mAP (Market-1501 MATLAB)"] == "100.00"
        assert [table[name] for name in ("queries", "gallery", "distractors in it")] == [
            "1", "3", "1",
        ]  # fmt: skip

    def test_the_text_is_aligned(self):
        lines = align(protocols.format_table({"a": create_result()})).splitlines()
        assert len({len(line) for line in lines}) == 1

    def test_the_metrics_file_has_the_promised_keys(self, tmp_path):
        path = tmp_path / "new" / "metrics.json"
        protocols.write_metrics(path, create_result(), create_result(), {"protocol": "images"})
        metrics = json.loads(path.read_text())
        promised = {
            "rank1", "rank5", "rank10", "rank20", "mAP_standard", "mAP_matlab", "num_queries",
            "num_queries_without_match", "num_gallery", "num_distractors", "num_junk",
        }  # fmt: skip
        assert promised <= set(metrics)
        assert set(metrics["reranked"]) == promised
        assert metrics["protocol"] == "images"
        assert metrics["rank1"] == 1.0


def test_the_images_of_tracklets_are_detections():
    test_set = create_track_test_set("tracks", TRACKS, [3, 1], lambda: list("abcdef"))
    features = np.random.default_rng(0).random((6, 2))
    query, gallery, own_rows = protocols.create_detections(test_set, features)
    np.testing.assert_allclose(gallery.features, features, rtol=1e-6)
    assert gallery.labels.tolist() == [7, 7, 0, 7, 7, 7]
    assert gallery.cameras.tolist() == [1, 1, 2, 2, 2, 2]
    assert own_rows.tolist() == [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(query.features, gallery.features[own_rows])
    assert query.labels.tolist() == [7] * 5
    assert query.cameras.tolist() == [1, 1, 2, 2, 2]
    assert protocols.create_detections(create_test_set(), features[:3]) is None

"""Features in shards: which files make a set, and that their rows are those of one array."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.protocols import create_track_test_set
from deep_reid.errors import DataError, MissingPathError
from deep_reid.scoring import protocols, ranking
from deep_reid.scoring.shards import Shards, find_shards, is_pattern, shard_path, shard_rows

ROOT = pathlib.Path(__file__).parents[2]
# Prints by how many bytes the largest resident memory grows while a gallery is ranked.
MEASURE = """
import pathlib, re, sys
import numpy as np
from deep_reid.scoring import protocols, ranking

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024

gallery = protocols.load_features(sys.argv[1]) if sys.argv[2] == "shards" else None
few = ranking.FeatureSet(np.eye(64)[:20], np.arange(1, 21), name="query")
ranking.rank(few, ranking.FeatureSet(np.eye(64), np.arange(1, 65)))
before = peak()
if gallery is None:
    gallery = np.asarray(protocols.load_features(sys.argv[1]))
labels = np.arange(len(gallery)) % 100_000
gallery = ranking.FeatureSet(gallery, labels)
ranking.rank(few, gallery)
ranking.nearest(few, gallery, np.arange(20))
print(peak() - before)
"""
FEATURES = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)


def write(folder, sizes, features=FEATURES, name="x"):
    ends = np.cumsum(sizes)
    paths = [shard_path(folder / name, i, len(sizes)) for i in range(len(sizes))]
    for path, end, size in zip(paths, ends, sizes, strict=True):
        np.save(path, features[end - size : end])
    return paths


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write(tmp_path_factory.mktemp("shards"), [20, 0, 1, 29])


class TestRows:
    def test_are_those_of_all_files_in_order(self, paths):
        shards = Shards(paths)
        assert (shards.shape, len(shards), shards.dtype, shards.ndim) == ((50, 3), 50, "f4", 2)
        np.testing.assert_array_equal(np.asarray(shards), FEATURES)

    @settings(max_examples=100)
    @given(start=st.integers(-60, 60), stop=st.integers(-60, 60))
    def test_slices_are_those_of_an_array(self, paths, start, stop):
        np.testing.assert_array_equal(Shards(paths)[start:stop], FEATURES[start:stop])

    @settings(max_examples=50)
    @given(rows=st.lists(st.integers(0, 49), max_size=60))
    def test_vectors_are_those_of_an_array(self, paths, rows):
        rows = np.array(rows, np.int64)
        np.testing.assert_array_equal(Shards(paths)[rows], FEATURES[rows])

    @pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16])
    def test_other_numbers_become_float32(self, tmp_path, dtype):
        features = (10 * FEATURES).astype(dtype)
        shards = Shards(write(tmp_path, [25, 25], features))
        assert shards[3:4].dtype == np.float32
        np.testing.assert_array_equal(shards[:], features.astype(np.float32))

    def test_arrays_by_columns_are_read_as_others(self, tmp_path):
        shards = Shards(write(tmp_path, [50], np.asfortranarray(FEATURES)))
        np.testing.assert_array_equal(shards[10:20], FEATURES[10:20])

    def test_a_file_that_changes_in_between(self, tmp_path):
        paths = write(tmp_path, [20, 30])
        shards = Shards(paths)
        np.save(paths[1], FEATURES[:29])
        np.testing.assert_array_equal(shards[:20], FEATURES[:20])
        with pytest.raises(DataError, match="x-00001-of-00002.npy has changed"):
            shards[15:25]

    def test_files_of_other_features(self, tmp_path):
        paths = write(tmp_path, [20, 30])
        np.save(paths[1], FEATURES[:, :2])
        with pytest.raises(DataError, match="00001.* dimension 2 and .*00000-of-00002.npy of 3"):
            Shards(paths)
        np.save(paths[1], FEATURES[0])
        with pytest.raises(DataError, match=r"00001-of-00002.npy has the shape \(3,\)"):
            Shards(paths)
        (tmp_path / "x-00001-of-00002.npy").write_bytes(b"x")
        with pytest.raises(DataError, match="00001-of-00002.npy cannot be read"):
            Shards(paths)


class TestSets:
    @settings(max_examples=100)
    @given(num_rows=st.integers(0, 300), count=st.integers(1, 12), batch_size=st.integers(1, 40))
    def test_shards_are_whole_batches_and_all_rows(self, num_rows, count, batch_size):
        rows = range(num_rows)
        parts = [rows[shard_rows(num_rows, i, count, batch_size)] for i in range(count)]
        assert [row for part in parts for row in part] == list(rows)
        assert all(part.start % batch_size == 0 for part in parts if part)
        sizes = [-(-len(part) // batch_size) for part in parts]
        assert max(sizes) - min(sizes) <= 1

    def test_are_read_in_the_order_of_their_rows(self, tmp_path):
        paths = write(tmp_path, [5] * 10)
        assert find_shards(str(tmp_path / "x-*.npy")) == paths
        features = protocols.load_features(tmp_path / "x-*-of-00010.npy")
        np.testing.assert_array_equal(np.asarray(features), FEATURES)

    def test_one_file_is_no_pattern_whatever_its_name(self, tmp_path):
        np.save(tmp_path / "x[1].npy", FEATURES)
        assert not is_pattern(tmp_path / "x[1].npy")
        np.testing.assert_array_equal(protocols.load_features(tmp_path / "x[1].npy"), FEATURES)

    def test_no_file(self, tmp_path):
        with pytest.raises(MissingPathError, match=r"no file is named .*x-\*\.npy"):
            protocols.load_features(tmp_path / "x-*.npy")

    def test_a_missing_shard(self, tmp_path):
        paths = write(tmp_path, [10] * 5)
        (tmp_path / "x-00003-of-00005.npy").unlink()
        with pytest.raises(MissingPathError, match=r"1 of 5 .*x-00003-of-00005.npy.*--shard=i/5"):
            find_shards(str(tmp_path / "x-*.npy"))
        assert paths[4] == str(tmp_path / "x-00004-of-00005.npy")

    def test_a_pattern_for_some_of_them(self, tmp_path):
        write(tmp_path, [10] * 5)
        with pytest.raises(MissingPathError, match="4 of 5 shards are missing"):
            find_shards(str(tmp_path / "x-0000[2]*.npy"))

    @pytest.mark.parametrize("other", [{"name": "y"}, {"sizes": [20, 30]}])
    def test_shards_of_two_sets(self, tmp_path, other):
        write(tmp_path, [50])
        write(tmp_path, **{"sizes": [50], **other})
        with pytest.raises(DataError, match="several sets .*x-00000-of-00001.npy"):
            find_shards(str(tmp_path / "*.npy"))

    def test_another_file_among_them(self, tmp_path):
        write(tmp_path, [50])
        np.save(tmp_path / "x-all.npy", FEATURES)
        with pytest.raises(DataError, match="x-all.npy, which is not named as a shard"):
            find_shards(str(tmp_path / "x-*.npy"))

    def test_a_shard_beyond_the_last_one(self, tmp_path):
        write(tmp_path, [25, 25])
        np.save(tmp_path / "x-00002-of-00002.npy", FEATURES)
        with pytest.raises(DataError, match="x-00002-of-00002.npy: there is no such shard of 2"):
            find_shards(str(tmp_path / "x-*.npy"))


class TestRanking:
    """Scores of shards are those of an array, over several parts of the gallery."""

    @pytest.fixture
    def sets(self, tmp_path):
        random = np.random.default_rng(1)
        features = random.standard_normal((40_000, 4)).astype(np.float32)
        features[30_000:] = features[:10_000]  # ties across parts
        labels, cameras = random.integers(-1, 2000, 40_000), random.integers(0, 3, 40_000)
        shards = Shards(write(tmp_path, [9_000, 16_000, 15_000], features))
        query = ranking.FeatureSet(features[:50], labels[:50], cameras[:50], name="query")
        return query, *(ranking.FeatureSet(rows, labels, cameras) for rows in (features, shards))

    @pytest.mark.parametrize("measure", ["cosine", "euclidean"])
    def test_rank_and_nearest(self, sets, measure):
        query, in_memory, in_files = sets
        assert isinstance(in_files.features, Shards)
        own = np.arange(50)
        results = [
            ranking.rank(query, gallery, measure=measure, self_indices=own)
            for gallery in (in_memory, in_files)
        ]
        for name in ("average_precision", "average_precision_matlab", "first_match_rank"):
            np.testing.assert_array_equal(*(getattr(result, name) for result in results))
        items = [
            ranking.nearest(query, gallery, own, 12, measure=measure)
            for gallery in (in_memory, in_files)
        ]
        for values in zip(*items, strict=True):
            np.testing.assert_array_equal(*values)

    def test_reranking_reads_all_rows(self, tmp_path):
        shards = Shards(write(tmp_path, [20, 30]))
        expected = ranking.rerank_distances(FEATURES[:9], FEATURES, 5, 3)
        np.testing.assert_array_equal(
            ranking.rerank_distances(FEATURES[:9], shards, 5, 3), expected
        )

    def test_tracklets_are_averaged(self, tmp_path):
        tracks = [[1, 9, 7, 1], [10, 30, 0, 2], [31, 50, 7, 2]]
        names = [f"{row}.jpg" for row in range(50)]
        test_set = create_track_test_set("tracks", tracks, [1], lambda: names)
        shards = Shards(write(tmp_path, [20, 30]))
        for expected, values in zip(
            protocols.create_feature_sets(test_set, FEATURES),
            protocols.create_feature_sets(test_set, shards),
            strict=True,
        ):
            np.testing.assert_array_equal(values.features, expected.features)
        expected, values = (
            protocols.create_detections(test_set, features) for features in (FEATURES, shards)
        )
        np.testing.assert_array_equal(values[1].features, expected[1].features)

    def test_a_row_that_is_not_finite_is_named(self, tmp_path):
        features = FEATURES.copy()
        features[45, 1] = np.nan
        with pytest.raises(DataError, match="row 45 of the gallery features is not finite"):
            ranking.FeatureSet(Shards(write(tmp_path, [20, 30], features)), np.ones(50, int))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_the_features_in_files(tmp_path):
    random = np.random.default_rng(0)
    features = random.standard_normal((800_000, 64)).astype(np.float32)
    write(tmp_path, [80_000] * 10, features)

    def measure(kind):
        process = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path / "x-*.npy"), kind],
            capture_output=True, text=True, check=True, timeout=600,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return int(process.stdout)

    assert measure("shards") < features.nbytes / 2 < features.nbytes < measure("array")

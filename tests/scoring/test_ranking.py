"""Ranking, both average precisions and re-ranking, against plain loops and worked examples."""

import logging
import math
import pathlib
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from deep_reid.errors import DataError, UsageError
from deep_reid.samplers.galleries import DISTRACTOR_LABEL, JUNK_LABEL
from deep_reid.scoring.ranking import FeatureSet, Rerank, nearest, rank, rerank_distances
from deep_reid.scoring.rules import DISTRACTOR, JUNK, MATCH, NO_MATCH

ROOT = pathlib.Path(__file__).parents[2]
MARS_INFO_DIR = ROOT / "tests" / "data" / "mars_info"


def plain_distance(a, b, measure):
    """Cosine or squared Euclidean distance of two rows, summed exactly."""
    a, b = a.tolist(), b.tolist()
    if measure == "euclidean":
        return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    lengths = [math.sqrt(math.fsum(x * x for x in row)) for row in (a, b)]
    return 1.0 - math.fsum(x * y for x, y in zip(a, b, strict=True)) / (lengths[0] * lengths[1])


def plain_distances(query, gallery, measure):
    return [[plain_distance(a, b, measure) for b in gallery] for a in query]


def plain_good_and_junk(query, gallery, row, by_camera, own_index):
    """Sets of matching and of junk gallery items, by the words of the protocol."""
    good, junk = set(), set()
    for item, label in enumerate(gallery.labels):
        same_label = label == query.labels[row] and label not in (-1, 0)
        same_camera = by_camera and gallery.cameras[item] == query.cameras[row]
        if label == -1 or item == own_index or (same_label and same_camera):
            junk.add(item)
        elif same_label:
            good.add(item)
    return good, junk


def procedural_scores(good, junk, index):
    """Both average precisions and the first match, item by item as the MATLAB code has it."""
    old_recall, old_precision, matlab = 0.0, 1.0, 0.0
    num_seen, num_found, at_hits, first = 0, 0, [], 0
    for item in index:
        if item in junk:
            continue
        num_seen += 1
        if item in good:
            num_found += 1
            first = first or num_seen
            at_hits.append(num_found / num_seen)
        recall, precision = num_found / len(good), num_found / num_seen
        matlab += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return sum(at_hits) / len(good), matlab, first


def plain_scores(query, gallery, distances, by_camera=True, self_indices=None):
    """One row per query: average precision, that of the MATLAB code, rank of the first match."""
    scores = []
    for row in range(len(query)):
        own_index = -1 if self_indices is None else self_indices[row]
        good, junk = plain_good_and_junk(query, gallery, row, by_camera, own_index)
        index = sorted(range(len(gallery)), key=lambda item, row=row: distances[row][item])
        nothing = (math.nan, math.nan, 0)
        scores.append(procedural_scores(good, junk, index) if good else nothing)
    return np.array(scores)


def check_scores(result, expected, ranks=(1, 5, 10, 20)):
    """Compare per-query scores, their means and the CMC with a plain table of scores."""
    np.testing.assert_allclose(result.average_precision, expected[:, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.average_precision_matlab, expected[:, 1], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(result.first_match_rank, expected[:, 2])
    valid = [row for row in expected.tolist() if row[2] > 0]
    assert result.num_queries == len(expected)
    assert result.num_queries_without_match == len(expected) - len(valid)
    means = [sum(column) / len(valid) for column in zip(*valid, strict=True)]
    assert result.mean_average_precision == pytest.approx(means[0], abs=1e-9)
    assert result.mean_average_precision_matlab == pytest.approx(means[1], abs=1e-9)
    cmc = [sum(row[2] <= k for row in valid) / len(valid) for k in range(1, max(ranks) + 1)]
    np.testing.assert_allclose(result.cmc, cmc, rtol=0, atol=1e-9)


def draw(seed, kind, num_queries=9, num_items=40, dimension=5, num_labels=5, num_cameras=3):
    """Draw a query and a gallery set with labels from -1 on, in which few or many things tie."""
    random = np.random.RandomState(seed)

    def features(size):
        if kind == "integers":
            return random.randint(1, 4, (size, dimension))
        if kind == "copies":  # Powers of two do not change a cosine distance by a single bit.
            pool = np.random.RandomState(seed).randn(6, dimension).astype(np.float32)
            return pool[random.randint(0, 6, size)] * 2.0 ** random.randint(-3, 4, (size, 1))
        if kind == "near":  # Of cosine distances about 1e-8: below what float32 resolves.
            center = np.random.RandomState(seed).randn(dimension)
            return center + 1e-5 * random.randn(size, dimension)
        return random.randn(size, dimension)

    def draw_set(size, name):
        labels = random.randint(-1, num_labels, size)
        return FeatureSet(features(size), labels, random.randint(0, num_cameras, size), name=name)

    return draw_set(num_queries, "query"), draw_set(num_items, "gallery")


KINDS = [
    ("cosine", "random"),
    ("cosine", "copies"),
    ("cosine", "near"),
    ("euclidean", "random"),
    ("euclidean", "integers"),
    ("euclidean", "copies"),
    ("euclidean", "near"),
]


def toy(distances, labels, cameras=None, query=(7, 1)):
    """One query in the origin of a line, and a gallery at given distances; other cameras."""
    cameras = [2] * len(labels) if cameras is None else cameras
    features = np.array(distances, np.float32)[:, np.newaxis]
    return (
        FeatureSet([[0.0]], [query[0]], [query[1]], name="query"),
        FeatureSet(features, labels, cameras),
    )


def rank_toy(*args, **kwargs):
    query, gallery = toy(*args, **kwargs)
    return rank(query, gallery, measure="euclidean")


def unit_vectors(labels):
    """Perfect features: one direction per label."""
    return np.eye(max(labels) + 2)[np.asarray(labels)]


class TestAgainstPlainLoops:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("measure, kind", KINDS)
    def test_cross_camera_protocol(self, measure, kind, seed):
        query, gallery = draw(seed, kind)
        distances = plain_distances(query.features, gallery.features, measure)
        result = rank(query, gallery, measure=measure)
        check_scores(result, plain_scores(query, gallery, distances))

    @pytest.mark.parametrize("measure, kind", KINDS)
    def test_more_dimensions_than_one_register(self, measure, kind):
        # Where matrix products differ by the place of a column, copies must tie all the same.
        query, gallery = draw(3, kind, num_items=61, dimension=128)
        distances = plain_distances(query.features, gallery.features, measure)
        result = rank(query, gallery, measure=measure)
        check_scores(result, plain_scores(query, gallery, distances))

    @pytest.mark.parametrize("kind", ["integers", "random", "near"])
    def test_many_matches_per_query(self, kind):
        query, gallery = draw(4, kind, num_queries=4, num_items=900, num_labels=3)
        assert np.bincount(gallery.labels + 1).min() > 200
        distances = plain_distances(query.features, gallery.features, "euclidean")
        result = rank(query, gallery, measure="euclidean", same_camera_is_junk=False)
        check_scores(result, plain_scores(query, gallery, distances, by_camera=False))

    @pytest.mark.parametrize("by_camera", [True, False])
    def test_the_query_itself_in_the_gallery(self, by_camera):
        _, gallery = draw(5, "integers")
        self_indices = np.random.RandomState(0).permutation(40)[:9]
        query = FeatureSet(
            *(x[self_indices] for x in (gallery.features, gallery.labels, gallery.cameras))
        )
        self_indices[2] = -1
        distances = plain_distances(query.features, gallery.features, "euclidean")
        result = rank(
            query,
            gallery,
            measure="euclidean",
            same_camera_is_junk=by_camera,
            self_indices=self_indices,
        )
        check_scores(result, plain_scores(query, gallery, distances, by_camera, self_indices))

    @pytest.mark.parametrize("num_distances", [3, 10**6])
    def test_ready_distances_are_ranked_in_double_precision(self, num_distances):
        query, gallery = draw(6, "random")
        distances = np.random.RandomState(7).randint(0, num_distances, (9, 40)) * 1e-9 + 1.0
        # In float32, all of them are the same.
        result = rank(query, gallery, distances=distances)
        check_scores(result, plain_scores(query, gallery, distances.tolist()))

    @pytest.mark.parametrize("num_items", [40, 400])
    def test_ready_distances_one_bit_apart(self, num_items):
        query, gallery = draw(6, "random", num_items=num_items, num_labels=2)
        ulps = np.random.RandomState(8).randint(0, num_items, (9, num_items))
        distances = (np.float32(1).view(np.int32) + ulps.astype(np.int32)).view(np.float32)
        result = rank(query, gallery, distances=distances)
        check_scores(result, plain_scores(query, gallery, distances.tolist()))

    def test_near_items_and_one_in_the_origin(self):
        # What a product of a block loses goes by the longest features, not by the shortest.
        query, gallery = draw(6, "near", dimension=64)
        features = gallery.features.copy()
        features[3] = 0.0
        gallery = FeatureSet(features, gallery.labels, gallery.cameras)
        distances = plain_distances(query.features, features, "euclidean")
        result = rank(query, gallery, measure="euclidean")
        check_scores(result, plain_scores(query, gallery, distances))

    @pytest.mark.parametrize("scale", [1e-24, 1e-23, 1e-22, 1e-21, 1e-20])
    def test_squares_that_underflow(self, scale):
        query, gallery = draw(7, "random", num_items=200)
        query, gallery = (
            FeatureSet(s.features * np.float32(scale), s.labels, s.cameras)
            for s in (query, gallery)
        )
        distances = plain_distances(query.features, gallery.features, "euclidean")
        result = rank(query, gallery, measure="euclidean")
        check_scores(result, plain_scores(query, gallery, distances))

    @settings(max_examples=60)
    @given(st.data())
    def test_tie_rich_cases_of_any_shape(self, data):
        num_queries, num_items = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
        seed = data.draw(st.integers(0, 10**6))
        query, gallery = draw(seed, "integers", num_queries, num_items, dimension=2, num_labels=3)
        expected = plain_scores(
            query, gallery, plain_distances(query.features, gallery.features, "euclidean")
        )
        block = data.draw(st.integers(1, 200))
        if not (expected[:, 2] > 0).any():
            with pytest.raises(DataError, match="has a match"):
                rank(query, gallery, measure="euclidean")
            return
        result = rank(query, gallery, measure="euclidean", max_block_bytes=block)
        check_scores(result, expected)


class TestLargeGalleries:
    """Galleries of several parts, which are compared one after another, by whole numbers."""

    NUM_ITEMS = 33_000

    @pytest.fixture(
        params=[(1500, 0), (90, 0), (1500, 25), (90, 100)],
        ids=["few matches", "many matches", "few, and most are near", "many, and they are nearest"],
    )
    def sets(self, request):
        num_labels, distance = request.param
        random = np.random.RandomState(0)
        centers = distance * random.randint(0, 5, (num_labels + 1, 4))

        def draw_set(size, name):
            labels = random.randint(-1, num_labels, size)
            # Distances tie hundreds of times.
            features = random.randint(1, 12, (size, 4)) + centers[labels]
            return FeatureSet(features, labels, random.randint(0, 4, size), name=name)

        return draw_set(40, "query"), draw_set(self.NUM_ITEMS, "gallery")

    def sort(self, query, gallery, row):
        """Return the gallery in the order of exact distances, the first of equal ones first."""
        differences = gallery.features.astype(np.int64) - query.features[row].astype(np.int64)
        return np.argsort(np.square(differences).sum(axis=1), kind="stable")

    @pytest.mark.parametrize("max_block_bytes", [2**28, 2**20, 1])
    def test_scores_are_those_of_sorted_distances(self, sets, max_block_bytes):
        query, gallery = sets
        self_indices = np.arange(40) * 800
        result = rank(
            query,
            gallery,
            measure="euclidean",
            self_indices=self_indices,
            max_block_bytes=max_block_bytes,
        )
        for row, own_index in enumerate(self_indices):
            good, junk = plain_good_and_junk(query, gallery, row, True, own_index)
            if not good:
                assert result.first_match_rank[row] == 0
                continue
            order = [item for item in self.sort(query, gallery, row).tolist() if item not in junk]
            ranks = 1 + np.flatnonzero(np.isin(order, list(good)))
            assert result.first_match_rank[row] == ranks[0]
            expected = np.mean(np.arange(1, len(ranks) + 1) / ranks)
            assert result.average_precision[row] == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("k", [1, 10, 20_000])
    def test_nearest_items_are_those_of_sorted_distances(self, sets, k):
        query, gallery = sets
        items = nearest(query, gallery, np.arange(5), k, measure="euclidean")
        for row in range(5):
            expected = self.sort(query, gallery, row)[:k]
            np.testing.assert_array_equal(items.indices[row], expected)


class TestWorkedExamples:
    def test_hits_at_ranks_1_3_and_6(self):
        result = rank_toy([6, 1, 5, 3, 2, 4], [7, 7, 8, 7, 8, 8])
        assert result.average_precision[0] == pytest.approx((1 + 2 / 3 + 3 / 6) / 3, abs=1e-12)
        # Before rank 3, 1 of 2 was right, and before rank 6, 2 of 5.
        trapezoids = [1.0, (1 / 2 + 2 / 3) / 2, (2 / 5 + 3 / 6) / 2]
        assert result.average_precision_matlab[0] == pytest.approx(sum(trapezoids) / 3, abs=1e-12)
        assert result.first_match_rank.tolist() == [1]

    def test_one_hit_at_rank_2(self):
        result = rank_toy([1, 2], [8, 7])
        assert result.mean_average_precision == 0.5
        assert result.mean_average_precision_matlab == 0.25
        assert result.cmc[:3].tolist() == [0.0, 1.0, 1.0]
        assert (result.rank_k(1), result.rank_k(2)) == (0.0, 1.0)

    def test_cmc_of_three_queries(self):
        # On a line, 0.1 from the item of its own identity: first, second and fourth.
        gallery = FeatureSet([[0.0], [10.0], [10.4], [30.0]], [1, 2, 3, 4])
        query = FeatureSet([[0.1], [10.1], [0.2]], [1, 3, 4])
        result = rank(query, gallery, measure="euclidean", ranks=(2, 4))
        assert result.first_match_rank.tolist() == [1, 2, 4]
        np.testing.assert_allclose(result.cmc, [1 / 3, 2 / 3, 2 / 3, 1.0])
        assert result.ranks == (2, 4)
        assert [result.rank_k(k) for k in (1, 4, 100)] == pytest.approx([1 / 3, 1.0, 1.0])

    def test_one_gallery_item(self):
        result = rank_toy([5], [7])
        assert (result.mean_average_precision, result.mean_average_precision_matlab) == (1.0, 1.0)
        np.testing.assert_array_equal(result.cmc, np.ones(20))

    def test_of_equal_distances_the_first_of_the_gallery_wins(self):
        assert rank_toy([1, 1, 1], [7, 8, 8]).first_match_rank.tolist() == [1]
        assert rank_toy([1, 1, 1], [8, 8, 7]).first_match_rank.tolist() == [3]
        assert rank_toy([1, -1, 1], [8, 7, 8]).first_match_rank.tolist() == [2]

    def test_the_measure_decides(self):
        query, gallery = FeatureSet([[1, 0]], [7]), FeatureSet([[9, 0.1], [1, 0.5]], [7, 8])
        assert rank(query, gallery).rank_k(1) == 1.0
        assert rank(query, gallery, measure="cosine").rank_k(1) == 1.0
        assert rank(query, gallery, measure="euclidean").rank_k(1) == 0.0


class TestProtocol:
    def test_label_minus_1_is_out_of_the_ranking(self):
        result = rank_toy([1, 2, 3], [JUNK_LABEL, 8, 7])
        assert result.first_match_rank.tolist() == [2]
        assert (result.num_gallery, result.num_junk, result.num_distractors) == (2, 1, 0)

    def test_label_and_camera_of_the_query_are_out_of_the_ranking(self):
        result = rank_toy([1, 2, 3], [7, 8, 7], cameras=[1, 1, 2])
        assert result.first_match_rank.tolist() == [2]
        assert result.average_precision.tolist() == [0.5]
        assert (result.num_gallery, result.num_junk) == (3, 0)

    def test_the_rule_is_for_each_query(self):
        _, gallery = toy([1, 2, 3], [7, 8, 7], cameras=[1, 1, 2])
        query = FeatureSet([[0.0]] * 3, [7, 7, 8], [1, 2, 2])
        result = rank(query, gallery, measure="euclidean")
        assert result.first_match_rank.tolist() == [2, 1, 2]

    def test_distractors_are_ranked_and_never_match(self):
        result = rank_toy([1, 2, 3], [DISTRACTOR_LABEL, DISTRACTOR_LABEL, 7])
        assert result.first_match_rank.tolist() == [3]
        assert (result.num_gallery, result.num_junk, result.num_distractors) == (3, 0, 2)

    def test_distractors_of_the_query_s_camera_stay(self):
        result = rank_toy([1, 2], [DISTRACTOR_LABEL, 7], cameras=[1, 2])
        assert result.first_match_rank.tolist() == [2]

    def test_same_camera_may_match(self):
        query, gallery = toy([1, 2, 3], [7, 8, 7], cameras=[1, 1, 2])
        result = rank(query, gallery, measure="euclidean", same_camera_is_junk=False)
        assert result.average_precision[0] == pytest.approx((1 + 2 / 3) / 2)

    def test_without_cameras_only_the_query_itself_is_left_out(self):
        query, gallery = FeatureSet([[0.0]] * 2, [7, 7]), FeatureSet([[0], [1], [2]], [7, 8, 7])
        assert rank(query, gallery, measure="euclidean").first_match_rank.tolist() == [1, 1]
        result = rank(query, gallery, measure="euclidean", self_indices=[0, -1])
        assert result.first_match_rank.tolist() == [2, 1]
        assert result.average_precision[0] == 0.5

    def test_the_query_itself_is_left_out_whatever_its_label(self):
        query, gallery = toy([0, 1, 2], [8, 8, 7])
        result = rank(query, gallery, measure="euclidean", self_indices=[0])
        assert result.first_match_rank.tolist() == [2]

    @pytest.mark.parametrize("label", [9, DISTRACTOR_LABEL, JUNK_LABEL])
    def test_queries_without_match_are_counted_and_in_no_mean(self, label):
        _, gallery = toy([1, 2, 3, 4], [8, 7, DISTRACTOR_LABEL, JUNK_LABEL])
        query = FeatureSet([[0.0]] * 2, [label, 7], [1, 1])
        result = rank(query, gallery, measure="euclidean")
        assert (result.num_queries, result.num_queries_without_match) == (2, 1)
        assert (result.mean_average_precision, result.mean_average_precision_matlab) == (0.5, 0.25)
        assert (result.rank_k(1), result.rank_k(2), result.cmc[1]) == (0.0, 1.0, 1.0)
        np.testing.assert_array_equal(result.average_precision, [math.nan, 0.5])
        np.testing.assert_array_equal(result.average_precision_matlab, [math.nan, 0.25])
        assert result.first_match_rank.tolist() == [0, 2]

    def test_a_match_in_the_query_s_camera_alone_is_no_match(self):
        _, gallery = toy([1, 2, 3], [7, 8, 8], cameras=[1, 2, 2])
        query = FeatureSet([[0.0]] * 2, [7, 8], [1, 1])
        assert rank(query, gallery, measure="euclidean").first_match_rank.tolist() == [0, 2]

    def test_the_inputs_are_left_alone(self):
        query, gallery = draw(0, "random")
        distances = np.random.RandomState(0).rand(9, 40).astype(np.float32)
        before = [query.features.copy(), gallery.features.copy(), distances.copy()]
        for measure in ("cosine", "euclidean"):
            rank(query, gallery, measure=measure)
        rank(query, gallery, distances=distances)
        for old, new in zip(before, [query.features, gallery.features, distances], strict=True):
            np.testing.assert_array_equal(old, new)

    def test_progress_counts_all_queries(self):
        query, gallery = draw(1, "random")
        steps = []
        result = rank(query, gallery, max_block_bytes=2 * 40 * 4, progress=steps.append)
        assert sum(steps) == 9
        assert max(steps[1:]) == 2
        assert steps[0] == result.num_queries_without_match > 0


class TestInvariances:
    @pytest.mark.parametrize("measure", ["cosine", "euclidean"])
    def test_order_of_the_gallery(self, measure):
        query, gallery = draw(8, "random")
        order = np.random.RandomState(9).permutation(len(gallery))
        shuffled = FeatureSet(*(x[order] for x in vars_of(gallery)))
        expected = rank(query, gallery, measure=measure)
        result = rank(query, shuffled, measure=measure)
        np.testing.assert_array_equal(result.average_precision, expected.average_precision)
        np.testing.assert_array_equal(result.cmc, expected.cmc)

    def test_names_of_the_identities(self):
        query, gallery = draw(10, "integers")
        names = np.array([-1, 0, 1000, -3, 41, 7])
        renamed = [FeatureSet(s.features, names[s.labels + 1], s.cameras) for s in (query, gallery)]
        np.testing.assert_array_equal(
            rank(*renamed).average_precision, rank(query, gallery).average_precision
        )

    @pytest.mark.parametrize("measure, kind", KINDS)
    @pytest.mark.parametrize("max_block_bytes", [1, 61 * 4 * 2, 61 * 4 * 7])
    def test_size_of_the_blocks(self, measure, kind, max_block_bytes):
        query, gallery = draw(11, kind, num_queries=20, num_items=61, dimension=67)
        expected = rank(query, gallery, measure=measure)
        result = rank(query, gallery, measure=measure, max_block_bytes=max_block_bytes)
        np.testing.assert_array_equal(result.average_precision, expected.average_precision)
        np.testing.assert_array_equal(
            result.average_precision_matlab, expected.average_precision_matlab
        )
        np.testing.assert_array_equal(result.first_match_rank, expected.first_match_rank)

    def test_length_of_the_features_for_cosine(self):
        query, gallery = draw(12, "random")
        for exponent in (3, 90):  # The squares of the latter are too large for float32.
            lengths = 2.0 ** np.random.RandomState(0).randint(-exponent, exponent, (40, 1))
            stretched = FeatureSet(gallery.features * lengths, gallery.labels, gallery.cameras)
            expected = rank(query, gallery).average_precision
            np.testing.assert_array_equal(rank(query, stretched).average_precision, expected)


def vars_of(features):
    return features.features, features.labels, features.cameras


class TestProperties:
    @settings(max_examples=50)
    @given(
        seed=st.integers(0, 10**6),
        kind=st.sampled_from(["random", "integers", "copies", "near"]),
        measure=st.sampled_from(["cosine", "euclidean"]),
    )
    def test_average_precisions_and_cmc_are_shares(self, seed, kind, measure):
        query, gallery = draw(seed, kind, dimension=3)
        result = rank(query, gallery, measure=measure, ranks=(50,))
        for values in (result.average_precision, result.average_precision_matlab):
            valid = values[result.first_match_rank > 0]
            assert ((valid > 0) & (valid <= 1)).all()
        assert (result.average_precision_matlab <= result.average_precision + 1e-12)[
            result.first_match_rank > 0
        ].all()
        assert (np.diff(result.cmc) >= 0).all()
        assert result.cmc[-1] == 1.0
        assert result.cmc[0] == result.rank_k(1) >= 0

    @settings(max_examples=30)
    @given(
        labels=st.lists(st.integers(1, 6), min_size=1, max_size=20),
        measure=st.sampled_from(["cosine", "euclidean"]),
    )
    def test_perfect_features_score_one(self, labels, measure):
        items = FeatureSet(unit_vectors(labels), labels)
        result = rank(items, items, measure=measure)
        assert result.mean_average_precision == result.mean_average_precision_matlab == 1.0
        assert (result.cmc == 1.0).all()

    def test_collapsed_features_score_by_the_order_of_the_gallery(self):
        query = FeatureSet(np.ones((2, 128)), [1, 2])
        gallery = FeatureSet(np.ones((203, 128)), [1, *[3] * 200, 2, 1])
        assert rank(query, gallery).first_match_rank.tolist() == [1, 202]


class TestNearest:
    @pytest.mark.parametrize("measure, kind", KINDS)
    def test_agrees_with_a_plain_sort(self, measure, kind):
        query, gallery = draw(13, kind, dimension=33)
        rows = [4, 0, 4]
        items = nearest(query, gallery, rows, 7, measure=measure)
        distances = plain_distances(query.features, gallery.features, measure)
        for i, row in enumerate(rows):
            # Summed in another order, the same distance may end in other bits.
            expected = sorted(range(40), key=lambda item, row=row: distances[row][item])[:7]
            assert items.indices[i].tolist() == expected
            values = [max(distances[row][item], 0.0) for item in expected]
            values = np.sqrt(values) if measure == "euclidean" else values
            np.testing.assert_allclose(items.distances[i], values, rtol=1e-12, atol=1e-14)

    def test_codes_tell_matches_others_distractors_and_junk(self):
        query, gallery = toy([1, 2, 3, 4, 5, 6], [7, 7, 8, -1, 0, 7], cameras=[1, 2, 1, 2, 1, 2])
        items = nearest(query, gallery, [0], measure="euclidean", self_indices=[5])
        assert items.indices.tolist() == [[0, 1, 2, 3, 4, 5]]
        assert items.codes.tolist() == [[JUNK, MATCH, NO_MATCH, JUNK, DISTRACTOR, JUNK]]
        assert items.distances.tolist() == [[1, 2, 3, 4, 5, 6]]
        items = nearest(query, gallery, [0], measure="euclidean", same_camera_is_junk=False)
        assert items.codes.tolist() == [[MATCH, MATCH, NO_MATCH, JUNK, DISTRACTOR, MATCH]]

    @pytest.mark.parametrize("label", [DISTRACTOR_LABEL, JUNK_LABEL])
    def test_queries_without_identity_match_nothing(self, label):
        query, gallery = toy([1, 2, 3], [-1, 0, 7], query=(label, 2))
        items = nearest(query, gallery, [0], measure="euclidean")
        assert items.codes.tolist() == [[JUNK, DISTRACTOR, NO_MATCH]]

    def test_tells_of_the_same_ranking_as_rank(self):
        query, gallery = draw(14, "integers", num_queries=20)
        result = rank(query, gallery)
        items = nearest(query, gallery, range(20), 40)
        for row, codes in enumerate(items.codes):
            (hits,) = np.nonzero(codes[codes != JUNK] == MATCH)
            assert (hits[0] + 1 if len(hits) else 0) == result.first_match_rank[row]

    def test_distances_are_never_negative(self):
        _, gallery = draw(15, "random", num_items=200)
        items = nearest(gallery, gallery, range(200), 1)
        assert items.indices.ravel().tolist() == list(range(200))
        assert (items.distances >= 0).all()
        assert items.distances.max() < 1e-15

    def test_small_blocks_give_the_same_items(self):
        query, gallery = draw(15, "copies")
        expected = nearest(query, gallery, range(9), 5)
        items = nearest(query, gallery, range(9), 5, max_block_bytes=2 * 40 * 4)
        for values, expected_values in zip(items, expected, strict=True):
            np.testing.assert_array_equal(values, expected_values)

    def test_ready_distances_and_reranked_ones(self):
        query, gallery = draw(16, "random")
        distances = rerank_distances(query.features, gallery.features, 4, 2)
        items = nearest(query, gallery, [3], 40, distances=distances)
        np.testing.assert_array_equal(items.distances[0], np.sort(distances[3]))
        expected = np.argsort(distances[3], kind="stable")
        assert items.indices[0].tolist() == expected.tolist()
        reranked = nearest(query, gallery, [3], 40, rerank=Rerank(4, 2))
        np.testing.assert_array_equal(reranked.indices, items.indices)

    def test_no_more_items_than_there_are_and_no_queries(self):
        query, gallery = toy([1, 2], [7, 8])
        assert nearest(query, gallery, [0], measure="euclidean").indices.tolist() == [[0, 1]]
        assert nearest(query, gallery, [], measure="euclidean").codes.shape == (0, 2)

    @pytest.mark.parametrize("rows", [[1], [-1], 0])
    def test_rows_must_be_queries(self, rows):
        query, gallery = toy([1, 2], [7, 8])
        with pytest.raises(UsageError, match=r"rows of the query, 0 \.\. 0"):
            nearest(query, gallery, rows, measure="euclidean")


def plain_reranking(query, gallery, k1, k2, lambda_value, measure):
    """Re-ranking as the paper describes it, with sets and dictionaries."""
    items = [*query, *gallery]
    everyone = range(len(items))
    original = []
    for i in everyone:
        row = [plain_distance(items[i], item, measure) for item in items]
        original.append([max(0.0, d) / (max(row) if max(row) > 0 else 1.0) for d in row])
    ranking = [sorted(everyone, key=lambda j, i=i: (j != i, original[i][j])) for i in everyone]

    def reciprocal(p, k):
        return {q for q in ranking[p][: k + 1] if p in ranking[q][: k + 1]}

    encodings = []
    for p in everyone:
        expanded = reciprocal(p, k1)
        for q in reciprocal(p, k1):
            candidates = reciprocal(q, int(np.around(k1 / 2)))
            if 3 * len(candidates & reciprocal(p, k1)) >= 2 * len(candidates):
                expanded = expanded | candidates
        weights = {q: math.exp(-original[p][q]) for q in expanded}
        total = math.fsum(weights.values())
        encodings.append({q: weight / total for q, weight in weights.items()})
    averaged = []
    for p in everyone:
        group = [encodings[q] for q in ranking[p][:k2]]
        averaged.append([sum(e.get(q, 0.0) for e in group) / len(group) for q in everyone])
    result = np.empty((len(query), len(gallery)))
    for p in range(len(query)):
        for g in range(len(gallery)):
            pairs = list(zip(averaged[p], averaged[len(query) + g], strict=True))
            smaller, larger = sum(map(min, pairs)), sum(map(max, pairs))
            jaccard = 1.0 - smaller / larger
            result[p, g] = (1 - lambda_value) * jaccard + lambda_value * original[p][len(query) + g]
    return result


# A matrix product loses 1e-15 of the squared lengths, which counts where the largest distance is
# 1e-9.
RERANKING_TOLERANCE = 1e-9
TOLERANCE_OF_NEAR_ONES = 1e-5


def reranking_tolerance(kind):
    return TOLERANCE_OF_NEAR_ONES if kind == "near" else RERANKING_TOLERANCE


class TestReranking:
    @pytest.mark.parametrize("k1, k2, lambda_value", [(20, 6, 0.3), (6, 3, 0.1), (5, 1, 0.5)])
    @pytest.mark.parametrize("measure, kind", KINDS)
    def test_agrees_with_sets_and_dictionaries(self, measure, kind, k1, k2, lambda_value):
        query, gallery = (s.features for s in draw(k1, kind, num_queries=12, num_items=45))
        values = rerank_distances(query, gallery, k1, k2, lambda_value, measure=measure)
        expected = plain_reranking(query, gallery, k1, k2, lambda_value, measure)
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected, rtol=0, atol=reranking_tolerance(kind))

    @pytest.mark.parametrize("k1, k2", [(1, 1), (2, 2), (3, 9), (40, 40)])
    def test_any_number_of_neighbors(self, k1, k2):
        query, gallery = (s.features for s in draw(1, "random", num_queries=3, num_items=8))
        expected = plain_reranking(query, gallery, k1, k2, 0.3, "cosine")
        values = rerank_distances(query, gallery, k1, k2)
        np.testing.assert_allclose(values, expected, rtol=0, atol=RERANKING_TOLERANCE)

    @settings(max_examples=40)
    @given(
        st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 5), st.integers(1, 4),
        st.integers(1, 9),
    )  # fmt: skip
    def test_tie_rich_cases_of_any_shape(self, seed, k1, k2, num_queries, num_items):
        query, gallery = (s.features for s in draw(seed, "integers", num_queries, num_items, 2))
        expected = plain_reranking(query, gallery, k1, k2, 0.3, "euclidean")
        values = rerank_distances(query, gallery, k1, k2, measure="euclidean")
        np.testing.assert_allclose(values, expected, rtol=0, atol=RERANKING_TOLERANCE)

    def test_worked_example_on_a_line(self):
        # The query at 0 and the item at 1 are each other's nearest; the item at 10 has nobody.
        values = rerank_distances([[0.0]], [[1.0], [10.0]], 1, 1, 0.3, measure="euclidean")
        weights = [math.exp(-1 / 100), math.exp(-1 / 81)]  # by the largest squared distance
        own, others = (np.array([1, weights[0]]), np.array([weights[1], 1]))
        own, others = own / own.sum(), others / others.sum()
        jaccard = 1 - np.minimum(own, others).sum() / np.maximum(own, others).sum()
        expected = [[0.7 * jaccard + 0.3 / 100, 0.7 * 1 + 0.3 * 1]]
        np.testing.assert_allclose(values, expected, rtol=0, atol=RERANKING_TOLERANCE)

    def test_weight_1_is_the_original_distance_by_the_largest_one(self):
        query, gallery = [[0.0], [4.0]], [[1.0], [2.0]]
        values = rerank_distances(query, gallery, 2, 1, 1.0, measure="euclidean")
        np.testing.assert_allclose(values, [[1 / 16, 4 / 16], [9 / 16, 4 / 16]], rtol=1e-7)

    def test_cosine_is_the_squared_euclidean_distance_of_unit_vectors(self):
        query, gallery = (s.features for s in draw(2, "random"))
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery)]
        np.testing.assert_allclose(
            rerank_distances(query, gallery, 5, 3),
            rerank_distances(*unit, 5, 3, measure="euclidean"),
            rtol=0,
            atol=1e-6,
        )

    def test_equal_features_have_distance_0(self):
        values = rerank_distances(np.ones((2, 3)), np.ones((4, 3)), 5, 2)
        np.testing.assert_allclose(values, np.zeros((2, 4)), atol=1e-7)

    @pytest.mark.parametrize("measure, kind", KINDS)
    def test_size_of_the_blocks(self, measure, kind):
        sets = [s.features for s in draw(3, kind, dimension=67)]
        expected = rerank_distances(*sets, 6, 3, measure=measure)
        values = rerank_distances(*sets, 6, 3, measure=measure, max_block_bytes=3 * 49 * 8)
        np.testing.assert_allclose(values, expected, rtol=0, atol=reranking_tolerance(kind))

    def test_rank_uses_the_distances_of_reranking(self):
        query, gallery = draw(4, "integers")
        # Not the slow ones: where distances tie, their last bits decide.
        distances = rerank_distances(
            query.features, gallery.features, 5, 3, 0.2, measure="euclidean"
        )
        result = rank(query, gallery, measure="euclidean", rerank=Rerank(5, 3, 0.2))
        check_scores(result, plain_scores(query, gallery, distances))
        plain = rank(query, gallery, measure="euclidean")
        assert result.mean_average_precision != plain.mean_average_precision

    def test_helps_on_noisy_identities(self):
        random, labels = np.random.RandomState(0), np.repeat(np.arange(1, 31), 12)
        features = random.randn(31, 32)[labels] + random.randn(len(labels), 32)
        items, self_indices = FeatureSet(features, labels), np.arange(len(labels))
        before = rank(items, items, self_indices=self_indices)
        after = rank(items, items, self_indices=self_indices, rerank=Rerank(12, 3))
        assert after.mean_average_precision > before.mean_average_precision + 0.05

    def test_settings_are_those_of_the_paper(self):
        assert Rerank() == Rerank(k1=20, k2=6, lambda_value=0.3)
        query, gallery = (s.features for s in draw(5, "random"))
        np.testing.assert_array_equal(
            rerank_distances(query, gallery), rerank_distances(query, gallery, 20, 6, 0.3)
        )


class TestMemory:
    """Peaks of what NumPy allocates; without blocks, the distances alone would be 40 times one."""

    BLOCK_BYTES = 2**20
    NUM_ITEMS = 20_000

    def peak(self, run):
        tracemalloc.start()
        try:
            run()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def sets(self, num_queries, features=None):
        random = np.random.RandomState(0)
        if features is None:
            features = random.randn(self.NUM_ITEMS, 4)
        labels = np.arange(self.NUM_ITEMS) % 4000
        gallery = FeatureSet(features, labels)
        return FeatureSet(gallery.features[:num_queries], labels[:num_queries]), gallery

    @pytest.mark.parametrize("measure", ["cosine", "euclidean"])
    def test_does_not_grow_with_queries_times_gallery(self, measure):
        def peak_of(num_queries):
            sets = self.sets(num_queries)
            return self.peak(lambda: rank(*sets, measure=measure, max_block_bytes=self.BLOCK_BYTES))

        few, many = peak_of(50), peak_of(500)
        assert many < 4 * self.BLOCK_BYTES
        assert many < 1.2 * few

    def test_collapsed_features_are_compared_in_chunks(self):
        # All pairs of one query would be 60 MB in float64: two operands and their products.
        query, gallery = self.sets(5, np.ones((self.NUM_ITEMS, 128), np.float32))
        peak = self.peak(lambda: rank(query, gallery, max_block_bytes=self.BLOCK_BYTES))
        assert peak < gallery.features.nbytes + 16 * 2**20

    def test_reranking_holds_the_result_and_blocks(self):
        items = np.random.RandomState(0).randn(2000, 4).astype(np.float32)
        block_bytes = 2000 * 8 * 50
        peak = self.peak(
            lambda: rerank_distances(items[:100], items[100:], 4, 2, max_block_bytes=block_bytes)
        )
        assert peak < 2000 * 2000 * 8 / 4


class TestMars:
    def test_the_real_track_tables(self):
        tracks = scipy.io.loadmat(MARS_INFO_DIR / "tracks_test_info.mat")["track_test_info"]
        rows = scipy.io.loadmat(MARS_INFO_DIR / "query_IDX.mat")["query_IDX"].ravel().astype(int)
        features = np.random.RandomState(0).randn(len(tracks), 128).astype(np.float32)
        gallery = FeatureSet(features, tracks[:, 2], tracks[:, 3])
        query = FeatureSet(*(x[rows - 1] for x in vars_of(gallery)), name="query")
        start = time.perf_counter()
        result = rank(query, gallery, self_indices=rows - 1)
        logging.warning("12,180 tracks took %.2f s", time.perf_counter() - start)
        assert (result.num_queries, result.num_queries_without_match) == (1980, 0)
        assert (result.num_gallery, result.num_junk) == (12180 - 870, 870)
        assert result.num_distractors == 3248
        # Chance: about 11 matches among 11,000.
        assert 0.0 < result.mean_average_precision < 0.01
        # The query itself is junk, or it would come first.
        assert result.rank_k(1) < 0.01
        without_self = rank(query, gallery)
        np.testing.assert_array_equal(without_self.first_match_rank, result.first_match_rank)


class TestFeatureSet:
    def test_lists_and_other_types_are_converted(self):
        features = FeatureSet([[1, 2], [3, 4]], np.array([5.0, 6.0]), np.array([1, 2], np.uint16))
        assert features.features.dtype == np.float32
        assert features.labels.dtype == features.cameras.dtype == np.int64
        assert (len(features), features.name) == (2, "gallery")
        assert FeatureSet([[1]], [2]).cameras is None

    def test_takes_float32_without_a_copy(self):
        features = np.ones((2, 3), np.float32)
        assert FeatureSet(features, [1, 2]).features is features

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
    def test_names_the_first_row_that_is_not_finite(self, value):
        features = np.ones((40, 3))
        features[17, 1] = features[30, 0] = value
        with pytest.raises(DataError, match=r"row 17 of the query features is not finite.* of 2\)"):
            FeatureSet(features, np.ones(40, int), name="query")

    @pytest.mark.parametrize(
        "features", [np.ones(3), np.ones((0, 3)), np.ones((3, 0)), np.ones((3, 1, 1)), [["a"]]]
    )
    def test_needs_rows_of_numbers(self, features):
        with pytest.raises(DataError, match="gallery features must be numbers in rows"):
            FeatureSet(features, np.ones(len(features), int))

    @pytest.mark.parametrize("labels", [[1, 2], [[1, 2, 3]], None])
    def test_arrays_of_different_lengths_are_refused(self, labels):
        with pytest.raises(DataError, match="query has 3 features, but its labels are of shape"):
            FeatureSet(np.ones((3, 2)), labels, name="query")
        if labels is not None:
            with pytest.raises(DataError, match="3 features, but its cameras"):
                FeatureSet(np.ones((3, 2)), [1, 2, 3], labels)

    @pytest.mark.parametrize("labels", [[1.5, 2], ["a", "b"], [np.nan, 1]])
    @pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
    def test_labels_are_integers(self, labels):
        with pytest.raises(DataError, match="labels of the gallery must be integers"):
            FeatureSet(np.ones((2, 2)), labels)


class TestErrors:
    @pytest.fixture
    def sets(self):
        return draw(0, "random")

    def test_an_unknown_measure_is_refused_with_the_right_ones(self, sets):
        with pytest.raises(UsageError, match="'manhattan' must be one of cosine, euclidean"):
            rank(*sets, measure="manhattan")
        with pytest.raises(UsageError, match="manhattan"):
            rerank_distances([[1.0]], [[1.0]], measure="manhattan")

    @pytest.mark.parametrize("function", [rank, lambda *sets: nearest(*sets, [0])])
    def test_features_of_different_dimensions_are_refused(self, function):
        query, gallery = FeatureSet([[1, 2]], [1], name="query"), FeatureSet([[1, 2, 3]], [1])
        with pytest.raises(DataError, match="dimension 2 and the gallery features 3"):
            function(query, gallery)
        with pytest.raises(DataError, match="dimension 2 and the gallery features 3"):
            rerank_distances(query.features, gallery.features)

    def test_labels_never_meet(self):
        with pytest.raises(DataError, match=r"none of the 1 queries .* in its order\?"):
            rank_toy([1, 2], [8, 9])

    def test_zero_rows_have_no_cosine_distance(self):
        query, gallery = toy([1, 0], [7, 8])
        with pytest.raises(DataError, match="row 0 of the query features is zero"):
            rank(query, gallery)
        items = FeatureSet([[1.0], [1.0]], [7, 7], [1, 1])
        with pytest.raises(DataError, match="row 1 of the gallery features is zero"):
            rank(items, gallery)
        with pytest.raises(DataError, match="row 1 of the gallery features is zero"):
            rerank_distances(items.features, gallery.features)

    def test_squares_that_overflow(self):
        items = FeatureSet([[1.0], [1e20]], [7, 7])
        with pytest.raises(DataError, match="row 1 of the gallery features is too long"):
            rank(items, items, measure="euclidean")
        assert rank(items, items).rank_k(1) == 1.0

    @pytest.mark.parametrize("index", [0, 1])
    def test_cameras_of_one_set_alone(self, sets, index):
        sets = list(sets)
        sets[index] = FeatureSet(sets[index].features, sets[index].labels, name=sets[index].name)
        with pytest.raises(DataError, match=f"the {sets[index].name} has no cameras"):
            rank(*sets)
        assert rank(*sets, same_camera_is_junk=False).num_queries == 9

    @pytest.mark.parametrize(
        "self_indices", [[0] * 8, [0.5] * 9, [*[0] * 8, 40], [*[0] * 8, -2], [[0] * 9]]
    )
    def test_self_indices_that_are_not_of_the_gallery(self, sets, self_indices):
        with pytest.raises(DataError, match="self_indices must be"):
            rank(*sets, self_indices=self_indices)

    @pytest.mark.parametrize("ranks", [(), (0,), (1.5,), (True,), (5, -1)])
    def test_wrong_ranks_are_refused(self, sets, ranks):
        with pytest.raises(UsageError, match="ranks"):
            rank(*sets, ranks=ranks)

    def test_numbers_below_1(self, sets):
        with pytest.raises(UsageError, match=r"^k \(0\)"):
            rank(*sets).rank_k(0)
        with pytest.raises(UsageError, match=r"^k \(0\)"):
            nearest(*sets, [0], 0)
        with pytest.raises(UsageError, match=r"max_block_bytes \(0\)"):
            rank(*sets, max_block_bytes=0)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"k1": 0}, r"k1 \(0\)"),
            ({"k2": 1.5}, r"k2 \(1.5\)"),
            ({"lambda_value": 1.1}, r"lambda_value \(1.1\)"),
            ({"lambda_value": -0.1}, r"lambda_value \(-0.1\)"),
            ({"lambda_value": math.nan}, r"lambda_value \(nan\)"),
        ],
    )
    def test_settings_of_reranking(self, arguments, message):
        with pytest.raises(UsageError, match=message):
            Rerank(**arguments)
        with pytest.raises(UsageError, match=message):
            rerank_distances([[1.0]], [[1.0]], **arguments)

    def test_rerank_must_be_settings(self, sets):
        with pytest.raises(UsageError, match="must be a Rerank"):
            rank(*sets, rerank=True)
        with pytest.raises(UsageError, match="not both"):
            rank(*sets, rerank=Rerank(), distances=np.ones((9, 40)))

    def test_distances_that_do_not_fit(self, sets):
        with pytest.raises(DataError, match="9 queries and 40 gallery items"):
            rank(*sets, distances=np.ones((40, 9)))
        with pytest.raises(DataError, match="finite"):
            rank(*sets, distances=np.full((9, 40), np.nan))

    def test_reranking_checks_features(self):
        with pytest.raises(DataError, match="row 1 of the query features is not finite"):
            rerank_distances([[1.0], [np.nan]], [[1.0]])


def test_tensorflow_is_not_imported():
    code = "import sys, deep_reid.scoring.ranking; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0

"""The threshold for a tracker: smallest distances to tracks, and what Deep SORT makes of them."""

import collections

import numpy as np
import pytest

from deep_reid.errors import DataError, UsageError
from deep_reid.scoring import tracks
from deep_reid.scoring.ranking import FeatureSet


def draw_sets(seed, num_queries=30, num_items=120):
    """Draw queries and a gallery with junk and distractors."""
    random = np.random.default_rng(seed)
    sets = []
    for name, count, lowest in (("query", num_queries, 1), ("gallery", num_items, -1)):
        labels = random.integers(lowest, 9, count)
        features = np.eye(12)[labels % 12] + 0.4 * random.standard_normal((count, 12))
        sets.append(FeatureSet(features, labels, random.integers(1, 4, count), name=name))
    return sets


def plain_distances(query, gallery, measure, by_camera, own_rows):
    """Compute the distances to tracks by loops."""
    own, other = [], []
    for i, feature in enumerate(query.features.astype(float)):
        for label in set(gallery.labels.tolist()) - {-1, 0}:
            found = []
            for j in np.flatnonzero(gallery.labels == label):
                is_own = label == query.labels[i]
                if own_rows[i] == j or (
                    by_camera and is_own and gallery.cameras[j] == query.cameras[i]
                ):
                    continue
                a, b = feature, gallery.features[j].astype(float)
                cosine = 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                found.append(cosine if measure == "cosine" else np.linalg.norm(a - b))
            if found:
                (own if label == query.labels[i] else other).append(min(found))
    return np.sort(own), np.sort(other)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("measure", ["cosine", "euclidean"])
@pytest.mark.parametrize("by_camera", [True, False])
def test_distances_equal_plain_loops(seed, measure, by_camera):
    query, gallery = draw_sets(seed)
    own_rows = np.array(
        [next(iter(np.flatnonzero(gallery.labels == label)), -1) for label in query.labels]
    )
    found = tracks.track_distances(
        query, gallery, measure=measure, same_camera_is_junk=by_camera, self_indices=own_rows
    )
    own, other = plain_distances(query, gallery, measure, by_camera, own_rows)
    assert not found.is_sample
    np.testing.assert_allclose(np.sort(found.own), own, atol=1e-12)
    np.testing.assert_allclose(np.sort(found.other), other, atol=1e-12)


def test_features_that_lie_close_together_are_compared_exactly():
    query, gallery = draw_sets(0)
    query, gallery = (
        FeatureSet(1 + 1e-4 * each.features, each.labels, each.cameras) for each in (query, gallery)
    )
    found = tracks.track_distances(query, gallery)
    own, _ = plain_distances(query, gallery, "cosine", True, np.full(len(query), -1))
    np.testing.assert_allclose(np.sort(found.own), own, rtol=1e-3, atol=1e-13)


@pytest.mark.parametrize("budget", [1, 3, 100])
def test_a_track_stores_no_more_than_its_budget(budget):
    query, gallery = draw_sets(1, num_items=3000)
    found = tracks.track_distances(query, gallery, budget=budget)
    assert found.median_size == budget
    assert found.num_tracks == 8
    everything = tracks.track_distances(query, gallery, budget=10_000)
    assert everything.other.mean() < found.other.mean()


def test_a_sample_is_seeded_and_of_the_distances_there_are():
    query, gallery = draw_sets(2, num_queries=200)
    whole = tracks.track_distances(query, gallery)
    samples = [
        tracks.track_distances(query, gallery, max_comparisons=5000, seed=seed)
        for seed in (3, 3, 4)
    ]
    assert samples[0].is_sample
    assert not whole.is_sample
    np.testing.assert_array_equal(samples[0].other, samples[1].other)
    assert not np.array_equal(samples[0].other, samples[2].other)
    assert np.isin(samples[0].other.round(9), whole.other.round(9)).all()


def test_many_items_do_not_take_memory_of_queries_times_gallery():
    labels = np.random.default_rng(0).integers(1, 1000, 200_000)
    features = np.random.default_rng(1).standard_normal((200_000, 4))
    many = FeatureSet(features, labels, labels % 2)
    found = tracks.track_distances(many, many, self_indices=np.arange(200_000))
    assert found.is_sample
    assert len(found.other) < 1_000_000


def test_junk_and_distractors_are_neither_detections_nor_tracks():
    query = FeatureSet(np.eye(3), [-1, 0, 0], [1, 1, 1], name="query")
    gallery = FeatureSet(np.eye(3), [-1, 0, 5], [2, 2, 2])
    found = tracks.track_distances(query, gallery)
    assert len(found.own) == len(found.other) == 0
    none = tracks.track_distances(query, FeatureSet(np.eye(3), [-1, 0, 0], [2, 2, 2]))
    assert none.num_tracks == 0


class DeepSortGallery:
    """What Deep SORT keeps of each track, and how it compares a detection with it."""

    def __init__(self, budget=100):
        self._features = collections.defaultdict(lambda: collections.deque(maxlen=budget))

    def add(self, track, feature):
        self._features[track].append(feature / np.linalg.norm(feature))

    def distances(self, feature):
        feature = feature / np.linalg.norm(feature)
        return {
            track: min(1.0 - stored @ feature for stored in features)
            for track, features in self._features.items()
        }


def draw_people(random, num_people, num_images, noise, dimension=16):
    """Draw images of people: a center for each, a drift of appearance, noise for each image."""
    centers = random.standard_normal((num_people, 1, dimension))
    drift = (
        random.standard_normal((num_people, 1, dimension))
        * np.linspace(-1, 1, num_images)[:, np.newaxis]
    )
    images = centers + noise * (
        0.5 * drift + random.standard_normal((num_people, num_images, dimension))
    )
    return images / np.linalg.norm(images, axis=2, keepdims=True)


@pytest.mark.parametrize("noise", [0.3, 0.45, 0.6])
@pytest.mark.parametrize("num_images", [100, 160])
def test_in_a_simulation_of_deep_sort_at_most_the_promised_share_of_wrong_tracks_match(
    noise, num_images
):
    random = np.random.default_rng(int(100 * noise) + num_images)
    images = draw_people(random, 80, num_images + 2, noise)
    labels = np.arange(1, 81)
    query = FeatureSet(images[:, :2].reshape(160, -1), labels.repeat(2), name="query")
    gallery = FeatureSet(
        images[:, 2:].reshape(80 * num_images, -1), labels.repeat(num_images), name="gallery"
    )
    found = tracks.track_distances(query, gallery)
    threshold = tracks.distance_threshold(found.own, found.other)
    # Other people walk through the scene.
    scene = DeepSortGallery()
    people = draw_people(random, 80, num_images + 2, noise)
    for track, own_images in enumerate(people):
        for image in own_images[2:]:
            scene.add(track, image)
    own, other = [], []
    for track, own_images in enumerate(people):
        for image in own_images[:2]:
            distances = scene.distances(image)
            own.append(distances.pop(track))
            other += distances.values()
    assert np.mean(np.array(other) <= threshold.distance) < 0.025
    assert np.mean(np.array(own) <= threshold.distance) == pytest.approx(
        threshold.share_of_own, abs=0.15
    )
    # One percent of the *pairs*, as earlier releases advised, lets far more wrong tracks match.
    pairs = 1.0 - query.features @ gallery.features.T
    of_pairs = np.quantile(pairs[query.labels[:, np.newaxis] != gallery.labels], 0.01)
    assert np.mean(np.array(other) <= of_pairs) > 0.04


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_the_threshold_equals_a_slow_search(seed, share):
    random = np.random.default_rng(seed)
    digits = 1 + seed % 5  # The rounding makes ties.
    own = np.round(random.random(30), digits)
    other = np.round(random.random(150 + 50 * seed), digits)
    best = max(
        (d for d in [*own, *other] if np.mean(other <= d) <= share),
        default=np.nan,
    )
    threshold = tracks.distance_threshold(own, other, share)
    if np.isnan(best):
        assert np.isnan(threshold.distance)
        assert not threshold.separates
        return
    assert best * 0.99 <= threshold.distance <= best
    assert threshold.share_of_other == np.mean(other <= threshold.distance) <= share
    assert threshold.share_of_own == np.mean(own <= threshold.distance)
    assert float(f"{threshold.distance:.3g}") == threshold.distance


def test_a_threshold_needs_both_sorts_of_tracks():
    with pytest.raises(DataError, match="there are 2 and 0"):
        tracks.distance_threshold([0.1, 0.2], [])
    with pytest.raises(UsageError, match="share"):
        tracks.distance_threshold([0.1], [0.2], share=0.0)


def test_without_distances_below_those_of_wrong_tracks_nothing_separates():
    assert not tracks.distance_threshold([0.0] * 9, [0.0] * 200).separates
    assert not tracks.distance_threshold([0.5] * 9, [0.1, 0.2]).separates
    assert tracks.distance_threshold([0.05] * 9, [0.1, 0.2]).separates

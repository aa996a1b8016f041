"""Recognition rate (CMC) and average precision, against plain loops and worked examples."""

import numpy as np
import pytest

from deep_reid import metrics
from deep_reid.compat import tf
from deep_reid.metrics import (
    average_precision,
    cosine_distance,
    pdist,
    recognition_rate_at_k,
    streaming_mean_average_precision,
    streaming_mean_cmc_at_k,
)

pytestmark = pytest.mark.usefixtures("graph")

MEASURES = {"cosine": cosine_distance, "pdist": pdist}


def run(tensors):
    with tf.Session() as session:
        return session.run(tensors)


def rank_by(distances):
    """Make a measure that returns the given distances, whatever the features are."""
    return lambda probe_x, gallery_x: tf.constant(distances, tf.float32)


def rates(distances, probe_y, gallery_y, k):
    """Run `recognition_rate_at_k` for given distances."""
    probe_x, gallery_x = tf.zeros((len(probe_y), 2)), tf.zeros((len(gallery_y), 2))
    return run(
        recognition_rate_at_k(
            probe_x, tf.constant(probe_y), gallery_x, tf.constant(gallery_y), k, rank_by(distances)
        )
    )


def precisions(distances, probe_y, gallery_y, good_mask=None):
    """Run `average_precision` for given distances."""
    probe_x, gallery_x = tf.zeros((len(probe_y), 2)), tf.zeros((len(gallery_y), 2))
    return run(
        average_precision(
            probe_x,
            tf.constant(probe_y),
            gallery_x,
            tf.constant(gallery_y),
            None if good_mask is None else tf.constant(good_mask),
            rank_by(distances),
        )
    )


def plain_ranking(distances, row):
    """Nearest first; of equal distances, the first of the gallery."""
    return sorted(range(distances.shape[1]), key=lambda column: (distances[row, column], column))


def plain_rates(distances, probe_y, gallery_y, k):
    values = []
    for row, label in enumerate(probe_y):
        found = [gallery_y[column] == label for column in plain_ranking(distances, row)[:k]]
        num_items = sum(y == label for y in gallery_y)
        values.append(sum(found) / min(k, num_items) if num_items else 0.0)
    return values


def plain_precisions(distances, probe_y, gallery_y, good_mask):
    values = []
    for row, label in enumerate(probe_y):
        ranking = [column for column in plain_ranking(distances, row) if good_mask[row, column]]
        num_hits, at_hits = 0, []
        for rank, column in enumerate(ranking, start=1):
            if gallery_y[column] == label:
                num_hits += 1
                at_hits.append(num_hits / rank)
        values.append(sum(at_hits) / len(at_hits) if at_hits else 0.0)
    return values


def draw_problem(seed, num_probes=12, num_items=17, num_labels=5, num_distances=None):
    """Draw distances and labels; with `num_distances`, so few different ones that many tie."""
    random = np.random.RandomState(seed)
    shape = (num_probes, num_items)
    if num_distances is None:
        distances = random.permutation(num_probes * num_items).reshape(shape) / 7.0
    else:
        distances = random.randint(0, num_distances, shape)
    return (
        distances.astype(np.float32),
        random.randint(0, num_labels, num_probes),
        random.randint(0, num_labels, num_items),
    )


class TestRecognitionRate:
    def check_golden_values(self, reference, number, name, measure):
        parts = ("probe", "probe_y", "gallery", "gallery_y")
        tensors = [tf.constant(reference[f"cmc_metric{number}_{part}"]) for part in parts]
        values = run({k: recognition_rate_at_k(*tensors, k, measure) for k in (1, 5, 10, 20)})
        for k, value in values.items():
            np.testing.assert_array_equal(value, reference[f"cmc_metric{number}_k{k}_{name}"])

    @pytest.mark.parametrize(
        "number, name", [(0, "cosine"), (1, "cosine"), (2, "cosine"), (0, "pdist"), (2, "pdist")]
    )
    def test_recognition_rates_are_those_of_the_original(self, reference, number, name):
        self.check_golden_values(reference, number, name, MEASURES[name])

    def test_golden_values_where_the_original_ranked_zeros(self, reference):
        # It ranked by exp(-distance), and from 104 on that is zero in float32: all items tied.
        def underflowing_distance(a, b):
            return -tf.exp(-pdist(a, b))

        self.check_golden_values(reference, 1, "pdist", underflowing_distance)
        with pytest.raises(AssertionError):
            self.check_golden_values(reference, 1, "pdist", pdist)

    @pytest.mark.parametrize("num_distances", [None, 3], ids=["no ties", "ties"])
    @pytest.mark.parametrize("k", [1, 2, 5, 17, 40])
    def test_agrees_with_a_plain_loop(self, k, num_distances):
        problem = draw_problem(k, num_distances=num_distances)
        np.testing.assert_allclose(rates(*problem, k), plain_rates(*problem, k), rtol=1e-6)

    def test_worked_example_with_several_items_of_an_identity(self):
        distances, gallery_y = [[1.0, 2.0, 3.0, 4.0, 5.0]], [7, 8, 7, 8, 7]
        at_k = [rates(distances, [7], gallery_y, k)[0] for k in (1, 2, 3, 4, 5)]
        # Found are 1, 1, 2, 2, 3 of at most 1, 2, 3, 3, 3.
        np.testing.assert_allclose(at_k, [1.0, 1 / 2, 2 / 3, 2 / 3, 1.0])

    def test_of_equal_distances_the_first_of_the_gallery_wins(self):
        assert rates([[1.0, 1.0, 1.0]], [7], [7, 8, 8], 1) == [1.0]
        assert rates([[1.0, 1.0, 1.0]], [7], [8, 7, 8], 1) == [0.0]
        assert rates([[1.0, 1.0, 1.0]], [7], [8, 7, 8], 2) == [1.0]

    @pytest.mark.parametrize("num_items", [1, 2, 19])
    def test_galleries_smaller_than_k(self, num_items):
        problem = draw_problem(0, num_items=num_items, num_labels=3)
        values = rates(*problem, 20)
        assert values.tolist() == [float(y in problem[2]) for y in problem[1]]

    def test_one_probe_is_a_vector_of_one(self):
        assert rates([[1.0, 2.0]], [7], [7, 8], 1).shape == (1,)

    def test_one_probe_and_one_item(self):
        assert rates([[1.0]], [7], [7], 5).tolist() == [1.0]

    def test_a_probe_without_items_scores_zero(self):
        assert rates([[1.0, 2.0]], [9], [7, 8], 2).tolist() == [0.0]

    def test_grows_with_k_up_to_one_where_an_identity_has_one_item(self):
        distances, probe_y, _ = draw_problem(1, num_items=9, num_labels=9)
        gallery_y = np.random.RandomState(0).permutation(9)
        values = np.array([rates(distances, probe_y, gallery_y, k) for k in range(1, 10)])
        assert set(values.ravel()) == {0.0, 1.0}
        assert (np.diff(values, axis=0) >= 0).all()
        assert (values[-1] == 1.0).all()
        assert values[0].mean() < values[4].mean() < 1.0

    def test_the_distance_ranks_and_not_its_exponential(self):
        # exp(-200) and exp(-300) are both zero in float32.
        assert rates([[300.0, 200.0]], [7], [8, 7], 1).tolist() == [1.0]

    @pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
    def test_the_measure_decides(self, measure):
        probe_x, gallery_x = [[1.0, 0.0]], [[9.0, 0.1], [1.0, 0.5]]
        value = run(
            recognition_rate_at_k(
                tf.constant(probe_x), tf.constant([0]), tf.constant(gallery_x), tf.constant([0, 1]),
                1, measure,
            )
        )  # fmt: skip
        assert value.tolist() == [1.0 if measure is cosine_distance else 0.0]

    def test_sizes_may_be_unknown_when_the_graph_is_built(self):
        probe_x, gallery_x = (tf.placeholder(tf.float32, (None, 2)) for _ in range(2))
        probe_y, gallery_y = (tf.placeholder(tf.int64, (None,)) for _ in range(2))
        rate = recognition_rate_at_k(probe_x, probe_y, gallery_x, gallery_y, 2)
        with tf.Session() as session:
            for num_items in (1, 3):
                feed_dict = {
                    probe_x: np.zeros((1, 2)),
                    probe_y: [0],
                    gallery_x: np.ones((num_items, 2)),
                    gallery_y: np.arange(num_items),
                }
                assert session.run(rate, feed_dict).tolist() == [1.0]


class TestAveragePrecision:
    @pytest.mark.parametrize("num_distances", [None, 3], ids=["no ties", "ties"])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_agrees_with_a_plain_loop(self, seed, num_distances):
        problem = draw_problem(seed, num_distances=num_distances)
        good_mask = np.random.RandomState(seed + 9).rand(12, 17) < 0.7
        values, has_match = precisions(*problem, good_mask)
        expected = plain_precisions(*problem, good_mask)
        np.testing.assert_allclose(values, expected, rtol=1e-5)
        matches = problem[1][:, np.newaxis] == problem[2][np.newaxis, :]
        np.testing.assert_array_equal(has_match, (matches & good_mask).any(axis=1))

    def test_a_worked_example_has_the_precision_computed_by_hand(self):
        # Hits at ranks 1, 3 and 6: (1/1 + 2/3 + 3/6) / 3.
        distances = [[60.0, 10.0, 50.0, 30.0, 20.0, 40.0]]
        values, _ = precisions(distances, [7], [7, 7, 8, 7, 8, 8])
        np.testing.assert_allclose(values, [(1 + 2 / 3 + 1 / 2) / 3], rtol=1e-6)

    def test_the_mask_belongs_to_items_although_the_ranking_sorts_them(self):
        # By distance: columns 2 (wrong), 0 (right), 1 (right). Without column 2: all hits.
        distances, gallery_y = [[2.0, 3.0, 1.0]], [7, 7, 8]
        assert precisions(distances, [7], gallery_y, [[True, True, False]])[0].tolist() == [1.0]
        # Without column 0: one hit, at rank 2. Without column 1: the same.
        assert precisions(distances, [7], gallery_y, [[False, True, True]])[0].tolist() == [0.5]
        assert precisions(distances, [7], gallery_y, [[True, False, True]])[0].tolist() == [0.5]

    def test_each_probe_has_a_mask_of_its_own(self):
        distances = [[1.0, 2.0], [1.0, 2.0]]
        values, _ = precisions(distances, [8, 8], [7, 8], [[True, True], [False, True]])
        assert values.tolist() == [0.5, 1.0]

    def test_junk_is_as_good_as_not_there(self):
        distances, probe_y, gallery_y = draw_problem(4)
        is_good = np.random.RandomState(5).rand(17) < 0.6
        masked, _ = precisions(distances, probe_y, gallery_y, np.tile(is_good, (12, 1)))
        removed, _ = precisions(distances[:, is_good], probe_y, gallery_y[is_good])
        np.testing.assert_allclose(masked, removed, rtol=1e-6)

    def test_without_a_mask_all_items_are_good(self):
        problem = draw_problem(6)
        everything, _ = precisions(*problem, np.ones((12, 17), bool))
        np.testing.assert_array_equal(precisions(*problem)[0], everything)

    def test_a_probe_whose_items_are_all_junk_has_no_match(self):
        values, has_match = precisions(
            [[1.0, 2.0]] * 3, [7, 8, 9], [7, 8], [[False, True], [True, True], [True, True]]
        )
        assert values.tolist() == [0.0, 0.5, 0.0]
        assert has_match.tolist() == [False, True, False]

    def test_where_all_is_junk_there_is_no_match(self):
        values, has_match = precisions([[1.0]], [7], [7], [[False]])
        assert (values.tolist(), has_match.tolist()) == ([0.0], [False])


@pytest.mark.parametrize("num_items", [9, 17])
class TestInvariances:
    """Without ties, neither the gallery's order nor the labels' numbers mean anything."""

    def both(self, distances, probe_y, gallery_y, good_mask):
        rate = rates(distances, probe_y, gallery_y, 4)
        return np.stack([rate, precisions(distances, probe_y, gallery_y, good_mask)[0]])

    def test_order_of_the_gallery(self, num_items):
        distances, probe_y, gallery_y = draw_problem(7, num_items=num_items)
        good_mask = np.random.RandomState(8).rand(12, num_items) < 0.8
        order = np.random.RandomState(9).permutation(num_items)
        np.testing.assert_allclose(
            self.both(distances[:, order], probe_y, gallery_y[order], good_mask[:, order]),
            self.both(distances, probe_y, gallery_y, good_mask),
        )

    def test_names_of_the_identities(self, num_items):
        distances, probe_y, gallery_y = draw_problem(7, num_items=num_items)
        good_mask = np.random.RandomState(8).rand(12, num_items) < 0.8
        names = np.array([41, -3, 1000, 0, 7])
        np.testing.assert_array_equal(
            self.both(distances, names[probe_y], names[gallery_y], good_mask),
            self.both(distances, probe_y, gallery_y, good_mask),
        )


class TestStreamingMeans:
    """Galleries of different sizes are run one after the other through one graph."""

    def stream(self, galleries, create):
        sizes = (None, None)
        distances, mask = tf.placeholder(tf.float32, sizes), tf.placeholder(tf.bool, sizes)
        probe_y, gallery_y = (tf.placeholder(tf.int64, (None,)) for _ in range(2))
        value, update_op = create(
            tf.zeros((tf.shape(probe_y)[0], 2)),
            probe_y,
            tf.zeros((tf.shape(gallery_y)[0], 2)),
            gallery_y,
            mask,
            lambda probe_x, gallery_x: distances,
        )
        with tf.Session() as session:
            session.run(tf.local_variables_initializer())
            variables = (distances, probe_y, gallery_y, mask)
            updates = [
                session.run(update_op, dict(zip(variables, gallery, strict=True)))
                for gallery in galleries
            ]
            assert session.run(value) == updates[-1]
        return updates

    @pytest.fixture
    def galleries(self):
        problems = [
            draw_problem(seed, num_probes=num_probes, num_labels=4)
            for seed, num_probes in enumerate((3, 10, 1))
        ]
        masks = [np.random.RandomState(len(y)).rand(len(y), 17) < 0.5 for _, y, _ in problems]
        return [(*problem, mask) for problem, mask in zip(problems, masks, strict=True)]

    def test_recognition_rate_is_the_mean_over_the_probes_of_all_galleries(self, galleries):
        def create(probe_x, probe_y, gallery_x, gallery_y, mask, measure):
            return streaming_mean_cmc_at_k(probe_x, probe_y, gallery_x, gallery_y, 3, measure)

        updates = self.stream(galleries, create)
        values = [plain_rates(*gallery[:3], 3) for gallery in galleries]
        for count, update in enumerate(updates, start=1):
            np.testing.assert_allclose(update, np.mean(np.concatenate(values[:count])), rtol=1e-5)

    def test_average_precision_is_the_mean_over_all_probes_with_a_match(self, galleries):
        galleries[1][1][:4] = 99  # four probes that have nothing to find
        updates = self.stream(galleries, streaming_mean_average_precision)
        values = [
            value
            for gallery in galleries
            for value in plain_precisions(*gallery)
            if value > 0.0  # a probe that has something to find never scores zero
        ]
        assert len(values) < sum(len(gallery[1]) for gallery in galleries)
        np.testing.assert_allclose(updates[-1], np.mean(values), rtol=1e-5)

    def test_the_old_spelling_is_the_same_function(self):
        assert metrics.streaming_mean_averge_precision is streaming_mean_average_precision

"""Batch generators: what each batch holds, and in which order."""

import itertools
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deep_reid.errors import DataError, UsageError
from deep_reid.samplers import (
    ThreadSafeIterator,
    iterate_forever,
    random_sample_identities_forever,
    random_shuffle_forever,
    run_in_batches,
)


def take(generator, count):
    return list(itertools.islice(generator, count))


class TestRunInBatches:
    @pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 4, 5, 6, 7, 9])
    def test_every_row_is_computed_whatever_the_number_of_rows(self, num_rows):
        x = np.arange(1, 2 * num_rows + 1, dtype=np.float32).reshape(num_rows, 2)
        y = list(range(num_rows))
        out = np.zeros((num_rows, 2), np.float32)
        sizes = []

        def f(batch):
            sizes.append(len(batch["x"]))
            return 2 * batch["x"] + np.array(batch["y"])[:, np.newaxis]

        run_in_batches(f, {"x": x, "y": y}, out, batch_size=3)
        np.testing.assert_array_equal(out, 2 * x + np.arange(num_rows)[:, np.newaxis])
        full, rest = divmod(num_rows, 3)
        assert sizes == [3] * full + [rest] * bool(rest)

    def test_lengths_that_differ_are_refused_before_the_first_call(self):
        calls = []
        with pytest.raises(ValueError, match=r"'x': 4.* out \(3 rows\)"):
            run_in_batches(calls.append, {"x": np.zeros(4)}, np.zeros(3), 2)
        assert not calls

    def test_a_result_of_too_few_rows_is_not_broadcast(self):
        with pytest.raises(ValueError, match="returned 1 rows for the 2 rows from row 0"):
            run_in_batches(
                lambda batch: batch["x"][:1], {"x": np.zeros((4, 3))}, np.ones((4, 3)), 2
            )

    @pytest.mark.parametrize("batch_size", [0, -1, 1.5, None])
    def test_batch_size_below_one_is_refused(self, batch_size):
        with pytest.raises(UsageError, match="batch_size"):
            run_in_batches(lambda batch: batch["x"], {"x": np.zeros(2)}, np.zeros(2), batch_size)


class TestIterateForever:
    @given(batch_size=st.integers(1, 12), num_rows=st.integers(1, 7))
    def test_batches_are_full_in_order_and_wrap_round(self, batch_size, num_rows):
        batches = take(iterate_forever(batch_size, np.arange(num_rows)), 9)
        assert all(batch.shape == (batch_size,) for batch in batches)
        stream = np.concatenate(batches)
        expected = list(itertools.islice(itertools.cycle(range(num_rows)), 9 * batch_size))
        assert stream.tolist() == expected

    def test_one_array_per_argument_with_rows_that_belong_together(self):
        images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2, 1)
        names = [Path(f"{i}.jpg") for i in range(5)]
        for batch_x, batch_names, batch_y in take(iterate_forever(2, images, names, range(5)), 5):
            np.testing.assert_array_equal(batch_x, images[batch_y])
            assert batch_names.tolist() == [f"{i}.jpg" for i in batch_y]

    def test_a_list_of_arrays_is_stacked(self):
        images = [np.full((2, 2, 3), i, np.uint8) for i in range(4)]
        (batch,) = take(iterate_forever(3, images), 1)
        assert batch.shape == (3, 2, 2, 3)
        assert batch.dtype == np.uint8


class TestRandomShuffleForever:
    @given(batch_size=st.integers(1, 12), num_rows=st.integers(1, 7), seed=st.integers(0, 99))
    def test_every_row_is_used_equally_often(self, batch_size, num_rows, seed):
        batches = take(random_shuffle_forever(batch_size, np.arange(num_rows), seed=seed), num_rows)
        assert all(batch.shape == (batch_size,) for batch in batches)
        stream = np.concatenate(batches)
        for epoch in stream.reshape(batch_size, num_rows):
            assert sorted(epoch) == list(range(num_rows))

    def test_order_changes_from_epoch_to_epoch_and_with_the_seed(self):
        x = np.arange(50)
        a = take(random_shuffle_forever(50, x, seed=1), 2)
        b = take(random_shuffle_forever(50, x, seed=1), 2)
        c = take(random_shuffle_forever(50, x, seed=2), 2)
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a[0], a[1])
        assert not np.array_equal(a[0], c[0])

    def test_without_a_seed_two_runs_differ(self):
        x = np.arange(50)
        a, b = (take(random_shuffle_forever(50, x), 1) for _ in range(2))
        assert not np.array_equal(a, b)

    def test_rows_belong_together(self):
        x = np.random.RandomState(0).rand(7, 2)
        for batch_x, batch_y in take(random_shuffle_forever(3, x, list(range(7)), seed=0), 9):
            np.testing.assert_array_equal(batch_x, x[batch_y])


@pytest.mark.parametrize("generator", [iterate_forever, random_shuffle_forever])
def test_one_array_comes_alone_and_several_as_a_list(generator):
    assert isinstance(next(generator(2, np.arange(4))), np.ndarray)
    batch = next(generator(2, np.arange(4), ["a", "b", "c", "d"]))
    assert isinstance(batch, list)
    assert [part.shape for part in batch] == [(2,), (2,)]


def test_several_threads_draw_each_item_once():
    """A generator alone raises ValueError when two threads draw from it at once."""

    def count():
        for number in range(200):
            time.sleep(0.0001)
            yield number

    iterator = ThreadSafeIterator(count())
    assert iter(iterator) is iterator
    with ThreadPoolExecutor(4) as pool:
        drawn = [pool.submit(list, iterator) for _ in range(4)]
    assert sorted(itertools.chain(*(numbers.result() for numbers in drawn))) == list(range(200))


@pytest.mark.parametrize("generator", [iterate_forever, random_shuffle_forever])
class TestArgumentsOfPlainIteration:
    def test_no_rows(self, generator):
        with pytest.raises(DataError, match="no rows"):
            generator(2, [])

    def test_batch_size(self, generator):
        with pytest.raises(UsageError, match="batch_size"):
            generator(0, [1])

    def test_lengths(self, generator):
        with pytest.raises(ValueError, match=r"\[3, 2\] rows"):
            generator(1, [1, 2, 3], [1, 2])

    def test_a_single_name_is_no_list(self, generator):
        with pytest.raises(TypeError, match=r"a\.jpg"):
            generator(1, "a.jpg")

    def test_images_of_different_shapes(self, generator):
        with pytest.raises(DataError, match=r"\(2, 2, 3\), \(4, 2, 3\)"):
            generator(1, [np.zeros((4, 2, 3)), np.zeros((2, 2, 3))])


def check_batch(batch_x, batch_y, labels, num_identities, num_images):
    """Check P distinct identities of K images, grouped; rows are their own numbers."""
    np.testing.assert_array_equal(batch_y, labels[batch_x])
    grouped_y = batch_y.reshape(num_identities, num_images)
    assert (grouped_y == grouped_y[:, :1]).all()
    assert len(set(grouped_y[:, 0])) == num_identities
    for rows, label in zip(batch_x.reshape(grouped_y.shape), grouped_y[:, 0], strict=True):
        available = np.count_nonzero(labels == label)
        assert len(set(rows)) == min(available, num_images)


class TestRandomSampleIdentitiesForever:
    @given(
        counts=st.lists(st.integers(1, 9), min_size=1, max_size=8),
        num_images=st.integers(1, 5),
        seed=st.integers(0, 10**6),
        data=st.data(),
    )
    @settings(max_examples=60)
    def test_batches_hold_distinct_identities_and_their_own_images(
        self, counts, num_images, seed, data
    ):
        num_identities = data.draw(st.integers(1, len(counts)))
        labels = np.repeat(np.arange(len(counts)) * 3, counts)
        labels = np.random.RandomState(seed).permutation(labels)
        batches = random_sample_identities_forever(
            num_identities * num_images, num_images, np.arange(len(labels)), labels, seed=seed
        )
        for batch_x, batch_y in take(batches, 5):
            check_batch(batch_x, batch_y, labels, num_identities, num_images)

    def test_an_identity_with_few_images_repeats_its_own_file_names(self):
        names = ["a0", "a1", "b0"]
        for batch_x, batch_y in take(
            random_sample_identities_forever(8, 4, names, [3, 3, 5], seed=0), 50
        ):
            by_label = {y: batch_x[batch_y == y].tolist() for y in (3, 5)}
            assert set(by_label[3]) == {"a0", "a1"}
            assert by_label[5] == ["b0"] * 4

    def test_identities_and_images_are_drawn_uniformly(self):
        labels = np.repeat([1, 2, 3, 4], [1, 4, 8, 16])
        batches = random_sample_identities_forever(4, 2, np.arange(29), labels, seed=0)
        rows = np.concatenate([batch_x for batch_x, _ in take(batches, 4000)])
        identity_counts = np.array(list(Counter(labels[rows].tolist()).values()))
        np.testing.assert_allclose(identity_counts / 4000, 1.0, rtol=0.1)
        image_counts = np.bincount(rows, minlength=29)
        np.testing.assert_allclose(image_counts[labels == 4] / 4000, 1 / 16, rtol=0.3)

    def test_false_alarms_come_last_and_only_there(self):
        labels = np.repeat([-1, 0, 1, -2, 2], [3, 4, 4, 3, 4])
        batches = random_sample_identities_forever(
            11, 3, np.arange(18), labels, num_fa_images=5, seed=1
        )
        for batch_x, batch_y in take(batches, 20):
            check_batch(batch_x[:6], batch_y[:6], labels, 2, 3)
            assert (batch_y[:6] >= 0).all()
            assert (batch_y[6:] < 0).all()
            np.testing.assert_array_equal(batch_y[6:], labels[batch_x[6:]])
            assert len(set(batch_x[6:])) == 5

    def test_false_alarms_repeat_where_there_are_too_few(self):
        labels = [0, 0, -1, -1]
        ((batch_x, _),) = take(
            random_sample_identities_forever(7, 2, np.arange(4), labels, 5, seed=1), 1
        )
        assert set(batch_x[2:]) == {2, 3}

    def test_negative_labels_are_no_identities(self):
        labels = np.array([-1] * 50 + [0, 0, 1, 1])
        for _, batch_y in take(
            random_sample_identities_forever(4, 2, np.arange(54), labels, seed=1), 20
        ):
            assert set(batch_y) == {0, 1}

    def test_same_seed_same_batches_other_seed_other_batches(self):
        labels = np.repeat(np.arange(20), 6)
        a, b, c = (
            take(random_sample_identities_forever(40, 4, np.arange(120), labels, seed=s), 3)
            for s in (5, 5, 6)
        )
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
        assert not np.array_equal(a[0], a[1])

    @pytest.mark.parametrize("first_batch", [1, 7])
    def test_a_run_resumed_at_a_batch_goes_on_as_if_it_had_not_stopped(self, first_batch):
        labels = np.repeat(np.arange(20), 6)
        arguments = (40, 4, np.arange(120), labels)
        whole = take(random_sample_identities_forever(*arguments, seed=5), first_batch + 3)
        rest = take(
            random_sample_identities_forever(*arguments, seed=5, first_batch=first_batch), 3
        )
        np.testing.assert_array_equal(rest, whole[first_batch:])

    def test_without_a_seed_two_runs_differ(self):
        labels = np.repeat(np.arange(20), 6)
        a, b = (
            take(random_sample_identities_forever(40, 4, np.arange(120), labels), 1)
            for _ in range(2)
        )
        assert not np.array_equal(a, b)

    def test_types_for_lists_of_paths_and_labels(self):
        names = [Path("d") / f"{i}.jpg" for i in range(4)]
        ((batch_x, batch_y),) = take(
            random_sample_identities_forever(4, 2, names, [0, 0, 1, 1], seed=1), 1
        )
        assert all(type(name) is str for name in batch_x)
        assert sorted(batch_x) == [str(name) for name in names]
        assert batch_y.dtype == np.int64

    def test_images_are_taken_with_their_labels(self):
        images = np.random.RandomState(0).randint(0, 256, (12, 4, 2, 3), np.uint8)
        labels = np.repeat(np.arange(4), 3)
        images[:, 0, 0, 0] = labels
        ((batch_x, batch_y),) = take(
            random_sample_identities_forever(6, 2, images, labels, seed=1), 1
        )
        assert batch_x.shape == (6, 4, 2, 3)
        assert batch_x.dtype == np.uint8
        np.testing.assert_array_equal(batch_x[:, 0, 0, 0], batch_y)

    def test_a_batch_costs_no_more_where_there_are_more_identities(self):
        def create(num_identities):
            labels = np.repeat(np.arange(num_identities), 20)
            names = [f"{row}.jpg" for row in range(len(labels))]
            return random_sample_identities_forever(128, 4, names, labels)

        def measure(batches):
            start = time.perf_counter()
            next(batches)
            return time.perf_counter() - start

        few, many = create(600), create(6000)
        durations = [(measure(few), measure(many)) for _ in range(200)]
        few_secs, many_secs = np.median(durations, axis=0)
        assert many_secs < 4 * few_secs

    def test_fewer_identities_than_a_batch_needs_are_an_error_at_the_call(self):
        labels = np.repeat(np.arange(16), 8)
        with pytest.raises(DataError) as error:
            random_sample_identities_forever(128, 4, np.arange(128), labels)
        assert str(error.value) == (
            "batch_size 128 with 4 images per identity needs 32 identities, but the data has 16: "
            "use --batch_size=64 or less, or more identities"
        )

    def test_the_batch_size_proposed_for_few_identities_works(self):
        labels = np.repeat([-1, 0, 1, 2], 3)
        with pytest.raises(DataError, match="use --batch_size=8 or less"):
            random_sample_identities_forever(10, 2, np.arange(12), labels, 2)
        batch_x, _ = next(random_sample_identities_forever(8, 2, np.arange(12), labels, 2))
        assert len(batch_x) == 8

    @pytest.mark.parametrize(
        "batch_size, num_images, num_fa_images, message",
        [
            (130, 4, 0, r"^batch_size \(130\) must be a multiple of num_images_per_id \(4\): "
                        r"use 128 or 132$"),
            (3, 4, 0, "use 4$"),
            (6, 4, 0, "use 4 or 8$"),
            (12, 4, 2, r"^batch_size - num_fa_images \(10\) .*use batch_size 10 or 14$"),
            (8, 4, 8, "use batch_size 12$"),
            (8, 4, 20, "use batch_size 24$"),
            (0, 4, 0, r"batch_size \(0\)"),
            (8.0, 4, 0, r"batch_size \(8.0\)"),
            (8, 0, 0, r"num_images_per_id \(0\)"),
            (8, 4, -4, r"num_fa_images \(-4\)"),
            (8, 4, None, r"num_fa_images \(None\)"),
        ],
    )  # fmt: skip
    def test_sizes_that_make_no_batch_are_refused_at_the_call(
        self, batch_size, num_images, num_fa_images, message
    ):
        labels = np.repeat(np.arange(-1, 50), 4)
        with pytest.raises(UsageError, match=message):
            random_sample_identities_forever(
                batch_size, num_images, np.arange(len(labels)), labels, num_fa_images
            )

    @pytest.mark.parametrize("name", ["seed", "first_batch"])
    @pytest.mark.parametrize("value", [-1, 0.5])
    def test_seed_and_first_batch_are_numbers_from_zero(self, name, value):
        with pytest.raises(UsageError, match=name):
            random_sample_identities_forever(1, 1, [1], [1], **{name: value})

    def test_false_alarms_without_negative_labels_are_an_error_at_the_call(self):
        with pytest.raises(DataError, match="no label is negative"):
            random_sample_identities_forever(5, 2, np.arange(4), [0, 0, 1, 1], num_fa_images=1)

    def test_data_of_false_alarms_alone_are_an_error_at_the_call(self):
        with pytest.raises(DataError, match="has no identities"):
            random_sample_identities_forever(2, 2, np.arange(4), [-1] * 4)

    def test_no_data_and_lengths_that_differ_are_errors_at_the_call(self):
        with pytest.raises(DataError, match="no rows"):
            random_sample_identities_forever(2, 2, [], [])
        with pytest.raises(ValueError, match=r"\[4, 3\] rows"):
            random_sample_identities_forever(2, 2, np.arange(4), [1, 1, 1])

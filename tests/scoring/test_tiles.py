"""Tiles of keys: each is visited once, few are held at once, each core multiplies for itself."""

import threading

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

from deep_reid.scoring import tiles
from deep_reid.scoring.comparisons import compare
from deep_reid.scoring.features import FeatureSet


def draw_comparison(num_queries, num_items, seed=1):
    random = np.random.default_rng(seed)
    query, gallery = (random.standard_normal((size, 4)) for size in (num_queries, num_items))
    return compare(
        FeatureSet(query, np.ones(num_queries), name="query"),
        FeatureSet(gallery, np.ones(num_items)),
        "cosine",
    )


def count_threads():
    """Return how many threads a product of matrices takes."""
    return {
        each["filepath"]: each["num_threads"]
        for each in threadpoolctl.threadpool_info()
        if each["user_api"] == "blas"
    }


@pytest.fixture
def num_cores(monkeypatch):
    """Return a function that sets the number of cores."""
    return lambda number: monkeypatch.setattr(tiles, "count_cores", lambda: number)


class TestVisits:
    @settings(max_examples=60, deadline=None)
    @given(
        num_queries=st.integers(1, 700),
        num_items=st.sampled_from([1, 7, 8, 15_359, 15_360, 15_361, 30_721]),
        num_cores=st.integers(1, 9),
        max_rows=st.none() | st.integers(1, 700),
    )
    def test_each_key_is_visited_once(self, num_queries, num_items, num_cores, max_rows):
        comparison = draw_comparison(num_queries, num_items)
        # Not in the order of the gallery's queries.
        rows = np.random.default_rng(2).permutation(num_queries)[: max(1, num_queries * 3 // 4)]
        expected = np.empty((len(rows), num_items), np.float32)
        comparison.part(0, num_items).keys(rows, expected)
        found = np.full(expected.shape, np.nan, np.float32)
        at_work, held, lock = set(), [], threading.Lock()

        def prepare(first, start, keys):
            with lock:
                at_work.add((threading.get_ident(), len(keys)))
                held.append(len(keys))
            assert keys.shape[1] == min(num_items - start, 15_360)

        def visit(first, part, start, keys):
            assert len(keys) <= tiles.TILE_ROWS
            assert max_rows is not None or first % tiles.TILE_ROWS == 0
            assert keys.shape[1] % 8 == 0
            assert np.isinf(keys[:, part.num_items :]).all()
            target = found[first : first + len(keys), start : start + part.num_items]
            assert np.isnan(target).all(), "visited twice"
            target[:] = keys[:, : part.num_items]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiles, "count_cores", lambda: num_cores)
            tiles.visit_tiles(comparison, rows, visit, prepare, max_rows)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        # Each thread holds one block at a time.
        threads = {thread for thread, _ in at_work}
        assert len(threads) <= num_cores
        if max_rows is not None:
            assert len(threads) * max(held) <= max(max_rows, 1)

    def test_no_queries(self):
        tiles.visit_tiles(draw_comparison(3, 5), np.arange(0), pytest.fail)

    def test_an_error_in_a_thread_is_raised(self, num_cores):
        num_cores(2)

        def visit(first, *rest):
            if first:
                raise ValueError("a tile is wrong")

        with pytest.raises(ValueError, match="a tile is wrong"):
            tiles.visit_tiles(draw_comparison(100, 9), np.arange(100), visit)


class TestThreads:
    @pytest.mark.parametrize("with_openmp", [False, True])
    def test_each_core_multiplies_for_itself(self, num_cores, with_openmp):
        if with_openmp:
            pytest.importorskip("faiss")  # comes with a library that uses OpenMP
        num_cores(2)
        before = count_threads()
        assert before, "no library for products was found, so nothing is limited"
        during = []
        tiles.visit_tiles(
            draw_comparison(100, 9), np.arange(100), lambda *_: during.append(count_threads())
        )
        assert during
        assert all(set(each.values()) == {1} for each in during)
        assert count_threads() == before

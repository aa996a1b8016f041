"""Compares queries with a gallery in tiles of keys that a processor's cache holds, on all cores.

Each core multiplies for itself. A product on all cores would leave threads of the linear algebra
library behind that wait for the next one without rest, and take time from the cores that compare.
"""

import collections
import concurrent.futures
import contextlib
from collections.abc import Callable

import numpy as np
import threadpoolctl

from deep_reid.scoring.comparisons import Comparison
from deep_reid.system.checks import check_integer
from deep_reid.system.memory import count_cores

TILE_ROWS = 64
"""Queries of a tile."""

# Items of the gallery in a part; NumPy is slow on rows of less than 8,192 numbers.
_PART_SIZE = 15_360
# Tiles whose keys a core computes at once, or fewer: products of much fewer are slower.
_BLOCK_TILES = 8


def count_fitting(num_items: int, max_block_bytes: int) -> int:
    """Return for how many queries, at least 1, the keys for a part of the gallery fit.

    Parameters
    ----------
    num_items : int
        Of the gallery.
    max_block_bytes : int
    """
    part_bytes = 4 * min(num_items, _PART_SIZE)
    return max(1, check_integer("max_block_bytes", max_block_bytes) // part_bytes)


def visit_tiles(
    comparison: Comparison,
    rows: np.ndarray,
    visit: Callable[[int, Comparison, int, np.ndarray], None],
    prepare: Callable[[int, int, np.ndarray], None] | None = None,
    max_rows: int | None = None,
) -> None:
    """Compute the keys of queries for all items, one part of the gallery after another.

    Parameters
    ----------
    comparison : deep_reid.scoring.comparisons.Comparison
    rows : np.ndarray of int64
        The queries.
    visit : callable
        ``visit(first, part, start, keys)`` is called for each tile, in several threads, but not
        twice at once for the same queries. `keys` has a row for each of up to `TILE_ROWS` queries
        from the position `first` in `rows` on, and a column for each item of `part`, a part of the
        comparison that begins at the item `start`. Infinite columns fill its width to a multiple
        of 8. The keys are overwritten later. Without `max_rows`, `first` is a multiple of
        `TILE_ROWS`.
    prepare : callable, optional
        ``prepare(first, start, keys)`` may change the keys of a block of queries and the items of
        a part, before its tiles are visited.
    max_rows : int, optional
        Largest number of queries whose keys are held at once. Default: as many as is fast.
    """
    num_tiles = max(1, -(-len(rows) // TILE_ROWS))
    num_threads = min(count_cores(), num_tiles)
    # As many blocks for each core, and about as large.
    num_blocks = num_threads * -(-num_tiles // (num_threads * _BLOCK_TILES))
    block_rows = -(-num_tiles // num_blocks) * TILE_ROWS
    if max_rows is not None:
        num_threads = min(num_threads, max_rows)
        block_rows = min(block_rows, max_rows // num_threads)
    part_size = min(_PART_SIZE, comparison.num_items + 7)
    keys = np.empty((num_threads, min(block_rows, len(rows)), part_size), comparison.dtype)

    def visit_blocks(thread, start, part):
        for first in range(thread * block_rows, len(rows), num_threads * block_rows):
            queries = rows[first : first + block_rows]
            block = keys[thread, : len(queries), : part.num_items + -part.num_items % 8]
            part.keys(queries, block[:, : part.num_items])
            block[:, part.num_items :] = np.inf
            if prepare is not None:
                prepare(first, start, block[:, : part.num_items])
            for i in range(0, len(queries), TILE_ROWS):
                visit(first + i, part, start, block[i : i + TILE_ROWS])

    controller = threadpoolctl.ThreadpoolController()

    def limit():
        return controller.limit(limits=1, user_api="blas")

    with limit(), contextlib.ExitStack() as stack:
        # A library that uses OpenMP has a limit for each thread that calls it.
        threads = [
            stack.enter_context(concurrent.futures.ThreadPoolExecutor(1, initializer=limit))
            for _ in range(num_threads)
        ]
        waiting: collections.deque[concurrent.futures.Future[None]] = collections.deque()
        for start in range(0, comparison.num_items, _PART_SIZE):
            part = comparison.part(start, start + _PART_SIZE)
            waiting.extend(
                thread.submit(visit_blocks, number, start, part)
                for number, thread in enumerate(threads)
            )
            # A core goes on with this part while others end the one before.
            while len(waiting) > num_threads:
                waiting.popleft().result()
        for future in waiting:
            future.result()

"""Compares queries with a gallery in tiles of keys that a processor's cache holds, on all cores."""

import concurrent.futures
from collections.abc import Callable

import numpy as np

from deep_reid.scoring.comparisons import Comparison
from deep_reid.system.checks import check_integer
from deep_reid.system.memory import count_cores

TILE_ROWS = 32
"""Queries of a tile."""

# Items of the gallery in a part; NumPy is slow on rows of less than 8,192 numbers.
_PART_SIZE = 15_360
# Tiles whose keys are computed at once: few, so that these are still in the processor's last cache
# when they are compared, and some for each core.
_MIN_TILES = 8
_TILES_PER_CORE = 2


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
        of 8. The keys are overwritten later.
    prepare : callable, optional
        ``prepare(first, start, keys)`` may change the keys of a block of queries and the items of
        a part, before its tiles are visited.
    max_rows : int, optional
        Largest number of queries whose keys are held at once. Default: as many as is fast.
    """
    num_cores = count_cores()
    block_rows = TILE_ROWS * max(_MIN_TILES, _TILES_PER_CORE * num_cores)
    block_rows = max(1, min(block_rows, len(rows), len(rows) if max_rows is None else max_rows))
    keys = np.empty((block_rows, min(_PART_SIZE, comparison.num_items + 7)), comparison.dtype)
    with concurrent.futures.ThreadPoolExecutor(num_cores) as pool:
        for start in range(0, comparison.num_items, _PART_SIZE):
            part = comparison.part(start, start + _PART_SIZE)
            for first in range(0, len(rows), block_rows):
                queries = rows[first : first + block_rows]
                block = keys[: len(queries), : part.num_items + -part.num_items % 8]
                part.keys(queries, block[:, : part.num_items])
                block[:, part.num_items :] = np.inf
                if prepare is not None:
                    prepare(first, start, block[:, : part.num_items])
                running = [
                    pool.submit(visit, first + i, part, start, block[i : i + TILE_ROWS])
                    for i in range(0, len(queries), TILE_ROWS)
                ]
                for tile in running:
                    tile.result()

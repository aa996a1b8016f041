"""Measures search in a gallery that lies in files, exact and by an index.

The features are random: no item stands out, and no two are alike, which is the hardest case for an
index. `--clusters` draws them around as many points instead, as features of persons are. Each way
has a process of its own, whose address space is limited, and which reports its peak memory. The
files (5 GB by default) are deleted at the end.

python benchmarks/search.py [--items 10000000] [--queries 1000] [--limit_gib 4] [--clusters 0]
"""

import argparse
import pathlib
import resource
import sys
import tempfile
import time

import numpy as np

# Replaces this script's folder, where modules would be found under other names.
sys.path[0] = str(pathlib.Path(__file__).parents[1])

from benchmarks.workers import closing_all  # noqa: E402
from deep_reid.scoring import approximate, ranking, shards  # noqa: E402

K = 10
SPREAD = 0.5


class Search:
    """A gallery in shards, and queries."""

    def __init__(self, folder, limit_gib):
        limit = int(limit_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        self._folder = pathlib.Path(folder)
        self._gallery = shards.Shards(shards.find_shards(str(self._folder / "features-*.npy")))
        self._query = np.load(self._folder / "queries.npy")
        self._index_path = self._folder / "index.faiss"

    def exact(self):
        """Find the nearest items: seconds, with the check of all features, and the items."""
        start = time.perf_counter()
        gallery = ranking.FeatureSet(self._gallery, np.full(len(self._gallery), 2))
        query = ranking.FeatureSet(self._query, np.full(len(self._query), 1), name="query")
        found = ranking.nearest(query, gallery, np.arange(len(query)), K)
        return time.perf_counter() - start, found.indices

    def build(self):
        """Build the index and save it: seconds, and its size in MiB."""
        start = time.perf_counter()
        approximate.Index.build(self._gallery, "cosine").save(self._index_path)
        return time.perf_counter() - start, self._index_path.stat().st_size / 2**20

    def by_index(self):
        """Read the index and find items with it: seconds, and the items."""
        start = time.perf_counter()
        index = approximate.Index.load(self._index_path, "cosine")
        indices, _ = index.find(self._query, self._gallery, K)
        return time.perf_counter() - start, indices


def main():
    """Draw the files, measure all ways, and print a table."""
    args = parse_arguments()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        draw(pathlib.Path(folder), args)
        results = {}
        print("way                     seconds   peak MiB   recall@10", flush=True)
        for name, method in (("exact", "exact"), ("build", "build"), ("by index", "by_index")):
            with closing_all() as start:
                worker = start("benchmarks.search:Search", folder=folder, limit_gib=args.limit_gib)
                seconds, results[name] = worker.ask(method)
                peak = worker.ask("peak_memory")
            recall = ""
            if name == "by index":
                recall = f"{measure_recall(results[name], results['exact']):.3f}"
            print(f"{name:20s} {seconds:10.1f} {peak:10.0f} {recall:>11s}", flush=True)
        print(f"the index has {results['build']:.0f} MiB")


def measure_recall(found, exact):
    """Return the share of the nearest items that were found: the mean over the queries."""
    return np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)])


def draw(folder, args):
    """Write a gallery in shards, and queries."""
    random = np.random.default_rng(1)
    centers = random.standard_normal((args.clusters, args.dimension), np.float32)

    def draw_rows(size):
        rows = random.standard_normal((size, args.dimension), np.float32)
        if args.clusters:
            rows = centers[random.integers(0, args.clusters, size)] + SPREAD * rows
        return rows

    count = -(-args.items // args.shard_items)
    for index in range(count):
        rows = shards.shard_rows(args.items, index, count, 1)
        shards.write_array(
            shards.shard_path(folder / "features", index, count),
            draw_rows(rows.stop - rows.start),
        )
    np.save(folder / "queries.npy", draw_rows(args.queries))


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--clusters", type=int, default=0)
    parser.add_argument("--shard_items", type=int, default=500_000)
    parser.add_argument("--limit_gib", type=float, default=4.0)
    parser.add_argument("--folder", help="where the files are written; default: for temporary ones")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Measures time and peak memory of ranking by the size of the gallery.

Each size has its own process, which reports its peak memory. Features are random, the hardest case:
matches have any rank, and no distance stands out. A gallery has 15 items of each identity, in 6
cameras; the other items are distractors, as in Market-1501+500k.

python benchmarks/ranking.py [--sizes 10000 100000 1000000] [--queries 3368] [--measure cosine]
"""

import argparse
import pathlib
import sys
import time

import numpy as np

# Replaces this script's folder, where modules would be found under other names.
sys.path[0] = str(pathlib.Path(__file__).parents[1])

from benchmarks.workers import closing_all  # noqa: E402
from deep_reid.samplers import galleries  # noqa: E402
from deep_reid.scoring import ranking  # noqa: E402

NUM_IDENTITIES = 600
NUM_ITEMS_PER_IDENTITY = 15
NUM_CAMERAS = 6


class Ranking:
    """Queries and a gallery, drawn at random, to rank."""

    def __init__(self, size, queries, dimension, measure):
        random = np.random.default_rng(1)
        num_distractors = max(0, size - NUM_IDENTITIES * NUM_ITEMS_PER_IDENTITY)
        self._query = draw(random, queries, dimension, num_distractors=0, name="query")
        self._gallery = draw(random, size, dimension, num_distractors, name="gallery")
        self._measure = measure

    def rank(self):
        """Rank the gallery for each query: seconds."""
        start = time.perf_counter()
        ranking.rank(self._query, self._gallery, measure=self._measure)
        return time.perf_counter() - start


def main():
    """Measure all sizes and print a table with the growth."""
    settings = vars(parse_arguments())
    print("    gallery   seconds   peak MiB   features MiB   time growth   memory growth")
    previous = None
    for size in settings.pop("sizes"):
        with closing_all() as start:
            worker = start("benchmarks.ranking:Ranking", size=size, **settings)
            seconds, peak = worker.ask("rank"), worker.ask("peak_memory")
        growth = (seconds / previous[0], peak / previous[1]) if previous else (1.0, 1.0)
        features = (size + settings["queries"]) * settings["dimension"] * 4 / 2**20
        print(
            f"{size:11,d} {seconds:9.2f} {peak:10.0f} {features:14.0f} "
            f"{growth[0]:12.2f}x {growth[1]:14.2f}x",
            flush=True,
        )
        previous = seconds, peak


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--measure", choices=["cosine", "euclidean"], default="cosine")
    return parser.parse_args()


def draw(random, size, dimension, num_distractors, name):
    """Draw items of identities in turn, and distractors."""
    labels = 1 + np.arange(size) % NUM_IDENTITIES
    labels[size - num_distractors :] = galleries.DISTRACTOR_LABEL
    features = random.standard_normal((size, dimension), np.float32)
    return ranking.FeatureSet(features, labels, random.integers(0, NUM_CAMERAS, size), name=name)


if __name__ == "__main__":
    main()

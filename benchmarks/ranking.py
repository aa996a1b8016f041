"""Measures time and peak memory of ranking by the size of the gallery.

Each size has its own process, which reports its peak memory. Features are random, the hardest case:
matches have any rank, and no distance stands out. A gallery has 15 items of each identity, in 6
cameras; the other items are distractors, as in Market-1501+500k. With ``--trained``, features of an
identity lie around a point, and nearly all of its items are before all others.

In turn with it, faiss searches the same gallery for the 100 nearest items, exactly (if it is
installed), and NumPy computes only the product of queries and gallery: the ranking scores all
matches, whatever their rank.

python benchmarks/ranking.py [--sizes 10000 100000 1000000] [--queries 3368] [--measure cosine]
    [--trained]
"""

import argparse
import pathlib
import statistics
import sys
import time

import numpy as np

# Replaces this script's folder, where modules would be found under other names.
sys.path[0] = str(pathlib.Path(__file__).parents[1])

from benchmarks.workers import Contender, NotMeasured, closing_all, measure_in_turn  # noqa: E402
from deep_reid.samplers import galleries  # noqa: E402
from deep_reid.scoring import ranking  # noqa: E402
from deep_reid.system.memory import count_cores  # noqa: E402

NUM_IDENTITIES = 600
NUM_ITEMS_PER_IDENTITY = 15
NUM_CAMERAS = 6
NUM_NEAREST = 100


class Drawn:
    """Queries and a gallery, drawn at random.

    A subclass has ``work()``, which is measured.
    """

    def __init__(self, size, queries, dimension, measure, processor_time, trained=False):
        random = np.random.default_rng(1)
        num_distractors = max(0, size - NUM_IDENTITIES * NUM_ITEMS_PER_IDENTITY)
        self.query = draw(random, queries, dimension, num_distractors=0, name="query")
        self.gallery = draw(random, size, dimension, num_distractors, name="gallery")
        if trained:
            centers = random.standard_normal((NUM_IDENTITIES + 1, dimension), np.float32)
            self.query, self.gallery = (
                gather_around(centers, each) for each in (self.query, self.gallery)
            )
        self.distance = measure
        self._clock = time.process_time if processor_time else time.perf_counter

    def measure(self, count):
        """Do the work: mean seconds."""
        start = self._clock()
        for _ in range(count):
            self.work()
        return (self._clock() - start) / count


class Ranking(Drawn):
    """Ranks the gallery for each query, and scores the rankings."""

    def work(self):
        """Rank."""
        ranking.rank(self.query, self.gallery, measure=self.distance)


class Faiss(Drawn):
    """Searches for the nearest items with faiss, by comparing with all; no index is trained."""

    def __init__(self, **settings):
        super().__init__(**settings)
        import faiss

        faiss.omp_set_num_threads(count_cores())
        is_cosine = self.distance == "cosine"
        create = faiss.IndexFlatIP if is_cosine else faiss.IndexFlatL2
        self._index = create(self.gallery.features.shape[1])
        self._index.add(self.gallery.features)

    def work(self):
        """Search."""
        self._index.search(self.query.features, NUM_NEAREST)


class Product(Drawn):
    """Computes the product of queries and gallery in float32, and nothing else."""

    def work(self):
        """Multiply."""
        transposed, rows = self.gallery.features.T, 64
        block = np.empty((rows, transposed.shape[1]), np.float32)
        for start in range(0, len(self.query), rows):
            part = self.query.features[start : start + rows]
            np.matmul(part, transposed, out=block[: len(part)])


def main():
    """Measure all sizes, and print a table with medians and the growth."""
    settings = vars(parse_arguments())
    rounds = settings.pop("rounds")
    print(
        "    gallery   seconds   peak MiB   features MiB   time growth   memory growth   "
        "product, s   faiss, s   faiss / ours"
    )
    previous = None
    for size in settings.pop("sizes"):
        with closing_all() as start:
            workers = {
                each.__name__: start(f"benchmarks.ranking:{each.__name__}", size=size, **settings)
                for each in (Ranking, Product, Faiss)
            }
            contenders = [Contender(name, worker) for name, worker in workers.items()]
            timings = measure_in_turn(contenders, rounds=rounds, secs_per_turn=1)
            seconds, peak = timings.median("Ranking"), workers["Ranking"].ask("peak_memory")
        growth = (seconds / previous[0], peak / previous[1]) if previous else (1.0, 1.0)
        features = (size + settings["queries"]) * settings["dimension"] * 4 / 2**20
        print(
            f"{size:11,d} {seconds:9.2f} {peak:10.0f} {features:14.0f} "
            f"{growth[0]:12.2f}x {growth[1]:14.2f}x "
            f"{timings.median('Product'):12.2f} {compare_with_faiss(timings)}",
            flush=True,
        )
        previous = seconds, peak


def compare_with_faiss(timings):
    """Return the seconds of faiss, and the median of the ratios of the rounds."""
    try:
        ratio = statistics.median(timings.ratios("Ranking", "Faiss"))
        return f"{timings.median('Faiss'):10.2f} {ratio:13.2f}x"
    except NotMeasured as reason:
        return f"not measured: {reason}"


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--processor_time",
        action="store_true",
        help="measure the seconds of all cores together, for a machine that has other work, too",
    )
    parser.add_argument("--trained", action="store_true", help="features of a good network")
    parser.add_argument("--measure", choices=["cosine", "euclidean"], default="cosine")
    return parser.parse_args()


def draw(random, size, dimension, num_distractors, name):
    """Draw items of identities in turn, and distractors."""
    labels = 1 + np.arange(size) % NUM_IDENTITIES
    labels[size - num_distractors :] = galleries.DISTRACTOR_LABEL
    features = random.standard_normal((size, dimension), np.float32)
    return ranking.FeatureSet(features, labels, random.integers(0, NUM_CAMERAS, size), name=name)


def gather_around(centers, items):
    """Move the features of each identity to a point; distractors stay."""
    is_known = (items.labels > galleries.DISTRACTOR_LABEL)[:, np.newaxis]
    features = items.features + is_known * centers[items.labels]
    return ranking.FeatureSet(features, items.labels, items.cameras, name=items.name)


if __name__ == "__main__":
    main()

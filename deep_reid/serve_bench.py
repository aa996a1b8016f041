"""Times exported networks on this machine, and recommends one; free of TensorFlow.

The command is ``python -m deep_reid.serve_bench MODEL...``. Crops go through `deep_reid.Encoder`:
resizing counts. The models take turns of some tenths of a second, so that a busy moment of the
machine meets all of them. The first calls of a turn are not counted: threads of the model before
still wait for work, and take cores from this one.
"""

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from deep_reid.cli.program import report_errors
from deep_reid.system.parsers import BaseParser
from deep_reid.system.tables import align

# NumPy may be missing, and Ctrl-C may come while it is imported: `report_errors` tells both.
if TYPE_CHECKING:
    from deep_reid.export.encoder import Encoder

NUM_CROPS = (1, 10, 32, 128)
_NUM_TURNS = 5
_UNCOUNTED_SHARE = 0.25


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: those of the process.

    Returns
    -------
    int
        The exit code.
    """
    return report_errors(lambda: _run(_parse(argv)))


def _run(args):
    from deep_reid.export.encoder import Encoder
    from deep_reid.export.formats import find_network

    for path in args.models:
        find_network(path)  # what is missing is named before the others are loaded
    encoders = {path: Encoder(path) for path in args.models}
    seconds = {
        count: measure(encoders, count, args.seconds) for count in sorted(set(args.num_crops))
    }
    sys.stdout.write(f"{align(tabulate(encoders, seconds), left=(0, 1))}\n\n")
    sys.stdout.write(f"The fastest, over these numbers of crops: {recommend(seconds)}\n")


def measure(encoders: Mapping[str, "Encoder"], num_crops: int, seconds: float) -> dict[str, float]:
    """Measure how long each model takes for some crops.

    Parameters
    ----------
    encoders : dict of str -> Encoder
    num_crops : int
        In one call.
    seconds : float
        To measure each model for, at least.

    Returns
    -------
    dict of str -> float
        The median, in seconds.
    """
    import numpy as np

    random = np.random.default_rng(0)
    crops = [random.integers(0, 256, (160, 64, 3), np.uint8) for _ in range(num_crops)]
    times: dict[str, list[float]] = {path: [] for path in encoders}
    for encoder in encoders.values():
        encoder(_fit(crops, encoder))  # starts the runtime
    for _ in range(_NUM_TURNS):
        for path, encoder in encoders.items():
            times[path] += _time_turn(encoder, _fit(crops, encoder), seconds / _NUM_TURNS)
    return {path: statistics.median(values) for path, values in times.items()}


def _time_turn(encoder, crops, seconds):
    """Return the seconds of calls, one after the other."""
    times: list[float] = []
    begin = time.perf_counter()
    while not times or time.perf_counter() < begin + seconds:
        start = time.perf_counter()
        encoder(crops)
        end = time.perf_counter()
        if start >= begin + _UNCOUNTED_SHARE * seconds:
            times.append(end - start)
    return times


def tabulate(
    encoders: Mapping[str, "Encoder"], seconds: Mapping[int, Mapping[str, float]]
) -> list[list[str]]:
    """Tabulate times: milliseconds, and how many times as fast as the first model.

    Parameters
    ----------
    encoders : dict of str -> Encoder
    seconds : dict of int -> dict of str -> float
        For each number of crops, what `measure` returns.

    Returns
    -------
    list of list of str
    """
    first = next(iter(encoders))
    rows = [["model", "runtime", *(f"{count} crops" for count in seconds)]]
    for path, encoder in encoders.items():
        cells = [
            f"{1000 * times[path]:.1f} ms, {times[first] / times[path]:.2f} x"
            for times in seconds.values()
        ]
        rows.append([path, encoder.runtime, *cells])
    return rows


def recommend(seconds: Mapping[int, Mapping[str, float]]) -> str:
    """Return the model with the smallest geometric mean of times.

    Parameters
    ----------
    seconds : dict of int -> dict of str -> float

    Returns
    -------
    str
    """
    models = list(next(iter(seconds.values())))
    return min(
        models,
        key=lambda path: statistics.geometric_mean(times[path] for times in seconds.values()),
    )


def _fit(crops, encoder):
    return [crop[..., : encoder.image_shape[2]] for crop in crops]


def _parse(argv):
    from deep_reid.config.kinds import COUNT, POSITIVE

    parser = BaseParser(
        prog="python -m deep_reid.serve_bench",
        description="Times exported networks on this machine, and recommends one.",
    )
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="what Encoder takes; the first is 1.00 x"
    )
    parser.add_argument(
        "--num_crops", nargs="+", default=NUM_CROPS, **COUNT.arguments(),
        help="crops in a call (default: 1 10 32 128)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", default=2.0, help="to measure each model and number for (default: 2)",
        **POSITIVE.arguments(),
    )  # fmt: skip
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

"""The table of all results; a row has a measurement, its median, its minimum and maximum."""

import contextlib
import statistics

from benchmarks.workers import NotMeasured


class Table:
    """Rows of one group: each of ``rows`` is a tuple of three texts.

    Parameters
    ----------
    title : str
        Prefix of the name of each measurement.
    """

    def __init__(self, title):
        self.rows = []
        self._title = title

    def add(self, measurement, median, spread=""):
        """Add a row of three texts."""
        self.rows.append((f"{self._title}: {measurement}", median, spread))

    @contextlib.contextmanager
    def adding_failure(self, measurement):
        """Catch `NotMeasured` in a ``with`` block, and add a row with the reason."""
        try:
            yield
        except NotMeasured as reason:
            self.add(measurement, f"not measured: {reason}")

    def add_timings(self, timings, names, num_images):
        """Add the time and the speed of contenders that work on `num_images` in each call."""
        for name in names:
            with self.adding_failure(name):
                median = timings.median(name)
                speed = num_images / median
                text = f"{format_secs(median)}, {speed:.{0 if speed >= 1000 else 1}f} images/s"
                extremes = min(timings.secs[name]), max(timings.secs[name])
                self.add(name, text, " .. ".join(map(format_secs, extremes)))

    def add_speed_ratio(self, timings, name, other, measurement=None):
        """Add by which factor a contender is faster than the other: the median of all rounds."""
        measurement = measurement or f"speed of {name} / {other}"
        with self.adding_failure(measurement):
            ratios = timings.ratios(name, other)
            spread = f"{min(ratios):.3f} .. {max(ratios):.3f}"
            self.add(measurement, f"**{statistics.median(ratios):.3f} x**", spread)


def format_secs(secs):
    """Write a time with three digits."""
    return f"{secs:.3g} s" if secs >= 1 else f"{1000 * secs:.3g} ms"


def format_rows(rows):
    """Write rows as a table in GitHub's Markdown."""
    cells = [("measurement", "median", "min .. max"), ("---", "---", "---")]
    cells += [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)

"""The table of all results: rows of a measurement, its median, and what it varied between."""

import contextlib
import dataclasses
import statistics

from benchmarks.workers import NotMeasured


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table.

    Parameters
    ----------
    measurement, median, spread : str
    """

    measurement: str
    median: str
    spread: str = ""


class Table:
    """Rows of one group of measurements.

    Parameters
    ----------
    title : str
        Stands before the name of each measurement.
    """

    def __init__(self, title):
        self.rows = []
        self._title = title

    def add(self, measurement, median, spread=""):
        """Add a row of one's own.

        Parameters
        ----------
        measurement, median, spread : str
        """
        self.rows.append(Row(f"{self._title}: {measurement}", median, spread))

    def add_failure(self, measurement, reason):
        """Add that something was not measured, and why.

        Parameters
        ----------
        measurement : str
        reason : str or Exception
        """
        self.add(measurement, f"not measured: {reason}")

    @contextlib.contextmanager
    def instead_of_failure(self, measurement):
        """Add that something was not measured, if that comes out in the ``with`` block.

        Parameters
        ----------
        measurement : str
        """
        try:
            yield
        except NotMeasured as reason:
            self.add_failure(measurement, reason)

    def add_timings(self, timings, names, num_images):
        """Add the time and the speed of each contender.

        Parameters
        ----------
        timings : benchmarks.workers.Timings
        names : sequence of str
        num_images : int
            How many one call works on.
        """
        for name in names:
            with self.instead_of_failure(name):
                median = timings.median(name)
                speed = num_images / median
                spread = [format_secs(pick(timings.secs[name])) for pick in (min, max)]
                digits = 0 if speed >= 1000 else 1
                text = f"{format_secs(median)}, {speed:.{digits}f} images/s"
                self.add(name, text, " .. ".join(spread))

    def add_ratio(self, measurement, ratios):
        """Add a ratio that was formed in each round.

        Parameters
        ----------
        measurement : str
        ratios : sequence of float
        """
        spread = f"{min(ratios):.3f} .. {max(ratios):.3f}"
        self.add(measurement, f"**{statistics.median(ratios):.3f} x**", spread)

    def add_speed_ratio(self, timings, name, other):
        """Add how many times as fast a contender is as another.

        Parameters
        ----------
        timings : benchmarks.workers.Timings
        name, other : str
        """
        measurement = f"speed of {name} / {other}"
        with self.instead_of_failure(measurement):
            self.add_ratio(measurement, timings.ratios(name, other))


def format_secs(secs):
    """Write a time with three digits.

    Parameters
    ----------
    secs : float

    Returns
    -------
    str
    """
    return f"{secs:.3g} s" if secs >= 1 else f"{1000 * secs:.3g} ms"


def format_rows(rows):
    """Write rows as a table in GitHub's Markdown.

    Parameters
    ----------
    rows : sequence of Row

    Returns
    -------
    str
    """
    cells = [("measurement", "median", "min .. max"), ("---", "---", "---")]
    cells += [tuple(cell.replace("|", r"\|") for cell in dataclasses.astuple(row)) for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)

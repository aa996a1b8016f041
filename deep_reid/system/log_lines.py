"""The lines of the log: one for each message."""

import copy
import logging

from deep_reid.errors import printable


class LineFormatter(logging.Formatter):
    """Formats log messages with time and level, and escapes control characters in them.

    Messages quote the names of files. See `deep_reid.errors.printable`.

    Parameters
    ----------
    line_format : str
        As for `logging.Formatter`.
    """

    def __init__(self, line_format: str = "%(asctime)s %(levelname)-7s %(message)s") -> None:
        super().__init__(line_format, "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; the lines of its trace, if it has one, stay lines."""
        record = copy.copy(record)
        record.msg, record.args = printable(record.getMessage()), None
        return super().format(record)

"""Checks of arguments."""

import numbers

from deep_reid.errors import UsageError


def check_integer(name: str, value: object, at_least: int = 1) -> int:
    """Check a whole number.

    Parameters
    ----------
    name : str
        What messages call it.
    value : int
        NumPy's integers are converted.
    at_least : int
        The smallest value.

    Returns
    -------
    int

    Raises
    ------
    UsageError
        If it is no whole number, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < at_least:
        raise UsageError(f"{name} ({value!r}) must be a whole number of at least {at_least}")
    return int(value)

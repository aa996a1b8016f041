"""Tables and lists as text."""

from collections.abc import Collection, Sequence


def align(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Align the cells of a table in columns, two blanks apart.

    Parameters
    ----------
    rows : list of list of str
        All of the same length, with the header.
    left : collection of int
        Columns of text, aligned at the left; the others are aligned at the right, as numbers.

    Returns
    -------
    str
        One line per row, without blanks at the end.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def list_some(names: Sequence[str], none: str = "none", at_most: int = 5) -> str:
    """List the first of some names, and the number of the others.

    Parameters
    ----------
    names : sequence of str
    none : str
        The result if there are no names.
    at_most : int
        Number of names to list.

    Returns
    -------
    str
        Such as ``"a, b and 3 more"``.

    Examples
    --------
    >>> list_some(["a", "b", "c", "d"], at_most=2)
    'a, b and 2 more'
    """
    if not names:
        return none
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more

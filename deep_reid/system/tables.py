"""Tables and lists as text; needs nothing."""


def align(rows, left=(0,)):
    """Align the cells of a table in columns, two blanks apart.

    Parameters
    ----------
    rows : list of list of str
        All of one length; a header is a row like the others.
    left : collection of int
        Columns that are aligned at their left, as text is; the others at their right, as numbers.

    Returns
    -------
    str
        One line per row, without blanks at its end.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def list_some(names, none="none", at_most=5):
    """List the first of some names, and tell how many more there are.

    Parameters
    ----------
    names : sequence of str
    none : str
        What to say where there are none.
    at_most : int
        Names to list.

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

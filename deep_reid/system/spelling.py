"""Proposals for mistyped names."""

import difflib
from collections.abc import Iterable


def find_similar(name: str, known: Iterable[str]) -> str | None:
    """Find the name that a mistyped one stands for.

    Parameters
    ----------
    name : str
    known : iterable of str
        The names that there are.

    Returns
    -------
    str or None
        The most similar one, in upper or lower case; else the only one that begins with `name`.
        None if there is no such name.
    """
    names = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), names, 1)
    longer = [other for other in names if name and other.startswith(name.lower())]
    if not close and len(longer) == 1:
        close = longer
    return names[close[0]] if close else None


def describe_unknown(name: object, known: Iterable[str], further: str = "") -> str:
    """Say that a name is none of those that there are, to go on with behind it.

    Parameters
    ----------
    name : object
        A value of Python may be no text.
    known : iterable of str
    further : str
        What can be used, too.

    Returns
    -------
    str
        Such as ``"is unknown: use one of train, eval; did you mean train?"``.
    """
    names = list(known)
    proposal = propose(name, names) if isinstance(name, str) else ""
    return f"is unknown: use one of {', '.join(names)}{further}{proposal}"


def propose(name: str, known: Iterable[str]) -> str:
    """Ask for the name that a mistyped one stands for, to go on with in a message.

    Parameters
    ----------
    name, known
        As in `find_similar`.

    Returns
    -------
    str
        Such as ``"; did you mean train?"``; empty if there is no similar name.
    """
    similar = find_similar(name, known)
    return f"; did you mean {similar}?" if similar else ""

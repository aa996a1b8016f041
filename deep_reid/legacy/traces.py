"""Traces of errors without the runner's own frames."""

import os
import types

_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
_RUNNERS = ("<frozen runpy>", os.sep + "runpy.py")


def without_runner(error):
    """Take the runner's frames out of an error's trace, and out of those it came from.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    BaseException
        `error`.
    """
    seen = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = _rebuild(current.__traceback__)
        waiting += [current.__cause__, current.__context__]
    return error


def frames(error):
    """List the frames of an error's trace.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    list of (str, int)
        File and line, from the outermost call to where the error was raised.
    """
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return found


def _rebuild(trace):
    kept = []
    while trace is not None:
        if not _is_runners(trace.tb_frame.f_code.co_filename):
            kept.append(trace)
        trace = trace.tb_next
    rebuilt = None
    for part in reversed(kept):
        rebuilt = types.TracebackType(rebuilt, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return rebuilt


def _is_runners(path):
    return path.startswith(_FOLDER) or path.endswith(_RUNNERS)

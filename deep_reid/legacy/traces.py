"""Traces of errors without the runner's own frames."""

import os
import types

_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
_RUNNERS = ("<frozen runpy>", os.sep + "runpy.py")


def without_runner(error: BaseException) -> BaseException:
    """Remove the runner's frames from the traces of an error, and of the errors that led to it.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    BaseException
        `error`.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            current.__traceback__ = _rebuild(current.__traceback__)
            waiting += [current.__cause__, current.__context__]
    return error


def _rebuild(trace):
    kept = []
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if not (path.startswith(_FOLDER) or path.endswith(_RUNNERS)):
            kept.append(trace)
        trace = trace.tb_next
    rebuilt = None
    for part in reversed(kept):
        rebuilt = types.TracebackType(rebuilt, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return rebuilt

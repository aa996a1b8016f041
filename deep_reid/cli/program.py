"""The command line that the training scripts share.

A script is one line with its data set class: ``sys.exit(cli.main(Market1501))``. All that takes
time to import, `main` imports itself: from its first line on, signals end it with one line.
"""

import contextlib
import contextvars
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from deep_reid.errors import ReidError, first_line
from deep_reid.system import memory, packages, signals
from deep_reid.system.log_lines import LineFormatter

if TYPE_CHECKING:  # it imports NumPy
    from deep_reid.interfaces import Dataset

_logger = logging.getLogger(__name__)
_with_trace = contextvars.ContextVar("with_trace", default=False)
# TensorFlow's messages about errors of the operating system end with these texts.
_WAYS_OUT = {
    "No space left on device": "free some space",
    "Permission denied": "check the path and its permissions",
    "Broken pipe": "what reads the output has ended",
    "Read-only file system": "check the path and its permissions",
}
# How the system refuses memory for a library (an ImportError) or a thread (a RuntimeError).
_OUT_OF_MEMORY = (
    "failed to map segment from shared object",
    "cannot allocate memory",
    "can't start new thread",
)

# The module of each mode, and its function.
_FUNCTIONS = {
    "train": ("train", "train"),
    "eval": ("evaluate", "evaluate"),
    "test": ("test", "test"),
    "search": ("search", "search"),
    "track": ("track", "track"),
    "export": ("export", "export"),
    "finalize": ("export", "finalize"),
    "freeze": ("freeze", "freeze"),
}


def main(
    dataset_class: "type[Dataset] | str",
    argv: Sequence[str] | None = None,
    *,
    prog: str | None = None,
) -> int:
    """Run a training script.

    Parameters
    ----------
    dataset_class : type or str
        A data set as `datasets.base.ReidDataset` describes it, or its ``MODULE:NAME``.
    argv : sequence of str, optional
        Default: the process's arguments.
    prog : str, optional
        Name of the program in its help and errors. Default: the script's.

    Returns
    -------
    int
        Exit code: 0, 1 (data or run), 2 (usage), 130 (Ctrl-C), 143 (SIGTERM),
        129 (SIGHUP).
    """
    return report_errors(lambda: _run(dataset_class, argv, prog))


def report_errors(function: Callable[[], object]) -> int:
    """Run a program, with one line for each error that a user can mend.

    Parameters
    ----------
    function : callable
        The program; what it returns is passed over.

    Returns
    -------
    int
        Exit code, as of `main`.
    """
    try:
        with signals.handled():
            return _report_errors(function)
    except KeyboardInterrupt as error:
        set_up_logging()  # the signal may have come before the arguments were read
        cause, exit_code = signals.describe(error)
        _logger.warning("Interrupted%s", cause)
        return exit_code


def _report_errors(function):
    _with_trace.set(False)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    try:
        with packages.missing_explained():
            memory.check_limit("NumPy with OpenCV")
            function()
        sys.stdout.flush()  # what cannot be written is an error now, and not a trace at the end
    except Exception as error:
        if not _is_expected(error):
            raise
        set_up_logging()
        _logger.error("%s", _describe(error), exc_info=_with_trace.get())
        _close_stdout()
        return getattr(error, "exit_code", 1)
    return 0


def _run(dataset_class, argv, prog):
    from deep_reid.cli.arguments import ArgumentParser

    if isinstance(dataset_class, str):
        module_name, _, name = dataset_class.partition(":")
        dataset_class = getattr(importlib.import_module(module_name), name)
    args = ArgumentParser(dataset_class, prog).parse_args(argv)
    _with_trace.set(args.debug)
    set_up_logging(args.debug)
    module_name, name = _FUNCTIONS[args.mode]
    run_mode = getattr(importlib.import_module(f"deep_reid.cli.{module_name}"), name)
    run_mode(args, dataset_class)


def _close_stdout():
    """Let the process end without a trace if what is left in standard output cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # it has no descriptor, say in a notebook
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def set_up_logging(debug: bool = False) -> None:
    """Log to standard error, one line for each message; the first call counts.

    Parameters
    ----------
    debug : bool
        Whether to log details, too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])


def _is_expected(error):
    """Tell whether an error gets one line: those of settings and data, the machine and TensorFlow.

    Others are faults of the program, which need their trace.
    """
    tensorflow = sys.modules.get("tensorflow")  # only some modes import it
    is_of_tensorflow = tensorflow is not None and isinstance(error, tensorflow.errors.OpError)
    return (
        isinstance(error, (ReidError, OSError, MemoryError))
        or is_of_tensorflow
        or any(text in str(error) for text in _OUT_OF_MEMORY)
    )


def _describe(error):
    line = first_line(error)
    if isinstance(error, MemoryError) or any(text in line for text in _OUT_OF_MEMORY):
        return (
            f"there is not enough memory ({line or type(error).__name__}): close other programs, "
            "lower --batch_size, or raise the limit (ulimit -v)"
        )
    for ending, way_out in _WAYS_OUT.items():
        if line.endswith(ending):
            return f"{line}; {way_out}"
    return line

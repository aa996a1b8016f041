"""The command line that the training scripts share.

A script is one line with its data set class: ``sys.exit(cli.main(Market1501))``.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Any

from deep_reid.cli import evaluate, export, signals, test, train
from deep_reid.cli.arguments import ArgumentParser
from deep_reid.errors import ReidError, first_line
from deep_reid.interfaces import Dataset

_logger = logging.getLogger(__name__)
LINE_FORMAT: dict[str, Any] = {
    "format": "%(asctime)s %(levelname)-7s %(message)s",
    "datefmt": "%Y-%m-%d %H:%M:%S",
}
"""Of the lines in the log."""

_EXIT_CODE_INTERRUPTED = 130
# TensorFlow's messages about errors of the operating system end with these texts.
_WAYS_OUT = {
    "No space left on device": "free some space",
    "Permission denied": "check the path and its permissions",
    "Read-only file system": "check the path and its permissions",
}
# How the system refuses memory for a library (an ImportError) or a thread (a RuntimeError).
_OUT_OF_MEMORY = (
    "failed to map segment from shared object",
    "cannot allocate memory",
    "can't start new thread",
)

_FUNCTIONS = {
    "train": train.train,
    "eval": evaluate.evaluate,
    "test": test.test,
    "export": export.export,
    "finalize": export.finalize,
    "freeze": export.freeze,
}


def main(
    dataset_class: type[Dataset], argv: Sequence[str] | None = None, *, prog: str | None = None
) -> int:
    """Run a training script.

    Parameters
    ----------
    dataset_class : type
        A data set as `datasets.base.ReidDataset` describes it.
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
    args = ArgumentParser(dataset_class, prog).parse_args(argv)
    _set_up_logging(args.debug)
    try:
        with signals.handled():
            _FUNCTIONS[args.mode](args, dataset_class)
    except KeyboardInterrupt as error:
        _logger.warning("Interrupted%s", f" by {error}" if str(error) else "")
        return getattr(error, "exit_code", _EXIT_CODE_INTERRUPTED)
    except Exception as error:
        if not _is_expected(error):
            raise
        _logger.error("%s", _describe(error), exc_info=args.debug)
        return getattr(error, "exit_code", 1)
    return 0


def _set_up_logging(debug):
    logging.basicConfig(
        stream=sys.stderr, level=logging.DEBUG if debug else logging.INFO, **LINE_FORMAT
    )


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

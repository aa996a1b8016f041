"""Draws a small pedestrian data set in the layout of a benchmark or of your own data.

All programs run on drawn data, without a download. The same arguments give the same bytes in every
file. The command is ``deep-reid draw``; in a clone also ``python -m datasets.synthetic``.
"""

import importlib
import sys
from collections.abc import Sequence

from deep_reid.errors import RunError
from deep_reid.system import packages, signals
from deep_reid.system.lazy import hand_on

# They import NumPy and OpenCV: the command says in one line that these are missing, or that Ctrl-C
# came while they were imported.
__getattr__, __dir__ = hand_on(
    __package__,
    {
        "DRAW": "drawn.command",
        "LAYOUTS": "drawn.command",
        "SplitSize": "drawn.drawing",
        "draw_csv": "drawn.command",
        "draw_folders": "drawn.command",
        "draw_market1501": "drawn.command",
        "draw_mars": "drawn.command",
        "draw_mot": "drawn.command",
    },
)


def main(argv: Sequence[str] | None = None, command: str | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process by default.
    command : str, optional
        The command whose subcommand ``draw`` is run, such as ``deep-reid``. None: this module is
        run in a clone, beside the training scripts.

    Returns
    -------
    int
        Exit code: 0 if all was drawn, 1 if the folder cannot be used or a package is missing, 130
        after Ctrl-C, 143 after SIGTERM. Wrong arguments exit with 2.
    """
    try:
        with signals.handled(), packages.missing_explained():
            importlib.import_module("numpy")  # where it is missing, OpenCV writes lines of its own
            drawing = importlib.import_module(f"{__package__}.drawn.command")
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt as error:
        cause, exit_code = signals.describe(error)
        sys.stderr.write(f"Interrupted{cause}: nothing was written\n")
        return exit_code
    return drawing.main(argv, command, __doc__)


if __name__ == "__main__":
    sys.exit(main(command=None if __package__ == "datasets" else "python -m deep_reid"))

"""Draws a small pedestrian data set: a benchmark's layout or one's own; free of TensorFlow.

Everything runs without a download on what is drawn here: the same arguments give the same bytes
in every file. The command line is ``deep-reid draw``; in a clone it is also
``python -m datasets.synthetic``.
"""

import argparse
import dataclasses
import inspect
import logging
import pathlib
import shlex
import sys

from deep_reid.errors import ReidError, UsageError

from .drawn.drawing import MAX_LABEL, SplitSize
from .drawn.market1501 import draw_market1501
from .drawn.mars import draw_mars
from .drawn.own import draw_csv, draw_folders, draw_mot

__all__ = [
    "MAX_LABEL",
    "SplitSize",
    "draw_csv",
    "draw_folders",
    "draw_market1501",
    "draw_mars",
    "draw_mot",
    "main",
]

logger = logging.getLogger(__name__)

DRAW = {
    "market1501": draw_market1501,
    "mars": draw_mars,
    "folders": draw_folders,
    "csv": draw_csv,
    "mot": draw_mot,
}


def _sizes_of(layout):
    """Name the arguments that a layout takes besides the folder: list of str."""
    return list(inspect.signature(DRAW[layout]).parameters)[1:]


def _make_parser(prog):
    parser = argparse.ArgumentParser(
        prog=prog,
        description=__doc__,
        # What is not given is left out: the defaults are those of the layout's function.
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--layout", choices=sorted(DRAW), required=True)
    parser.add_argument("--output_dir", required=True, help="new or empty folder")
    for name, text in (
        (
            "num_identities",
            "persons to train on (market1501, mars; default 80) or in all (folders, csv, mot; "
            "default 40)",
        ),
        ("num_test_identities", "market1501, mars: default as many as to train on"),
        ("num_cameras", "market1501, mars: 2 to 6, default 6"),
        (
            "images_per_camera",
            "of each person (market1501, default 3) or in each tracklet (mars, default 4)",
        ),
        (
            "num_distractors",
            "images (market1501) or tracklets (mars) of persons with label 0; "
            "default: num_test_identities",
        ),
        ("images_per_identity", "folders, csv, mot: default 8"),
        ("seed", "all layouts: decides on all that is random, default 1234"),
    ):
        parser.add_argument(f"--{name}", type=int, help=text)
    return parser


def _check_sizes(layout, sizes):
    """Refuse flags of other layouts, which would have no effect."""
    for name in sizes:
        if name not in _sizes_of(layout):
            others = ", ".join(other for other in sorted(DRAW) if name in _sizes_of(other))
            raise UsageError(
                f"--{name} has no meaning for --layout {layout}, only for {others}; leave it out"
            )


def _next_command(layout, output_dir, command):
    """Tell how to train on what was drawn."""
    is_benchmark = layout in ("market1501", "mars")
    program, flag = (layout, "dataset_dir") if is_benchmark else ("custom", "dataset")
    start = f"python train_{program}.py" if command is None else f"{command} {program}"
    path = pathlib.Path(output_dir) / "people.csv" if layout == "csv" else output_dir
    return f"{start} --mode=train --{flag}={shlex.quote(str(path))}"


def main(argv=None, command=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process by default.
    command : str, optional
        The command of which this is the program ``draw``, such as ``deep-reid``. Default: this
        module is run in a clone, beside the training scripts.

    Returns
    -------
    int
        Exit code: 0 if all was drawn, 1 if the folder cannot be used, 130 after Ctrl-C. Wrong
        arguments exit with 2.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = _make_parser("python -m datasets.synthetic" if command is None else f"{command} draw")
    sizes = vars(parser.parse_args(argv))
    layout, output_dir = sizes.pop("layout"), sizes.pop("output_dir")
    try:
        _check_sizes(layout, sizes)
        splits = DRAW[layout](output_dir, **sizes)
    except UsageError as error:
        parser.error(str(error))
    except ReidError as error:
        logger.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        logger.warning("Interrupted: nothing was written")
        return 130
    for split in splits:
        logger.info("%s: %d images, %d identities, %d cameras", *dataclasses.astuple(split))
    logger.info("Next: %s", _next_command(layout, output_dir, command))
    return 0


if __name__ == "__main__":
    sys.exit(main(command=None if __package__ == "datasets" else "python -m deep_reid"))

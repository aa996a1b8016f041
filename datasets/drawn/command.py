"""The command that draws a data set, and the functions that it calls: see `datasets.synthetic`."""

import argparse
import dataclasses
import logging
import pathlib
import shlex
from collections.abc import Sequence

from deep_reid.errors import ReidError, UsageError
from deep_reid.system import signals
from deep_reid.system.log_lines import LineFormatter
from deep_reid.system.parsers import BaseParser, read_whole_number
from deep_reid.system.spelling import describe_unknown

from .drawing import make_draw
from .market1501 import DrawnMarket1501
from .mars import DrawnMars
from .mot import DrawnMot
from .own import DrawnCsv, DrawnFolders

logger = logging.getLogger(__name__)

LAYOUTS = {
    layout.NAME: layout for layout in (DrawnMarket1501, DrawnMars, DrawnFolders, DrawnCsv, DrawnMot)
}
DRAW = {name: make_draw(layout) for name, layout in LAYOUTS.items()}
draw_market1501, draw_mars, draw_folders, draw_csv, draw_mot = DRAW.values()


def _layouts_by_flag():
    """Return for each flag a dict from the layouts that take it to their field."""
    flags: dict[str, dict[str, dataclasses.Field]] = {}
    for name, layout in LAYOUTS.items():
        for field in dataclasses.fields(layout):
            flags.setdefault(field.name, {})[name] = field
    return flags


def _describe(fields):
    """Return the help of a flag, for each group of layouts where it means the same."""
    groups: dict[str, list[str]] = {}
    for layout, field in fields.items():
        default = "" if field.default is None else f" (default {field.default})"
        groups.setdefault(field.metadata["help"] + default, []).append(layout)
    return "; ".join(f"{', '.join(layouts)}: {text}" for text, layouts in groups.items())


def _one_of(choices):
    """Return a reader for argparse, which names the choice that a mistyped one is like."""

    def read(text):
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text} {describe_unknown(text, sorted(choices))}")
        return text

    return {"type": read, "choices": sorted(choices)}


def _make_parser(prog, description):
    parser = BaseParser(
        prog=prog,
        description=description,
        # The layout has the defaults of flags that are not given.
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--layout", **_one_of(LAYOUTS), help="required")
    parser.add_argument("--output_dir", help="new or empty folder; required")
    for name, fields in _layouts_by_flag().items():
        choices = next(iter(fields.values())).metadata.get("choices")
        kind = {"type": read_whole_number} if choices is None else _one_of(choices)
        parser.add_argument(f"--{name}", **kind, help=_describe(fields))
    return parser


def _check_flags(layout, sizes):
    """Refuse flags of other layouts, which would have no effect."""
    flags = _layouts_by_flag()
    for name in sizes:
        if layout not in flags[name]:
            raise UsageError(
                f"--{name} has no meaning for --layout {layout}, only for "
                f"{', '.join(sorted(flags[name]))}; leave it out"
            )


def _next_command(layout, output_dir, command):
    """Return the command that trains on the drawn data."""
    is_benchmark = layout in ("market1501", "mars")
    program, flag = (layout, "dataset_dir") if is_benchmark else ("custom", "dataset")
    start = f"python train_{program}.py" if command is None else f"{command} {program}"
    path = pathlib.Path(output_dir) / "people.csv" if layout == "csv" else output_dir
    command_line = f"{start} --mode=train --{flag}={shlex.quote(str(path))}"
    if layout == "mot":
        command_line += f"; to track: {start} --mode=track --sequences {shlex.quote(str(path))}"
    return command_line


def main(argv: Sequence[str] | None, command: str | None, description: str) -> int:
    """Run the command line.

    Parameters
    ----------
    argv, command
        As in `datasets.synthetic.main`.
    description : str
        For the help.

    Returns
    -------
    int
        Exit code.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    prog = "python -m datasets.synthetic" if command is None else f"{command} draw"
    parser = _make_parser(prog, description)
    sizes = vars(parser.parse_args(argv))
    # argparse's own check would come before the one for mistyped flags.
    missing = [f"--{name}" for name in ("layout", "output_dir") if name not in sizes]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    layout, output_dir = sizes.pop("layout"), sizes.pop("output_dir")
    try:
        with signals.handled():
            _check_flags(layout, sizes)
            splits = DRAW[layout](output_dir, **sizes)
    except UsageError as error:
        parser.error(str(error))
    except ReidError as error:
        logger.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt as error:
        cause, exit_code = signals.describe(error)
        logger.warning("Interrupted%s: nothing was written", cause)
        return exit_code
    for split in splits:
        logger.info("%s: %d images, %d identities, %d cameras", *dataclasses.astuple(split))
    logger.info("Next: %s", _next_command(layout, output_dir, command))
    return 0

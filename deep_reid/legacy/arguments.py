"""The runner's own arguments, which come before the script's."""

import dataclasses
from collections.abc import Sequence

from deep_reid.errors import UsageError

ENGINES = ("own", "deep_reid")
USAGE = "python -m deep_reid.legacy [--engine=own|deep_reid] SCRIPT [ARGS...]"
HELP = f"""usage: {USAGE}
       {USAGE.replace("SCRIPT", "-m PACKAGE.MODULE")}

Runs a script that was written for TensorFlow 1, with nothing edited.

  --engine=own        modules beside the script run as they are (default)
  --engine=deep_reid  train_app, queued_trainer, losses, metrics, the network and the data sets of
                      the original package come from deep_reid, all other modules from beside the
                      script
  -m PACKAGE.MODULE   run a module of the working folder, as python -m does
"""


@dataclasses.dataclass(frozen=True)
class Command:
    """What to run, and how.

    Parameters
    ----------
    engine : {"own", "deep_reid"}
    script : str, optional
        Path of the script; None with `module`.
    module : str, optional
        Dotted name.
    arguments : tuple of str
        The arguments of the script.
    wants_help : bool
        Whether to print the help, and nothing else.
    """

    engine: str = ENGINES[0]
    script: str | None = None
    module: str | None = None
    arguments: tuple[str, ...] = ()
    wants_help: bool = False


def parse(argv: Sequence[str]) -> Command:
    """Read the command line.

    Parameters
    ----------
    argv : sequence of str

    Returns
    -------
    Command

    Raises
    ------
    UsageError
        If an option is unknown, or neither a script nor a module is named.
    """
    engine, rest = ENGINES[0], list(argv)
    while rest and rest[0].startswith("--engine"):
        engine = _read_engine(rest)
    if not rest:
        raise UsageError(f"a SCRIPT or -m PACKAGE.MODULE is missing: {USAGE}")
    first = rest.pop(0)
    if first in {"-h", "--help"}:
        return Command(wants_help=True)
    if first == "--" and rest:
        return Command(engine, script=rest[0], arguments=tuple(rest[1:]))
    if first.startswith("-m"):
        return _parse_module(engine, [first[2:], *rest] if first[2:] else rest)
    if first.startswith("-"):
        raise UsageError(f"{first} is not an option of the runner: {USAGE}")
    return Command(engine, script=first, arguments=tuple(rest))


def _read_engine(rest):
    """Take the engine from the front of the arguments."""
    option, has_value, value = rest.pop(0).partition("=")
    if option == "--engine" and not has_value and rest:
        value = rest.pop(0)
    if option != "--engine" or value not in ENGINES:
        given = f"{option}={value}" if has_value or value else option
        raise UsageError(f"{given}: choose --engine={' or --engine='.join(ENGINES)}")
    return value


def _parse_module(engine, rest):
    if not rest or not rest[0]:
        raise UsageError(f"-m needs the name of a module: {USAGE.replace('SCRIPT', '-m MODULE')}")
    return Command(engine, module=rest[0], arguments=tuple(rest[1:]))

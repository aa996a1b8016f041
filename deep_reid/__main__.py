"""The command ``deep-reid PROGRAM ...``, also ``python -m deep_reid PROGRAM ...``.

A program's modules are imported only when it starts: ``--help`` and the answer to a mistyped name
need no TensorFlow.
"""

import importlib
import os
import string
import sys
from collections.abc import Sequence

import deep_reid
from deep_reid import cli
from deep_reid.errors import RunError
from deep_reid.system import packages
from deep_reid.system.spelling import find_similar, propose

_TASK = "train, evaluate and export a network on"
# The module of a program, below `deep_reid.datasets`, and its data set.
_PROGRAMS = {
    "market1501": ("market1501", "Market1501", f"{_TASK} Market-1501"),
    "mars": ("mars", "Mars", f"{_TASK} MARS"),
    "custom": ("custom", "Custom", f"{_TASK} your own images"),
    "track": ("custom", "Custom", "find tracks in video sequences with a trained network"),
    "draw": ("synthetic", None, "draw a small data set of pedestrians, to try the others on"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the programs.

    Parameters
    ----------
    argv : sequence of str, optional
        Name of the program and its arguments. Default: the process's arguments.

    Returns
    -------
    int
        Exit code of the program; 0 for a list of the programs, 1 where a package that they need is
        not installed, 2 for an unknown program.
    """
    command = _name_of_command()
    try:
        with packages.missing_explained():
            return _run(command, argv)
    except RunError as error:
        sys.stderr.write(f"{command}: error: {error}\n")
        return error.exit_code


def _run(command, argv):
    name, *argv = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(_describe_programs(command))
        return 0
    if name == "--version":
        sys.stdout.write(f"deep-reid {deep_reid.__version__}\n")
        return 0
    if name not in _PROGRAMS:
        sys.stderr.write(f"{command}: error: {_describe_unknown(name, command)}\n")
        return 2
    module_name, class_name, _ = _PROGRAMS[name]
    module_name = f"deep_reid.datasets.{module_name}"
    if class_name is None:
        return importlib.import_module(module_name).main(argv, command)
    if name == "track":  # a mode that needs no data set
        argv = [*argv, "--mode=track"]
    return cli.main(f"{module_name}:{class_name}", argv, prog=f"{command} {name}")


def _name_of_command():
    """Return what the user typed: the installed script, or the package run as a module."""
    name = os.path.basename(sys.argv[0])
    return "python -m deep_reid" if name == "__main__.py" else name


def _describe_programs(command):
    lines = [f"  {name:12} {text}" for name, (_, _, text) in _PROGRAMS.items()]
    return "\n".join([
        f"usage: {command} PROGRAM ...",
        "",
        "Deep cosine metric learning for person re-identification.",
        "",
        "programs:",
        *lines,
        "",
        "PROGRAM --help lists the settings of a program; --version prints the version.",
        "",
    ])  # fmt: skip


def _describe_unknown(name, command):
    if name.startswith("-"):
        proposal = propose(name, ("--help", "--version"))
        if proposal:
            return f"{name} is unknown{proposal}"
        return f"{name} stands before the program: write {command} PROGRAM {name}"
    from deep_reid.config.setting import MODES  # it imports NumPy

    words = {program.rstrip(string.digits): program for program in _PROGRAMS}
    similar = find_similar(name.rstrip(string.digits), words)
    if similar is None or name in MODES:
        mode = find_similar(name, MODES)
        if mode is not None:
            return (
                f"{name!r} is no program: write {command} PROGRAM --mode={mode} (the programs are "
                f"{', '.join(_PROGRAMS)})"
            )
    guess = f"; did you mean {words[similar]}?" if similar else ""
    return f"no program {name!r}{guess} (the programs are {', '.join(_PROGRAMS)})"


if __name__ == "__main__":
    sys.exit(main())

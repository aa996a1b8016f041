"""The command: ``deep-reid PROGRAM ...``, which is also ``python -m deep_reid PROGRAM ...``.

A program's modules are imported when it is started: ``--help`` and a mistyped name are answered
without TensorFlow.
"""

import difflib
import importlib
import os
import string
import sys

import deep_reid

_TRAINED = {
    "market1501": ("Market1501", "train, evaluate and export a network on Market-1501"),
    "mars": ("Mars", "train, evaluate and export a network on MARS"),
    "custom": ("Custom", "train, evaluate and export a network on your own images"),
}
_DRAW = "draw"
_PROGRAMS = {name: text for name, (_, text) in _TRAINED.items()} | {
    _DRAW: "draw a small data set of pedestrians, to try the others on"
}


def main(argv=None):
    """Run one of the programs.

    Parameters
    ----------
    argv : list of str, optional
        Name of the program and its arguments. Default: the process's arguments.

    Returns
    -------
    int
        Exit code of the program; 0 for a list of the programs, 2 for a program that does not exist.
    """
    command = _name_of_command()
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
    if name == _DRAW:
        from deep_reid.datasets import synthetic

        return synthetic.main(argv, command)
    from deep_reid import cli

    data_set = importlib.import_module(f"deep_reid.datasets.{name}")
    dataset_class = getattr(data_set, _TRAINED[name][0])
    return cli.main(dataset_class, argv, prog=f"{command} {name}")


def _name_of_command():
    """Return what the user typed: the installed script, or the package run as a module."""
    name = os.path.basename(sys.argv[0])
    return "python -m deep_reid" if name == "__main__.py" else name


def _describe_programs(command):
    lines = [f"  {name:12} {text}" for name, text in _PROGRAMS.items()]
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
        return f"{name} stands before the program: write {command} PROGRAM {name}"
    words = {program.rstrip(string.digits): program for program in _PROGRAMS}
    similar = difflib.get_close_matches(name.lower().rstrip(string.digits), words, n=1)
    guess = f"; did you mean {words[similar[0]]}?" if similar else ""
    return f"no program {name!r}{guess} (the programs are {', '.join(_PROGRAMS)})"


if __name__ == "__main__":
    sys.exit(main())

"""The arguments of the training scripts, derived from the settings of runs and of the commands."""

import argparse
import dataclasses
import difflib
import sys
from typing import NamedTuple

from deep_reid.cli.command import Command
from deep_reid.config import RunConfig
from deep_reid.config.setting import GROUPS, MODES, RUN, Setting, flags_of, list_settings

_GROUP_TITLES = {
    "run": "run",
    "data": "network and data (a run keeps them; the other modes take them from there)",
    "training": "training",
    "saving": "what training saves and logs",
    "machine": "machine (never taken from a run)",
    "evaluation": "evaluation",
    "test": "test",
    "export": "export, finalize, freeze",
}


class Argument(NamedTuple):
    """A setting, as one class of settings has it.

    Parameters
    ----------
    settings_class : type
        `RunConfig` or `Command`.
    name : str
    facts : Setting
    default : object
    """

    settings_class: type
    name: str
    facts: Setting
    default: object

    @property
    def flag(self):
        """The first of its flags, by which `--restore_path` of two classes is one."""
        return flags_of(self.name, self.facts)[0]


def list_arguments(name, own_defaults=None):
    """List all settings that have a flag.

    Parameters
    ----------
    name : str
        Of the data set; part of default directories.
    own_defaults : dict of str -> object, optional
        Defaults that depend on the data set.

    Returns
    -------
    list of Argument
    """
    arguments = []
    for settings_class in (RunConfig, Command):
        defaults = {field.name: field.default for field in dataclasses.fields(settings_class)}
        defaults |= own_defaults or {}
        for setting_name, facts in list_settings(settings_class).items():
            default, text = (
                value.format(name=name) if isinstance(value, str) else value
                for value in (defaults[setting_name], facts.default_text)
            )
            if flags_of(setting_name, facts):
                facts_here = dataclasses.replace(facts, default_text=text)
                arguments.append(Argument(settings_class, setting_name, facts_here, default))
    return arguments


def defaults_of(dataset_class):
    """Return the defaults that depend on the data set.

    Parameters
    ----------
    dataset_class : type

    Returns
    -------
    dict of str -> object
    """
    return {
        "image_shape": dataset_class.IMAGE_SHAPE,
        "dataset": dataset_class.DEFAULT_DIR,
        "compact_labels": dataset_class.COMPACT_LABELS,
    }


class BaseParser(argparse.ArgumentParser):
    """A parser whose errors are one line, and propose what a mistyped flag may have meant."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_args(self, args=None, namespace=None):  # noqa: D102 - of argparse
        namespace, rest = self.parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}{self._propose(rest)}")
        return namespace

    def error(self, message):  # noqa: D102 - of argparse
        # Without the usage of all flags, in which the one line that matters would drown.
        self.exit(2, f"{self.prog}: error: {message} (--help=all lists all settings)\n")

    def _propose(self, rest):
        flags = [flag for action in self._actions for flag in action.option_strings]
        for text in rest:
            close = difflib.get_close_matches(text.partition("=")[0], flags, 1)
            if text.startswith("-") and close:
                return f"; did you mean {close[0]}?"
        return ""


class ArgumentParser(BaseParser):
    """The parser of a training script.

    Parameters
    ----------
    dataset_class : type
        A data set as `datasets.base.ReidDataset` describes it.
    prog : str, optional
        Name of the program in its help and errors. Default: the script's.
    """

    def __init__(self, dataset_class, prog=None):
        super().__init__(prog=prog, description=describe(dataset_class.TITLE), add_help=False)
        self._arguments = {}  # by flag
        for argument in list_arguments(dataset_class.NAME, defaults_of(dataset_class)):
            self._arguments.setdefault(argument.flag, []).append(argument)
        if dataset_class.COMPACT_LABELS:  # there is no choice: the data set has no other labels
            del self._arguments["--compact_labels"]
        for flag, (argument, *_) in self._arguments.items():
            add_flag(self, argument, dest=flag)
        self.add_argument("-h", "--help", nargs="?", const="main", default=argparse.SUPPRESS)

    def parse_args(self, args=None, namespace=None):
        """Read the arguments.

        Parameters
        ----------
        args : list of str, optional
            Default: the process's arguments.
        namespace : argparse.Namespace, optional

        Returns
        -------
        Command
        """
        self._show_help(args)
        given = vars(super().parse_args(args, namespace))
        mode = given.get("--mode", MODES[0])
        values = {Command: {}, RunConfig: {}}
        for flag, value in given.items():
            argument = self._find(flag, mode)
            values[argument.settings_class][argument.name] = value
        defaults = {
            argument.name: argument.default
            for arguments in self._arguments.values()
            for argument in arguments
            if argument.settings_class is Command
        }
        return Command(**{**defaults, **values[Command]}, given=values[RunConfig])

    def _find(self, flag, mode):
        """Return the setting that a flag stands for in a mode."""
        for argument in self._arguments[flag]:
            if mode in argument.facts.modes:
                return argument
        modes = [mode for argument in self._arguments[flag] for mode in argument.facts.modes]
        ways_out = [x.facts.otherwise for x in self._arguments[flag] if x.facts.otherwise]
        way_out = f": {ways_out[0]}" if ways_out else ""
        return self.error(
            f"{flag} goes with --mode={join_modes(modes)}, not with --mode={mode}{way_out}"
        )

    def _show_help(self, args):
        """Print the help and end the process, if the arguments ask for it."""
        parser = BaseParser(prog=self.prog, add_help=False, argument_default=argparse.SUPPRESS)
        parser.add_argument("-h", "--help", nargs="?", const="main")
        parser.add_argument("--mode", choices=MODES)
        if args is not None and not any(text.startswith(("-h", "--help")) for text in args):
            return
        asked, _ = parser.parse_known_args(args)
        if hasattr(asked, "help"):
            topics = ("main", "all", *GROUPS)
            if asked.help not in topics:
                self.error(f"--help={asked.help} is unknown: use one of {', '.join(topics[1:])}")
            self._print_message(self._format(asked.help, getattr(asked, "mode", None)), sys.stdout)
            self.exit()

    def _format(self, topic, mode):
        parser = BaseParser(
            prog=self.prog,
            usage="%(prog)s [--mode=MODE] [settings]",
            description=self.description,
            epilog="--help=all lists all settings, --help=GROUP those of a group "
            f"({', '.join(GROUPS)}); with --mode, those of that mode.",
            add_help=False,
        )
        shown_mode = mode or (MODES[0] if topic == "main" else None)
        for group in GROUPS:
            section = parser.add_argument_group(_GROUP_TITLES[group])
            for flag, arguments in self._arguments.items():
                shown = [x for x in arguments if _is_shown(x, topic, shown_mode)]
                if shown and shown[0].facts.group == group:
                    add_flag(section, shown[0], dest=flag, help=_describe(shown, shown_mode))
        return parser.format_help()


def add_flag(parser, argument, **changes):
    """Add the flag of a setting to a parser, without a default.

    Parameters
    ----------
    parser : argparse.ArgumentParser or its group
    argument : Argument
    **changes
        Handed to ``add_argument``, in place of what follows from the setting.

    Returns
    -------
    argparse.Action
    """
    kwargs = {"default": argparse.SUPPRESS, **argument.facts.kind.arguments(), **changes}
    takes_value = "action" not in kwargs and not {"choices", "metavar"} & set(kwargs)
    if takes_value:
        kwargs["metavar"] = argument.name.split("_")[-1].upper()
    return parser.add_argument(*flags_of(argument.name, argument.facts), **kwargs)


def describe(title):
    """Return the first line of a script's help.

    Parameters
    ----------
    title : str
        Of the data set.

    Returns
    -------
    str
    """
    return f"Train, evaluate and export a re-identification network on {title}."


def describe_argument(argument):
    """Return the help of a setting, with its default.

    Parameters
    ----------
    argument : Argument

    Returns
    -------
    str
        For argparse.
    """
    return f"{argument.facts.help}{_describe_default(argument)}".replace("%", "%%")


def _describe_default(argument):
    is_kept = argument.settings_class is RunConfig and argument.facts.belongs_to == RUN
    text = argument.facts.default_text
    if argument.default is False and not is_kept:
        return ""  # it is simply off
    if argument.name == "image_shape":
        text = "{} {}".format(*argument.default)
    elif text is None:
        text = {True: "yes", False: "no", None: "none"}.get(argument.default, argument.default)
    or_the_runs = ", or the run's" if is_kept else ""
    return f" (default: {text}{or_the_runs})"


def _is_shown(argument, topic, mode):
    facts = argument.facts
    is_meant = topic == "all" or (facts.is_main if topic == "main" else facts.group == topic)
    return is_meant and (mode is None or mode in facts.modes)


def _describe(arguments, mode):
    texts = []
    for argument in arguments:
        modes = argument.facts.modes
        prefix = "" if mode or modes == MODES else f"{', '.join(modes)}: "
        texts.append(f"{prefix}{describe_argument(argument)}")
    return "; ".join(texts)


def join_modes(modes):
    """Join modes to a text, in their order.

    Parameters
    ----------
    modes : collection of str

    Returns
    -------
    str
        Such as "train, eval or test".
    """
    *others, last = [mode for mode in MODES if mode in modes]
    return f"{', '.join(others)} or {last}" if others else last

"""The arguments of the training scripts, derived from the settings of runs and of the commands."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from deep_reid.cli.command import Command
from deep_reid.config import RunConfig
from deep_reid.config.cluster import VARIABLE
from deep_reid.config.setting import COMMAND, GROUPS, MODES, RUN, Setting, list_settings
from deep_reid.interfaces import Dataset
from deep_reid.system.parsers import BaseParser
from deep_reid.system.spelling import describe_unknown


def list_arguments(
    dataset_name: str,
    own_defaults: Mapping[str, Any] | None = None,
    of_dataset: Collection[str] = (),
) -> list[Setting]:
    """List all settings of runs and of commands that have a flag.

    Parameters
    ----------
    dataset_name : str
        Part of default directories.
    own_defaults : dict of str -> object, optional
        Defaults that depend on the data set.
    of_dataset : collection of str
        Names of the settings that only some data sets have, and this one has.

    Returns
    -------
    list of Setting
    """

    def fill_in(value):
        return value.format(name=dataset_name) if isinstance(value, str) else value

    own_defaults = own_defaults or {}
    return [
        dataclasses.replace(
            setting,
            default=fill_in(own_defaults.get(name, setting.default)),
            default_text=fill_in(setting.default_text),
        )
        for settings_class in (RunConfig, Command)
        for name, setting in list_settings(settings_class).items()
        if setting.flags and (not setting.of_dataset or name in of_dataset)
    ]


def defaults_of(dataset_class: type[Dataset]) -> dict[str, Any]:
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


def settings_of(dataset_class: type[Dataset]) -> tuple[str, ...]:
    """Return the names of the settings of a run that a data set takes as arguments.

    Parameters
    ----------
    dataset_class : type
        It may have them in ``SETTINGS``.

    Returns
    -------
    tuple of str
    """
    return getattr(dataset_class, "SETTINGS", ())


class _Parser(BaseParser):
    way_to_help = "--help=all lists all settings"


# First lines of the help with a mode; the others have that of the script.
_OF_MODES = {
    "eval": "Score the checkpoints of a training on validation images, when they are saved.",
    "test": "Score a trained network by the official protocol of the data set.",
    "search": "Find the images of a folder that are most like a query, with a trained network.",
    "track": "Find the tracks of persons in video sequences, with a trained network.",
    "export": "Write the features of the test images, for the official MATLAB codes.",
    "finalize": "Write a checkpoint that has only the weights of a trained network.",
    "freeze": "Write a trained network for trackers, servers and devices: in one file or more.",
}


class ArgumentParser(_Parser):
    """The parser of a training script.

    Parameters
    ----------
    dataset_class : type
        A data set as `datasets.base.ReidDataset` describes it.
    prog : str, optional
        Name of the program in its help and errors. Default: the script's.
    """

    def __init__(self, dataset_class: type[Dataset], prog: str | None = None) -> None:
        super().__init__(prog=prog, description=describe(dataset_class.TITLE), add_help=False)
        # Two modes may have different settings with the same flag.
        self._settings: dict[str, list[Setting]] = {}
        own_defaults, of_dataset = defaults_of(dataset_class), settings_of(dataset_class)
        for setting in list_arguments(dataset_class.NAME, own_defaults, of_dataset):
            self._settings.setdefault(setting.flags[0], []).append(setting)
        if dataset_class.COMPACT_LABELS:  # the data set has no other labels: there is no choice
            del self._settings["--compact_labels"]
        for flag, (setting, *_) in self._settings.items():
            add_flag(self, setting, dest=flag)
        self.add_argument("-h", "--help", nargs="?", const="main", default=argparse.SUPPRESS)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Command:
        """Read the arguments.

        Parameters
        ----------
        args : sequence of str, optional
            Default: the process's arguments.
        namespace : argparse.Namespace, optional

        Returns
        -------
        Command
        """
        self._show_help(args)
        given = vars(super().parse_args(args, namespace))
        mode = given.get("--mode", MODES[0])
        of_run: dict[str, Any] = {}
        of_command = {
            setting.name: setting.default
            for settings in self._settings.values()
            for setting in settings
            if setting.belongs_to == COMMAND
        }
        for flag, value in given.items():
            setting = self._find(flag, mode)
            if not _is_met(setting.needs.get(mode), given):
                self.error(f"{flag} needs {setting.needs[mode]} with --mode={mode}")
            (of_command if setting.belongs_to == COMMAND else of_run)[setting.name] = value
        return Command(**of_command, given=of_run)

    def list_names(self, given: argparse.Namespace) -> dict[str, str]:
        """List the names of flags, and those that the mode's flags have in other programs."""
        mode = getattr(given, "--mode", MODES[0])
        synonyms = {
            name: setting.flags[0]
            for settings in self._settings.values()
            for setting in settings
            if mode in setting.modes
            for name in setting.synonyms
        }
        return synonyms | super().list_names(given)

    def explain_word(self, word: str) -> str | None:
        """Find the flag that a word without a flag belongs to; a path is that of the data set."""
        explained = super().explain_word(word)
        is_choice = explained is not None and explained.endswith(f"={word}")
        return f"--dataset={word}" if os.path.exists(word) and not is_choice else explained

    def _find(self, flag, mode):
        """Return the setting that a flag stands for in a mode."""
        for setting in self._settings[flag]:
            if mode in setting.modes:
                return setting
        modes = [mode for setting in self._settings[flag] for mode in setting.modes]
        ways_out = [setting.otherwise for setting in self._settings[flag] if setting.otherwise]
        way_out = f": {ways_out[0]}" if ways_out else ""
        return self.error(
            f"{flag} goes with --mode={join_modes(modes)}, not with --mode={mode}{way_out}"
        )

    def _show_help(self, args):
        """Print the help and end the process, if the arguments ask for it."""
        parser = _Parser(prog=self.prog, add_help=False, argument_default=argparse.SUPPRESS)
        parser.add_argument("-h", "--help", nargs="?", const="main")
        add_flag(parser, self._settings["--mode"][0], dest="mode")
        asked, _ = parser.parse_known_args(args)
        if hasattr(asked, "help"):
            topics = ("main", "all", *GROUPS)
            if asked.help not in topics:
                self.error(f"--help={asked.help} {describe_unknown(asked.help, topics[1:])}")
            self._print_message(self._format(asked.help, getattr(asked, "mode", None)), sys.stdout)
            self.exit()

    def _format(self, topic, mode):
        parser = argparse.ArgumentParser(
            prog=self.prog,
            usage="%(prog)s [--mode=MODE] [settings]",
            description=_OF_MODES.get(mode, self.description),
            epilog="--help=all lists all settings, --help=GROUP those of a group "
            f"({', '.join(GROUPS)}); with --mode, those of that mode. --version prints the "
            "version.",
            add_help=False,
        )
        shown_mode = mode or (MODES[0] if topic == "main" else None)
        for group, title in GROUPS.items():
            section = parser.add_argument_group(title)
            for flag, settings in self._settings.items():
                shown = [x for x in settings if _is_shown(x, topic, shown_mode)]
                if shown and shown[0].group == group:
                    add_flag(section, shown[0], dest=flag, help=_describe(shown, shown_mode))
        return parser.format_help()


def _is_met(needed, given):
    """Tell whether a flag that another one needs is given."""
    is_cluster = VARIABLE in os.environ  # its evaluator takes the settings of an evaluation
    return needed is None or needed in given or (needed == "--eval_every" and is_cluster)


def add_flag(
    parser: argparse._ActionsContainer, setting: Setting, **changes: Any
) -> argparse.Action:
    """Add the flag of a setting to a parser, without a default.

    Parameters
    ----------
    parser : argparse.ArgumentParser or its group
    setting : Setting
    **changes
        Arguments of ``add_argument`` that override those of the setting.

    Returns
    -------
    argparse.Action
    """
    kwargs = {"default": argparse.SUPPRESS, **setting.kind.arguments(), **changes}
    if not {"action", "choices", "metavar"} & set(kwargs):
        kwargs["metavar"] = setting.name.split("_")[-1].upper()
    return parser.add_argument(*setting.flags, **kwargs)


def describe(title: str) -> str:
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


def describe_argument(setting: Setting) -> str:
    """Return the help of a setting, with its default.

    Parameters
    ----------
    setting : Setting

    Returns
    -------
    str
        For argparse.
    """
    return f"{setting.help}{_describe_default(setting)}".replace("%", "%%")


def _describe_default(setting):
    is_kept = setting.belongs_to == RUN
    text = setting.default_text
    if setting.default is False and not is_kept:
        return ""  # it is simply off
    if setting.name == "image_shape":
        text = "{} {}".format(*setting.default)
    elif text is None:
        text = {True: "yes", False: "no", None: "none"}.get(setting.default, setting.default)
    or_the_runs = ", or the run's" if is_kept else ""
    return f" (default: {text}{or_the_runs})"


def _is_shown(setting, topic, mode):
    is_main = setting.is_main and mode not in setting.needs
    is_asked = topic == "all" or (is_main if topic == "main" else setting.group == topic)
    return is_asked and (mode is None or mode in setting.modes)


def _describe(settings, mode):
    texts = []
    for setting in settings:
        prefix = "" if mode or setting.modes == MODES else f"{', '.join(setting.modes)}: "
        texts.append(f"{prefix}{describe_argument(setting)}")
    return "; ".join(texts)


def join_modes(modes: Collection[str]) -> str:
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

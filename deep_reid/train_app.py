"""Training, evaluation and export under the original's names, for scripts that were written for it.

If nothing else has set up logging, it shows the package's progress lines, as the original did.
"""

import argparse
import inspect
import logging
from typing import Any

from deep_reid.cli.arguments import (
    add_flag,
    describe,
    describe_argument,
    join_modes,
    list_arguments,
)
from deep_reid.config import ComputeSettings
from deep_reid.config.setting import list_settings
from deep_reid.evaluation.loop import eval_loop
from deep_reid.export.encoding import encode, finalize, freeze
from deep_reid.system.log_lines import LineFormatter
from deep_reid.system.parsers import BaseParser
from deep_reid.training.loop import create_trainer, train_loop

__all__ = [
    "create_default_argument_parser",
    "create_trainer",
    "encode",
    "eval_loop",
    "finalize",
    "freeze",
    "to_eval_kwargs",
    "to_train_kwargs",
    "train_loop",
]

_TRAIN_FLAGS = (
    "batch_size",
    "learning_rate",
    "log_dir",
    "loss_mode",
    "number_of_steps",
    "restore_path",
    "run_id",
)
_EVAL_FLAGS = ("eval_log_dir", "log_dir", "loss_mode", "run_id")
# The flags of the original's parser: always in the parsed arguments, and for all modes.
_ORIGINAL_FLAGS = {*_TRAIN_FLAGS, *_EVAL_FLAGS, "mode"}
_COMPUTE_FLAGS = set(list_settings(ComputeSettings))


def _list_flags(mode, loop):
    """List the settings that a loop takes, without those of data and network: the script's."""
    taken = {*inspect.signature(loop).parameters, *_COMPUTE_FLAGS}
    taken.discard("num_images_per_id")  # each call must name it, so the script does
    known = [x for x in list_arguments("") if mode in x.modes and x.group != "data"]
    return {argument.name for argument in known} & taken


# Further flags are arguments of their mode's loop, and errors with other modes.
_FLAGS_OF_MODES = {
    "train": _list_flags("train", train_loop),
    "eval": _list_flags("eval", eval_loop),
    "export": set(),
    "finalize": set(),
    "freeze": set(),
}


def create_default_argument_parser(dataset_name: str) -> argparse.ArgumentParser:
    """Create a parser for a script with its own network and data.

    It has the original's flags, and further ones for the other settings of `train_loop` and
    `eval_loop`. A flag that the script adds replaces a flag of the same name.

    Parameters
    ----------
    dataset_name : str
        Part of the default directories.

    Returns
    -------
    argparse.ArgumentParser
    """
    _hand_over_logging()
    parser = _LegacyParser(description=describe(dataset_name), conflict_handler="resolve")
    parser.add_settings(dataset_name)
    return parser


def to_train_kwargs(args: argparse.Namespace) -> dict[str, Any]:
    """Turn parsed arguments into keyword arguments of `train_loop`.

    Parameters
    ----------
    args : argparse.Namespace
        From `create_default_argument_parser`.

    Returns
    -------
    dict
        ``batch_size, learning_rate, log_dir, loss_mode, number_of_steps, restore_path, run_id``,
        and the further flags that were given.
    """
    return _to_kwargs(args, _TRAIN_FLAGS, _FLAGS_OF_MODES["train"])


def to_eval_kwargs(args: argparse.Namespace) -> dict[str, Any]:
    """Turn parsed arguments into keyword arguments of `eval_loop`.

    Parameters
    ----------
    args : argparse.Namespace
        From `create_default_argument_parser`.

    Returns
    -------
    dict
        ``eval_log_dir, log_dir, loss_mode, run_id``, and the further flags that were given.
    """
    return _to_kwargs(args, _EVAL_FLAGS, _FLAGS_OF_MODES["eval"])


def _to_kwargs(args, original_flags, further_flags):
    _hand_over_logging()
    kwargs = {name: getattr(args, name) for name in original_flags}
    given = {name: getattr(args, name) for name in getattr(args, "further_flags", ())}
    compute = {name: value for name, value in given.items() if name in _COMPUTE_FLAGS}
    taken = further_flags - _COMPUTE_FLAGS
    kwargs |= {name: value for name, value in given.items() if name in taken}
    return {**kwargs, "compute": ComputeSettings(**compute)} if compute else kwargs


class _Namespace(argparse.Namespace):
    """Parsed arguments, and the names of those that the original does not have."""

    __slots__ = ("further_flags",)


class _LegacyParser(BaseParser):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.further_flags = {}  # actions by their names

    def add_settings(self, dataset_name):
        """Add the settings of training and evaluation.

        The original's keep their defaults. The others have none, and reach the loops only if the
        user gives them: a script may set the same setting itself.
        """
        known = _ORIGINAL_FLAGS.union(*_FLAGS_OF_MODES.values())
        flags = set()
        for argument in list_arguments(dataset_name):
            name, flag = argument.name, argument.flags[0]
            if name not in known or flag in flags:
                continue  # another mode, which the original does not have, has the same flag
            flags.add(flag)
            changes = {"help": describe_argument(argument)}
            if name in _ORIGINAL_FLAGS:
                changes["default"] = argument.default
            if name == "mode":
                changes |= {"type": None, "choices": None}  # the script defines the modes
            action = add_flag(self, argument, **changes)
            if name not in _ORIGINAL_FLAGS:
                self.further_flags[name] = action

    def parse_known_args(self, args=None, namespace=None):  # noqa: D102 - of argparse
        namespace = _Namespace() if namespace is None else namespace
        namespace, rest = super().parse_known_args(args, namespace)
        namespace.further_flags = [
            name
            for name, action in self.further_flags.items()
            if action.option_strings and hasattr(namespace, name)
        ]
        # The script may have modes of its own, and call either loop in them.
        taken = _FLAGS_OF_MODES.get(getattr(namespace, "mode", None))
        for name in namespace.further_flags if taken is not None else ():
            if name not in taken:
                modes = [mode for mode, flags in _FLAGS_OF_MODES.items() if name in flags]
                self.error(f"--{name} goes with --mode={join_modes(modes)}")
        return namespace, rest


class _ProgressLines(logging.StreamHandler):
    """Shows progress until the user adds handlers to the root logger."""

    def __init__(self, replaced_level):
        super().__init__()
        self.setFormatter(LineFormatter())
        self.replaced_level = replaced_level

    def emit(self, record):
        if logging.getLogger().handlers:
            _hand_over_logging()
        else:
            super().emit(record)


def _show_progress():
    if not logging.getLogger().handlers and not _package_logger.handlers:
        _package_logger.addHandler(_ProgressLines(_package_logger.level))
        _package_logger.setLevel(_package_logger.level or logging.INFO)


def _hand_over_logging():
    """Leave the log to the user's handlers, if there are some."""
    own = [handler for handler in _package_logger.handlers if isinstance(handler, _ProgressLines)]
    if own and logging.getLogger().handlers:
        _package_logger.removeHandler(own[0])
        _package_logger.setLevel(own[0].replaced_level)


_package_logger = logging.getLogger(__package__)
_show_progress()

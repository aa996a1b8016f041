"""Parsers of command lines whose errors are one line, with proposals for what is mistyped."""

import argparse
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import deep_reid
from deep_reid.system.spelling import find_similar

# Web pages and word processors put others in place of the hyphen.
_DASHES = tuple("-\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}")


class BaseParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with a proposal for each word that it does not know."""

    way_to_help = "--help lists all settings"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)
        self.add_argument(
            "--version",
            action="version",
            version=f"deep-reid {deep_reid.__version__}",
            help="print the version",
        )

    def parse_args(  # noqa: D102 - of argparse
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> Any:
        namespace, rest = self.parse_known_args(args, namespace)
        if rest:
            proposals = self._propose(rest, self.list_names(namespace))
            self.error(f"unrecognized arguments: {' '.join(rest)}{proposals}")
        return namespace

    def list_names(self, given: argparse.Namespace) -> dict[str, str]:
        """List the names that may be meant by unknown ones, without hyphens.

        Parameters
        ----------
        given : argparse.Namespace
            What was read from the command line.

        Returns
        -------
        dict of str -> str
            Their flags.
        """
        del given
        flags = [flag for action in self._actions for flag in action.option_strings]
        return {flag.lstrip("-"): flag for flag in flags}

    def parse_known_args(  # noqa: D102 - of argparse
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> Any:
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._with_hyphen(word) for word in words], namespace)

    def _with_hyphen(self, word):
        """Turn ``--no_name`` into argparse's ``--no-name``: names have underscores elsewhere."""
        meant = word.replace("--no_", "--no-", 1) if word.startswith("--no_") else word
        known = self._option_string_actions
        return meant if meant in known and word not in known else word

    def error(self, message: str) -> NoReturn:  # noqa: D102 - of argparse
        # Without argparse's usage: nobody would find this line below the list of all flags.
        self.exit(2, f"{self.prog}: error: {message} ({self.way_to_help})\n")

    def explain_word(self, word: str) -> str | None:
        """Find the flag that a word without a flag belongs to.

        Parameters
        ----------
        word : str

        Returns
        -------
        str or None
            Such as ``--mode=train`` for ``train``, if a flag has this choice.
        """
        flags = {
            choice: action.option_strings[0]
            for action in self._actions
            for choice in action.choices or ()
        }
        choice = find_similar(word, flags)
        return choice and f"{flags[choice]}={choice}"

    def _propose(self, rest, names):
        proposals: dict[str, str | None] = {}
        is_value = False
        for text in rest:
            name, has_value, _ = text.partition("=")
            is_flag = text.startswith(_DASHES) or has_value
            if is_flag:
                similar = find_similar(name.lstrip("".join(_DASHES)), names)
                proposals[name] = similar and names[similar]
            elif not is_value:
                proposals[text] = self.explain_word(text)
            is_value = is_flag and not has_value  # what comes next may be the flag's value
        found = {name: meant for name, meant in proposals.items() if meant}
        if not found:
            return ""
        if len(proposals) == 1:
            return f"; did you mean {next(iter(found.values()))}?"
        listed = ", ".join(f"{meant} for {name}" for name, meant in found.items())
        return f"; did you mean {listed}?"


def read_whole_number(text: str, least: int | None = None, others: str = "") -> int:
    """Read a number of things: a ``type`` for flags, whose error tells the rule.

    Parameters
    ----------
    text : str
    least : int, optional
        Smallest number.
    others : str
        What else the flag takes, for the error.

    Returns
    -------
    int

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no whole number in digits, or too small.
    """
    digits = text.removeprefix("-")
    is_number = digits.isascii() and digits.isdigit()
    if not is_number or (least is not None and int(text) < least):
        rule = "" if least is None else f" of at least {least}"
        raise argparse.ArgumentTypeError(f"{text} must be a whole number{rule}{others}")
    return int(text)

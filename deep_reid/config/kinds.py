"""Kinds of settings: which values they take, in Python and on the command line.

Code, files and the command line are checked by the same rules, and refused in the same words.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deep_reid.config.imports import find_problem
from deep_reid.errors import UsageError
from deep_reid.system.name_patterns import NamePattern
from deep_reid.system.spelling import describe_unknown


def as_plain(value: Any) -> Any:
    """Convert NumPy's numbers, which JSON cannot store, to Python's; return others unchanged."""
    if isinstance(value, bool):
        return value
    if hasattr(value, "__index__"):
        return int(value)
    return value.item() if hasattr(value, "dtype") and hasattr(value, "item") else value


def is_integer(value: object) -> bool:
    """Tell whether a value is a whole number, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


class Kind:
    """Base of the kinds of settings.

    A kind overrides `_to_plain`, which converts a value of Python; `_from_text`, which converts a
    text of the command line; and `_find_problem`, which returns what is wrong with the result.
    """

    type_name: str
    """For the documentation."""

    def check(self, name: str, value: Any) -> Any:
        """Return the value in Python's own types, or raise `UsageError`."""
        value = self._to_plain(value)
        problem = self._find_problem(value)
        if problem:
            raise UsageError(f"{name} ({value!r}) {problem}")
        return value

    def read(self, text: str) -> Any:
        """Return the value of a text, or raise the error that argparse expects."""
        value = self._from_text(text)
        problem = self._find_problem(value)
        if problem:
            raise argparse.ArgumentTypeError(f"{text} {problem}")
        return value

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``add_argument``."""
        return {"type": self.read}

    def _to_plain(self, value):
        return value

    def _from_text(self, text):
        return text

    def _find_problem(self, value):
        del value


@dataclasses.dataclass(frozen=True)
class Number(Kind):
    """A number that follows a rule.

    Parameters
    ----------
    type_name : str
        For the documentation.
    convert : callable
        Reads a text; raises `ValueError` if it is no number.
    is_valid : callable
    rule : str
        In words: the value "must be ...".
    at_most : int, optional
        Largest value: far more than is useful, and less than operating systems refuse.
    """

    type_name: str
    convert: Callable[[str], int | float]
    is_valid: Callable[[Any], bool]
    rule: str
    at_most: int | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``add_argument``."""
        return super().arguments() | ({"metavar": "N"} if self.convert is int else {})

    def _to_plain(self, value):
        return as_plain(value)

    def _from_text(self, text):
        try:
            return self.convert(text)
        except ValueError:
            return text

    def _find_problem(self, value):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.is_valid(value):
            return f"must be {self.rule}"
        if self.at_most is not None and value > self.at_most:
            return f"must be at most {self.at_most}"
        return None


def count(at_most: int | None = None) -> Number:
    """Create the kind of a number of things, at least 1."""
    return Number(
        "int", int, lambda x: is_integer(x) and x >= 1, "a whole number of at least 1", at_most
    )


COUNT = count()
COUNT_OR_0 = Number("int", int, lambda x: is_integer(x) and x >= 0, "a whole number of at least 0")
SEED = Number(
    "int", int, lambda x: is_integer(x) and 0 <= x < 2**31, "a whole number from 0 to 2^31 - 1"
)
POSITIVE = Number("float", float, lambda x: 0 < x <= sys.float_info.max, "a number greater than 0")
NOT_NEGATIVE = Number(
    "float", float, lambda x: 0 <= x <= sys.float_info.max, "a number of at least 0"
)
FINITE = Number("float", float, lambda x: abs(x) <= sys.float_info.max, "a number")
PART = Number("float", float, lambda x: 0 <= x < 1, "a number of at least 0 and less than 1")
SHARE = Number("float", float, lambda x: 0 < x <= 1, "a number greater than 0 and at most 1")
COSINE_DISTANCE = dataclasses.replace(POSITIVE, at_most=2)
PERCENT = Number("float", float, lambda x: 0 <= x <= 100, "a percentage from 0 to 100")
COUNT_OR_SHARE = Number(
    "int or float",
    lambda text: int(text) if text.isdecimal() else float(text),
    lambda x: x >= 0 and (is_integer(x) or x < 1.0),
    "a number of identities (0, 1, 2, ...) or a share of them (at least 0.0 and less than 1.0)",
)


class Choice(Kind):
    """One of some names.

    Parameters
    ----------
    names : sequence of str
    """

    _further = ""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.type_name = "{" + ", ".join(f'"{name}"' for name in names) + "}"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``add_argument``."""
        # The type comes first, and has the message: argparse only shows the choices.
        return {"type": self.read, "choices": self.names}

    def _find_problem(self, value):
        return None if value in self.names else describe_unknown(value, self.names, self._further)


class Choices(Choice):
    """Some of some names; the command line separates them by commas.

    Parameters
    ----------
    names : sequence of str
    none : str, optional
        What the command line has for no name at all. Default: there must be one.
    """

    def __init__(self, names: Sequence[str], none: str | None = None) -> None:
        super().__init__(names)
        self.type_name = f"sequence of {self.type_name}"
        self._none = none
        if none is not None:
            self._further = f", or {none} alone"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``add_argument``."""
        alternative = "" if self._none is None else f" or {self._none}"
        return {"type": self.read, "metavar": ",".join(self.names) + alternative}

    def check(self, name: str, value: Any) -> tuple[str, ...]:
        """Return a tuple of names, each once, or raise `UsageError`."""
        names = _as_tuple(name, value)
        for one in names:
            problem = super()._find_problem(one)
            if problem:
                raise UsageError(f"{name} ({one!r}) {problem}")
        return tuple(dict.fromkeys(names))

    def _from_text(self, text):
        return () if text == self._none else tuple(dict.fromkeys(text.split(",")))

    def _find_problem(self, value):
        return next(filter(None, map(super()._find_problem, value)), None)


class ChoiceOrImport(Choice):
    """One of some names, or ``MODULE:NAME`` for the user's own code.

    The module is imported only when it is needed: see `deep_reid.config.imports`.
    """

    _further = ", or MODULE:NAME of your own"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.type_name += ' or "MODULE:NAME"'

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``add_argument``."""
        return {"type": self.read, "metavar": f"{{{','.join(self.names)},MODULE:NAME}}"}

    def _find_problem(self, value):
        if isinstance(value, str) and ":" in value:
            return find_problem(value)
        return super()._find_problem(value)


class Switch(Kind):
    """On or off: the command line has ``--name`` and ``--no-name``."""

    type_name = "bool"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``add_argument``."""
        return {"action": argparse.BooleanOptionalAction}

    def _to_plain(self, value):
        return bool(value) if isinstance(value, np.bool_) else value

    def _find_problem(self, value):
        return None if isinstance(value, bool) else "must be True or False"


class On(Switch):
    """Off, until the command line has ``--name``."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``add_argument``."""
        return {"action": "store_true"}


class Shard(Kind):
    """One of several shards; the command line has ``i/n``, from ``0/n`` on."""

    type_name = "tuple of int"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``add_argument``."""
        return {"type": self.read, "metavar": "I/N"}

    def _to_plain(self, value):
        return tuple(as_plain(x) for x in value) if isinstance(value, list | tuple) else value

    def _from_text(self, text):
        parts = text.split("/")
        return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else text

    def _find_problem(self, value):
        is_pair = isinstance(value, tuple) and len(value) == 2 and all(map(is_integer, value))
        if is_pair and 0 <= value[0] < value[1]:
            return None
        return "must be i/n, shard i of n, which count from 0: 0/3, 1/3 and 2/3 are all three"


class Text(Kind):
    """A name."""

    type_name = "str"

    def _to_plain(self, value):
        return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


class Path(Text):
    """The path of a file or folder."""

    type_name = "str or Path"

    def _from_text(self, text):
        if not text:
            raise argparse.ArgumentTypeError("a path must not be empty")
        return text


class Names(Kind):
    """Names of things."""

    type_name = "sequence of str"
    metavar = "NAME"
    rule = "must be a name"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``add_argument``."""
        return {"nargs": "+", "metavar": self.metavar}

    def check(self, name: str, value: Any) -> tuple[str, ...]:
        """Return a tuple of str, or raise `UsageError`."""
        names = _as_tuple(name, value)
        for one in names:
            if not isinstance(one, str):
                raise UsageError(f"{name}: {one!r} {self.rule}")
        return names


class Folders(Names):
    """Paths of folders."""

    metavar = "FOLDER"
    rule = "must be the path of a folder"


class Scopes(Names):
    """Names of variable scopes, or regular expressions for them."""

    metavar = "SCOPE"
    rule = "must be the name of a scope, as 'conv1_1'"


class FileNamePattern(Text):
    """What names of image files tell: see `NamePattern`."""

    type_name = "str"

    def _find_problem(self, value):
        try:
            NamePattern(value)
        except UsageError as error:
            return f"is wrong: {error}"
        return None


class ImageShape(Kind):
    """Height, width and channels of images; the command line takes height and width."""

    type_name = "tuple of int"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``add_argument``."""
        return {**COUNT.arguments(), "nargs": 2, "metavar": ("HEIGHT", "WIDTH")}

    def check(self, name: str, value: Any) -> tuple[int, int, int]:
        """Return a tuple of three, or raise `UsageError`."""
        return _check_shape(_as_tuple(name, value), (1, 3))


def add_channels(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Check the shape of an image as code written for the original gives it.

    Parameters
    ----------
    image_shape : sequence of int
        (height, width, channels), or (height, width) for gray images.

    Returns
    -------
    tuple of int
        (height, width, channels).

    Raises
    ------
    UsageError
        If it is something else.
    """
    sizes = _as_tuple("image_shape", image_shape)
    return _check_shape((*sizes, 1) if len(sizes) == 2 else sizes)


def _as_tuple(name, values):
    """Turn a list of a setting into a tuple of plain values; None is an empty one."""
    if values is None:
        return ()
    if isinstance(values, str | dict) or not hasattr(values, "__iter__"):
        raise UsageError(f"{name} ({values!r}) must be a list: use [{values!r}]")
    return tuple(as_plain(value) for value in values)


def _check_shape(sizes, num_channels=()):
    is_shape = len(sizes) == 3 and all(is_integer(size) and size > 0 for size in sizes)
    if not is_shape or (num_channels and sizes[2] not in num_channels):
        rule = f" with {' or '.join(map(str, num_channels))} channels" if num_channels else ""
        raise UsageError(
            f"image_shape {sizes} must be (height, width, channels){rule}: the default of the "
            "re-identification sets is (128, 64, 3)"
        )
    return sizes

"""Kinds of settings: which values they take, in Python and on the command line.

A kind checks a value of code or of a file (`check`), and says how the command line reads one
(`arguments`). Both refuse the same values, in the same words.
"""

import argparse
import dataclasses
import math
import os
from collections.abc import Callable

import numpy as np

from deep_reid.config.imports import EXAMPLE, split_name
from deep_reid.errors import UsageError


def as_plain(value):
    """Turn a number of NumPy, which JSON does not know, into Python's; leave other values alone."""
    if isinstance(value, bool):
        return value
    if hasattr(value, "__index__"):
        return int(value)
    return value.item() if hasattr(value, "dtype") and hasattr(value, "item") else value


def is_integer(value):
    """Tell whether a value is a whole number, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that keeps to a rule.

    Parameters
    ----------
    type_name : str
        For the documentation.
    convert : callable
        Reads a text; raises `ValueError` where it is no number.
    is_valid : callable
    rule : str
        In words: the value "must be ...".
    at_most : int, optional
        Far beyond what helps, and below what systems refuse.
    """

    type_name: str
    convert: Callable
    is_valid: Callable
    rule: str
    at_most: int | None = None

    def check(self, name, value):
        """Return the value as a plain number, or raise `UsageError`."""
        value = as_plain(value)
        if isinstance(value, (str, bool)) or not self._follows_rule(value):
            raise UsageError(f"{name} ({value!r}) must be {self.rule}")
        if self.at_most is not None and value > self.at_most:
            raise UsageError(f"{name} ({value}) must be at most {self.at_most}")
        return value

    def arguments(self):
        """Return the arguments of ``add_argument``."""
        return {"type": self._read}

    def _follows_rule(self, value):
        return isinstance(value, (int, float)) and self.is_valid(value)

    def _read(self, text):
        try:
            value = self.convert(text)
        except ValueError:
            value = None
        if value is None or not self.is_valid(value):
            raise argparse.ArgumentTypeError(f"{text} must be {self.rule}")
        if self.at_most is not None and value > self.at_most:
            raise argparse.ArgumentTypeError(f"{text} must be at most {self.at_most}")
        return value


def count(at_most=None):
    """Create the kind of a number of things, of at least 1."""
    return Number(
        "int",
        int,
        lambda x: is_integer(x) and x >= 1,
        "a whole number of at least 1",
        at_most,
    )


COUNT = count()
SEED = Number(
    "int",
    int,
    lambda x: is_integer(x) and 0 <= x < 2**31,
    "a whole number from 0 to 2^31 - 1",
)
POSITIVE = Number("float", float, lambda x: x > 0 and _is_finite(x), "a number greater than 0")
COUNT_OR_SHARE = Number(
    "int or float",
    lambda text: int(text) if text.isdecimal() else float(text),
    lambda x: x >= 0 and (is_integer(x) or x < 1.0),
    "a number of identities (0, 1, 2, ...) or a share of them (at least 0.0 and less than 1.0)",
)


def _is_finite(value):
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some names.

    Parameters
    ----------
    names : sequence of str
    """

    names: tuple

    @property
    def type_name(self):
        """For the documentation."""
        return "{" + ", ".join(f'"{name}"' for name in self.names) + "}"

    def check(self, name, value):
        """Return the value, or raise `UsageError`."""
        if value not in self.names:
            raise UsageError(f"{name} ({value!r}) is unknown: use one of {', '.join(self.names)}")
        return value

    def arguments(self):
        """Return the arguments of ``add_argument``."""
        return {"choices": self.names}


class ChoiceOrImport(Choice):
    """One of some names, or ``MODULE:NAME`` of the user's own.

    The module is imported only when it is needed: see `deep_reid.config.imports`.
    """

    @property
    def type_name(self):
        """For the documentation."""
        return f'{super().type_name} or "MODULE:NAME"'

    def check(self, name, value):
        """Return the value, or raise `UsageError`."""
        if value in self.names:
            return value
        if not isinstance(value, str) or ":" not in value:
            raise UsageError(
                f"{name} ({value!r}) is unknown: use one of {', '.join(self.names)}, or "
                f"MODULE:NAME of your own, such as {EXAMPLE}"
            )
        try:
            split_name(value)
        except UsageError as error:
            raise UsageError(f"{name} {error}") from error
        return value

    def arguments(self):
        """Return the arguments of ``add_argument``."""
        return {"type": self._read, "metavar": f"{{{','.join(self.names)},MODULE:NAME}}"}

    def _read(self, text):
        if text in self.names:
            return text
        if ":" not in text:
            raise argparse.ArgumentTypeError(
                f"invalid choice: {text!r} (choose from {', '.join(self.names)}, or MODULE:NAME of "
                "your own)"
            )
        try:
            split_name(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return text


class Switch:
    """On or off: the command line has ``--name`` and ``--no-name``."""

    type_name = "bool"

    def check(self, name, value):
        """Return the value as a bool, or raise `UsageError`."""
        if not isinstance(value, (bool, np.bool_)):
            raise UsageError(f"{name} ({value!r}) must be True or False")
        return bool(value)

    def arguments(self):
        """Return the arguments of ``add_argument``."""
        return {"action": argparse.BooleanOptionalAction}


class On(Switch):
    """Off, until the command line has ``--name``."""

    def arguments(self):
        """Return the arguments of ``add_argument``."""
        return {"action": "store_true"}


class Text:
    """A name."""

    type_name = "str"

    def check(self, name, value):
        """Return the value as text."""
        del name
        return os.fspath(value) if isinstance(value, os.PathLike) else str(value)

    def arguments(self):
        """Return the arguments of ``add_argument``."""
        return {}


class Path(Text):
    """The path of a file or folder."""

    type_name = "str or Path"

    def arguments(self):
        """Return the arguments of ``add_argument``."""
        return {"type": self._read}

    def _read(self, text):
        if not text:
            raise argparse.ArgumentTypeError("a path must not be empty")
        return text


class Scopes:
    """Names of variable scopes, or regular expressions for them."""

    type_name = "sequence of str"

    def check(self, name, value):
        """Return a tuple of str, or raise `UsageError`."""
        scopes = as_tuple(name, value)
        for scope in scopes:
            if not isinstance(scope, str):
                raise UsageError(f"{name}: {scope!r} must be the name of a scope, as 'conv1_1'")
        return scopes

    def arguments(self):
        """Return the arguments of ``add_argument``."""
        return {"nargs": "+", "metavar": "SCOPE"}


class ImageShape:
    """Height, width and channels of images; the command line takes height and width."""

    type_name = "tuple of int"

    def check(self, name, value):
        """Return a tuple of three, or raise `UsageError`."""
        del name
        return as_image_shape(value, (1, 3))

    def arguments(self):
        """Return the arguments of ``add_argument``."""
        return {**COUNT.arguments(), "nargs": 2, "metavar": ("HEIGHT", "WIDTH")}


def as_tuple(name, values):
    """Turn a list of a setting into a tuple of plain values; None is an empty one."""
    if values is None:
        return ()
    if isinstance(values, (str, dict)) or not hasattr(values, "__iter__"):
        raise UsageError(f"{name} ({values!r}) must be a list: use [{values!r}]")
    return tuple(as_plain(value) for value in values)


def as_image_shape(image_shape, num_channels=None):
    """Check the shape of an image.

    Parameters
    ----------
    image_shape : sequence of int
        (height, width, channels).
    num_channels : sequence of int, optional
        The numbers of channels that are possible. Default: all.

    Returns
    -------
    tuple of int
        (height, width, channels).

    Raises
    ------
    UsageError
        If it is something else.
    """
    sizes = as_tuple("image_shape", image_shape)
    is_shape = len(sizes) == 3 and all(is_integer(size) and size > 0 for size in sizes)
    if not is_shape or (num_channels and sizes[2] not in num_channels):
        rule = f" with {' or '.join(map(str, num_channels))} channels" if num_channels else ""
        raise UsageError(
            f"image_shape {sizes} must be (height, width, channels){rule}: the default of the "
            "re-identification sets is (128, 64, 3)"
        )
    return sizes


def add_channels(image_shape):
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
    sizes = as_tuple("image_shape", image_shape)
    return as_image_shape((*sizes, 1) if len(sizes) == 2 else sizes)

"""Loads damaged copies of an exported network: native code may crash, so in a process."""

import functools
import operator
import os
import pathlib
import random
import shutil

import numpy as np

from deep_reid import Encoder
from deep_reid.compat import tf
from deep_reid.errors import DataError


def load_damaged(source, model, folder, count=24):
    """Damage copies of a model, each in another way, and compute features with them.

    Parameters
    ----------
    source : str
        The file that is damaged: `model`, or a file of this folder.
    model, folder : str
        The model, and where the copies go.
    count : int

    Returns
    -------
    list of str
        The outcomes: the message of the error for the user, or "features". Any other error is
        raised.
    """
    content = pathlib.Path(source).read_bytes()
    rng = random.Random(0)
    outcomes = []
    for number in range(count):
        target = os.path.join(folder, f"{number}", os.path.basename(model))
        os.makedirs(os.path.dirname(target))
        (shutil.copytree if os.path.isdir(model) else shutil.copy)(model, target)
        damaged = bytearray(content)
        if number % 3 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        else:
            for _ in range(1 + number):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path = target if os.path.isfile(target) else os.path.join(target, os.path.basename(source))
        pathlib.Path(path).write_bytes(damaged)
        outcomes.append(_load(target))
        shutil.rmtree(os.path.dirname(target))
    return outcomes


def _load(path):
    try:
        with Encoder(path) as encoder:
            features = encoder([np.zeros((9, 9, 3), np.uint8)])
    except DataError as error:
        return str(error)
    assert np.isfinite(features).all()
    return "features"


def load_changed(model, folder):
    """Change the numbers and types of a frozen graph, one at a time, and compute features.

    Parameters
    ----------
    model, folder : str
        The graph, and where the copies go.

    Returns
    -------
    dict of (str, int) to str
        The outcomes, as of `load_damaged`, by field and new number.
    """
    graph_def = tf.GraphDef.FromString(pathlib.Path(model).read_bytes())
    target = os.path.join(folder, "changed.pb")
    outcomes = {}
    for name, old, change in _list_numbers(graph_def.node):
        for number in sorted({0, 2, 3, 2**30, -1} - {old}):
            try:
                change(number)
            except ValueError:  # such a type does not exist
                continue
            pathlib.Path(target).write_bytes(graph_def.SerializeToString())
            outcomes[name, number] = _load(target)
        change(old)
    return outcomes


def _list_numbers(value, name=""):
    """Yield each integer within a message, its name and the function that changes it."""
    if hasattr(value, "ListFields"):
        for field, content in value.ListFields():
            inner = f"{name}.{field.name}"
            if field.cpp_type == field.CPPTYPE_MESSAGE:
                yield from _list_numbers(content, inner)
            elif field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64, field.CPPTYPE_ENUM):
                if isinstance(content, int):
                    yield inner, content, functools.partial(setattr, value, field.name)
                else:
                    for position, number in enumerate(content):
                        change = functools.partial(operator.setitem, content, position)
                        yield f"{inner}[{position}]", number, change
    elif hasattr(value, "items"):
        for key in sorted(value):
            yield from _list_numbers(value[key], f"{name}[{key}]")
    else:
        for position, item in enumerate(value):
            yield from _list_numbers(item, f"{name}[{position}]")

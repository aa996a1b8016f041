"""Loads damaged copies of an exported network: native code may crash, so in a process."""

import os
import pathlib
import random
import shutil

import numpy as np

from deep_reid import Encoder
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
        try:
            with Encoder(target) as encoder:
                features = encoder([np.zeros((9, 9, 3), np.uint8)])
            assert np.isfinite(features).all()
            outcomes.append("features")
        except DataError as error:
            outcomes.append(str(error))
        shutil.rmtree(os.path.dirname(target))
    return outcomes

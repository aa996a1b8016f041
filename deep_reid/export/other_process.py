"""Computes a network in another process, where its runtime cannot compute in this one.

A process that was forked after a runtime has computed has none of the runtime's threads. It starts
a new process of Python, which loads the network anew and gets batches through a socket.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from deep_reid.errors import RunError
from deep_reid.export import formats
from deep_reid.export.formats.model import Model

_CODE = "import sys; sys.path[:] = {}; from {} import serve; serve({})"
_SECS_TO_END = 5


def load(path: str, settings: Mapping[str, Any]) -> Model:
    """Load a network in another process.

    Parameters
    ----------
    path : str
    settings : dict
        Arguments of `deep_reid.export.formats.load_network`.

    Returns
    -------
    Model

    Raises
    ------
    DataError, UsageError
        Those of the other process.
    RunError
        If that ends.
    """
    process = _Process(path, settings)
    runtime, model_input, feature_size = process.facts

    def start():
        # A fork of this process needs a process of its own.
        own = process if process.is_of_this else _Process(path, settings)
        return own.compute, own.close

    return Model(path, runtime, model_input, feature_size, start, is_concurrent=False)


class _Process:
    def __init__(self, path, settings):
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE.format(sys.path, __name__, number)],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
            )
        self._owner, self._path = os.getpid(), path
        self._connection = Connection(ours.detach())
        self._lock = threading.Lock()
        self.facts = self._ask((path, dict(settings)))

    @property
    def is_of_this(self):
        """Whether this process has started it, and it has not ended."""
        return self._owner == os.getpid() and self._process.poll() is None

    def compute(self, batch: np.ndarray) -> np.ndarray:
        return self._ask(batch)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECS_TO_END)
        self._process.kill()
        self._process.wait()

    def _ask(self, question):
        try:
            with self._lock:
                self._connection.send(question)
                error, answer = self._connection.recv()
        except (EOFError, OSError) as reason:
            raise RunError(
                f"the process that computes {self._path} has ended: load it again, in a process "
                "that is not forked"
            ) from reason
        if error is not None:
            raise error
        return answer


def serve(number: int) -> None:
    """Load a network, and compute its features for another process, until that closes the socket.

    Parameters
    ----------
    number : int
        File descriptor of the socket.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    connection = Connection(number)
    answer: Callable[[Any], Any] = _load
    with contextlib.suppress(EOFError, ConnectionError):  # the other process has closed it
        while True:
            question = connection.recv()
            try:
                answered = answer(question)
                if answer is _load:
                    (answer, close), answered = answered
            except Exception as error:  # noqa: BLE001 - the other process raises it
                connection.send((error, None))
            else:
                connection.send((None, answered))
    if answer is not _load:
        close()


def _load(question):
    path, settings = question
    model = formats.load_network(path, **settings)
    return model.launch(), (model.runtime, model.model_input, model.feature_size)

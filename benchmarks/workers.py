"""Runs each contender in its own process, and measures them in turn.

TensorFlow, PyTorch and ONNX Runtime each keep a pool of threads, and disturb each other in one
process. Each round goes through all contenders of a group, alternately forward and backward: if the
machine becomes slower or faster, that affects all of them.
"""

import contextlib
import dataclasses
import importlib
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import Connection

import numpy as np

_ROOT = pathlib.Path(__file__).parents[1]
_SECS_TO_END = 30
_SECS_BETWEEN_TURNS = 0.1  # the last contender's threads may still be busy, waiting for work


class NotMeasured(Exception):  # noqa: N818 - a result, no error: the table has it
    """A contender could not start, or failed; the message says why."""


class Worker:
    """A process that makes an object and answers calls of its methods.

    It makes the object at the first call, so that it does not work while others are measured.

    Parameters
    ----------
    create : str
        ``"module:Class"``. The process imports it; if a package is missing, each call fails.
    python : str
        The interpreter: that of another environment has other packages.
    environment : mapping of str to str, optional
        Further environment variables of the process.
    **settings
        Arguments of the class.
    """

    def __init__(self, create, python=sys.executable, environment=None, **settings):
        ours, theirs = socket.socketpair()
        with theirs:
            # Not forked: no library may inherit threads or memory of another.
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.workers", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ
                | {"PYTHONPATH": _join_paths(_ROOT, os.environ.get("PYTHONPATH"))}
                | dict(environment or {}),
            )
        self._connection = Connection(ours.detach())
        self._connection.send((create, settings))

    def ask(self, method, *args):
        """Call a method of the object in the process and return its answer.

        Each process also answers ``"peak_memory"``: its peak memory in MiB.

        Raises
        ------
        NotMeasured
            If the object cannot be made, the method raises, or the process ends.
        """
        try:
            self._connection.send((method, args))
            failure, answer = self._connection.recv()
        except (EOFError, ConnectionError):
            failure = f"its process ended with code {self._process.wait(_SECS_TO_END)}"
        if failure:
            raise NotMeasured(failure)
        return answer

    def close(self):
        """End the process."""
        self._connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECS_TO_END)
        self._process.kill()
        self._process.wait()


def _join_paths(*paths):
    return os.pathsep.join(str(path) for path in paths if path)


def run_program(*command, cwd=None):
    """Run a program; if it fails, raise `NotMeasured` with its last line."""
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if run.returncode:
        raise NotMeasured(run.stderr.strip().splitlines()[-1])


@contextlib.contextmanager
def closing_all():
    """Yield ``start(create, **settings) -> Worker``, and close all these workers at the end."""
    with contextlib.ExitStack() as stack:

        def start(create, **settings):
            worker = Worker(create, **settings)
            stack.callback(worker.close)
            return worker

        yield start


def _serve(connection):
    made = None
    with contextlib.suppress(EOFError, ConnectionError):  # the other side closed the connection
        create, settings = connection.recv()
        while True:
            method, args = connection.recv()
            made = made or _attempt(_make, create, settings)
            connection.send(made if made[0] else _attempt(_call, made[1], method, *args))
    if made and hasattr(made[1], "close"):
        made[1].close()


def _make(create, settings):
    module, _, name = create.partition(":")
    return getattr(importlib.import_module(module), name)(**settings)


def _call(made, method, *args):
    return _read_peak_memory() if method == "peak_memory" else getattr(made, method)(*args)


def _attempt(function, *args):
    """Call a function; return why it failed (None: it did not), and its result."""
    try:
        return None, function(*args)
    except Exception as error:  # noqa: BLE001 - the table has any of them
        first_line = str(error).strip().splitlines()[:1]
        return ": ".join([type(error).__name__, *first_line]), None


def _read_peak_memory():
    """Return the peak of this process's resident memory in MiB, without its children.

    It comes from Linux, because ``getrusage`` counts what the parent had at the start, too.
    """
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) / 1024


def mean_secs(function, count, num_warm_up=1):
    """Call a function `count` times, after `num_warm_up` calls: mean seconds of a call."""
    for _ in range(num_warm_up):
        function()
    start = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - start) / count


class CropEncoder:
    """Encodes the crops of a file; a subclass has ``encode(crops) -> features``.

    Parameters
    ----------
    crops_path : str
        Array of uint8, shape (N, 128, 64, 3), BGR.
    """

    def __init__(self, crops_path):
        self.crops = np.load(crops_path)

    def measure(self, num_crops, count):
        """Encode the first crops: mean seconds of `count` calls."""
        return mean_secs(lambda: self.features(num_crops), count)

    def features(self, num_crops):
        """Return the features of the first crops, of shape (N, 128)."""
        return self.encode(self.crops[:num_crops])


@dataclasses.dataclass(frozen=True)
class Contender:
    """A method of a worker, to be measured.

    ``method(*args, count)`` does the work `count` times and returns the mean seconds of one.
    """

    name: str
    worker: Worker
    method: str = "measure"
    args: tuple = ()

    def measure(self, count):
        """Do the work `count` times: mean seconds of one."""
        return self.worker.ask(self.method, *self.args, count)


@dataclasses.dataclass(frozen=True)
class Timings:
    """Results of the rounds. All methods raise `NotMeasured` for a contender that failed.

    Parameters
    ----------
    secs : dict of str to list of float
        Seconds in each round, by the contender's name.
    failures : dict of str to str
        Why a contender was not measured, by its name.
    """

    secs: dict
    failures: dict

    def median(self, name):
        """Return the median of a contender's rounds, in seconds."""
        return statistics.median(self._of(name))

    def ratios(self, name, other):
        """Return by which factor a contender was faster than the other, in each round."""
        return [b / a for a, b in zip(self._of(name), self._of(other), strict=True)]

    def fastest(self, names):
        """Return the contender with the least median."""
        measured = [name for name in names if name in self.secs]
        return min(measured or names[:1], key=self.median)

    def _of(self, name):
        if name in self.failures:
            raise NotMeasured(self.failures[name])
        return self.secs[name]


def measure_in_turn(contenders, *, rounds, secs_per_turn, min_count=1):
    """Measure contenders in turn.

    Parameters
    ----------
    contenders : sequence of Contender
    rounds : int
        Each contender has one turn in each round.
    secs_per_turn : float
        About how long a turn takes. A turn that does not count gives the number of calls.
    min_count : int
        Minimum of calls in a turn.

    Returns
    -------
    Timings
    """
    counts, failures = {}, {}
    for contender in contenders:
        with _recording_failure(contender, failures):
            contender.measure(1)  # some compile or tune themselves with the first call
            secs = contender.measure(min_count)
            counts[contender.name] = max(min_count, round(secs_per_turn / max(secs, 1e-6)))
    secs = {name: [] for name in counts}
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            if contender.name not in failures:
                time.sleep(_SECS_BETWEEN_TURNS)
                with _recording_failure(contender, failures):
                    secs[contender.name].append(contender.measure(counts[contender.name]))
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    measured = {name: secs[name] for name in secs if name not in failures}
    for name, values in measured.items():  # for those who stop it before the table
        print(f"  {name}: {statistics.median(values):.4g} s", file=sys.stderr, flush=True)
    return Timings(measured, failures)


@contextlib.contextmanager
def _recording_failure(contender, failures):
    try:
        yield
    except NotMeasured as reason:
        failures[contender.name] = str(reason)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))

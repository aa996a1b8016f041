"""Contenders in processes of their own, measured in turn.

TensorFlow, PyTorch and ONNX Runtime each keep a pool of threads, and disturb each other in one
process. Each contender has its own, which sleeps while it is not asked anything. Rounds go through
all contenders of a group, forward and backward in turn, so that a machine that becomes slower or
faster meanwhile does so for all of them.
"""

import contextlib
import dataclasses
import importlib
import multiprocessing
import pathlib
import re
import statistics
import sys
import time

_SECS_TO_END = 30
_SECS_BETWEEN_TURNS = 0.1  # threads of the last contender may still spin, waiting for work


class NotMeasured(Exception):  # noqa: N818 - a result, no error: the table goes on without it
    """A contender could not be started, or failed; the message says why."""


class Worker:
    """A process that makes an object and answers calls of its methods.

    Parameters
    ----------
    create : str
        ``"module:Class"``; looked up in the process, so that a missing package fails there.
    **settings
        Handed to it.
    """

    def __init__(self, create, **settings):
        self._create = create
        # Not forked: no library may find threads or memory of another.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        # No daemon: those could not have the processes that PyTorch loads its data with.
        self._process = context.Process(target=_serve, args=(theirs, create, settings))
        self._process.start()
        theirs.close()
        self._is_ready = False
        self._end = None  # why it answers no more

    def ask(self, method, *args):
        """Call a method of the process's object, and wait for its answer.

        Parameters
        ----------
        method : str
            ``"peak_memory"`` is known to every process: its peak so far, in MiB.
        *args
            Handed to the method.

        Returns
        -------
        What the method returns.

        Raises
        ------
        NotMeasured
            If the object cannot be made, now or before, the method raises, or the process ends.
        """
        if not self._is_ready:
            self._wait_until_ready()
        if self._end:
            raise NotMeasured(self._end)
        with contextlib.suppress(BrokenPipeError):  # what is received says so
            self._connection.send((method, args))
        return self._receive()

    def close(self):
        """End the process."""
        self._connection.close()
        self._process.join(_SECS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _wait_until_ready(self):
        self._is_ready = True
        try:
            self._receive()
        except NotMeasured as reason:
            self._end = str(reason)

    def _receive(self):
        try:
            failure, answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(_SECS_TO_END)
            self._end = failure = f"its process ended with code {self._process.exitcode}"
        if failure:
            raise NotMeasured(failure)
        return answer


def _serve(connection, create, settings):
    def attempt(function, *args):
        try:
            connection.send((None, function(*args)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it stands in the table
            connection.send((_describe(error), None))

    def make():
        module, _, name = create.partition(":")
        made.append(getattr(importlib.import_module(module), name)(**settings))

    made = []
    attempt(make)
    # Until the other side closes the connection.
    with contextlib.suppress(EOFError, ConnectionResetError):
        while True:
            method, args = connection.recv()
            if method == "peak_memory":
                attempt(read_peak_memory)
            else:
                attempt(lambda method=method, args=args: getattr(made[0], method)(*args))
    if made and hasattr(made[0], "close"):
        made[0].close()


def _describe(error):
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def mean_secs(function, count, num_warm_up):
    """Call a function again and again, and return the mean seconds of a call.

    Parameters
    ----------
    function : callable
    count : int
    num_warm_up : int
        Calls before that, which do not count.

    Returns
    -------
    float
    """
    for _ in range(num_warm_up):
        function()
    start = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - start) / count


def read_peak_memory():
    """Return the most memory that this process had so far, in MiB.

    Returns
    -------
    float
        Resident memory as Linux counts it, without that of child processes.
    """
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) / 1024


@contextlib.contextmanager
def closing_all():
    """Keep a list of workers, and close them all at the end, also after an error.

    Yields
    ------
    callable
        ``start(create, **settings) -> Worker``.
    """
    with contextlib.ExitStack() as stack:

        def start(create, **settings):
            worker = Worker(create, **settings)
            stack.callback(worker.close)
            return worker

        yield start


@dataclasses.dataclass(frozen=True)
class Contender:
    """What is measured: a method of a worker.

    Parameters
    ----------
    name : str
        As it stands in the table.
    worker : Worker
    method : str
        ``method(*args, count)`` does the work `count` times and returns the mean seconds of one.
    args : tuple
    """

    name: str
    worker: Worker
    method: str = "measure"
    args: tuple = ()

    def measure(self, count):
        """Do the work a number of times.

        Parameters
        ----------
        count : int

        Returns
        -------
        float
            Mean seconds of one.
        """
        return self.worker.ask(self.method, *self.args, count)


@dataclasses.dataclass(frozen=True)
class Timings:
    """The seconds of all contenders in all rounds.

    Parameters
    ----------
    secs : dict of str to list of float
        One number for each round, by the name of the contender.
    failures : dict of str to str
        Why others were not measured.
    """

    secs: dict
    failures: dict

    def median(self, name):
        """Return the median of a contender's rounds, in seconds.

        Parameters
        ----------
        name : str

        Returns
        -------
        float

        Raises
        ------
        NotMeasured
            If it was not.
        """
        return statistics.median(self._of(name))

    def ratios(self, name, other):
        """Return how many times as fast a contender was as another, for each round.

        Parameters
        ----------
        name, other : str

        Returns
        -------
        list of float
            More than 1 where `name` was the faster.

        Raises
        ------
        NotMeasured
            If one of them was not.
        """
        return [b / a for a, b in zip(self._of(name), self._of(other), strict=True)]

    def fastest(self, names):
        """Return the contender with the least median.

        Parameters
        ----------
        names : sequence of str

        Returns
        -------
        str

        Raises
        ------
        NotMeasured
            If none of them was.
        """
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
        Each contender has a turn in each.
    secs_per_turn : float
        From a first turn, which does not count, follows how often the work is done in each other.
    min_count : int
        It is done at least so often.

    Returns
    -------
    Timings
    """
    failures, counts = {}, {}
    for contender in contenders:
        with _recording_failure(contender, failures):
            contender.measure(1)  # what is compiled or tuned with the first call
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
    return Timings({name: secs[name] for name in secs if name not in failures}, failures)


@contextlib.contextmanager
def _recording_failure(contender, failures):
    try:
        yield
    except NotMeasured as reason:
        failures[contender.name] = str(reason)

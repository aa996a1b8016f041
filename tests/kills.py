"""Ends a process with SIGKILL at each of its changes to the disk in turn, as a power switch might.

A driver process imports TensorFlow once, and forks: a child that does the work and is killed at its
n-th change below a folder, and one that looks at what was left.
"""

import json
import os
import shutil
import signal
import sys
import traceback

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Killer:
    """Counts the changes of this process to a folder, and kills it before one of them.

    Parameters
    ----------
    folder : str
    number : int or None
        The change to be killed at, from 0 on; None: never.
    """

    def __init__(self, folder, number):
        self._folder = os.path.realpath(folder)
        self._number = number
        self.events = []
        fsync = os.fsync

        def watched_fsync(descriptor):
            self._meet("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        os.fsync = watched_fsync
        sys.addaudithook(self._hook)

    def _hook(self, event, args):
        is_write = event == "open" and isinstance(args[2], int) and args[2] & _WRITING
        if event in _CHANGES or is_write:
            self._meet(event, args[0])

    def _meet(self, event, path):
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor, of a file that was opened before
        path = os.fsdecode(path)
        # Names without a folder are those of shutil.rmtree, relative to a descriptor.
        if os.path.realpath(path).startswith(self._folder) or os.sep not in path:
            if len(self.events) == self._number:
                os.kill(os.getpid(), signal.SIGKILL)
            self.events.append((event, os.path.basename(path)))


def run_in_child(function):
    """Call a function in a forked process.

    Returns
    -------
    object
        What it returned, through JSON; None where it was killed. What it raised is raised as a
        RuntimeError.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(reading)
            result = json.dumps(function()).encode()
            code = 0
        except BaseException:  # noqa: BLE001 - handed to the parent
            result = traceback.format_exc().encode()
        with open(writing, "wb") as pipe:
            pipe.write(result)
        os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        result = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return None
    if os.WEXITSTATUS(status):
        raise RuntimeError(result.decode())
    return json.loads(result)


def kill_at_each_change(folder, prepare, work, check):
    """Kill `work` at each of its changes to a folder in turn, and check what is left.

    Parameters
    ----------
    folder : callable
        ``folder(number)`` makes an empty folder, and returns its path.
    prepare, work : callable
        ``prepare(folder)``, once in a child; then, each time on a copy of what it has left,
        ``work(folder, done)`` in a child, where ``done(value)`` tells how far it is.
    check : callable
        ``check(folder, value)`` in another child, with the last value, or None.

    Returns
    -------
    list of [str, str]
        The changes: events and file names.
    """

    prepared = folder("prepared")
    run_in_child(lambda: prepare(prepared))

    def attempt(number):
        path = folder(number)
        shutil.copytree(prepared, path, dirs_exist_ok=True)
        reading, writing = os.pipe()

        def child():
            killer = Killer(path, number)
            work(path, lambda value: os.write(writing, f"{value}\n".encode()))
            return killer.events

        events = run_in_child(child)
        os.close(writing)
        with open(reading, encoding="utf-8") as pipe:
            values = pipe.read().splitlines()
        try:
            run_in_child(lambda: check(path, int(values[-1]) if values else None))
        except RuntimeError as error:
            raise AssertionError(f"killed at change {number} in {path}:\n{error}") from error
        return events

    events = attempt(None)
    for number in range(len(events)):
        try:
            again = attempt(number)
        except AssertionError as error:
            raise AssertionError(f"{events[: number + 1][-4:]}: {error}") from error
        assert again is None, f"change {number} of {len(events)} was not met again"
    return events

"""Stops by signals, which leave nothing half done.

Within `handled`, the first SIGINT (Ctrl-C), SIGTERM or SIGHUP raises `Stopped` in the main thread.
Within `deferred`, it only sets a flag: a training finishes its step and saves. A second SIGINT or
SIGTERM ends the process at once, if it comes a second later: some programs, such as ``timeout``,
send a signal to a process and to its group, which it is in.

Code in C that calls Python, a finalizer or a callback of `ctypes` may swallow what a signal raises.
It is raised again, each second, until it ends the block. C code may also print an error that it
swallows; after a signal, this is not shown.
"""

import _thread
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

_logger = logging.getLogger(__name__)
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


_REPEAT_SECS = 1.0
_PR_SET_PDEATHSIG = 1
# Loaded before a process is forked: its child must not load anything.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Stopped(KeyboardInterrupt):
    """A signal has asked the process to end.

    Parameters
    ----------
    number : int
        The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextlib.contextmanager
def handled(*, is_insistent: bool = True) -> Iterator[None]:
    """Handle signals as the module's docstring describes, until the block ends.

    Once a signal has raised `Stopped`, another error that ends the block is its consequence, and
    becomes `Stopped` again. Signals that were ignored before (``nohup``) stay ignored. Outside the
    main thread, where Python allows no handlers, nothing changes.

    Parameters
    ----------
    is_insistent : bool
        Whether `Stopped` is raised again where something has caught it and gone on. False for
        somebody's code, which may catch KeyboardInterrupt on purpose.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: old for number, old in handlers.items() if old != signal.SIG_IGN}
    with _Watcher(handlers, is_insistent) as watcher:
        for number in handlers:
            signal.signal(number, watcher.handle)
        try:
            _installed.append(watcher)
            yield
            watcher.check_passed_on()
        except Exception as error:
            if watcher.raised is None:
                raise
            # C code that calls Python, such as TensorFlow's, may turn `Stopped` into another error.
            raise Stopped(watcher.raised) from error
        finally:
            _installed.remove(watcher)
            for number, old in handlers.items():
                signal.signal(number, old)


@contextlib.contextmanager
def deferred(
    at_most_secs: float | None = None, doing: str = "finishing the step and saving"
) -> Iterator[Callable[[], int | None]]:
    """Let the block end its work by itself when a signal comes.

    Parameters
    ----------
    at_most_secs : float, optional
        For a block that may wait for others: the process ends so long after the signal. Default:
        no limit.
    doing : str
        What the block does until then, for the log.

    Yields
    ------
    callable
        Returns the number of the first signal; None before it. Always None outside `handled`.
    """
    if not _installed:
        yield lambda: None
        return
    watcher = _installed[-1]
    limit = "" if at_most_secs is None else f", for {at_most_secs:g} s at most"
    watcher.is_deferred, watcher.limit_secs, watcher.doing = True, at_most_secs, f"{doing}{limit}"
    try:
        yield lambda: watcher.first
    finally:
        watcher.is_deferred, watcher.limit_secs = False, None


@contextlib.contextmanager
def undeferred() -> Iterator[None]:
    """Within `deferred`, let a signal end the block at once, with `Stopped`.

    Raises
    ------
    Stopped
        Also if a signal came before.
    """
    watcher = _installed[-1] if _installed else None
    if watcher is None or not watcher.is_deferred:
        yield
        return
    watcher.is_deferred = False
    try:
        if watcher.first is not None:
            raise Stopped(watcher.first)
        yield
    except Stopped:
        watcher.received.wait()  # what `deferred` yields tells of it from now on
        watcher.forget()
        raise
    finally:
        watcher.is_deferred = True


def end_with_parent() -> None:
    """Let the system end this process with SIGTERM if its parent ends; on Linux only."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def describe(error: KeyboardInterrupt) -> tuple[str, int]:
    """Tell how an interrupted program ends.

    Parameters
    ----------
    error : KeyboardInterrupt
        `Stopped`, or Python's own before a handler was set.

    Returns
    -------
    cause : str
        To be put behind "interrupted", such as ``" by SIGTERM"``; empty if it is unknown.
    exit_code : int
        130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP).
    """
    cause = f" by {error}" if str(error) else ""
    return cause, getattr(error, "exit_code", 128 + signal.SIGINT)


class _Watcher:
    """Receives each signal in a separate thread.

    Python runs a signal's handler in the main thread only, and not while that waits in TensorFlow.
    A second signal has to work at any time.
    """

    def __init__(self, numbers, is_insistent):
        self.first: int | None = None
        self.raised: int | None = None
        self._raised_at: float | None = None
        self._is_insistent = is_insistent
        self._repeated = 0
        self.received = threading.Event()
        self.is_deferred = False
        self.limit_secs: float | None = None
        self.doing = ""
        self._first_at = 0.0
        self._numbers = frozenset(numbers)

    def __enter__(self):
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        # Within the block, only C code calls these: errors that end the program come after it.
        # Somebody's own code may set them.
        self._old_hooks = sys.excepthook, sys.unraisablehook
        if self._is_insistent:
            sys.excepthook, sys.unraisablehook = self._show_error, self._show_unraisable
        return self

    def __exit__(self, *error):
        if self._is_insistent:
            sys.excepthook, sys.unraisablehook = self._old_hooks
        signal.set_wakeup_fd(self._old_fd)
        self._sender.close()
        self._thread.join()
        self._receiver.close()

    def handle(self, number: int, frame: object) -> None:
        """Handle a signal in the main thread."""
        del frame
        if self.is_deferred:
            return
        self.raised, self._raised_at = number, time.monotonic()
        raise Stopped(number)

    def forget(self) -> None:
        """Raise `Stopped` no more: what has caught it goes on."""
        self._raised_at = None

    def check_passed_on(self) -> None:
        """Raise `Stopped` at the end of a block that something has kept going."""
        if self.raised is not None and self._was_swallowed():
            raise Stopped(self.raised)

    def _was_swallowed(self):
        return self._is_insistent and self._raised_at is not None and not self.is_deferred

    def _show_error(self, kind, error, trace):
        if not self._was_swallowed():
            self._old_hooks[0](kind, error, trace)

    def _show_unraisable(self, unraisable):
        if not self._was_swallowed():
            self._old_hooks[1](unraisable)

    def _watch(self):
        while True:
            self._receiver.settimeout(None if self.first is None else _REPEAT_SECS)
            try:
                byte = self._receiver.recv(1)
            except TimeoutError:
                self._raise_again()
                self._end_if_late()
                continue
            if not byte:
                return
            number = byte[0]
            # Another handler, which an old script may have set, comes first.
            if number not in self._numbers or signal.getsignal(number) != self.handle:
                continue
            if self._repeated:
                self._repeated -= 1
            else:
                self._receive(number)

    def _raise_again(self):
        number, raised_at = self.raised, self._raised_at
        if number is None or raised_at is None or not self._was_swallowed():
            return
        if time.monotonic() - raised_at >= _REPEAT_SECS and not _handles_exception():
            self._repeated += 1
            _thread.interrupt_main(signal.Signals(number))

    def _end_if_late(self):
        limit, number = self.limit_secs, self.first
        if limit is None or number is None or not self.is_deferred:
            return
        if time.monotonic() - self._first_at >= limit:
            os._exit(128 + number)

    def _receive(self, number):
        name = signal.Signals(number).name
        if self.first is None:
            self.first, self._first_at = number, time.monotonic()
            self.received.set()
            if self.is_deferred:
                _logger.warning("%s: %s; once more ends at once", name, self.doing)
        # A terminal that is closed may send SIGHUP twice.
        elif name != "SIGHUP" and time.monotonic() - self._first_at >= _REPEAT_SECS:
            _logger.warning("%s: ending at once", name)
            os._exit(128 + number)


def _handles_exception():
    """Whether the main thread is in an ``except`` or ``finally`` block: it may be cleaning up."""
    exception = sys._current_exceptions().get(threading.main_thread().ident or 0)
    return exception not in (None, (None, None, None))  # three values before Python 3.12


_installed: list[_Watcher] = []

"""Stops by signals, which leave nothing half done.

Within `handled`, the first SIGINT (Ctrl-C), SIGTERM or SIGHUP raises `Stopped` in the main thread.
Within `deferred`, it only sets a flag: a training finishes its step and saves. A second SIGINT or
SIGTERM ends the process at once, if it comes a second later: some programs, such as ``timeout``,
send a signal to a process and to its group, which it is in.
"""

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

_logger = logging.getLogger(__name__)
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


_REPEAT_SECS = 1.0


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
def handled() -> Iterator[None]:
    """Handle signals as the module's docstring describes, until the block ends.

    Once a signal has raised `Stopped`, another error that ends the block is its consequence, and
    becomes `Stopped` again. Signals that were ignored before (``nohup``) stay ignored. Outside the
    main thread, where Python allows no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: old for number, old in handlers.items() if old != signal.SIG_IGN}
    with _Watcher(handlers) as watcher:
        for number in handlers:
            signal.signal(number, watcher.handle)
        try:
            _installed.append(watcher)
            yield
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
def deferred() -> Iterator[Callable[[], int | None]]:
    """Let the block end its work by itself when a signal comes.

    Yields
    ------
    callable
        Returns the number of the first signal; None before it. Always None outside `handled`.
    """
    if not _installed:
        yield lambda: None
        return
    watcher = _installed[-1]
    watcher.is_deferred = True
    try:
        yield lambda: watcher.first
    finally:
        watcher.is_deferred = False


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
        raise
    finally:
        watcher.is_deferred = True


class _Watcher:
    """Receives each signal in a separate thread.

    Python runs a signal's handler in the main thread only, and not while that waits in TensorFlow.
    A second signal has to work at any time.
    """

    def __init__(self, numbers):
        self.first: int | None = None
        self.raised: int | None = None
        self.received = threading.Event()
        self.is_deferred = False
        self._first_at = 0.0
        self._numbers = frozenset(numbers)

    def __enter__(self):
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        signal.set_wakeup_fd(self._old_fd)
        self._sender.close()
        self._thread.join()
        self._receiver.close()

    def handle(self, number: int, frame: object) -> None:
        """Handle a signal in the main thread."""
        del frame
        if not self.is_deferred:
            self.raised = number
            raise Stopped(number)

    def _watch(self):
        while byte := self._receiver.recv(1):
            number = byte[0]
            # Another handler, which an old script may have set, comes first.
            if number not in self._numbers or signal.getsignal(number) != self.handle:
                continue
            name = signal.Signals(number).name
            if self.first is None:
                self.first, self._first_at = number, time.monotonic()
                self.received.set()
                if self.is_deferred:
                    _logger.warning(
                        "%s: finishing the step and saving; once more ends at once", name
                    )
            # A terminal that is closed may send SIGHUP twice.
            elif name != "SIGHUP" and time.monotonic() - self._first_at >= _REPEAT_SECS:
                _logger.warning("%s: ending at once", name)
                os._exit(128 + number)


_installed: list[_Watcher] = []

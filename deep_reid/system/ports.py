"""Ports of this machine and of others."""

import contextlib
import socket
import time
from collections.abc import Sequence

from deep_reid.errors import RunError

_PAUSE_SECS = 0.5
_CONNECT_SECS = 2.0


def check_free(address: str) -> None:
    """Check that this machine can listen at the port of an address.

    Parameters
    ----------
    address : str
        ``"host:port"``.

    Raises
    ------
    RunError
        If another process listens there, or the system refuses.
    """
    port = int(address.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            raise RunError(
                f"port {port} of {address} cannot be used ({error.strerror}): end the process that "
                "has it, or name another port"
            ) from error


def find_free(num_ports: int) -> list[int]:
    """Find ports of this machine that nothing uses.

    Parameters
    ----------
    num_ports : int

    Returns
    -------
    list of int
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num_ports)]
        for listener in sockets:  # all are open at once, so that they differ
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def wait_for(addresses: Sequence[str], timeout_secs: float) -> list[str]:
    """Wait until processes listen at addresses.

    Parameters
    ----------
    addresses : sequence of str
        ``"host:port"``.
    timeout_secs : float

    Returns
    -------
    list of str
        The addresses where none does when the time is over.
    """
    missing = list(addresses)
    deadline = time.monotonic() + timeout_secs
    while True:
        missing = [address for address in missing if not _accepts(address)]
        if not missing or time.monotonic() >= deadline:
            return missing
        time.sleep(_PAUSE_SECS)


def _accepts(address):
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECS):
            return True
    except OSError:
        return False

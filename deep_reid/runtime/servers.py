"""TensorFlow's servers of a cluster, and what is on them beside the weights."""

import logging
import os
from collections.abc import Callable, Iterable

from deep_reid.config import ComputeSettings
from deep_reid.config.cluster import SERVER, Place
from deep_reid.errors import RunError, first_line
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import create_session_config
from deep_reid.system import ports

_logger = logging.getLogger(__name__)

FIRST = f"/job:{SERVER}/task:0/cpu:0"
"""The first server, which has what the processes of a cluster tell each other."""

OWN_COLLECTION = "cluster"
"""Variables that no checkpoint has."""

LOST = (tf.errors.AbortedError, tf.errors.UnavailableError)
"""What TensorFlow raises when a server has ended, or cannot be reached."""

GIVEN_UP = -1
"""What servers find in the place of a process that has ended, if the training cannot go on."""

# Without it, TensorFlow waits without a limit where a session begins and a server has ended.
_FAIL_FAST = "GRPC_FAIL_FAST"


class LostServerError(RunError):
    """A server does not come, has ended, or cannot be reached any more."""


def is_initialized(variable: tf.Variable) -> tf.Tensor:
    """Return whether a variable has a value."""
    return tf.identity(tf.is_variable_initialized(variable))  # TensorFlow warns if it is not used


def create_round() -> tf.Variable:
    """Create the number of the round, which no checkpoint has; the chief initializes it."""
    return tf.Variable(
        0, dtype=tf.int64, trainable=False, collections=[OWN_COLLECTION], name="cluster/round"
    )


def create_tokens(place: Place) -> dict[int, tf.FIFOQueue]:
    """Create the queues of the workers, by their numbers."""
    return {
        number: tf.FIFOQueue(-1, tf.int64, [()], shared_name=f"cluster/tokens_{number}")
        for number in range(1, place.num_trainers)
    }


def create_done_queue(index: int) -> tf.FIFOQueue:
    """Create the queue of the processes that have ended, on one of the servers."""
    with tf.device(f"/job:{SERVER}/task:{index}/cpu:0"):
        return tf.FIFOQueue(-1, tf.int64, [()], shared_name="cluster/done")


def filter_devices(
    place: Place, config: tf.ConfigProto | None = None, server: int | None = None
) -> tf.ConfigProto:
    """Let a session see the servers and this process: it must not wait for other workers.

    Parameters
    ----------
    place : Place
    config : tf.ConfigProto, optional
        Other settings of the session.
    server : int, optional
        The only server to see. Default: all.

    Returns
    -------
    tf.ConfigProto
    """
    config = tf.ConfigProto() if config is None else config
    servers = f"/job:{SERVER}" if server is None else f"/job:{SERVER}/task:{server}"
    config.device_filters.extend([servers, f"/job:{place.role}/task:{place.index}"])
    return config


def start_server(place: Place, compute: ComputeSettings = ComputeSettings()) -> tf.train.Server:
    """Start TensorFlow's server of this process.

    Parameters
    ----------
    place : Place
    compute : ComputeSettings

    Returns
    -------
    tf.train.Server

    Raises
    ------
    RunError
        If it cannot listen at its address.
    """
    ports.check_free(place.address)
    os.environ.setdefault(_FAIL_FAST, "true")
    try:
        return tf.train.Server(
            tf.train.ClusterSpec(place.addresses),
            job_name=place.role,
            task_index=place.index,
            config=create_session_config(compute),
        )
    except (tf.errors.OpError, RuntimeError) as error:
        raise RunError(
            f"{place.name} cannot listen at {place.address} ({first_line(error)}): name another "
            "port"
        ) from error


def wait_for_servers(place: Place, timeout_secs: float) -> None:
    """Wait until all parameter servers can be reached.

    Parameters
    ----------
    place : Place
    timeout_secs : float

    Raises
    ------
    LostServerError
        If one cannot when the time is over; the message names those.
    """
    missing = name_unreachable(place, timeout_secs=0)
    if missing:
        _logger.info("Waiting for %s, for %g s at most", missing, timeout_secs)
        missing = name_unreachable(place, timeout_secs)
    if missing:
        raise LostServerError(
            f"{missing} cannot be reached within {timeout_secs:g} s: start it, or check the "
            "address and the firewall; --cluster_timeout_secs waits longer"
        )


def name_unreachable(place: Place, timeout_secs: float) -> str:
    """Name the servers that cannot be reached within some time; empty if all can."""
    missing = ports.wait_for(place.servers, timeout_secs)
    return name_servers(place, map(place.servers.index, missing))


def name_servers(place: Place, indices: Iterable[int]) -> str:
    """Name servers with their addresses."""
    return ", ".join(f"server {index} at {place.servers[index]}" for index in indices)


def list_starts(place: Place, session: tf.Session) -> list[int]:
    """List the numbers that TensorFlow draws for servers when they start.

    Parameters
    ----------
    place : Place
    session : tf.Session
        Sees all servers.

    Returns
    -------
    list of int
        One for each server. A server that is started again has another number.
    """
    numbers = {device.name: device.incarnation for device in session.list_devices()}
    return [
        numbers[f"/job:{SERVER}/replica:0/task:{index}/device:CPU:0"]
        for index in range(len(place.servers))
    ]


def watch_ends(place: Place, server: tf.train.Server) -> Callable[[], int]:
    """Create a function that waits, on a server, for a process to end.

    Parameters
    ----------
    place : Place
        Of a server.
    server : tf.train.Server

    Returns
    -------
    callable
        Returns the number of a process that has ended, or `GIVEN_UP`.
    """
    with tf.Graph().as_default() as graph:
        ended = create_done_queue(place.index).dequeue()
    session = tf.Session(server.target, graph, filter_devices(place, server=place.index))
    return lambda: int(session.run(ended))

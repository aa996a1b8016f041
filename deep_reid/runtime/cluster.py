"""Training on several machines: TensorFlow's gRPC runtime with parameter servers.

The weights are on the servers. The chief and the workers train, each with its own copy of the graph
and its own batches. What they tell each other is in variables and queues on the first server.
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from deep_reid.config import ComputeSettings
from deep_reid.config.cluster import CHIEF, SERVER, Place
from deep_reid.errors import RunError, first_line
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import create_session_config, leave_open
from deep_reid.runtime.synchronous import SynchronousOptimizer
from deep_reid.system import ports

DEFAULT_TIMEOUT_SECS = 600.0
"""Seconds that a process waits for the others of its cluster to begin."""

GIVEN_UP = -1
"""What servers find in the place of a process that has ended, if the training cannot go on."""

_logger = logging.getLogger(__name__)
_FIRST_SERVER = f"/job:{SERVER}/task:0/cpu:0"
_OWN_COLLECTION = "cluster"
_LOST = (tf.errors.AbortedError, tf.errors.UnavailableError)
_PAUSE_SECS = 0.5


class LostServerError(RunError):
    """A server has ended, or cannot be reached any more."""


class Cluster:
    """The processes that train together, seen from one of them; this class is one process alone.

    Attributes
    ----------
    is_chief : bool
        Whether this process records the run: settings, checkpoints, summaries.
    number : int
        Number of this process; 0 is the chief.
    batches_per_step : int
        Batches, one of each process, that one step of the run learns from.
    """

    is_chief = True
    number = 0
    batches_per_step = 1

    def placing(self) -> contextlib.AbstractContextManager[Any]:
        """Place the ops of a training graph that are created within the block."""
        return contextlib.nullcontext()

    def session_settings(self, compute: ComputeSettings) -> dict[str, Any]:
        """Return what ``slim.learning.train`` needs to know of the session.

        Parameters
        ----------
        compute : ComputeSettings

        Returns
        -------
        dict of str -> object
        """
        return {"session_config": create_session_config(compute)}

    def synchronize(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Return the optimizer that makes the updates of all processes from one of this process."""
        return optimizer

    def follow(self, train_op: tf.Tensor) -> tf.Tensor:
        """Let a training op, which gives the loss, end when this process may begin its next step."""
        return train_op

    def begin(self, session: tf.Session) -> None:
        """Begin to train; to be called before the first step in a session."""

    def naming_lost_servers(
        self, session: tf.Session | None = None
    ) -> contextlib.AbstractContextManager[Any]:
        """Raise a `LostServerError` if a server is lost within the block.

        Parameters
        ----------
        session : tf.Session, optional
            What the block uses: it cannot be closed then, which would wait for ever.
        """
        return contextlib.nullcontext()


ALONE = Cluster()
"""No cluster."""


class Board:
    """What the processes of a cluster tell each other.

    The first server has the settings of the run, the number of the round, and a queue for each
    worker. The chief puts the number of the round into the queues, and closes them when training is
    over. Each server has a queue of those that have ended.

    Parameters
    ----------
    place : Place
    server : tf.train.Server
    """

    def __init__(self, place: Place, server: tf.train.Server) -> None:
        self._place = place
        self._target = server.target
        self._graph = tf.Graph()
        with self._graph.as_default():
            with tf.device(_FIRST_SERVER):
                step = tf.train.get_or_create_global_step()
                published = tf.Variable("", collections=[_OWN_COLLECTION], name="cluster/settings")
                self._text = tf.placeholder(tf.string, ())
                self._publish = tf.assign(published, self._text)
                self._has_settings = _is_initialized(published)
                self._settings = published.read_value()
                self._step = step.read_value()
                tokens = create_tokens(place)
                self._close = [queue.close() for queue in tokens.values()]
                self._has_begun = _is_initialized(create_round())
                if place.number in tokens:  # the chief may have had nothing to train
                    self._has_begun |= tokens[place.number].is_closed()

    def publish(self, content: dict[str, Any]) -> None:
        """Show the settings of the run to the workers.

        Parameters
        ----------
        content : dict
            What JSON can write.
        """
        with self._session(self._graph) as session:
            session.run(self._publish, {self._text: json.dumps(content)})

    def wait_for_settings(self, timeout_secs: float) -> dict[str, Any]:
        """Wait for what the chief publishes.

        Parameters
        ----------
        timeout_secs : float

        Returns
        -------
        dict

        Raises
        ------
        RunError
            If the time is over.
        """
        return json.loads(self._wait(self._has_settings, self._settings, timeout_secs))

    def wait_for_step(self, timeout_secs: float) -> int:
        """Wait until the chief has begun to train.

        Parameters
        ----------
        timeout_secs : float

        Returns
        -------
        int
            The step that the run is at.

        Raises
        ------
        RunError
            If the time is over.
        """
        return int(self._wait(self._has_begun, self._step, timeout_secs))

    def end(self) -> None:
        """Tell the servers that this process has ended; as the chief, tell the workers to end."""
        if self._place.role == CHIEF:
            with self._session(self._graph) as session:
                session.run(self._close)
        for index in range(len(self._place.servers)):
            self._tell(index, self._place.number)

    def give_up(self) -> None:
        """Tell the servers that are left to end, as another one is lost."""
        for index, address in enumerate(self._place.servers):
            if not ports.wait_for([address], timeout_secs=0):
                self._tell(index, GIVEN_UP)

    def _tell(self, index, number):
        with tf.Graph().as_default() as graph:
            tell = create_done_queue(index).enqueue(tf.constant(number, tf.int64))
        # A server ends when it has been told what it waits for, perhaps before it answers.
        with contextlib.suppress(*_LOST), self._session(graph, index) as session:
            session.run(tell)

    @contextlib.contextmanager
    def _session(self, graph, server=None):
        config = filter_devices(self._place, server=server)
        session = tf.Session(self._target, graph, config)
        try:
            yield session
        except _LOST:
            leave_open(session)
            raise
        finally:
            session.close()

    def _wait(self, is_there, value, timeout_secs):
        deadline = time.monotonic() + timeout_secs
        with self._session(self._graph) as session:
            while not session.run(is_there):
                if time.monotonic() >= deadline:
                    raise RunError(
                        f"the chief at {self._place.addresses[CHIEF][0]} has not begun within "
                        f"{timeout_secs:g} s: look at its log, or wait longer with "
                        "--cluster_timeout_secs"
                    )
                time.sleep(_PAUSE_SECS)
            return session.run(value)


class Membership(Cluster):
    """A process that trains in a cluster, the chief or a worker.

    Parameters
    ----------
    place : Place
    server : tf.train.Server
    is_synchronous : bool
    number_of_steps : int, optional
    """

    def __init__(
        self,
        place: Place,
        server: tf.train.Server,
        *,
        is_synchronous: bool,
        number_of_steps: int | None,
    ) -> None:
        self.is_chief = place.role == CHIEF
        self.number = place.number
        self.batches_per_step = place.num_trainers if is_synchronous else 1
        self.board = Board(place, server)
        self._place = place
        self._target = server.target
        self._is_synchronous = is_synchronous
        self._number_of_steps = number_of_steps
        self._optimizer = None

    @contextlib.contextmanager
    def placing(self) -> Iterator[None]:
        """Place variables on the servers, and all other ops on this machine."""
        setter = tf.train.replica_device_setter(
            cluster=tf.train.ClusterSpec(self._place.addresses),
            worker_device=self._device,
            ps_strategy=_LeastBytes(len(self._place.servers)),
        )
        with tf.device(setter):
            with tf.device(_FIRST_SERVER):
                tf.train.get_or_create_global_step()
                self._round = create_round()
                self._tokens = create_tokens(self._place)
                self._new_round = tf.placeholder(tf.int64, ())
                self._show_round = self._round.assign(self._new_round)
                self._has_begun = _is_initialized(self._round)
                self._wake = [queue.enqueue(self._new_round) for queue in self._tokens.values()]
            with tf.device(f"{self._device}/cpu:0"):
                self._own_round = tf.Variable(
                    0,
                    dtype=tf.int64,
                    trainable=False,
                    collections=[tf.GraphKeys.LOCAL_VARIABLES],
                    name="cluster/own_round",
                )
                self._enter_round = self._own_round.assign(self._round.read_value())
            yield

    def session_settings(self, compute: ComputeSettings) -> dict[str, Any]:
        """Return what ``slim.learning.train`` needs to know of the session."""
        return {
            "master": self._target,
            "is_chief": self.is_chief,
            "session_config": filter_devices(self._place, create_session_config(compute)),
        }

    def synchronize(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Return an optimizer for the gradients of all processes, or in its turn of each."""
        if self._is_synchronous:
            self._optimizer = optimizer = SynchronousOptimizer(
                optimizer, self._place.num_trainers, self._own_round.read_value(), self.is_chief
            )
        return optimizer

    def follow(self, train_op: tf.Tensor) -> tf.Tensor:
        """Let a worker wait for the chief: for the next round, or for the end of the training."""
        with tf.control_dependencies([train_op]):
            if self.is_chief:
                next_round = self._round.assign_add(1) if self._is_synchronous else None
            elif self._is_synchronous:
                next_round = self._wait_for_round()
            else:
                next_round = self._wait_if_over()
        if next_round is None:
            return train_op
        with tf.control_dependencies([next_round]):
            done = [self._own_round.assign(next_round)]
            if self.is_chief:
                with tf.device(_FIRST_SERVER):
                    done += [queue.enqueue(next_round) for queue in self._tokens.values()]
        with tf.control_dependencies(done):
            return tf.identity(train_op)

    def begin(self, session: tf.Session) -> None:
        """Start a round as the chief, enter the present one as a worker."""
        has_begun = session.run(self._has_begun)
        if not self.is_chief:
            if has_begun:  # otherwise the chief had nothing to train, and the next step tells it
                session.run(self._enter_round)
            return
        number = 1 + (int(session.run(self._round)) if has_begun else 0)
        if self._optimizer is not None:
            self._optimizer.start(session, number)
        session.run(self._show_round, {self._new_round: number})
        session.run(self._enter_round)
        session.run(self._wake, {self._new_round: number})

    @contextlib.contextmanager
    def naming_lost_servers(self, session: tf.Session | None = None) -> Iterator[None]:
        """Raise a `LostServerError` if a server is lost within the block."""
        try:
            yield
        except _LOST as error:
            if session is not None:
                leave_open(session)
            raise LostServerError(
                f"{self._name_lost(error)} is lost: start all processes again; with the same "
                "--run_id, training goes on from its last checkpoint"
            ) from error

    @property
    def _device(self):
        return f"/job:{self._place.role}/task:{self._place.index}"

    def _name_lost(self, error):
        # The message names the process that has found the loss, not the one that is lost.
        lost = name_unreachable(self._place, timeout_secs=0)
        return lost or f"a server of the cluster ({first_line(error)})"

    def _wait_for_round(self):
        # Numbers of rounds that are over may be left in the queue of a worker that was killed.
        own = self._own_round.read_value()
        with tf.device(_FIRST_SERVER):
            queue = self._tokens[self.number]
            own = tf.identity(own)
            return tf.while_loop(
                lambda token: token <= own, lambda token: _dequeue_after(token, queue), [own]
            )

    def _wait_if_over(self):
        """Wait after the last step: a chief that was killed may go back to an earlier one."""
        queue, step = self._tokens[self.number], tf.train.get_or_create_global_step()
        last = self._number_of_steps or step.dtype.max

        def is_over(_):
            return tf.logical_or(queue.is_closed(), step.read_value() >= last)

        with tf.device(_FIRST_SERVER):
            return tf.while_loop(
                is_over, lambda token: _dequeue_after(token, queue), [tf.constant(0, tf.int64)]
            )


class _LeastBytes:
    """Places each variable on the server that has the fewest bytes so far."""

    def __init__(self, num_servers: int) -> None:
        self._num_bytes = [0] * num_servers

    def __call__(self, op: tf.Operation) -> int:
        index = self._num_bytes.index(min(self._num_bytes))
        num_values = tf.TensorShape(op.get_attr("shape")).num_elements() or 1
        self._num_bytes[index] += num_values * tf.as_dtype(op.get_attr("dtype")).size
        return index


def _is_initialized(variable):
    return tf.identity(tf.is_variable_initialized(variable))  # TensorFlow warns if it is not used


def _dequeue_after(token, queue):
    with tf.control_dependencies([token]):
        return queue.dequeue()


def create_round() -> tf.Variable:
    """Create the number of the round, which no checkpoint has; the chief initializes it."""
    return tf.Variable(
        0, dtype=tf.int64, trainable=False, collections=[_OWN_COLLECTION], name="cluster/round"
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
    RunError
        If one cannot when the time is over; the message names those.
    """
    missing = name_unreachable(place, timeout_secs)
    if missing:
        raise RunError(
            f"{missing} cannot be reached within {timeout_secs:g} s: start it, or check the "
            "address and the firewall; --cluster_timeout_secs waits longer"
        )


def name_unreachable(place: Place, timeout_secs: float) -> str:
    """Name the servers that cannot be reached within some time; empty if all can."""
    missing = ports.wait_for(place.servers, timeout_secs)
    return ", ".join(f"server {place.servers.index(address)} at {address}" for address in missing)


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

"""Training on several machines: TensorFlow's gRPC runtime with parameter servers.

The weights are on the servers. The chief and the workers train, each with its own copy of the graph
and its own batches. What they tell each other is in variables and queues on the first server.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from deep_reid.config import ComputeSettings
from deep_reid.config.cluster import CHIEF, WORKER, Place
from deep_reid.errors import RunError, first_line
from deep_reid.runtime import servers
from deep_reid.runtime.board import Board
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import create_session_config, leave_open
from deep_reid.runtime.synchronous import SynchronousOptimizer
from deep_reid.system import ports

_logger = logging.getLogger(__name__)
_WATCH_SECS = 10.0
# A server that has just been killed may accept connections for a moment.
_NAMING_SECS = 3.0
_PAUSE_SECS = 0.2
_START_AGAIN = (
    "start all processes again; with the same --run_id, training goes on from its last checkpoint"
)


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
        """Let a training op, which gives the loss, end when the next step may begin."""
        return train_op

    def check_servers(self, session: tf.Session) -> None:
        """Check that no server has been started again: it would have lost what was on it.

        Parameters
        ----------
        session : tf.Session

        Raises
        ------
        LostServerError
        """

    def begin(self, session: tf.Session) -> None:
        """Begin to train; to be called before the first step in a session."""

    def naming_lost_servers(
        self, session: tf.Session | None = None
    ) -> contextlib.AbstractContextManager[Any]:
        """Raise a `LostServerError` if a server is lost within the block.

        Parameters
        ----------
        session : tf.Session, optional
            What the block uses. It is never closed, as this waits for a server that has ended since
            then, without a limit.
        """
        return contextlib.nullcontext()


ALONE = Cluster()
"""No cluster."""


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
            with tf.device(servers.FIRST):
                tf.train.get_or_create_global_step()
                self._round = servers.create_round()
                self._tokens = servers.create_tokens(self._place)
                self._new_round = tf.placeholder(tf.int64, ())
                self._show_round = self._round.assign(self._new_round)
                self._has_begun = servers.is_initialized(self._round)
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
        settings = {
            "master": self._target,
            "is_chief": self.is_chief,
            "session_config": servers.filter_devices(self._place, create_session_config(compute)),
        }
        if not self.is_chief:
            # A worker has waited until the chief trains: all variables have values by then. TF-Slim
            # would wait for hours for those of a server that has been started again.
            settings["ready_op"] = None
        return settings

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
                with tf.device(servers.FIRST):
                    done += [queue.enqueue(next_round) for queue in self._tokens.values()]
        with tf.control_dependencies(done):
            return tf.identity(train_op)

    def check_servers(self, session: tf.Session) -> None:
        """Check that no server has been started again since the chief opened the run."""
        restarted = self.board.name_restarted(session)
        if restarted:
            raise servers.LostServerError(f"{restarted} was lost, and is empty now: {_START_AGAIN}")

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
        try:
            session.run(self._wake, {self._new_round: number})
        except tf.errors.CancelledError as error:  # the queues are closed
            raise RunError(
                "the servers are of a training that has ended, and wait for its workers: start all "
                "processes again when they have ended, too, some seconds later"
            ) from error

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Log when those that synchronous steps wait for cannot be reached, and when they can."""
        is_over = threading.Event()
        if self._is_synchronous:
            threading.Thread(target=self._watch, args=(is_over,), daemon=True).start()
        try:
            yield
        finally:
            is_over.set()

    @contextlib.contextmanager
    def naming_lost_servers(self, session: tf.Session | None = None) -> Iterator[None]:
        """Raise a `LostServerError` if a server is lost within the block."""
        if session is not None:
            leave_open(session)
        try:
            yield
        except servers.LOST as error:
            raise servers.LostServerError(
                f"{self._name_lost(error)} is lost: {_START_AGAIN}"
            ) from error

    @property
    def _device(self):
        return f"/job:{self._place.role}/task:{self._place.index}"

    def _watch(self, is_over):
        role = WORKER if self.is_chief else CHIEF
        addresses = self._place.addresses.get(role, ())
        absent = set()
        while not is_over.wait(_WATCH_SECS):
            now = set(ports.wait_for(addresses, timeout_secs=0))
            for index, address in enumerate(addresses):
                name = Place(self._place.addresses, role, index).name
                if address in now - absent:
                    _logger.warning("Waiting for %s: %s cannot be reached", name, address)
                elif address in absent - now:
                    _logger.info("%s is there: %s can be reached", name.capitalize(), address)
            absent = now

    def _name_lost(self, error):
        # The message names the process that has found the loss, not the one that is lost.
        deadline = time.monotonic() + _NAMING_SECS
        while time.monotonic() < deadline:
            if lost := servers.name_unreachable(self._place, timeout_secs=0):
                return lost
            with contextlib.suppress(*servers.LOST):
                if lost := self.board.name_restarted():
                    return lost
            time.sleep(_PAUSE_SECS)
        return f"a server of the cluster ({first_line(error)})"

    def _wait_for_round(self):
        # Numbers of rounds that are over may be left in the queue of a worker that was killed.
        own = self._own_round.read_value()
        with tf.device(servers.FIRST):
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

        with tf.device(servers.FIRST):
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


def _dequeue_after(token, queue):
    with tf.control_dependencies([token]):
        return queue.dequeue()

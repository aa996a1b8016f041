"""What the processes of a cluster tell each other before and after they train."""

import contextlib
import json
import logging
import time
from typing import Any

from deep_reid.config.cluster import CHIEF, Place
from deep_reid.errors import RunError
from deep_reid.runtime import servers
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import leave_open

_logger = logging.getLogger(__name__)
_PAUSE_SECS = 0.5
_STARTS = "starts of servers"


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
        self._starts: list[int] = []
        self._graph = tf.Graph()
        with self._graph.as_default(), tf.device(servers.FIRST):
            step = tf.train.get_or_create_global_step()
            settings = tf.Variable(
                "", collections=[servers.OWN_COLLECTION], name="cluster/settings"
            )
            tokens = servers.create_tokens(place)
            self._text = tf.placeholder(tf.string, ())
            self._publish = tf.assign(settings, self._text)
            self._has_settings = servers.is_initialized(settings)
            self._settings = settings.read_value()
            self._step = step.read_value()
            self._close = [queue.close() for queue in tokens.values()]
            self._has_begun = servers.is_initialized(servers.create_round())
            if place.number in tokens:  # the chief may have had nothing to train
                self._has_begun |= tokens[place.number].is_closed()

    def publish(self, content: dict[str, Any]) -> None:
        """Show the settings of the run to the workers, and which servers have it.

        Parameters
        ----------
        content : dict
            What JSON can write.
        """
        with self._session(self._graph) as session:
            self._starts = servers.list_starts(self._place, session)
            text = json.dumps({**content, _STARTS: self._starts})
            session.run(self._publish, {self._text: text})

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
        content = json.loads(
            self._wait("open the run", self._has_settings, self._settings, timeout_secs)
        )
        self._starts = content.pop(_STARTS)
        return content

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
        return int(self._wait("begin to train", self._has_begun, self._step, timeout_secs))

    def name_restarted(self, session: tf.Session | None = None) -> str:
        """Name the servers that have been started again since the chief has published the settings.

        Parameters
        ----------
        session : tf.Session, optional
            That sees all servers. Default: a new one.

        Returns
        -------
        str
            Empty if there is none.
        """
        with contextlib.ExitStack() as stack:
            if session is None:
                session = stack.enter_context(self._session(self._graph))
            now = servers.list_starts(self._place, session)
        restarted = [index for index, start in enumerate(self._starts) if now[index] != start]
        return servers.name_servers(self._place, restarted)

    def end(self) -> None:
        """Tell the servers that this process has ended; as the chief, tell the workers to end."""
        if self._place.role == CHIEF:
            with self._session(self._graph) as session:
                session.run(self._close)
        for index in range(len(self._place.servers)):
            self._tell(index, self._place.number)

    def give_up(self) -> None:
        """Tell the servers that are left to end, as another one is lost."""
        for index in range(len(self._place.servers)):
            self._tell(index, servers.GIVEN_UP)

    def _tell(self, index, number):
        with tf.Graph().as_default() as graph:
            tell = servers.create_done_queue(index).enqueue(tf.constant(number, tf.int64))
        # A server ends when it has been told what it waits for, perhaps before it answers.
        with contextlib.suppress(*servers.LOST), self._session(graph, index) as session:
            session.run(tell)

    @contextlib.contextmanager
    def _session(self, graph, server=None):
        config = servers.filter_devices(self._place, server=server)
        session = tf.Session(self._target, graph, config)
        leave_open(session)  # a server may end before it would be closed
        yield session

    def _wait(self, what, is_there, value, timeout_secs):
        chief = f"the chief at {self._place.addresses[CHIEF][0]}"
        with self._session(self._graph) as session:
            if not session.run(is_there):
                _logger.info("Waiting for %s to %s, for %g s at most", chief, what, timeout_secs)
            deadline = time.monotonic() + timeout_secs
            while not session.run(is_there):
                if time.monotonic() >= deadline:
                    raise RunError(
                        f"{chief} has not begun within {timeout_secs:g} s: look at its log, or "
                        "wait longer with --cluster_timeout_secs"
                    )
                time.sleep(_PAUSE_SECS)
            return session.run(value)

"""Graphs of a cluster: where their ops are, and what rounds do to gradients."""

import types

import numpy as np
import pytest

from deep_reid.compat import tf
from deep_reid.config import ComputeSettings
from deep_reid.config.cluster import Place
from deep_reid.engine.queued_trainer import QueuedTrainer
from deep_reid.runtime.cluster import ALONE, Membership
from deep_reid.runtime.synchronous import SynchronousOptimizer

ADDRESSES = {"chief": ("a:1",), "worker": ("b:2", "c:3"), "ps": ("d:4", "e:5")}


def join(role="chief", index=0, *, sync=True):
    server = types.SimpleNamespace(target="grpc://localhost:1")  # nothing is run
    place = Place(ADDRESSES, role, index)
    return Membership(place, server, is_synchronous=sync, number_of_steps=9)


def create_variables(*sizes):
    return [tf.get_variable(f"v{index}", [size]) for index, size in enumerate(sizes)]


@pytest.mark.usefixtures("graph")
class TestPlaces:
    def test_variables_are_on_the_server_with_the_fewest_bytes(self):
        with join().placing():
            variables = create_variables(100, 10, 10, 70, 30)
        tasks = [variable.device.removeprefix("/job:ps/task:") for variable in variables]
        assert tasks == ["0", "1", "1", "1", "1"]

    @pytest.mark.parametrize("sync", [True, False])
    def test_all_processes_agree_on_the_places(self, sync):
        places = []
        for role, index in (("chief", 0), ("worker", 1)):
            members = join(role, index, sync=sync)
            with tf.Graph().as_default(), members.placing():
                variables = create_variables(8, 3, 5, 100)
                loss = tf.add_n([tf.reduce_sum(tf.square(variable)) for variable in variables])
                optimizer = members.synchronize(tf.train.AdamOptimizer(0.1))
                step = tf.train.get_or_create_global_step()
                update = optimizer.minimize(loss, global_step=step)
                with tf.control_dependencies([update]):
                    members.follow(tf.identity(loss))
                places.append({variable.op.name: variable.device for variable in variables})
        assert places[0] == places[1]

    def test_batches_wait_on_the_machine_that_uses_them(self):
        with join("worker", 1).placing():
            (batch,) = QueuedTrainer([tf.placeholder(tf.float32, (None, 3))]).get_input_vars(2)
        ops = [batch.op, batch.op.inputs[0].op]
        ops += [op for op in tf.get_default_graph().get_operations() if "FIFOQueue" in op.type]
        own = [op for op in ops if "tokens" not in str(op.node_def.attr["shared_name"].s)]
        assert {op.device for op in own} == {"/job:worker/task:1/device:CPU:0"}

    def test_the_chief_saves(self):
        with join().placing():
            create_variables(3)
            tf.train.Saver()
        ops = tf.get_default_graph().get_operations()
        assert {op.device for op in ops if op.type == "SaveV2"} == {"/job:chief/task:0"}

    def test_no_checkpoint_has_what_a_cluster_adds(self):
        with join().placing():
            create_variables(3)
        names = [variable.op.name for variable in tf.global_variables()]
        assert names == ["global_step", "v0"]

    def test_alone_nothing_is_added(self):
        optimizer, loss = tf.train.AdamOptimizer(), tf.constant(1.0)
        before = tf.get_default_graph().as_graph_def()
        with ALONE.placing():
            assert ALONE.synchronize(optimizer) is optimizer
            assert ALONE.follow(loss) is loss
        assert tf.get_default_graph().as_graph_def() == before
        assert set(ALONE.session_settings(ComputeSettings())) == {"session_config"}


class Pair:
    """A chief and a worker in one graph, with gradients that a test gives."""

    def __init__(self, optimizer):
        self.weight = tf.Variable([0.0, 0.0], name="weight")
        self._round, self._gradient = tf.placeholder(tf.int64, ()), tf.placeholder(tf.float32, (2,))
        members = [SynchronousOptimizer(optimizer, 2, self._round, each) for each in (True, False)]
        self._chief = members[0]
        self._ops = [
            member.apply_gradients([(self._gradient, self.weight)], tf.train.get_global_step())
            for member in members
        ]
        self._session = tf.Session()
        self._session.run(tf.global_variables_initializer())

    def start(self, number):
        self._chief.start(self._session, number)

    def send(self, number, gradient, is_chief=False):
        values = {self._round: number, self._gradient: gradient}
        self._session.run(self._ops[0 if is_chief else 1], values)

    def read(self):
        return self._session.run([self.weight, tf.train.get_global_step()])


@pytest.fixture
def pair(graph):
    tf.train.get_or_create_global_step()
    return Pair(tf.train.GradientDescentOptimizer(1.0))


class TestRounds:
    def test_a_step_takes_the_mean_of_the_gradients(self, pair):
        pair.start(1)
        pair.send(1, [1.0, 2.0])
        pair.send(1, [3.0, 0.0], is_chief=True)
        weight, step = pair.read()
        np.testing.assert_array_equal(weight, [-2.0, -1.0])
        assert step == 1

    def test_the_next_round_follows(self, pair):
        pair.start(1)
        for number in (1, 2, 3):
            pair.send(number, [2.0, 0.0])
            pair.send(number, [0.0, 2.0], is_chief=True)
        weight, step = pair.read()
        np.testing.assert_array_equal(weight, [-3.0, -3.0])
        assert step == 3

    def test_gradients_of_before_a_start_count_no_more(self, pair):
        pair.start(4)
        pair.send(4, [100.0, 100.0])
        pair.start(5)
        pair.send(4, [100.0, 100.0])  # late
        pair.send(5, [1.0, 1.0])
        pair.send(5, [1.0, 3.0], is_chief=True)
        weight, _ = pair.read()
        np.testing.assert_array_equal(weight, [-1.0, -2.0])

    def test_a_late_gradient_of_the_round_before_counts_no_more(self, pair):
        pair.start(1)
        pair.send(1, [1.0, 1.0])
        pair.send(1, [1.0, 1.0], is_chief=True)
        pair.send(1, [100.0, 100.0])
        pair.send(2, [1.0, 1.0])
        pair.send(2, [1.0, 1.0], is_chief=True)
        weight, _ = pair.read()
        np.testing.assert_array_equal(weight, [-2.0, -2.0])

"""Training in narrower types: what is narrowed, what stays exact, what is refused."""

import dataclasses
import os

import first_computing
import numpy as np
import processes
import pytest
import tiny

from deep_reid import losses
from deep_reid.compat import slim, tf
from deep_reid.config import ComputeSettings
from deep_reid.config.loss_modes import LOSS_MODES
from deep_reid.config.step import StepSettings
from deep_reid.errors import UsageError
from deep_reid.nets import deep_sort
from deep_reid.runtime import precision, sessions
from deep_reid.training import graph as training_graph

pytestmark = pytest.mark.usefixtures("graph")

BFLOAT16 = ComputeSettings(precision="bfloat16")
FLOAT16 = ComputeSettings(precision="float16")
LABELS = np.repeat(np.arange(2), 4)
NUM_CLASSES = 5

needs_bfloat16 = pytest.mark.skipif(
    not sessions.computes_in(BFLOAT16), reason="bfloat16 needs a CPU with AVX-512"
)


@pytest.fixture
def any_precision(monkeypatch):
    """Let graphs be in precisions that this machine lacks."""
    monkeypatch.setattr(precision, "check_precision", lambda compute: None)


@pytest.fixture
def narrow_default_graph(any_precision):
    """Keep exact parts of the default graph exact; sessions of other settings narrow nothing."""
    return lambda: precision.set_precision(BFLOAT16)


class Step:
    """A training step of the real network on random images, run in a session of its settings."""

    def __init__(self, compute, image_shape=(32, 16, 3)):
        self.images = np.random.default_rng(1).uniform(size=(8, *image_shape))
        precision.set_precision(compute)
        self._image_var = tf.placeholder(tf.float32, self.images.shape)
        label_var = tf.constant(LABELS, tf.int64)
        network_factory = deep_sort.create_network_factory(True, NUM_CLASSES, add_logits=True)
        self.train_op = training_graph.create_step(
            network_factory,
            self._image_var,
            label_var,
            1e-3,
            StepSettings(**dataclasses.asdict(compute)),
        ).train_op
        self.session = tf.Session(config=sessions.create_session_config(compute))
        self.session.run(tf.global_variables_initializer())

    def run(self, **kwargs):
        return self.session.run(self.train_op, {self._image_var: self.images}, **kwargs)

    def list_rewritten_nodes(self):
        """What is computed after all rewrites: (op, dict of types) of each node."""
        metadata = tf.RunMetadata()
        self.run(options=tf.RunOptions(output_partition_graphs=True), run_metadata=metadata)
        for graph in metadata.partition_graphs:
            for node in graph.node:
                types = {name: value.type for name, value in node.attr.items() if value.type}
                yield node.op, {name: tf.as_dtype(type).name for name, type in types.items()}


@needs_bfloat16
def test_layers_are_narrowed_and_what_must_be_exact_is_not():
    nodes = list(Step(BFLOAT16).list_rewritten_nodes())

    def types_of(part, attribute="T"):
        found = {types[attribute] for op, types in nodes if part in op and attribute in types}
        assert found, part
        return found

    for layer in ("Conv2D", "FusedBatchNorm"):
        assert types_of(layer) == {"bfloat16"}
    assert "bfloat16" in types_of("EluGrad")
    # Statistics of batch norm, weights and optimizer.
    assert types_of("FusedBatchNorm", "U") == {"float32"}
    assert types_of("ApplyAdam") == {"float32"}
    assert types_of("VariableV2", "dtype") == {"float32", "int64"}
    # Normalization, logits and losses.
    for exact in ("Rsqrt", "Softplus", "SoftmaxCrossEntropy"):
        assert types_of(exact) == {"float64"}
    assert types_of("MatMul") == {"bfloat16", "float64"}  # fc1 and logits, with their gradients


def test_in_float32_nothing_is_added_to_the_graph():
    nodes = list(Step(ComputeSettings()).list_rewritten_nodes())
    assert not {"bfloat16", "half", "float64"} & {t for _, types in nodes for t in types.values()}


@pytest.mark.parametrize("is_narrowed", [False, True])
def test_elu_and_its_gradient(is_narrowed, narrow_default_graph):
    if is_narrowed:
        narrow_default_graph()
    values = np.linspace(-3.0, 3.0, 13, dtype=np.float32)
    inputs = tf.constant(values)
    outputs = precision.elu(inputs)
    (gradient,) = tf.gradients(outputs, inputs, grad_ys=tf.constant(2.0 * np.ones(13, np.float32)))
    with tf.Session() as session:
        results = session.run([outputs, gradient])
    exponential = np.exp(np.minimum(values, 0.0))
    np.testing.assert_allclose(results[0], np.where(values > 0, values, exponential - 1), atol=1e-6)
    np.testing.assert_allclose(results[1], 2.0 * np.where(values > 0, 1, exponential), atol=1e-6)


@needs_bfloat16
def test_elu_is_computed_in_float32_where_that_takes_less_time():
    if sessions.find_gpu():
        pytest.skip("on a GPU, it is narrowed like all around it")
    calls = [types for op, types in Step(BFLOAT16).list_rewritten_nodes() if "Call" in op]
    assert len(calls) == 14


@needs_bfloat16
def test_the_first_loss_is_nearly_that_of_float32():
    values = []
    for compute in (ComputeSettings(), BFLOAT16):
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            values.append(Step(compute).run())
    assert values[0] == pytest.approx(values[1], rel=1e-2)  # eight bits of mantissa
    assert values[0] != values[1]


@pytest.mark.parametrize("loss_mode", LOSS_MODES)
@pytest.mark.parametrize("monitor_losses", [True, False])
def test_losses_in_float64_are_those_in_float32(loss_mode, monitor_losses, narrow_default_graph):
    features = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32)
    values = []
    for is_narrowed in (False, True):
        with tf.Graph().as_default(), tf.Session() as session:
            if is_narrowed:
                narrow_default_graph()
            tensor = tf.constant(features)
            loss = losses.add_training_loss(
                loss_mode, tensor, 3.0 * tensor, tf.constant(LABELS), monitor_losses=monitor_losses
            )
            assert loss.dtype == tf.float32
            gradient = tf.gradients(loss, tensor)
            values.append(session.run([loss, gradient, tf.summary.merge_all()])[:2])
    np.testing.assert_allclose(values[0][0], values[1][0], rtol=1e-5)
    np.testing.assert_allclose(values[0][1], values[1][1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("wanted", ["bfloat16", "float16"])
def test_what_the_machine_does_not_compute_in_is_refused(monkeypatch, wanted):
    monkeypatch.setattr(sessions, "create_session_config", lambda compute: tf.ConfigProto())
    with pytest.raises(UsageError, match=rf"{wanted} is not supported .* use float32$"):
        precision.set_precision(ComputeSettings(precision=wanted))
    assert not tf.get_default_graph().get_operations()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted on Linux")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core works with one thread anyway")
def test_the_threads_of_a_graph_are_as_many_as_was_asked_for():
    assert processes.call(first_computing.count_threads_that_work) == 1


class TestFloat16:
    """Its own rewriting needs a GPU; what is around it is tested without, in float32."""

    @pytest.fixture(autouse=True)
    def no_rewriting(self, any_precision):
        """No session here has the settings that ask for it."""

    def create_step(self, network_factory):
        precision.set_precision(FLOAT16)
        tf.set_random_seed(1)
        images = tf.constant(
            np.random.default_rng(1).uniform(size=(8, *tiny.IMAGE_SHAPE)), tf.float32
        )
        return training_graph.create_step(
            network_factory,
            images,
            tf.constant(LABELS),
            1e-3,
            StepSettings(loss_mode="triplet", precision="float16"),
        ).train_op

    def test_the_loss_is_scaled_and_learned_from(self):
        train_op = self.create_step(tiny.create_network_factory(True))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            before = session.run(tf.trainable_variables())
            losses_seen = [session.run(train_op) for _ in range(30)]
            after = session.run(tf.trainable_variables())
        assert losses_seen[-1] < losses_seen[0]
        assert all((a != b).any() for a, b in zip(before, after, strict=True))

    def test_a_gradient_that_overflows_makes_no_update_and_a_smaller_scale(self):
        def network_factory(images):
            features, logits = tiny.create_network_factory(True)(images)
            return _with_huge_gradient(features), logits

        train_op = self.create_step(network_factory)
        (weights,) = slim.get_variables_by_name("tiny/fc/weights")
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            scales = [v for v in tf.global_variables() if "loss_scale" in v.op.name]
            before = session.run([weights, scales[0]])
            loss = session.run(train_op)
            after = session.run([weights, scales[0]])
            step = session.run(tf.train.get_global_step())
        assert np.isfinite(loss)
        assert step == 1  # its batch is used up
        np.testing.assert_array_equal(before[0], after[0])
        assert after[1] < before[1]


@tf.custom_gradient
def _with_huge_gradient(features):
    return tf.identity(features), lambda gradient: gradient * 3e38

"""Graphs of others: damaged ones, dangerous ones, and encoders in other processes."""

import contextlib
import os
import pickle
import random
import signal

import first_computing
import numpy as np
import processes
import pytest
from test_encoder import IMAGE_SHAPE, freeze, save_run

from deep_reid.compat import tf
from deep_reid.errors import DataError
from deep_reid.export import encode_with_frozen_graph
from deep_reid.export.encoder import Encoder
from deep_reid.nets import deep_sort, mars_small128

CROPS = np.random.RandomState(0).randint(0, 256, (3, *IMAGE_SHAPE), np.uint8)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    return freeze(save_run(folder, recorded="deep_sort"), folder / "model.pb")


def write_graph(path, build):
    """Write a graph with the nodes of a frozen graph; `build` gets the images as float32."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.uint8, (None, *IMAGE_SHAPE), name="images")
        features = build(tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2)))
        tf.identity(features, name="features")
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def in_function(op):
    return tf.function(op, autograph=False, experimental_attributes={"_noinline": True})


def write_file(features):
    write = tf.io.write_file("/tmp/never-written-by-a-graph", "text")
    with tf.control_dependencies([write]):
        return tf.identity(features)


DANGEROUS = {
    "reads": lambda x: x + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32),
    "matches": lambda x: x + tf.cast(tf.size(tf.io.matching_files("/etc/*")), tf.float32),
    "writes": write_file,
    "python": lambda x: tf.numpy_function(np.abs, [x], tf.float32),
    "prints": lambda x: tf.Print(x, [x]),
    "variable": lambda x: x + tf.raw_ops.VariableV2(shape=(), dtype=tf.float32),
    "in a function": in_function(write_file),
    "in a branch": lambda x: tf.cond(
        tf.reduce_all(x >= 0), lambda: write_file(x), lambda: tf.identity(x)
    ),
}


class TestTrust:
    @pytest.mark.parametrize("name", list(DANGEROUS))
    def test_ops_that_no_network_needs_are_refused(self, tmp_path, name):
        path = write_graph(tmp_path / "model.pb", DANGEROUS[name])
        with pytest.raises(DataError, match=r"has ops that a network does not need.*trust=True"):
            Encoder(path)
        with pytest.raises(DataError, match="--trust_graph"):
            encode_with_frozen_graph(path, ["a.jpg"])

    @pytest.mark.parametrize("name", ["reads", "in a branch"])
    def test_they_run_when_trusted(self, tmp_path, name):
        def build(features):
            features = DANGEROUS[name](features)
            return tf.ensure_shape(features, (None, 3))

        with Encoder(write_graph(tmp_path / "model.pb", build), trust=True) as trusted:
            assert trusted(list(CROPS)).shape == (3, 3)

    @pytest.mark.parametrize("network", [deep_sort, mars_small128])
    def test_graphs_of_this_package_are_known(self, tmp_path, network):
        shape = IMAGE_SHAPE if network is deep_sort else (128, 64, 3)
        path = freeze(save_run(tmp_path, network, shape), tmp_path / "a.pb", network, shape)
        with Encoder(path) as known:
            assert known.feature_size == 128


class TestDamage:
    @pytest.mark.slow
    def test_any_change_is_a_graph_or_one_line(self, frozen, tmp_path):
        with open(frozen, "rb") as file:
            content = file.read()
        graph_def = tf.GraphDef.FromString(content)
        for node in graph_def.node:  # small, so that changes do not only hit the weights
            if node.op == "Const" and len(node.attr["value"].tensor.tensor_content) > 64:
                node.attr["value"].tensor.tensor_content = b"\0\0\0\0"
        small = graph_def.SerializeToString()
        choose = random.Random(1)
        path = tmp_path / "b.pb"
        for _ in range(150):
            changed = bytearray(small)
            for _ in range(choose.randint(1, 5)):
                changed[choose.randrange(len(small))] = choose.randrange(256)
            path.write_bytes(changed[: choose.choice([None, choose.randrange(len(small))])])
            with contextlib.suppress(DataError), Encoder(path) as survivor:
                assert survivor.feature_size >= 1

    @pytest.mark.parametrize(
        "build",
        [
            tf.reduce_sum,
            lambda x: tf.placeholder_with_default(x, None),
            lambda x: tf.placeholder_with_default(x, (None, None)),
            lambda x: x[:, :, tf.newaxis],
            lambda x: tf.cast(x, tf.int32),
        ],
    )
    def test_features_of_another_shape_are_refused(self, tmp_path, build):
        path = write_graph(tmp_path / "model.pb", build)
        with pytest.raises(DataError, match="the node 'features' of .* must be float32 of shape"):
            Encoder(path)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_features_that_are_not_finite_are_an_error(self, tmp_path, value):
        path = write_graph(tmp_path / "model.pb", lambda x: x * value)
        with (
            Encoder(path) as broken,
            pytest.raises(DataError, match="features that are not finite"),
        ):
            broken(list(CROPS + 1))


def call_in_fork(function):
    """Call a function in a forked process; returns what it returns."""
    receiving, sending = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            signal.alarm(60)
            os.write(sending, pickle.dumps(function()))
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0
    os.close(sending)
    with open(receiving, "rb") as file:
        return pickle.loads(file.read())


class TestProcesses:
    def test_a_pickled_encoder_is_its_file_and_settings(self, frozen):
        with Encoder(frozen, max_batch_size=2) as first:
            text = pickle.dumps(first)
            assert len(text) < 2000
            with pickle.loads(text) as second:
                np.testing.assert_array_equal(first(list(CROPS)), second(list(CROPS)))
                assert pickle.dumps(second) == text  # with its max_batch_size
        with Encoder(frozen) as other:
            assert pickle.dumps(other) != text

    def test_where_the_parent_has_computed_a_child_computes_in_another_process(self, frozen):
        with Encoder(frozen) as parent:
            expected = parent(list(CROPS))
            features = call_in_fork(lambda: parent(list(CROPS)))
            np.testing.assert_array_equal(features, expected)
            np.testing.assert_array_equal(parent(list(CROPS)), expected)

    @pytest.mark.slow
    def test_tensorflow_starts_on_the_first_call_so_a_child_computes_where_the_parent_has_not(
        self, frozen
    ):
        assert processes.call(first_computing.count_children_that_compute, frozen, IMAGE_SHAPE) == 2

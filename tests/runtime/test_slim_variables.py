"""Variables, scopes and summaries of TF-Slim."""

import numpy as np
import pytest
from slim_running import draw, initialize, run

from deep_reid.compat import slim, tf

WEIGHTS = draw(3, 2)
BIASES = np.float32([1, 2])


def names(variables):
    return [variable.op.name for variable in variables]


def save(directory, **values):
    """A checkpoint with these variables; its prefix."""
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in values.items():
            tf.get_variable(name, initializer=tf.constant(value))
        session.run(tf.global_variables_initializer())
        return tf.train.Saver().save(session, str(directory / "model.ckpt"))


@pytest.fixture
def layers(graph):
    """Two layers: `a` with batch norm, `b` with biases."""
    x = slim.conv2d(tf.zeros([1, 4, 4, 2]), 3, 1, normalizer_fn=slim.batch_norm, scope="a")
    slim.conv2d(x, 2, 1, scope="b")


VARIABLES = {  # the call, its value, and the collections that hold the variable
    "variable": (
        lambda: slim.variable("v", (3, 2), initializer=tf.ones_initializer()),
        np.ones((3, 2)),
        {"variables", "trainable_variables"},
    ),
    "model_variable": (
        lambda: slim.model_variable("v", (2,), initializer=tf.ones_initializer()),
        [1, 1],
        {"variables", "model_variables", "trainable_variables"},
    ),
    "model_variable, not trained": (
        lambda: slim.model_variable("v", (), initializer=tf.ones_initializer(), trainable=False),
        1,
        {"variables", "model_variables"},
    ),
    "local_variable": (lambda: slim.local_variable(7.0, name="v"), 7, {"local_variables"}),
    "local_variable, resource": (
        lambda: slim.local_variable([7.0], name="v", use_resource=True),
        [7],
        {"local_variables"},
    ),
    "global_variable": (lambda: slim.global_variable(7.0, name="v"), 7, {"variables"}),
    "global_variable, resource": (
        lambda: slim.global_variable([7.0], name="v", use_resource=True),
        [7],
        {"variables"},
    ),
    "variable on a device": (
        lambda: slim.variable("v", (), initializer=tf.ones_initializer(), device="/cpu:0"),
        1,
        {"variables", "trainable_variables"},
    ),
}


@pytest.mark.parametrize("kind", VARIABLES)
def test_a_variable_has_its_value_and_its_collections(graph, kind):
    make, expected, collections = VARIABLES[kind]
    variable = make()
    assert variable.op.name == "v"
    holders = {
        name
        for name in graph.get_all_collection_keys()
        if isinstance(name, str) and any(v is variable for v in graph.get_collection(name))
    }
    assert holders == collections
    with tf.Session() as session:
        initialize(session)
        np.testing.assert_array_equal(session.run(variable), expected)


def test_a_variable_with_a_regularizer_adds_its_penalty(graph):
    slim.model_variable(
        "w", initializer=tf.constant(WEIGHTS), shape=None, regularizer=slim.l2_regularizer(2.0)
    )
    (penalty,) = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    with tf.Session() as session:
        initialize(session)
        assert session.run(penalty) == pytest.approx((WEIGHTS**2).sum(), rel=1e-5)


def test_variable_device_chooser_goes_round(graph):
    chooser = slim.VariableDeviceChooser(num_tasks=2)
    with slim.arg_scope([slim.variable], device=chooser):
        devices = [slim.variable(name, ()).device for name in "abc"]
    assert [device[-len("task:0/device:CPU:0") :][:6] for device in devices] == [
        "task:0",
        "task:1",
        "task:0",
    ]


GETTERS = {
    "get_variables": (lambda: slim.get_variables("b"), ["b/weights", "b/biases"]),
    "get_variables, suffix": (lambda: slim.get_variables(suffix="beta"), ["a/BatchNorm/beta"]),
    "get_model_variables": (
        slim.get_model_variables,
        [
            "a/weights",
            "a/BatchNorm/beta",
            "a/BatchNorm/moving_mean",
            "a/BatchNorm/moving_variance",
            "b/weights",
            "b/biases",
        ],
    ),
    "get_trainable_variables": (
        lambda: slim.get_trainable_variables("a"),
        ["a/weights", "a/BatchNorm/beta"],
    ),
    "get_local_variables": (slim.get_local_variables, []),
    "get_variables_by_name": (
        lambda: slim.get_variables_by_name("weights"),
        ["a/weights", "b/weights"],
    ),
    "get_variables_by_suffix": (
        lambda: slim.get_variables_by_suffix("weights", scope="b"),
        ["b/weights"],
    ),
    "get_unique_variable": (lambda: [slim.get_unique_variable("b/biases")], ["b/biases"]),
    "get_variables_to_restore": (
        lambda: slim.get_variables_to_restore(include=["a", "b"], exclude=["a/BatchNorm"]),
        ["a/weights", "b/weights", "b/biases"],
    ),
    "filter_variables": (
        lambda: slim.filter_variables(
            tf.global_variables(), include_patterns=["weights", "b"], exclude_patterns=["^a"]
        ),
        ["b/weights", "b/biases"],
    ),
}


@pytest.mark.parametrize("getter", GETTERS)
def test_variables_are_found(layers, getter):
    find, expected = GETTERS[getter]
    assert names(find()) == expected


def test_the_full_name_of_a_variable(layers):
    assert slim.get_variable_full_name(slim.get_unique_variable("b/biases")) == "b/biases"


def test_the_global_step_is_made_once(graph):
    assert slim.get_global_step() is None
    step = slim.create_global_step()
    assert slim.get_or_create_global_step() is slim.get_global_step() is step
    slim.assert_global_step(step)
    assert slim.assert_or_get_global_step() is step


def test_add_model_variable(graph):
    variable = tf.get_variable("v", ())
    slim.add_model_variable(variable)
    assert slim.get_model_variables() == [variable]


ASSIGNMENTS = {
    "assign_from_values": lambda _: slim.assign_from_values({"w": WEIGHTS, "b": BIASES}),
    "assign_from_values_fn": lambda _: slim.assign_from_values_fn({"w": WEIGHTS, "b": BIASES}),
    "assign_from_checkpoint": lambda path: slim.assign_from_checkpoint(
        path, slim.get_variables_to_restore()
    ),
    "assign_from_checkpoint, names of the checkpoint": lambda path: slim.assign_from_checkpoint(
        path, {name: slim.get_unique_variable(name) for name in "wb"}
    ),
    "assign_from_checkpoint_fn": lambda path: slim.assign_from_checkpoint_fn(
        path, slim.get_variables_to_restore()
    ),
}


@pytest.mark.parametrize("kind", ASSIGNMENTS)
def test_variables_are_assigned(graph, tmp_path, kind):
    path = save(tmp_path, w=WEIGHTS, b=BIASES)
    w, b = slim.variable("w", (3, 2)), slim.variable("b", (2,))
    assigned = ASSIGNMENTS[kind](path)
    with tf.Session() as session:
        if callable(assigned):
            assigned(session)
        else:
            session.run(*assigned)
        np.testing.assert_array_equal(session.run(w), WEIGHTS)
        np.testing.assert_array_equal(session.run(b), BIASES)


def test_assignment_passes_over_what_the_checkpoint_lacks_and_reshapes(graph, tmp_path):
    path = save(tmp_path, w=WEIGHTS)
    w, other = slim.variable("w", (2, 3)), slim.variable("other", ())
    assign = slim.assign_from_checkpoint_fn(
        path, [w, other], ignore_missing_vars=True, reshape_variables=True
    )
    with tf.Session() as session:
        assign(session)
        np.testing.assert_array_equal(session.run(w), WEIGHTS.reshape(2, 3))


def test_partitioned_variables_are_assigned(graph, tmp_path):
    path = save(tmp_path, w=WEIGHTS)
    w = slim.variable("w", (3, 2), partitioner=tf.fixed_size_partitioner(2))
    assign = slim.assign_from_checkpoint_fn(path, slim.get_variables_to_restore())
    with tf.Session() as session:
        assign(session)
        np.testing.assert_array_equal(session.run(tf.convert_to_tensor(w)), WEIGHTS)


def test_arg_scope_gives_layers_their_arguments_and_can_be_kept(graph):
    x = tf.constant(draw(1, 4, 4, 2))
    with (
        slim.arg_scope([slim.conv2d], activation_fn=None, padding="VALID"),
        slim.arg_scope(
            [slim.conv2d, slim.fully_connected], weights_initializer=tf.ones_initializer()
        ) as kept,
    ):
        inner = slim.conv2d(x, 1, [2, 2])
        overridden = slim.conv2d(x, 1, [2, 2], padding="SAME")
    with slim.arg_scope(kept):
        again = slim.conv2d(x, 1, [2, 2])
    assert inner.shape == again.shape == (1, 3, 3, 1)
    assert overridden.shape == (1, 4, 4, 1)
    with tf.Session() as session:
        initialize(session)
        np.testing.assert_allclose(*session.run([inner, again]), rtol=1e-6)
    assert slim.arg_scope_func_key(slim.conv2d) in kept


def test_a_function_takes_part_in_arg_scopes(graph):
    @slim.add_arg_scope
    def scaled(x, factor=1):
        return x * factor

    with slim.arg_scope([scaled], factor=5):
        assert scaled(2) == 10
    assert scaled(2) == 2
    assert slim.has_arg_scope(scaled)
    assert slim.arg_scoped_arguments(scaled) == ("factor",)


class TestVariableScope:
    """`slim.variable_scope` is TensorFlow's module, as in `tensorflow.contrib.slim`."""

    def test_variables_get_its_prefix_and_are_reused(self, graph):
        with slim.variable_scope.variable_scope("ball", reuse=None):
            first = slim.model_variable("scale", (), initializer=tf.ones_initializer())
        with slim.variable_scope.variable_scope("ball", reuse=True):
            second = slim.variable_scope.get_variable("scale", ())
        assert names([first, second]) == ["ball/scale", "ball/scale"]
        assert names(tf.global_variables()) == ["ball/scale"]

    @pytest.mark.parametrize("name", ["get_variable", "get_variable_scope", "AUTO_REUSE",
                                      "variable_scope", "VariableScope", "variable_op_scope",
                                      "no_regularizer"])  # fmt: skip
    def test_it_has_what_tensorflow_1_has(self, name):
        assert getattr(slim.variable_scope, name) is getattr(tf, name)

    def test_its_variable_is_the_one_of_tensorflow_1(self):
        assert run(lambda: slim.variable_scope.variable(3.0, name="v", trainable=False)) == 3


SUMMARIES = {
    "add_histogram_summary": (lambda x: slim.summaries.add_histogram_summary(x, "h"), {"h"}),
    "add_image_summary": (
        lambda x: slim.summaries.add_image_summary(tf.reshape(x, [1, 3, 2, 1]), "i"),
        {"i/image/0"},
    ),
    "add_scalar_summary": (
        lambda x: slim.summaries.add_scalar_summary(tf.reduce_sum(x), "s", prefix="p"),
        {"p/s"},
    ),
    "add_zero_fraction_summary": (
        lambda x: slim.summaries.add_zero_fraction_summary(x, "z"),
        {"z/Fraction_of_Zero_Values"},
    ),
    "summarize_tensor": (lambda x: slim.summarize_tensor(x, "t"), {"t"}),
    "summarize_tensors": (lambda x: slim.summarize_tensors([x]), {"x_summary"}),
    "summarize_activation": (
        lambda x: slim.summarize_activation(tf.nn.relu(x, name="r")),
        {"r/zeros", "r/activation"},
    ),
    "summarize_collection": (
        lambda x: tf.add_to_collection("c", x) or slim.summarize_collection("c"),
        {"x_summary"},
    ),
}


@pytest.mark.parametrize("kind", SUMMARIES)
def test_a_summary_has_its_tag(graph, kind):
    summarize, tags = SUMMARIES[kind]
    summarize(tf.constant(WEIGHTS, name="x"))
    with tf.Session() as session:
        written = tf.Summary.FromString(session.run(tf.summary.merge_all()))
    assert {value.tag for value in written.value} == tags


def test_the_model_analyzer_counts(layers):
    assert slim.model_analyzer.analyze_vars(tf.trainable_variables()) == (17, 68)
    assert slim.model_analyzer.tensor_description(tf.zeros([2, 3])) == "(float32 2x3)"

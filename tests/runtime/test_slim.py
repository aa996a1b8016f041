"""TF-Slim, repaired: the names that TensorFlow moved are there, and nothing else is changed.

What each call of TF-Slim gives is in ``test_slim_*.py``.
"""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deep_reid.compat import slim, tf

ROOT = Path(__file__).parents[2]
SLIM_FOLDER = Path(slim.__file__).parent
SLIM_FILES = sorted(p for p in SLIM_FOLDER.rglob("*.py") if not p.stem.endswith("_test"))


def run_python(code, *argv):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def imported_from_tensorflow(tree):
    """From the local name to the object, for all that a file imports from TensorFlow."""
    objects = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tensorflow"):
            for alias in node.names:
                module = importlib.import_module(node.module)
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                objects[alias.asname or alias.name] = getattr(module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("tensorflow") and alias.asname:
                    objects[alias.asname] = importlib.import_module(alias.name)
    return objects


def missing_names(path):
    """`module.name` for each attribute that a file uses and the module has not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    objects = imported_from_tensorflow(tree)
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in objects
        and not hasattr(objects[node.value.id], node.attr)
    }


@pytest.mark.parametrize("path", SLIM_FILES, ids=lambda p: str(p.relative_to(SLIM_FOLDER)))
def test_all_names_that_a_file_of_tf_slim_takes_from_tensorflow_exist(path):
    assert not missing_names(path)


def test_a_missing_name_is_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from tensorflow.python.ops import array_ops as a, math_ops\n"
        "a.stack(math_ops.add, a.no_such_name)\nmath_ops.gone.further()"
    )
    assert missing_names(path) == {"a.no_such_name", "math_ops.gone"}


PUBLIC_NAMES = {  # as TensorFlow 1's modules had them, and the public name of the same object
    "framework.ops.IndexedSlices": tf.IndexedSlices,
    "framework.ops.Tensor": tf.Tensor,
    "ops.array_ops.stack": tf.stack,
    "ops.array_ops.unstack": tf.unstack,
    "ops.control_flow_ops.Assert": tf.Assert,
    "ops.control_flow_ops.case": tf.case,
    "ops.control_flow_ops.cond": tf.cond,
    "ops.control_flow_ops.while_loop": tf.while_loop,
    "ops.variable_scope.disable_resource_variables": tf.disable_resource_variables,
    "ops.variable_scope.enable_resource_variables": tf.enable_resource_variables,
    "ops.variable_scope.resource_variables_enabled": tf.resource_variables_enabled,
    "ops.variable_scope.variable": tf.Variable,
    "ops.variables.VariableV1": tf.Variable,
}
METRICS_OF_CONTRIB = ["confusion_matrix", "set_difference", "set_intersection", "set_size",
                      "set_union"]  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_a_name_that_moved_is_the_object_of_the_public_interface(name):
    module, _, attribute = name.rpartition(".")
    assert (
        getattr(importlib.import_module(f"tensorflow.python.{module}"), attribute)
        is PUBLIC_NAMES[name]
    )


@pytest.mark.slow
def test_the_modules_of_tensorflow_get_what_is_missing_and_keep_what_they_have():
    code = """
import importlib, sys
import tensorflow.compat.v1
repaired = [tuple(name.rsplit(".", 1)) for name in sys.argv[1:]]
modules = {name: importlib.import_module(f"tensorflow.python.{name}") for name, _ in repaired}
modules["ops.array_ops"].stack = kept = object()
before = {name: dict(vars(module)) for name, module in modules.items()}
import deep_reid.compat
for name, module in modules.items():
    added = set(vars(module)) - set(before[name])
    assert added <= {wanted for owner, wanted in repaired if owner == name}, (name, added)
    changed = {k for k, v in before[name].items() if vars(module)[k] is not v}
    assert not changed, (name, changed)
assert modules["ops.array_ops"].stack is kept
"""
    process = run_python(code, *PUBLIC_NAMES)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", METRICS_OF_CONTRIB)
def test_metrics_have_what_they_had_in_contrib(name):
    assert callable(getattr(slim.metrics, name))


@pytest.mark.parametrize("module", ["data_decoder", "data_provider", "dataset",
                                    "dataset_data_provider", "evaluation", "learning", "losses",
                                    "metrics", "model_analyzer", "nets", "parallel_reader",
                                    "prefetch_queue", "queues", "summaries", "tfexample_decoder",
                                    "training", "variable_scope"])  # fmt: skip
def test_slim_has_the_modules_of_tensorflow_contrib_slim(module):
    assert isinstance(getattr(slim, module), type(ast))


NETS = ["alexnet", "inception", "overfeat", "resnet_utils", "resnet_v1", "resnet_v2", "vgg"]
ORDINARY_CALLS = """
import sys
import deep_reid.compat
import tf_slim as slim
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
with slim.variable_scope.variable_scope("ball"):
    print(slim.local_variable(3.0, name="v").op.name)
print(*(getattr(slim.nets, name).__name__ for name in sys.argv[1:]))

from deep_reid.compat import slim, tf
x = tf.placeholder_with_default(tf.ones([4, 8, 8, 3]), (4, 8, 8, 3))
is_training = tf.placeholder_with_default(True, ())
with slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm,
                    normalizer_params={"is_training": is_training, "updates_collections": None}):
    y = slim.repeat(x, 2, slim.conv2d, 3, 3)
y = slim.gdn(slim.separable_conv2d(slim.conv2d_transpose(y, 3, 2, 2), 4, 3, 1))
y = slim.fully_connected(slim.dropout(slim.flatten(slim.max_pool2d(y, 2))), 2)
slim.losses.softmax_cross_entropy(y, slim.one_hot_encoding([0, 1, 0, 1], 2))
mean = slim.metrics.streaming_mean(y)
auc = slim.metrics.streaming_auc(tf.nn.sigmoid(y[:, 0]), tf.constant([True, False] * 2))
train_op = slim.learning.create_train_op(
    slim.losses.get_total_loss(), tf.train.AdamOptimizer(), clip_gradient_norm=1.0,
    summarize_gradients=True, gradient_multipliers={"fully_connected/weights": 2.0})
with tf.Session() as session:
    session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
    session.run([train_op, mean, auc])
"""


@pytest.fixture(scope="module")
def ordinary_calls():
    """A process that imports TF-Slim, prints names of it, and makes ordinary calls."""
    return run_python(ORDINARY_CALLS, *NETS)


@pytest.mark.slow
def test_a_network_that_imports_tf_slim_gets_it_repaired_and_with_all_nets(ordinary_calls):
    lines = ["ball/v", " ".join(f"tf_slim.nets.{name}" for name in NETS)]
    assert ordinary_calls.stdout.splitlines() == lines


@pytest.mark.slow
def test_ordinary_calls_write_nothing(ordinary_calls):
    assert (ordinary_calls.stderr, ordinary_calls.returncode) == ("", 0)
    assert len(ordinary_calls.stdout.splitlines()) == 2  # what the script itself prints

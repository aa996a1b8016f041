"""What old code sees as TensorFlow, NumPy and scikit-learn, and what is said of missing names."""

import importlib.util
import json

import numpy as np
import pytest
from legacy_process import NO_TENSORFLOW, python, run, write

# Each line is run by itself, in old code.
IMPORTS = """
import tensorflow as x; assert x is tf
import tensorflow.compat.v1 as x; assert x is tf
from tensorflow.compat import v1 as x; assert x is tf
from tensorflow import compat; assert compat.v1 is tf
import tensorflow; assert tensorflow is tf
assert importlib.import_module("tensorflow") is tf
assert importlib.import_module("tensorflow.contrib.slim") is slim
assert __import__("tensorflow") is tf
assert tf.__version__ == tf.VERSION and tf.__version__ in open(VERSION).read()
assert tf.__name__ == "tensorflow" and os.path.exists(tf.__file__)
assert isinstance(tf.placeholder(tf.float32), tf.Tensor) and not tf.executing_eagerly()
assert hasattr(tf, "contrib") and "contrib" in dir(tf)
from tensorflow.contrib import slim as x; assert x is slim
import tf_slim as x; assert x is slim
assert tf.contrib.slim is slim
import tensorflow.contrib as x; assert x.slim is slim
from tensorflow.contrib.slim import nets, variable_scope; assert nets.vgg.vgg_16
from tensorflow.contrib.slim.nets import resnet_v1; assert resnet_v1.resnet_v1_50
import tensorflow.contrib.slim.nets as nets; assert nets.resnet_v2.resnet_v2_50
from tensorflow.contrib.slim.python.slim.nets import inception; assert inception.inception_v3
import tensorflow.contrib.slim.python.slim.nets.vgg as x; assert x.vgg_16
from tensorflow.contrib.slim.python.slim.learning import train; assert train is slim.learning.train
from tensorflow.contrib.framework.python.ops import arg_scope, variables; assert callable(arg_scope)
from tensorflow.contrib.framework.python.ops import add_arg_scope; assert callable(add_arg_scope)
from tensorflow.contrib.framework.python.ops.variables import get_or_create_global_step as x
from tensorflow.contrib.framework.python.framework.checkpoint_utils import load_variable
from tensorflow.contrib.layers.python.layers import utils, initializers; assert utils.smart_cond
import tensorflow.contrib.layers.python.layers.layers as x; assert x.conv2d
import tensorflow.contrib.losses.python.metric_learning.metric_loss_ops as x; assert x.npairs_loss
from tensorflow.contrib.training.python.training import training as x; assert x.create_train_op
from tensorflow.contrib.metrics.python.ops import metric_ops as x; assert x.streaming_mean
from tensorflow.python.framework import ops, graph_util; assert ops.Tensor and ops.IndexedSlices
import tensorflow.python.ops.control_flow_ops as x; assert x.cond
from tensorflow.python.platform import flags, gfile; assert gfile.GFile
from tensorflow.python.client import device_lib; assert device_lib.list_local_devices
from tensorflow.python.training import moving_averages
from tensorflow.core.framework import summary_pb2
from tensorflow.python.tools import freeze_graph
from tensorflow.keras.layers import Dense; assert Dense
import tensorflow.keras.backend as K; assert K.set_session
from tensorflow import flags, gfile, app, logging; assert app.run and flags.DEFINE_string
assert tf.keras.layers.Dense and tf.keras.backend.get_session
assert tf.layers.dense(tf.zeros((2, 3)), 4).shape == (2, 4)
assert tf.nn.rnn_cell.BasicLSTMCell(3) is not None
assert tf.python.framework.ops
import tensorflow.compat.v2 as tf2; assert tf2 is not tf and not hasattr(tf2, "placeholder")
tf.disable_v2_behavior(); tf.disable_eager_execution(); tf.logging.set_verbosity(tf.logging.INFO)
from tensorflow import *; assert placeholder is tf.placeholder
from tensorflow.contrib.layers import *; assert xavier_initializer is layers.xavier_initializer
"""
CONTRIB_NAMES = """
framework.arg_scope framework.add_arg_scope framework.get_or_create_global_step
framework.get_variables_to_restore framework.assign_from_checkpoint_fn framework.load_variable
framework.list_variables framework.init_from_checkpoint framework.model_variable framework.nest
framework.is_tensor framework.filter_variables framework.get_name_scope framework.get_global_step
layers.xavier_initializer layers.variance_scaling_initializer layers.l2_regularizer
layers.batch_norm layers.conv2d layers.fully_connected layers.flatten layers.summarize_tensors
layers.optimize_loss layers.one_hot_encoding layers.layer_norm layers.utils layers.arg_scope
losses.softmax_cross_entropy losses.get_total_loss losses.metric_learning.triplet_semihard_loss
metrics.streaming_mean metrics.streaming_auc metrics.aggregate_metric_map metrics.confusion_matrix
training.create_train_op training.checkpoints_iterator training.evaluate_once
training.StopAfterNEvalsHook training.SummaryAtEndHook
slim.learning.train slim.evaluation.checkpoints_iterator slim.metrics.aggregate_metric_map
slim.losses.softmax_cross_entropy slim.variable_scope.variable_scope slim.get_or_create_global_step
slim.assign_from_checkpoint slim.nets.resnet_v1.resnet_v1_50 slim.queues.QueueRunners
"""
CONTRIB = CONTRIB_NAMES.split()
POSITIVE = """
import importlib, importlib.metadata, json, os, sys, traceback
import tensorflow as tf
import tensorflow.contrib.slim as slim
from tensorflow.contrib import framework, layers, losses, metrics, training
with open("version", "w") as file:
    file.write(importlib.metadata.version("tensorflow"))
VERSION = "version"
failed = {}
for line in open("imports.txt"):
    try:
        exec(line, dict(globals()))
    except Exception:
        failed[line.strip()] = traceback.format_exc()
for name in open("contrib.txt").read().split():
    value = tf.contrib
    for part in name.split("."):
        value = getattr(value, part, None)
    if value is None:
        failed[name] = "is not there"
json.dump(failed, open("failed.json", "w"))
import library
print(library.HAS_PLACEHOLDER, tf.placeholder)
tf.logging.info("a line of the script")
tf.logging.warn("a warning of the script")
x = tf.get_variable("x", (), initializer=layers.xavier_initializer() and tf.ones_initializer())
loss = tf.losses.absolute_difference(0.0, x)
tf.losses.get_total_loss()
train_op = slim.learning.create_train_op(loss, tf.train.GradientDescentOptimizer(0.01))
slim.learning.train(train_op, None, number_of_steps=2, log_every_n_steps=1)
"""


@pytest.fixture(scope="module")
def positive(tmp_path_factory):
    files = {"imports.txt": IMPORTS.strip(), "contrib.txt": "\n".join(CONTRIB)}
    folder = write(tmp_path_factory.mktemp("old"), {**files, "train.py": POSITIVE})
    library = "import tensorflow as tf\nHAS_PLACEHOLDER = hasattr(tf, 'placeholder')"
    libraries = write(tmp_path_factory.mktemp("lib") / "site-packages", {"library.py": library})
    process = run(folder, "train.py", python_path=[libraries])
    assert process.returncode == 0, process.stderr
    return process, json.loads((folder / "failed.json").read_text())


class TestTensorFlow:
    """TensorFlow looks like release 1, to old code only."""

    @pytest.mark.parametrize("line", IMPORTS.strip().splitlines())
    def test_an_old_import_works(self, positive, line):
        assert line not in positive[1], positive[1][line]

    @pytest.mark.parametrize("name", CONTRIB)
    def test_contrib_has_each_old_name(self, positive, name):
        assert name not in positive[1]

    def test_progress_lines_look_as_they_did(self, positive):
        lines = positive[0].stderr.splitlines()
        assert "INFO:tensorflow:a line of the script" in lines
        assert "WARNING:tensorflow:a warning of the script" in lines
        assert any(line.startswith("INFO:tensorflow:global step 2: loss = ") for line in lines)

    def test_nothing_is_said_of_deprecations(self, positive):
        lines = positive[0].stderr.splitlines()
        assert [line for line in lines if not line.startswith("INFO:tensorflow:")] == [
            "WARNING:tensorflow:a warning of the script"
        ]

    def test_libraries_go_on_to_see_todays(self, positive):
        assert positive[0].stdout.startswith("False <function placeholder"), positive[0].stderr


FLAGS = """
import tensorflow as tf
tf.app.flags.DEFINE_string("log_dir", "/tmp/log", "Abseil's logging has a flag of this name.")
tf.flags.DEFINE_integer("steps", 3, "A flag of the script.")
FLAGS = tf.app.flags.FLAGS

def main(argv):
    tf.logging.info("in main")
    print(len(argv), FLAGS.log_dir, FLAGS.steps)

if __name__ == "__main__":
    tf.app.run()
"""


def test_tf_app_run_with_flags_and_one_line_each(tmp_path):
    folder = write(tmp_path, {"train.py": FLAGS})
    process = run(folder, "train.py", "--log_dir=here", "--steps", "5")
    assert (process.returncode, process.stdout) == (0, "1 here 5\n"), process.stderr
    assert process.stderr == "INFO:tensorflow:in main\n"


MISSING = [
    ("import tensorflow as tf\ntf.contrib.rnn.LSTMCell(3)", "tf.contrib.rnn", "tf.nn.rnn_cell"),
    ("import tensorflow as tf\ntf.contrib.data.x", "tf.contrib.data", "tf.data"),
    ("from tensorflow.contrib import crf", "tensorflow.contrib.crf", "tensorflow-addons"),
    ("from tensorflow.contrib.tensorboard.plugins import projector", "projector", "tensorboard"),
    ("import tensorflow.contrib.eager as tfe", "tensorflow.contrib.eager", "GradientTape"),
    (
        "from tensorflow.examples.tutorials.mnist import input_data",
        "tensorflow.examples.tutorials.mnist",
        "tf.keras.datasets.mnist",
    ),
    (
        "import tensorflow as tf\ntf.contrib.layers.some_missing",
        "tf.contrib.layers.some_missing",
        "has no counterpart in TensorFlow 2.x",
    ),
    ("import tensorflow as tf\ntf.no_such_name", "tf.no_such_name", "no counterpart in TensorFlow"),
    (
        "from tensorflow import no_such",
        "tensorflow.no_such",
        "has no counterpart in TensorFlow 2.x",
    ),
    ("from tensorflow.contrib.slim import nope", "tensorflow.contrib.slim.nope", "no counterpart"),
    ("from tf_slim import nope", "tf_slim.nope", "has no counterpart in TensorFlow 2.x"),
    ("import tf_slim as slim\nslim.nope", "slim.nope", "has no counterpart in TensorFlow 2.x"),
    (
        "import tensorflow as tf\ntf.layers.nope",
        "tf.layers.nope",
        "no counterpart in TensorFlow 2.x",
    ),
    ("import tensorflow as tf\ntf.train.SummaryWriter", "tf.train.SummaryWriter", "FileWriter"),
    ("import tensorflow as tf\ntf.scalar_summary", "tf.scalar_summary", "tf.summary.scalar"),
    ("import tensorflow as tf\ntf.pack", "tf.pack", "tf.stack"),
    ("import tensorflow as tf\ntf.mul", "tf.mul", "tf.multiply"),
    ("import tensorflow as tf\ntf.estimator.Estimator", "tf.estimator", "TensorFlow 2.15"),
    ("from tensorflow.python.ops import gone", "tensorflow.python.ops.gone", "no counterpart"),
    ("import tensorflow as tf\ntf.contrib.training.HParams()", "training.HParams", "Namespace"),
]
FREE_OF_TENSORFLOW = [
    ("x = 1\nprint 'hello'", "this is Python 2 (print 'hello')", "2to3"),
    ("try:\n    pass\nexcept Exception, e:\n    pass", "this is Python 2", "futurize"),
    ("raise ValueError, 'no'", "this is Python 2", "2to3"),
    ("exec 'x = 1'", "this is Python 2", "2to3"),
    ("x = 0777", "this is Python 2", "2to3"),
    ("for i in xrange(3): pass", "this is Python 2 (for i in xrange(3): pass)", "2to3"),
    ("{}.iteritems()", "this is Python 2", "2to3"),
    ("import cPickle", "this is Python 2 (import cPickle)", "2to3"),
    ("from itertools import izip", "this is Python 2", "2to3"),
    ("import sys\nprint >>sys.stderr, 'x'", "this is Python 2", "2to3"),
    ("if True:\n\tx = 1\n        y = 2", "tabs and spaces are mixed", "expand"),
    ("from scipy.misc import imread", "scipy.misc.imread", "cv2.imread"),
    ("import scipy.misc\nscipy.misc.imresize", "scipy.misc.imresize", "cv2.resize"),
    ("from scipy import misc\nmisc.imsave('x', 1)", "scipy.misc.imsave", "cv2.imwrite"),
]


# What is asked for, or imported, in a `try`; then the cases; then an error that nothing catches.
FALLBACKS = """
import tensorflow as tf
print(hasattr(tf.contrib, "rnn"), hasattr(tf, "nothing"), getattr(tf, "nothing", 5))
try:
    from tensorflow.contrib import crf
except ImportError:
    print("no crf")
try:
    import tensorflow.contrib.eager as tfe
except ImportError as error:
    print(error)
try:
    tf.pack([1])
except AttributeError as error:
    print(error)
import json, sys
for name in json.load(open("names.json")):
    try:
        exec(compile(open(name).read(), name, "exec"), {"__name__": "x"})
    except Exception:
        sys.excepthook(*sys.exc_info())
tf.contrib.layers.nothing
"""


@pytest.fixture(scope="module")
def missing(tmp_path_factory):
    """The names of the cases, and the process of all of them."""
    cases = MISSING + FREE_OF_TENSORFLOW
    names = [f"case_{i}.py" for i in range(len(cases))]
    files = {name: case[0] for name, case in zip(names, cases, strict=True)}
    files |= {"names.json": json.dumps(names), "train.py": FALLBACKS}
    return names, run(write(tmp_path_factory.mktemp("missing"), files), "train.py")


def test_names_that_cannot_be_had_are_said_in_one_line_each(missing):
    """As a script's uncaught errors are; one process for all."""
    names, process = missing
    lines = process.stderr.splitlines()[:-1]
    cases = MISSING + FREE_OF_TENSORFLOW
    assert len(lines) == len(cases), process.stderr
    for line, name, (code, what, instead) in zip(lines, names, cases, strict=True):
        last = 3 if "except" in code else code.count("\n") + 1
        assert f"{name}:{last}: " in line
        assert what in line
        assert instead in line


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("import helper", "helper.py:2: this is Python 2 (print 'x')"),
        ("import sklearn", "train.py:1: sklearn is not installed: pip install scikit-learn"),
        ("from sklearn.manifold import TSNE", "pip install scikit-learn"),
        (
            "import os\nimport skimage.io",
            "train.py:2: skimage is not installed: pip install",
        ),
    ],
)
def test_uncaught_they_end_the_process_with_exit_code_1(tmp_path, code, part):
    folder = write(tmp_path, {"train.py": code, "helper.py": "import os\nprint 'x'"})
    # -S: without the installed packages.
    process = python(folder, "-S", "-m", "deep_reid.legacy", "train.py")
    assert process.returncode == 1
    assert part in process.stderr
    assert process.stderr.count("\n") == 1


def test_hasattr_and_fallbacks_of_old_code_go_on_to_work(missing):
    _, process = missing
    assert process.stdout.splitlines() == [
        "False False 5",
        "no crf",
        "No module named 'tensorflow.contrib.eager'",
        "module 'tensorflow' has no attribute 'pack'",
    ]
    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]
    number = FALLBACKS.count("\n")
    assert f"train.py:{number}: tf.contrib.layers.nothing has no counterpart" in last


NUMPY = """
import numpy as np
from numpy import float as old_float
assert np.int is int and np.float is float is old_float and np.object is object
assert np.complex is complex and np.str is str and np.unicode is str
assert np.zeros(2, np.bool).dtype == bool and np.zeros(2, np.long).dtype.kind == "i"
assert np.float_ is np.float64 and np.complex_ is np.complex128 and np.unicode_ is np.str_
assert np.string_ is np.bytes_ and np.bool8 is np.bool_
assert np.Inf == np.infty == np.PINF == -np.NINF == float("inf") and np.isnan(np.NaN)
assert np.product([2, 3]) == 6 and np.alltrue([1, 1]) and np.sometrue([0, 1])
assert list(np.cumproduct([2, 3])) == [2, 6]
assert np.asscalar(np.array([7])) == 7 and type(np.asscalar(np.array([7]))) is int
assert np.alen([1, 2, 3]) == 3 and np.rank([[1]]) == 2
assert np.asfarray([1]).dtype == np.float64 and np.asfarray([1], np.float32).dtype == np.float32
assert np.asfarray([1], np.int32).dtype == np.float64
assert np.round_(1.26, 1) == 1.3 and np.row_stack
assert np.in1d([[1, 2]], [2]).tolist() == [False, True] and np.trapz([1, 1]) == 1
assert np.msort([[3], [1]]).tolist() == [[1], [3]]
assert np.cast["int32"](1.5) == 1 and np.cast[np.float32]([1]).dtype == np.float32
assert np.issubsctype(np.zeros(1, np.int8), np.integer) and np.issubclass_(int, object)
assert np.obj2sctype("f4") is np.float32 and np.float32 in np.sctypes["float"]
assert np.VisibleDeprecationWarning and np.AxisError
import warnings
with warnings.catch_warnings():  # NumPy 2.5 deprecates matrices of any name
    warnings.simplefilter("ignore")
    assert np.mat([[1, 2]]).shape == (1, 2)
assert not hasattr(np, "no_such_name")
"""


def test_old_names_of_numpy_are_there_in_this_process_only(tmp_path):
    """NumPy says nothing of them; before release 2.4 it has some itself, with a warning."""
    write(tmp_path / "blocked", {"tensorflow/__init__.py": NO_TENSORFLOW})
    action = "error" if np.lib.NumpyVersion(np.__version__) >= "2.4.0" else "ignore"
    strict = "import warnings\nfor kind in (DeprecationWarning, FutureWarning):\n"
    script = f"{strict}    warnings.simplefilter('{action}', kind)\n{NUMPY}"
    process = run(
        write(tmp_path / "old", {"train.py": script}),
        "train.py",
        python_path=[tmp_path / "blocked"],
    )
    assert (process.returncode, process.stderr) == (0, "")


TSNE_OF_A_RELEASE = """
class TSNE:
    def __init__(self, n_components=2, {star} perplexity=30.0, early_exaggeration=12.0,
                 learning_rate="auto", {iterations}, random_state=None, method="barnes_hut"):
        self.n_components, self.perplexity = n_components, perplexity
        if {name} is not None:
            self.{name} = {name}
"""
# The names of the number of iterations, in the order of the releases.
TSNE_RELEASES = {
    "0.19": ("", "n_iter=1000", "n_iter"),
    "1.3": ("*,", "n_iter=1000", "n_iter"),
    "1.5": ("*,", "max_iter=None, n_iter='deprecated'", "max_iter"),
    "1.7": ("*,", "max_iter=None", "max_iter"),
}
TSNE_CALLS = """
from sklearn.manifold import TSNE
from sklearn.manifold.t_sne import TSNE as same
import sklearn.manifold.t_sne
assert TSNE is same is sklearn.manifold.t_sne.TSNE
def count(tsne):
    return vars(tsne).get("max_iter", vars(tsne).get("n_iter"))
old = TSNE(n_components=2, n_iter=1000, perplexity=5.0)
assert (count(old), old.perplexity) == (1000, 5.0)
assert count(TSNE(3, 5.0, 12.0, 200.0, 400)) == 400
"""


@pytest.mark.parametrize("release", TSNE_RELEASES)
def test_t_sne_takes_the_calls_of_old_scikit_learn(tmp_path, release):
    star, iterations, name = TSNE_RELEASES[release]
    code = TSNE_OF_A_RELEASE.format(star=star, iterations=iterations, name=name)
    files = {"sklearn/__init__.py": "", "sklearn/manifold/_t_sne.py": code}
    files["sklearn/manifold/__init__.py"] = "from sklearn.manifold._t_sne import TSNE"
    library = write(tmp_path / "site-packages", files)
    calls = TSNE_CALLS + f"assert count(TSNE({name}=300)) == 300\n"
    process = run(write(tmp_path / "old", {"vis.py": calls}), "vis.py", python_path=[library])
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")
def test_t_sne_of_the_installed_scikit_learn_runs(tmp_path):
    script = TSNE_CALLS + (
        "import numpy as np\n"
        "from sklearn.base import clone\n"
        "model = clone(TSNE(n_components=2, n_iter=250, perplexity=5.0, init='random'))\n"
        "print(model.fit_transform(np.random.RandomState(0).rand(20, 8)).shape)\n"
    )
    process = run(write(tmp_path, {"vis.py": script}), "vis.py")
    assert process.stdout == "(20, 2)\n", process.stderr

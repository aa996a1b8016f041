"""The one place that imports TensorFlow 1's interface and TF-Slim.

Everything else writes ``from deep_reid.runtime.compat import slim, tf``. On import, this module

* hides TensorFlow's start-up lines, unless the user set ``TF_CPP_MIN_LOG_LEVEL``;
* leaves Keras 3 and scikit-learn to be imported at their first use (``lazy_imports.py``);
* turns on oneDNN's kernels, unless the user set ``TF_ENABLE_ONEDNN_OPTS``;
* repairs TF-Slim 1.1, its last release, for TensorFlow 2.16 and later (``slim_repairs.py``);
* turns on graph mode and TensorFlow 1's behavior.
"""

import contextlib
import importlib
import logging
import os
import platform
import re
import sys
import tempfile
import warnings

from deep_reid.runtime import lazy_imports, slim_repairs
from deep_reid.system import memory

_QUIET = "3"
# A user who sets another level gets all of TensorFlow's lines. (Whether it is set does not tell:
# child processes inherit it from this one.)
_USER_WANTS_TENSORFLOW_LOGS = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", _QUIET) != _QUIET

_START_UP_LINE = re.compile(rb"I0000 |WARNING: All log messages before absl::InitializeLog")


@contextlib.contextmanager
def _without_start_up_lines():
    """Hold back what TensorFlow's C++ code writes at level INFO while it is imported.

    These lines come before TensorFlow reads its log level, so no variable silences them. All other
    lines for the file descriptor are written afterwards, also when the import fails.
    """
    try:
        stderr = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # no real stderr, as in some notebooks
        yield
        return
    sys.stderr.flush()
    saved = os.dup(stderr)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), stderr)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, stderr)
            os.close(saved)
            held_back.seek(0)
            for line in held_back:
                if not _START_UP_LINE.match(line):
                    os.write(stderr, line)


if platform.machine().lower() in ("x86_64", "amd64"):
    # By itself, TensorFlow uses these kernels only on CPUs with AVX-512. With AVX2, too, they train
    # in half the time, and encode in two thirds of it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
memory.check_limit("TensorFlow")
with (
    lazy_imports.without("keras"),
    contextlib.nullcontext() if _USER_WANTS_TENSORFLOW_LOGS else _without_start_up_lines(),
):
    tf = importlib.import_module("tensorflow.compat.v1")
if not _USER_WANTS_TENSORFLOW_LOGS:
    # Otherwise each call of TF-Slim's layers warns that they are deprecated.
    tf.get_logger().setLevel(logging.ERROR)
    warnings.filterwarnings(
        "ignore", message=r"`(layer\.(apply|add_variable)|tf\.layers\.\w+)` is deprecated"
    )
    # TF-Slim closes the writer of events twice at the end of a training.
    warnings.filterwarnings("ignore", message="Attempting to use a closed FileWriter")

slim = slim_repairs.import_slim(tf.__version__)
tf.disable_v2_behavior()
# TensorFlow 1's interface lacks this switch, but its graphs obey it.
enable_op_determinism = importlib.import_module(
    "tensorflow.config.experimental"
).enable_op_determinism

is_op_determinism_enabled = importlib.import_module(
    "tensorflow.python.framework.config"
).is_op_determinism_enabled

# TensorFlow's own converters use this to optimize graphs before they write them.
tf_optimizer = importlib.import_module("tensorflow.python.grappler.tf_optimizer")

# TensorFlow's loader of this file runs ops of it; the message itself has no public name.
SavedModel = importlib.import_module("tensorflow.core.protobuf.saved_model_pb2").SavedModel

__all__ = [
    "SavedModel",
    "enable_op_determinism",
    "is_op_determinism_enabled",
    "slim",
    "tf",
    "tf_optimizer",
]

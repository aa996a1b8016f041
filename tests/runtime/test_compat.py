"""The one door to TensorFlow: quiet, repaired, in graph mode."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BUILD_LAYERS = """
from deep_reid.compat import slim, tf
x = tf.placeholder(tf.float32, (None, 8, 8, 3))
x = slim.conv2d(x, 4, [3, 3], normalizer_fn=slim.batch_norm)
x = slim.max_pool2d(x, [3, 3], stride=2, padding="SAME")
x = slim.dropout(slim.flatten(x), keep_prob=0.6)
x = slim.fully_connected(x, 2)
"""

# A stand-in for TensorFlow, found first: it writes what it is told to, and then it fails.
FAKE_TENSORFLOW = """
import os
os.write(2, os.environ["FAKE_TENSORFLOW_LINES"].encode())
raise ImportError("libcuda is from last year")
"""


def run_python(code, python_path=(), **variables):
    # Imports of this process have set these.
    set_by_us = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    environment = {k: v for k, v in os.environ.items() if k not in set_by_us}
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, python_path), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def child_output(tmp_path_factory):
    """Where a process that was started from another one writes."""
    return tmp_path_factory.mktemp("child") / "output.txt"


@pytest.fixture(scope="module")
def default_import(child_output):
    """A process that imports the module and builds layers, with nothing set by the user."""
    return run_python(
        BUILD_LAYERS + "from tensorflow.python.framework import ops, tensor\n"
        "import os, platform\n"
        "from tensorflow.python.util import _pywrap_util_port as port\n"
        "assert port.IsMklEnabled() == (platform.machine() in ('x86_64', 'AMD64'))\n"
        "assert ops.Tensor is tensor.Tensor\n"
        "assert isinstance(x, ops.Tensor)\n"
        "assert not tf.executing_eagerly()\n"
        "assert not tf.control_flow_v2_enabled()\n"
        "assert x.graph is tf.get_default_graph()\n"
        "assert x.get_shape().as_list() == [None, 2]\n"
        "with tf.Session() as session:\n"
        "    assert session.run(tf.constant(7)) == 7\n"
        "import subprocess, sys\n"
        f"with open({str(child_output)!r}, 'w') as file:\n"
        "    code = 'import deep_reid.compat; print(1)'\n"
        "    subprocess.run([sys.executable, '-c', code], stdout=file, stderr=file)\n"
        "os._exit(17)\n"  # reached, and not by the way of an error
    )


class TestImport:
    def test_layers_are_built_and_run_in_graph_mode_with_the_repaired_names(self, default_import):
        assert default_import.returncode == 17, default_import.stderr

    def test_nothing_is_written(self, default_import):
        assert default_import.stdout == ""
        assert default_import.stderr == ""

    def test_what_the_user_set_stays_and_a_log_level_brings_the_lines_back(self):
        code = (
            "import os, logging; from deep_reid.compat import tf; "
            "from tensorflow.python.util import _pywrap_util_port as port; "
            "print(os.environ['TF_CPP_MIN_LOG_LEVEL'], tf.get_logger().level == logging.ERROR, "
            "port.IsMklEnabled())"
        )
        process = run_python(code, TF_CPP_MIN_LOG_LEVEL="0", TF_ENABLE_ONEDNN_OPTS="0")
        assert process.stdout.split() == ["0", "False", "False"], process.stderr
        # Which lines these are depends on the machine, and on TensorFlow's release.
        assert process.stderr

    def test_processes_started_from_this_one_are_as_quiet(self, default_import, child_output):
        assert child_output.read_text() == "1\n"

    def test_tf_keras_missing_is_an_error_that_names_it_with_its_version(self):
        process = run_python(
            "import sys; sys.modules['tf_keras'] = None\n"
            "try:\n    import deep_reid.compat\n"
            "except ImportError as error:\n    print(error)\n"
            "import tensorflow; print(tensorflow.__version__)"
        )
        message, version = process.stdout.splitlines()
        minor_version = ".".join(version.split(".")[:2])
        assert f"pip install 'tf-keras=={minor_version}.*'" in message

    def test_works_without_a_real_stderr(self):
        process = run_python("import sys; sys.stderr = None; import deep_reid.compat; print('ok')")
        assert process.stdout == "ok\n"


class TestLinesThatAreHeldBack:
    @pytest.fixture
    def fake_tensorflow(self, tmp_path):
        (tmp_path / "tensorflow").mkdir()
        (tmp_path / "tensorflow" / "__init__.py").write_text(FAKE_TENSORFLOW)
        return tmp_path

    def test_errors_come_through_in_their_order_and_start_up_lines_do_not(self, fake_tensorflow):
        lines = (
            "I0000 00:00:1.0 1 port.cc:153] oneDNN custom operations are on.\n"
            "E0000 00:00:1.0 1 cuda.cc:1] no driver\n"
            "WARNING: All log messages before absl::InitializeLog() is called are written\n"
            "W0000 00:00:1.0 1 cpu.cc:1] slow\n"
            "*** illegal instruction"
        )
        process = run_python("import deep_reid.compat", [fake_tensorflow],
                             FAKE_TENSORFLOW_LINES=lines)  # fmt: skip
        assert process.returncode != 0
        written, trace = process.stderr.split("Traceback")
        assert written.splitlines() == [
            "E0000 00:00:1.0 1 cuda.cc:1] no driver",
            "W0000 00:00:1.0 1 cpu.cc:1] slow",
            "*** illegal instruction",
        ]
        assert "libcuda is from last year" in trace

    def test_all_lines_come_through_where_the_user_asks_for_them(self, fake_tensorflow):
        process = run_python(
            "import deep_reid.compat",
            [fake_tensorflow],
            FAKE_TENSORFLOW_LINES="I0000 00:00:1.0 1 port.cc:153] oneDNN\n",
            TF_CPP_MIN_LOG_LEVEL="0",
        )
        assert process.stderr.startswith("I0000 00:00:1.0 1 port.cc:153] oneDNN\n")

    def test_stderr_works_as_before_after_a_failed_import(self, fake_tensorflow):
        code = (
            "import os\n"
            "try:\n    import deep_reid.compat\nexcept ImportError:\n    pass\n"
            "os.write(2, b'I0000 mine\\n')"
        )
        process = run_python(code, [fake_tensorflow], FAKE_TENSORFLOW_LINES="")
        assert process.stderr == "I0000 mine\n"


def first_text(node):
    """The text that a string or an f-string begins with, else an empty one."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0]
    return str(node.value) if isinstance(node, ast.Constant) else ""


def imported_names(path):
    """Names of the modules that a file imports, by statement or by `import_module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            function = ast.unparse(node.func)
            if function.split(".")[-1] in {"import_module", "__import__"}:
                yield first_text(node.args[0])


def files_that_import(is_meant):
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "deep_reid").rglob("*.py")
        if any(map(is_meant, imported_names(path)))
    }


def test_no_other_file_of_the_package_imports_tensorflow_or_tf_slim():
    """But for the two that show them to old code, after they have imported `compat`."""
    doors = {"tensorflow", "tf_slim", "tf_keras", "keras"}
    importers = files_that_import(lambda name: name.split(".")[0] in doors)
    showing = {"deep_reid/legacy/contrib.py", "deep_reid/legacy/tensorflow_1.py"}
    own = {"deep_reid/runtime/compat.py", "deep_reid/runtime/slim_repairs.py"}
    assert importers == own | showing
    importers_of_compat = files_that_import(
        lambda name: f"{name}.".startswith("deep_reid.runtime.compat.")
    )
    assert showing <= importers_of_compat


def test_the_repairs_are_imported_by_compat_only():
    importers = files_that_import(lambda name: "slim_repairs" in name.split("."))
    assert importers == {"deep_reid/runtime/compat.py"}

"""Old scripts run with nothing edited: how they are started, and how they end."""

import json
import signal
import subprocess
import sys

import pytest
from legacy_process import NO_TENSORFLOW, environment, python, run, write

FACTS = """
import json, os, sys
import helper
json.dump({
    "argv": sys.argv, "name": __name__, "file": __file__, "package": __package__,
    "path": sys.path[0], "main": sys.modules["__main__"].__dict__ is globals(),
    "spec": __spec__ and __spec__.name, "doc": __doc__, "helper": helper.__file__,
    "builtins": sorted(set(dir(__builtins__)) - {"__loader__"}),
    "cached": globals().get("__cached__"),
    "loader": type(__loader__).__name__,
}, sys.stdout)
"""


@pytest.fixture
def no_tensorflow(tmp_path):
    """A path on which TensorFlow cannot be imported."""
    return write(tmp_path / "blocked", {"tensorflow/__init__.py": NO_TENSORFLOW})


class TestStart:
    """The script cannot tell the runner from Python."""

    @pytest.mark.parametrize("script", ["train.py", "./train.py", "../old/train.py"])
    def test_a_script_sees_what_python_shows_it(self, tmp_path, no_tensorflow, script):
        folder = write(tmp_path / "old", {"train.py": FACTS, "helper.py": ""})
        arguments = (script, "--help", "-m", "x", "--engine=mine", "-h", "--", "")
        expected = python(folder, *arguments)
        process = run(folder, *arguments, python_path=[no_tensorflow])
        assert json.loads(process.stdout) == json.loads(expected.stdout), process.stderr

    def test_a_script_elsewhere_finds_its_own_modules(self, tmp_path):
        folder = write(tmp_path / "old", {"train.py": FACTS, "helper.py": ""})
        write(tmp_path, {"helper.py": "raise ImportError('of the working folder')"})
        expected = python(tmp_path, folder / "train.py", "a")
        process = run(tmp_path, "--engine=own", folder / "train.py", "a")
        assert json.loads(process.stdout) == json.loads(expected.stdout), process.stderr

    @pytest.mark.parametrize("engine", [(), ("--engine=deep_reid",), ("--engine", "own")])
    @pytest.mark.parametrize("module", ["mine.train", "mine"])
    def test_a_module_sees_what_python_shows_it(self, tmp_path, no_tensorflow, engine, module):
        facts = "from . import beside\n" + FACTS
        files = {"mine/train.py": facts, "mine/__main__.py": facts, "helper.py": ""}
        folder = write(tmp_path / "old", {**files, "mine/__init__.py": "", "mine/beside.py": ""})
        expected = python(folder, "-m", module, "--help", "-m")
        process = run(folder, *engine, "-m", module, "--help", "-m", python_path=[no_tensorflow])
        assert json.loads(process.stdout) == json.loads(expected.stdout), process.stderr

    def test_help_names_both_ways_and_both_engines(self, tmp_path):
        process = run(tmp_path, "--help")
        assert process.returncode == 0
        for part in ("--engine=own|deep_reid", "SCRIPT [ARGS...]", "-m PACKAGE.MODULE"):
            assert part in process.stdout


class TestUsage:
    """What is wrong on the command line is answered in one line, before TensorFlow is there."""

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            ((), "SCRIPT or -m PACKAGE.MODULE is missing"),
            (("--engine=own",), "SCRIPT or -m PACKAGE.MODULE is missing"),
            (("-m",), "-m needs the name of a module"),
            (("-m", ""), "-m needs the name of a module"),
            (("--engine=new", "train.py"), "--engine=own or --engine=deep_reid"),
            (("--engine",), "--engine=own or --engine=deep_reid"),
            (("--engines=own", "train.py"), "--engine=own or --engine=deep_reid"),
            (("--fast", "train.py"), "--fast is not an option of the runner"),
            (("trian.py",), "trian.py does not exist"),
            (("mine",), "mine is a folder"),
            (("-m", "mine.trian"), "-m mine.trian: no such module"),
            (("-m", "nobody.has.this"), "no such module"),
            (("-m", ".relative"), "no such module"),
            (("-m", "mine"), "package without __main__.py"),
        ],
    )
    def test_one_line_and_exit_code_2(self, tmp_path, no_tensorflow, arguments, part):
        folder = write(tmp_path / "old", {"train.py": "", "mine/__init__.py": ""})
        process = run(folder, *arguments, python_path=[no_tensorflow])
        assert process.returncode == 2
        assert part in process.stderr
        assert process.stderr.count("\n") == 1
        assert process.stdout == ""


class TestEnd:
    """The script's own end is the process's end."""

    @pytest.mark.parametrize(
        ("code", "returncode", "stderr"),
        [
            ("import sys; sys.exit(7)", 7, ""),
            ("import sys; sys.exit('bye')", 1, "bye\n"),
            ("raise SystemExit", 0, ""),
            ("raise KeyboardInterrupt", 130, "deep_reid.legacy: interrupted\n"),
            (
                "from deep_reid.errors import DataError; raise DataError('it is bad: mend it')",
                1,
                "deep_reid.legacy: error: it is bad: mend it\n",
            ),
            (
                "from deep_reid.errors import UsageError; raise UsageError('5 is odd: use 4')",
                2,
                "deep_reid.legacy: error: 5 is odd: use 4\n",
            ),
        ],
    )
    def test_exit_codes_and_lines(self, tmp_path, no_tensorflow, code, returncode, stderr):
        folder = write(tmp_path / "old", {"train.py": code})
        process = run(folder, "train.py", python_path=[no_tensorflow])
        assert (process.returncode, process.stderr) == (returncode, stderr)

    @pytest.mark.parametrize(
        "code",
        [
            "import helper\nhelper.f()\n",
            "def g():\n    raise ValueError('mine')\ntry:\n    g()\nexcept ValueError as e:\n"
            "    raise RuntimeError('later') from e\n",
            "import nobody_has_this\n",
            "{}.no_method()\n",
            "no_name\n",
            "x = (1,\n",
            "import math\nmath.no_such\n",
            "import broken\n",
        ],
    )
    def test_other_errors_show_the_trace_that_python_shows(self, tmp_path, code):
        helper = "def f():\n    return 1 / 0\n"
        folder = write(tmp_path / "old", {"helper.py": helper, "broken.py": "1 / 0\n"})
        (folder / "train.py").write_text(code)
        expected = python(folder, folder / "train.py")
        process = run(folder, folder / "train.py")
        assert (process.returncode, expected.returncode) == (1, 1)
        assert process.stderr == expected.stderr

    def test_an_excepthook_of_the_scripts_own_is_used(self, tmp_path):
        code = "import sys\nsys.excepthook = lambda *error: print('mine', error[1])\n1 / 0"
        process = run(write(tmp_path, {"train.py": code}), "train.py")
        assert process.stdout == "mine division by zero\n"
        assert process.stderr == ""

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_signals_end_it_with_one_line(self, tmp_path, number, code):
        script = "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(0.01)\n"
        process = _start(write(tmp_path, {"train.py": script}))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == code
        assert stderr.count("\n") == 1
        assert number.name in stderr

    def test_a_script_that_handles_signals_itself_gets_each(self, tmp_path):
        script = (
            "import signal, sys, time\n"
            "seen = []\n"
            "def handle(number, frame):\n"
            "    seen.append(number)\n"
            "    print(len(seen), flush=True)\n"
            "    if len(seen) == 3:\n"
            "        sys.exit(5)\n"
            "signal.signal(signal.SIGINT, handle)\n"
            "print('ready', flush=True)\n"
            "while True:\n"
            "    time.sleep(0.01)\n"
        )
        process = _start(write(tmp_path, {"train.py": script}))
        for i in range(3):
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == f"{i + 1}\n"
        process.communicate(timeout=60)
        assert process.returncode == 5


def _start(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "deep_reid.legacy", "train.py"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process

"""Signals: the first one is taken in, the second one ends the process."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from deep_reid.system import signals

ROOT = Path(__file__).parents[2]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(number):
    """Send a signal to this process, and let Python's handler run."""
    os.kill(os.getpid(), number)
    time.sleep(0.05)


def wait(secs):
    """Wait in short sleeps, between which Python's handlers run."""
    end = time.monotonic() + secs
    while time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_raised_with_its_exit_code(number):
    with pytest.raises(signals.Stopped) as caught, signals.handled():
        send(number)
    assert caught.value.exit_code == 128 + number
    assert str(caught.value) == number.name
    assert isinstance(caught.value, KeyboardInterrupt)  # no `except Exception` takes it for its own


@pytest.mark.parametrize("number", SIGNALS)
def test_an_error_that_c_code_makes_of_it_counts_as_the_signal(number):
    with pytest.raises(signals.Stopped) as caught, signals.handled():
        try:
            send(number)
        except signals.Stopped:
            raise SystemError("returned a result with an exception set") from None
    assert caught.value.exit_code == 128 + number


class _Swallowing:
    """A finalizer: Python reports what it raises, and goes on."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        send(self.number)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _call_back(number):
    send(number)


def _catch(number):
    with contextlib.suppress(KeyboardInterrupt):
        send(number)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("swallow", [_Swallowing, _call_back, _catch])
def test_what_swallows_it_does_not_keep_the_program_going(number, swallow, monkeypatch):
    monkeypatch.setattr(signals, "_REPEAT_SECS", 0.05)
    with pytest.raises(signals.Stopped) as caught, signals.handled():
        for _ in range(3):  # so may the repeated ones be
            swallow(number)
        wait(secs=20)
    assert caught.value.exit_code == 128 + number


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_repeated_one_is_not_taken_for_a_second_signal(caplog):
    with pytest.raises(signals.Stopped), signals.handled():
        _Swallowing(signal.SIGTERM)
        _Swallowing(signal.SIGTERM)  # within a second
        wait(secs=20)
    assert "ending at once" not in caplog.text  # and this process still runs


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("swallow", [_Swallowing, _call_back, _catch])
def test_what_swallows_it_at_the_end_does_not_make_it_a_success(swallow):
    with pytest.raises(signals.Stopped) as caught, signals.handled():
        swallow(signal.SIGTERM)
    assert caught.value.exit_code == 143


def _print_as_c_code_does():
    """Python's PyErr_Print calls this hook, and goes on."""
    error = SystemError("returned a result with an exception set")
    sys.excepthook(SystemError, error, None)


def test_errors_that_c_code_prints_are_shown_but_for_those_that_a_signal_has_raised(capfd):
    hooks = sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    with pytest.raises(signals.Stopped), signals.handled():
        _print_as_c_code_does()
        shown = capfd.readouterr().err
        assert shown.splitlines()[-1].endswith("returned a result with an exception set")
        for swallow in (_Swallowing, _call_back, _catch):
            swallow(signal.SIGINT)
            _print_as_c_code_does()
    assert capfd.readouterr().err == ""
    assert (sys.excepthook, sys.unraisablehook) == hooks


def test_while_it_is_handled_it_is_not_raised_again(monkeypatch):
    monkeypatch.setattr(signals, "_REPEAT_SECS", 0.05)
    is_cleaned_up = False
    with pytest.raises(signals.Stopped), signals.handled():
        try:
            send(signal.SIGTERM)
        finally:
            wait(secs=0.5)
            is_cleaned_up = True
    assert is_cleaned_up


def test_old_code_may_catch_it_and_go_on(monkeypatch):
    monkeypatch.setattr(signals, "_REPEAT_SECS", 0.05)
    with signals.handled(is_insistent=False):
        _catch(signal.SIGINT)
        wait(secs=0.5)


def test_what_was_left_to_the_deferring_block_is_not_raised_again(monkeypatch):
    monkeypatch.setattr(signals, "_REPEAT_SECS", 0.05)
    with signals.handled():
        with signals.deferred() as stop:
            with contextlib.suppress(signals.Stopped), signals.undeferred():
                send(signal.SIGTERM)
            assert stop() == signal.SIGTERM
        wait(secs=0.5)


def test_other_errors_stay_what_they_are():
    with pytest.raises(SystemError), signals.handled():
        raise SystemError("broken")
    with pytest.raises(OSError, match="full"), signals.handled(), signals.deferred():
        send(signal.SIGTERM)
        raise OSError("full")


@pytest.mark.parametrize("number", SIGNALS)
def test_deferred_it_leaves_a_note(number, caplog):
    with signals.handled(), signals.deferred() as stop:
        assert stop() is None
        send(number)
        assert stop() == number
    assert f"{number.name}: finishing the step and saving" in caplog.text


@pytest.mark.parametrize("number", SIGNALS)
def test_a_block_that_waits_for_others_ends_after_some_time(number):
    code = (
        "import logging, os, time\n"
        "from deep_reid.system import signals\n"
        "logging.basicConfig()\n"
        "with signals.handled(), signals.deferred(0.1, 'waiting'):\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    time.sleep(600)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 128 + number
    assert f"{number.name}: waiting, for 0.1 s at most; once more ends at once" in ended.stderr


def test_after_the_deferring_block_signals_are_raised_again():
    with pytest.raises(signals.Stopped), signals.handled():
        with signals.deferred():
            pass
        send(signal.SIGTERM)


def test_handlers_are_as_before_and_no_thread_is_left():
    before = [signal.getsignal(number) for number in SIGNALS]
    threads = set(threading.enumerate())
    with signals.handled():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert set(threading.enumerate()) == threads


def test_what_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.handled(), signals.deferred() as stop:
            send(signal.SIGHUP)
            assert stop() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_nothing_is_deferred():
    with signals.deferred() as stop:
        assert stop() is None


def test_in_another_thread_nothing_changes():
    results = []

    def run():
        with signals.handled(), signals.deferred() as stop:
            results.append(stop())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results == [None]


def start(body):
    code = "import ctypes, logging, sys, time\nfrom deep_reid.system import signals\n"
    code += "logging.basicConfig()\n"
    code += textwrap.dedent(body)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


WAITING = """
    with signals.handled(), signals.deferred():
        print("ready", flush=True)
        while ctypes.CDLL(None).sleep(60):  # waits in C code; a signal interrupts it
            pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_process_that_waits_in_c_code(number):
    process = start(WAITING)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(number)
    assert process.wait(timeout=10) == 128 + number
    assert f"{number.name}: ending at once" in process.stderr.read()


def test_a_second_hangup_of_a_closing_terminal_is_no_second_signal():
    process = start(WAITING)
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.6)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_repeat_at_once_is_one_signal(first, second):
    process = start(
        """
        with signals.handled(), signals.deferred() as stop:
            print("ready", flush=True)
            while stop() is None:
                time.sleep(0.01)
            time.sleep(0.5)
            print("saved", stop(), flush=True)
        """
    )
    process.send_signal(first)
    process.send_signal(second)
    output, errors = process.communicate(timeout=60)
    assert output.startswith("saved")
    assert process.returncode == 0
    assert errors.count("finishing the step") == 1


@pytest.mark.parametrize(
    "module",
    ["deep_reid.__main__", "deep_reid.cli", "deep_reid.launch", "deep_reid.serve_bench",
     "deep_reid.legacy.command", "datasets.synthetic", "train_market1501"],
)  # fmt: skip
def test_commands_handle_signals_before_they_import_what_takes_time(module):
    code = f"import sys, {module}; print(*{{'numpy', 'cv2', 'tensorflow'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=True)
    assert result.stdout == b"\n"


SIGNAL_AT_IMPORT = """
import os, runpy, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Finder())
sys.argv = ["train_market1501.py", "--mode=eval", "--dataset_dir=missing"]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "module",
    ["deep_reid.cli.arguments", "deep_reid.config.kinds", "numpy", "numpy.linalg", "cv2",
     "datasets", "datasets.market1501", "deep_reid.cli.evaluate", "deep_reid.runs.folder"],
)  # fmt: skip
def test_a_signal_while_modules_are_imported_ends_with_one_line(module, number):
    script = str(ROOT / "train_market1501.py")
    code = SIGNAL_AT_IMPORT.format(module=module, number=int(number), script=script)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 128 + number
    assert result.stderr.splitlines()[-1].endswith(f"Interrupted by {number.name}")
    assert result.stderr.count("\n") == 1

"""Signals: the first one is taken in, the second one ends the process."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from deep_reid.cli import signals

ROOT = Path(__file__).parents[2]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(number):
    """Send a signal to this process, and let Python's handler run."""
    os.kill(os.getpid(), number)
    time.sleep(0.05)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_raised_with_its_exit_code(number):
    with pytest.raises(signals.Stopped) as caught, signals.handled():
        send(number)
    assert caught.value.exit_code == 128 + number
    assert str(caught.value) == number.name
    assert isinstance(caught.value, KeyboardInterrupt)  # no `except Exception` takes it for its own


@pytest.mark.parametrize("number", SIGNALS)
def test_deferred_it_leaves_a_note(number, caplog):
    with signals.handled(), signals.deferred() as stop:
        assert stop() is None
        send(number)
        assert stop() == number
    assert f"{number.name}: finishing the step and saving" in caplog.text


def test_after_the_deferring_block_signals_are_raised_again():
    with signals.handled():
        with signals.deferred():
            pass
        with pytest.raises(signals.Stopped):
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
    code = "import ctypes, logging, sys, time\nfrom deep_reid.cli import signals\n"
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
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(number)
    assert process.wait(timeout=10) == 128 + number
    assert f"{number.name}: ending at once" in process.stderr.read()


def test_a_second_hangup_of_a_closing_terminal_is_no_second_signal():
    process = start(WAITING)
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143

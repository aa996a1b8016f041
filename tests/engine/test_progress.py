"""Lines of the log that show how far a training is."""

import io
import itertools
import logging
import random
import re
import sys

import pytest

from deep_reid.cli.subject import showing_steps
from deep_reid.config import RunConfig
from deep_reid.engine import progress
from deep_reid.engine.progress import LOG_INTERVAL_SECS, Progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def lines(caplog, clock):
    """The times of the lines, and their texts."""
    caplog.set_level(logging.INFO)
    lines = []

    class Handler(logging.Handler):
        def emit(self, record):
            lines.append((clock.now, record.getMessage()))

    logger, handler = logging.getLogger(progress.__name__), Handler()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize("step_secs", [0.0001, 0.03, 0.7, 3.0, 9.999, 10.0, 25.0, "random"])
def test_lines_are_ten_seconds_apart_whatever_the_speed(clock, lines, step_secs):
    draw = random.Random(1)
    shown = Progress(8)
    durations = []
    for step in itertools.count(1):
        durations.append(draw.expovariate(0.2) if step_secs == "random" else step_secs)
        clock.now += durations[-1]
        shown.report(step, 1.5, is_last=False)
        if clock.now > 200:
            break
    assert lines[0] == (pytest.approx(100 + durations[0]), "step 1, loss 1.5000")
    times = [time for time, _ in lines]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert all(gap >= LOG_INTERVAL_SECS for gap in gaps)
    # A line is late by less than a step.
    assert all(gap < LOG_INTERVAL_SECS + max(durations) for gap in gaps)
    assert len(times) >= 3


@pytest.mark.parametrize("interval", [1, 3, 10])
def test_a_number_of_steps_between_lines_is_kept(clock, lines, interval):
    shown = Progress(8, log_every_n_steps=interval)
    for step in range(1, 31):
        clock.now += 60
        shown.report(step, 1.5, is_last=False)
    steps = [int(re.match(r"step (\d+), loss", text)[1]) for _, text in lines]
    assert steps == list(range(interval, 31, interval))


@pytest.mark.parametrize("interval", [None, 0, 7])
def test_the_last_step_always_has_a_line(clock, lines, interval):
    shown = Progress(8, 5, log_every_n_steps=interval)
    for step in range(1, 6):
        clock.now += 0.5
        shown.report(step, 0.25, is_last=step == 5)
    assert lines[-1][1] == "step 5/5, loss 0.2500, 16.0 images/s, 0:00:00 left"


def test_a_line_has_step_loss_epoch_speed_and_time_left(clock, lines):
    shown = Progress(16, 300, 10, images_per_epoch=120)
    for step in range(1, 11):
        clock.now += 2
        shown.report(step, 3.0, is_last=False)
    assert lines == [(120.0, "step 10/300, loss 3.0000, epoch 1.33, 8.0 images/s, 0:09:40 left")]


def test_what_is_paused_does_not_count_as_training(clock, lines):
    shown = Progress(16, log_every_n_steps=2)
    for step in (1, 2):
        clock.now += 1
        shown.report(step, 3.0, is_last=False)
        with shown.paused():
            clock.now += 500
    for step in (3, 4):
        clock.now += 1
        shown.report(step, 3.0, is_last=False)
    assert [text for _, text in lines] == [
        "step 2, loss 3.0000, 16.0 images/s",
        "step 4, loss 3.0000, 16.0 images/s",
    ]


def test_steps_of_other_workers_do_not_count_for_the_speed(clock, lines):
    shown = Progress(16, log_every_n_steps=1)
    for step in (4, 9):
        clock.now += 1
        shown.report(step, 3.0, is_last=False)
    assert lines[-1][1] == "step 9, loss 3.0000, 16.0 images/s"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("num_images", "batch_size", "step"), [(120, 16, 10), (7, 8, 1), (8, 8, 4)]
)
def test_the_bar_counts_epochs_as_the_log_does(lines, monkeypatch, num_images, batch_size, step):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    shown = Progress(batch_size, log_every_n_steps=1, images_per_epoch=num_images)
    config = RunConfig((32, 16, 3), batch_size=batch_size, number_of_steps=100)
    with showing_steps(config, num_images) as show:
        show(step, 1.5)
    shown.report(step, 1.5, is_last=False)
    (in_log,) = re.findall(r"epoch ([\d.]+)", lines[0][1])
    in_bar = re.findall(r"epoch ([\d.]+)", terminal.getvalue())[-1]
    assert float(in_bar) == pytest.approx(float(in_log), abs=0.06)
    assert float(in_log) == round(step * batch_size / num_images, 2)

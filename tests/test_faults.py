"""Faults, with real processes: what was learned is kept, and what went wrong is said."""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from deep_reid import checkpoints
from deep_reid.compat import tf

TRAINING = pathlib.Path(__file__).parent / "training_process.py"
NUM_KILLS = 30

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]


def start(log_dir, *argv):
    """Start a training; its lines are read with `follow` or `read`."""
    return subprocess.Popen(
        [sys.executable, str(TRAINING), str(log_dir), *argv],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def follow(process, pattern):
    """Read lines up to the first that matches; returns all of them."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    raise AssertionError("".join(lines))


def finish(process, code=0):
    output = process.communicate(timeout=240)[0]
    assert process.returncode == code, output
    return output


def run(log_dir, *argv, code=0):
    return finish(start(log_dir, *argv), code)


def newest_step(run_dir):
    """Return the step of the newest checkpoint, after reading all that is in it."""
    prefix = tf.train.latest_checkpoint(str(run_dir))
    if prefix is None:
        return None
    reader = tf.train.load_checkpoint(prefix)
    for name in reader.get_variable_to_shape_map():
        assert np.isfinite(reader.get_tensor(name)).all()
    step = int(reader.get_tensor("global_step"))
    assert prefix.endswith(f"-{step}")
    return step


def last_logged_step(lines):
    steps = [int(match[1]) for match in map(re.compile(r"step (\d+)/").search, lines) if match]
    return steps[-1] if steps else None


class TestKill:
    """kill -9 at any moment loses at most the steps since the last checkpoint."""

    def test_30_kills_at_random_moments(self, tmp_path):
        run_dir = tmp_path / "run"
        moments = random.Random(1)
        num_during_save, saved_step, steps = 0, None, []
        for _ in range(NUM_KILLS):
            process = start(tmp_path, "--steps=1000000", "--save_interval_secs=0.01")
            lines = follow(process, r"Training from step")
            began_at = int(re.search(r"Training from step (\d+)", lines[-1])[1])
            assert began_at == (saved_step or 0), "not resumed at the newest checkpoint"
            time.sleep(moments.uniform(0.0, 1.5))
            process.kill()
            process.communicate(timeout=30)
            num_during_save += any(run_dir.glob(".saving-*"))
            newest = newest_step(run_dir)
            assert newest is None or saved_step is None or newest >= saved_step
            saved_step = newest
            steps.append(saved_step)
        assert steps[-1] > 0
        assert steps == sorted(step or 0 for step in steps)
        assert num_during_save > 0, "no kill came while a checkpoint was being saved"
        finish_at = saved_step + 3
        output = run(tmp_path, f"--steps={finish_at}")
        assert f"Training from step {saved_step}" in output
        assert newest_step(run_dir) == finish_at
        assert not list(run_dir.glob(".saving-*"))

    def test_training_goes_on_with_the_optimizer_and_the_next_batch(self, tmp_path):
        whole = run(tmp_path / "whole", "--steps=30", "--deterministic")
        run(tmp_path / "parts", "--steps=12", "--deterministic")
        rest = run(tmp_path / "parts", "--steps=30", "--deterministic")
        losses = [re.findall(r"step (\d+)/\d+, loss (\S+),", text) for text in (whole, rest)]
        assert losses[0][12:] == losses[1]


class TestSignals:
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
    )
    def test_the_first_one_saves_the_step_it_was_in(self, tmp_path, number, code):
        process = start(tmp_path, "--steps=1000000", "--save_interval_secs=1000")
        lines = follow(process, r"step 20/")
        process.send_signal(number)
        output = "".join(lines) + finish(process, code)
        assert f"{number.name}: finishing the step and saving" in output
        assert newest_step(tmp_path / "run") == last_logged_step(output.splitlines())
        assert "Traceback" not in output

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_second_one_ends_at_once(self, tmp_path, number):
        process = start(tmp_path, "--steps=1000000", "--pause_secs=5", "--save_interval_secs=1000")
        follow(process, r"Training from step")
        process.send_signal(number)
        time.sleep(0.3)
        process.send_signal(number)
        begun_at = time.monotonic()
        finish(process, 128 + number)
        assert time.monotonic() - begun_at < 3
        assert newest_step(tmp_path / "run") == 0


class TestNumbers:
    def test_a_nan_is_named_with_its_step_and_the_last_good_checkpoint_stays(self, tmp_path):
        run(tmp_path, "--steps=5")
        before = {path.name: path.read_bytes() for path in tmp_path.glob("run/model.ckpt-5.*")}
        output = run(tmp_path, "--steps=200", "--nan_row=9", "--save_interval_secs=1000", code=1)
        assert re.search(r"RunError: step \d+: images is not finite", output)
        assert newest_step(tmp_path / "run") == 5
        assert {p.name: p.read_bytes() for p in tmp_path.glob("run/model.ckpt-5.*")} == before

    def test_a_bad_label_is_named(self, tmp_path):
        output = run(tmp_path, "--steps=5", "--bad_label=99", code=1)
        assert "DataError: label 99 is out of range" in output
        assert not (tmp_path / "run").exists()


class TestTwoTrainings:
    def test_the_second_on_one_directory_is_refused_and_changes_nothing(self, tmp_path):
        first = start(tmp_path, "--steps=1000000", "--pause_secs=0.05", "--save_interval_secs=1000")
        follow(first, r"step 3/")
        config = (tmp_path / "run" / "config.json").read_bytes()
        output = run(tmp_path, "--steps=7", code=1)
        assert "RunError: " in output
        assert f"process {first.pid}" in output
        assert (tmp_path / "run" / "config.json").read_bytes() == config
        first.send_signal(signal.SIGTERM)
        finish(first, 143)

    def test_after_a_kill_the_next_may_begin_at_once(self, tmp_path):
        first = start(tmp_path, "--steps=1000000", "--save_interval_secs=1000")
        follow(first, r"step 3/")
        first.kill()
        first.communicate(timeout=30)
        run(tmp_path, "--steps=7")
        assert newest_step(tmp_path / "run") == 7


class TestDeterminism:
    def test_the_same_seed_gives_the_same_losses_step_by_step(self, tmp_path):
        outputs = [run(tmp_path / name, "--steps=40", "--deterministic") for name in "ab"]
        losses = [re.findall(r"loss (\S+),", output) for output in outputs]
        assert len(losses[0]) == 40
        assert losses[0] == losses[1]
        other = run(tmp_path / "c", "--steps=40", "--deterministic", "--seed=4")
        assert re.findall(r"loss (\S+),", other) != losses[0]


def test_the_checkpoints_of_a_killed_training_are_complete(tmp_path):
    process = start(tmp_path, "--steps=1000000", "--save_interval_secs=0.01")
    follow(process, r"step 50/")
    process.kill()
    process.communicate(timeout=30)
    prefixes = checkpoints.list_checkpoints(tmp_path / "run")
    assert prefixes
    for prefix in prefixes:
        reader = tf.train.load_checkpoint(prefix)
        assert f"-{reader.get_tensor('global_step')}" in os.path.basename(prefix)

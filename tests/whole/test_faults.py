"""Faults, with real processes: what was learned is kept, and what went wrong is said."""

import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from datasets import synthetic
from deep_reid.compat import tf
from deep_reid.runs import records

HERE = pathlib.Path(__file__).parents[1]
TRAINING = HERE / "training_process.py"
EVALUATION = HERE / "evaluation_process.py"
SCRIPT = HERE.parent / "train_custom.py"
NUM_KILLS = 30

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]


def start(log_dir, *argv):
    """Start a training; its lines are read with `follow` or `read`."""
    return subprocess.Popen(
        [sys.executable, str(TRAINING), str(log_dir), *argv],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def start_script(cwd, *argv):
    """Start the script on the folder "people" in `cwd`; a training has a seed."""
    seed = [] if "--mode=eval" in argv else ["--seed=1"]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--dataset=people", *seed, *argv],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
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
    output = process.communicate(timeout=800)[0]
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


def read_checkpoint(run_dir):
    """Return the bytes of all that is in the newest checkpoint, by name."""
    reader = tf.train.load_checkpoint(str(run_dir))
    names = reader.get_variable_to_shape_map()
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in names}


def last_logged_step(lines):
    steps = [int(match[1]) for match in map(re.compile(r"step (\d+)/").search, lines) if match]
    return steps[-1] if steps else None


class TestKill:
    """kill -9 at any moment loses at most the steps since the last checkpoint."""

    def test_30_kills_at_random_moments(self, tmp_path, record_property):
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
        assert [step or 0 for step in steps] == sorted(step or 0 for step in steps)
        record_property("kills during a save", num_during_save)
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
        while newest_step(tmp_path / "run") is None:  # the start is being saved
            time.sleep(0.05)
        process.send_signal(number)
        time.sleep(1.2)
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

    def test_a_nan_in_a_new_run_leaves_its_start_and_its_curves(self, tmp_path):
        run(tmp_path, "--steps=200", "--nan_row=9", "--save_interval_secs=1000", code=1)
        assert newest_step(tmp_path / "run") == 0
        assert list(tmp_path.glob("run/events.*"))

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
        assert read_checkpoint(tmp_path / "a/run") == read_checkpoint(tmp_path / "b/run")
        other = run(tmp_path / "c", "--steps=40", "--deterministic", "--seed=4")
        assert re.findall(r"loss (\S+),", other) != losses[0]

    def test_so_does_the_real_network_to_the_last_bit(self, tmp_path):
        synthetic.draw_folders(tmp_path / "people", num_identities=8, images_per_identity=4)
        outputs = [
            finish(start_script(tmp_path, "--number_of_steps=12", "--log_every_n_steps=1",
                                "--image_shape", "64", "32", "--deterministic", f"--run_id={name}"))
            for name in "ab"
        ]  # fmt: skip
        losses = [re.findall(r"loss (\S+),", output) for output in outputs]
        assert len(losses[0]) == 12
        assert losses[0] == losses[1]
        runs_dir = tmp_path / "output/custom/train"
        weights = read_checkpoint(runs_dir / "a")
        assert "conv1_1/weights/Adam" in weights
        assert weights == read_checkpoint(runs_dir / "b")


class TestFeed:
    def test_an_error_in_one_thread_of_four_ends_the_training_with_it(self, tmp_path):
        output = run(tmp_path, "--steps=1000000", "--failing_thread=feed-1", code=1)
        assert output.rstrip().endswith("LookupError: the source broke in feed-1")
        assert re.search(r"The feed has failed in step \d+", output)
        assert newest_step(tmp_path / "run") < last_logged_step(output.splitlines()) + 1


FULL_DISK = """
    mount -t tmpfs -o size=8m tmpfs "$1" || exit 77
    "$2" "$3" "$1/train" --steps=1000000 --save_interval_secs=0.05 --fill_at_step=20
    echo "exit code $?"
    "$2" "$4" "$1/train" "$1/eval" --timeout_secs=5
    echo "exit code $?"
    rm "$1/train/filler"
    "$2" "$3" "$1/train" --steps=2000 --save_interval_secs=1000
    echo "exit code $?"
    "$2" "$4" "$1/train" "$1/eval" --timeout_secs=2
    echo "exit code $?"
"""


def test_a_disk_that_is_full_ends_training_and_evaluation_and_both_go_on_afterwards(tmp_path):
    """With a real file system of eight megabytes, which ends with the processes."""
    argv = ["unshare", "--mount", "sh", "-c", FULL_DISK, "sh", tmp_path, sys.executable, TRAINING,
            EVALUATION]  # fmt: skip
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    process = subprocess.run(
        list(map(str, argv)), capture_output=True, text=True, check=False, timeout=800
    )
    if "exit code" not in process.stdout:
        pytest.skip("needs the right to mount")
    full, full_eval, resumed, resumed_eval, _ = re.split(r"exit code \d+\n", process.stdout)
    assert re.findall(r"exit code (\d+)", process.stdout) == ["1", "1", "0", "0"], process.stdout
    reason = "No space left on device"
    assert re.search(rf"RunError: checkpoint .* could not be written .*{reason}", full)
    assert re.search(rf"RunError: the scores of step .* could not be written .*{reason}", full_eval)
    assert int(re.search(r"Training from step (\d+)", resumed)[1]) > 0
    assert re.search(r"step 2000: Precision@1", resumed_eval)


def test_the_checkpoints_of_a_killed_training_are_complete(tmp_path):
    process = start(tmp_path, "--steps=1000000", "--save_interval_secs=0.01")
    follow(process, r"step 50/")
    process.kill()
    process.communicate(timeout=30)
    prefixes = records.list_checkpoints(tmp_path / "run")
    assert prefixes
    for prefix in prefixes:
        reader = tf.train.load_checkpoint(prefix)
        assert f"-{reader.get_tensor('global_step')}" in os.path.basename(prefix)


class TestImages:
    """The script on own images, some of which go bad."""

    ARGS = ("--image_shape", "32", "16", "--batch_size=32", "--num_validation=0", "--run_id=run")

    @pytest.fixture
    def people(self, tmp_path):
        synthetic.draw_folders(tmp_path / "people", num_identities=20, images_per_identity=10)
        return sorted((tmp_path / "people").rglob("*.jpg"))

    def start(self, cwd, *argv):
        return start_script(
            cwd, *self.ARGS, "--save_summaries_secs=0.5", "--log_every_n_steps=10", *argv
        )

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda path: path.write_bytes(b""), "it is empty"),
            (lambda path: path.write_bytes(path.read_bytes()[:500]), "truncated"),
            (lambda path: path.write_bytes(b"no image"), "not a JPEG, PNG or BMP"),
            (pathlib.Path.unlink, "does not exist"),
        ],
        ids=["zero-byte", "truncated", "corrupt", "deleted"],
    )
    def test_one_that_goes_bad_in_training_ends_it_with_name_and_step(
        self, people, tmp_path, damage, reason
    ):
        process = self.start(tmp_path, "--number_of_steps=100000", "--save_interval_secs=0.5")
        follow(process, r"step 20/")
        damage(people[7])
        output = finish(process, 1)
        error = next(line for line in output.splitlines() if " ERROR " in line)
        assert str(people[7].relative_to(tmp_path)) in error
        assert reason in error
        assert re.search(r"The feed has failed in step \d+", output)
        assert "Traceback" not in output
        assert newest_step(tmp_path / "output/custom/train/run") > 0

    def test_some_are_skipped_and_too_many_are_not(self, people, tmp_path):
        people[7].write_bytes(b"")
        people[99].write_bytes(people[99].read_bytes()[:500])
        output = finish(self.start(tmp_path, "--number_of_steps=40", "--on_bad_image=skip"))
        for path in (people[7], people[99]):
            assert output.count(str(path.relative_to(tmp_path))) == 1
        (events,) = (tmp_path / "output/custom/train/run").glob("events.*")
        counts = [
            tf.make_ndarray(value.tensor).item() if value.HasField("tensor") else value.simple_value
            for event in tf.train.summary_iterator(str(events))
            for value in event.summary.value
            if value.tag.endswith("num_bad_images")
        ]
        assert counts[-1] == 2
        people[42].write_bytes(b"no image")
        output = finish(self.start(tmp_path, "--number_of_steps=100000"), 1)  # skips as it began
        assert "3 of 200" in output
        assert "1 %" in output

    @pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
    def test_a_file_that_never_ends_is_named(self, people, tmp_path, make):
        process = self.start(tmp_path, "--number_of_steps=100000", "--feed_timeout_secs=60")
        follow(process, r"step 20/")
        make(tmp_path / "endless")
        os.replace(tmp_path / "endless", people[7])
        output = finish(process, 1)
        name = people[7].relative_to(tmp_path)
        assert re.search(rf" ERROR .*{name} cannot be read \(it is a device or a pipe", output)


@pytest.mark.parametrize("num_kilobytes", [0, 1, 64, 300, 1500, 2000, 4000])
def test_a_limit_of_the_size_of_files_ends_with_one_line(tmp_path, num_kilobytes):
    size = 1024 * num_kilobytes
    synthetic.draw_folders(tmp_path / "people", num_identities=12, seed=1)
    process = subprocess.run(
        [sys.executable, str(SCRIPT), "--dataset=people", "--number_of_steps=2"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    assert "Traceback" not in process.stderr
    assert " ERROR " in process.stderr.splitlines()[-1]
    left = [path.name for path in (tmp_path / "output").rglob("*")]
    assert not [name for name in left if ".tmp" in name or name.startswith((".", "journal"))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with checkpoints at the steps 0, 2 and 4, the last one not recorded yet."""
    folder = tmp_path_factory.mktemp("trained")
    synthetic.draw_folders(folder / "people", num_identities=8, images_per_identity=4)
    for number in (2, 4):
        finish(start_script(folder, "--image_shape", "32", "16", "--batch_size=16",
                            "--num_validation=4", "--run_id=run", f"--number_of_steps={number}",
                            "--feed_timeout_secs=3"))  # fmt: skip
        (folder / "output/custom/train/run/checkpoint").rename(folder / f"record-{number}")
        shutil.copy(folder / f"record-{number}", folder / "output/custom/train/run/checkpoint")
    os.replace(folder / "record-2", folder / "output/custom/train/run/checkpoint")
    return folder


class TestEvaluationOfImages:
    """The script evaluates own images, which all go bad between two checkpoints."""

    @pytest.fixture
    def folder(self, trained, tmp_path):
        return shutil.copytree(trained, tmp_path / "folder")

    def start(self, folder, *argv):
        return start_script(
            folder, "--mode=eval", "--run_id=run", "--eval_interval_secs=0.2", *argv
        )

    def record_step_4(self, folder):
        os.replace(folder / "record-4", folder / "output/custom/train/run/checkpoint")

    def read_steps(self, folder):
        lines = (folder / "output/custom/eval/run/metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines]

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda path: path.write_bytes(b""), "it is empty"),
            (lambda path: path.write_bytes(path.read_bytes()[:500]), "truncated"),
            (lambda path: path.write_bytes(b"no image"), "not a JPEG, PNG or BMP"),
            (pathlib.Path.unlink, "does not exist"),
            (lambda path: (path.unlink(), os.mkfifo(path)), "it is a device or a pipe"),
        ],
        ids=["zero-byte", "truncated", "corrupt", "deleted", "hanging"],
    )
    def test_it_ends_with_a_name_and_scores_nothing(self, folder, damage, reason):
        process = self.start(folder)
        follow(process, r"step 2: Precision@1")
        time.sleep(1)  # its line and pictures follow
        for path in folder.rglob("*.jpg"):
            damage(path)
        self.record_step_4(folder)
        output = finish(process, 1)
        (error,) = [line for line in output.splitlines() if " ERROR " in line]
        assert re.search(r"people/\S+\.jpg", error)
        assert reason in error
        assert "Traceback" not in output
        assert self.read_steps(folder) == [0, 2]

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_ends_it_at_once_and_it_goes_on_afterwards(self, folder, number, code):
        process = self.start(folder)
        follow(process, r"step 2: Precision@1")
        time.sleep(1)  # its line and pictures follow
        process.send_signal(number)
        begun_at = time.monotonic()
        assert "Traceback" not in finish(process, code)
        assert time.monotonic() - begun_at < 5
        self.record_step_4(folder)
        finish(self.start(folder, "--max_num_evaluations=1"))
        assert self.read_steps(folder) == [0, 2, 4]


class TestEvaluation:
    """Beside a training that is killed, restarted, and deletes what is being read."""

    def test_evaluation_survives_all_that_and_evaluates_nothing_twice(self, tmp_path):
        log_dir, eval_dir = tmp_path / "train", tmp_path / "eval"
        evaluation = self.start(log_dir, eval_dir)
        for _ in range(4):
            training = start(log_dir, "--steps=1000000", "--save_interval_secs=0.01")
            follow(training, r"Training from step")
            time.sleep(2)
            training.kill()
            training.communicate(timeout=30)
        newest = newest_step(log_dir / "run")
        (log_dir / "run" / f"model.ckpt-{newest + 1}.index").write_bytes(b"half")
        time.sleep(2)
        evaluation.kill()
        evaluation.communicate(timeout=30)
        run(log_dir, f"--steps={newest + 5}")
        finish(self.start(log_dir, eval_dir, "--timeout_secs=5"))
        lines = (eval_dir / "run" / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines]
        assert len(steps) == len(set(steps))
        assert steps[-1] == newest + 5
        best = json.loads((log_dir / "run" / "best" / "score.json").read_text())
        scores = {json.loads(line)["step"]: json.loads(line)["Precision@1"] for line in lines}
        assert best["Precision@1"] == max(scores.values()) == scores[best["step"]]
        assert newest_step(log_dir / "run" / "best") == best["step"]

    def start(self, log_dir, eval_dir, *argv):
        return subprocess.Popen(
            [sys.executable, str(EVALUATION), str(log_dir), str(eval_dir), "--keep_best", *argv],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

"""Clusters that `deep_reid.launch` starts on this machine, and what they leave."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import clusters
import pytest

from deep_reid import cli, launch
from deep_reid.compat import tf

ROOT = pathlib.Path(__file__).parents[2]
NETWORK = ("--network=tiny:Net", "--image_shape", "32", "16")


def start(folder, own, argv, stderr=subprocess.STDOUT):
    command = [sys.executable, "-m", "deep_reid.launch", *own, "--", str(clusters.SCRIPT)]
    command += [*clusters.SMALL, f"--log_dir={folder / 'train'}", *argv]
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=stderr,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            start_new_session=True,
        )


def finish(process):
    """Return the exit code; no process of the launcher's session may be left."""
    try:
        code = process.wait(clusters.TIMEOUT_SECS)
        assert not exists(process.pid)
        return code
    finally:
        end_session(process.pid)


def read_scores(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    scores = [json.loads(line) for line in lines]
    return {entry["step"]: entry["Precision@1"] for entry in scores}


def read_events(folder):
    """Return all values of the folder's events, scores and pictures, by step and tag."""
    return {
        (event.step, value.tag): value.SerializeToString()
        for path in folder.glob("events*")
        for event in tf.train.summary_iterator(str(path))
        for value in event.summary.value
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory, drawn_market1501):
    """The folder of a training with all roles."""
    folder = tmp_path_factory.mktemp("launched")
    process = start(
        folder,
        ["--num_workers=2", "--num_ps=1", "--evaluator"],
        [
            f"--dataset={drawn_market1501}",
            "--run_id=run",
            "--number_of_steps=30",
            "--save_interval_secs=0.2",
            f"--eval_log_dir={folder / 'eval'}",
        ],
    )
    code = finish(process)
    assert code == 0, (folder / "log").read_text()
    return folder


@pytest.mark.slow
class TestATrainingWithAllRoles:
    def test_log_lines_tell_the_process(self, trained):
        lines = (trained / "log").read_text().splitlines()
        names = {line.partition(":")[0] for line in lines[1:]}
        assert names == {"chief", "worker-0", "ps-0", "evaluator"}
        assert any(line.endswith("a step takes 2 x 8 = 16 images") for line in lines)

    def test_the_chief_alone_records_the_run(self, trained):
        names = os.listdir(trained / "train" / "run")
        assert len([name for name in names if name.startswith("events")]) == 1
        assert "model.ckpt-30.index" in names and "config.json" in names

    def test_the_evaluator_gives_the_scores_and_events_of_mode_eval(self, trained, tmp_path):
        argv = [f"--log_dir={trained / 'train'}", "--run_id=run", "--until_trained"]
        assert cli.main(
            "datasets.market1501:Market1501",
            ["--mode=eval", *argv, f"--eval_log_dir={tmp_path}"],
        ) == 0  # fmt: skip
        of_evaluator = read_scores(trained / "eval" / "run")
        of_eval = read_scores(tmp_path / "run")
        assert of_eval == of_evaluator and 30 in of_eval
        events = read_events(tmp_path / "run")
        assert events == read_events(trained / "eval" / "run")
        tags = {tag for step, tag in events if step == 30}
        assert {"Precision_1", "ranking/probe_0"} <= tags

    @pytest.mark.parametrize("mode", ["test", "finalize", "freeze"])
    def test_other_modes_work_on_it(self, trained, mode):
        argv = [f"--mode={mode}", f"--log_dir={trained / 'train'}", "--run_id=run"]
        assert cli.main("datasets.market1501:Market1501", argv) == 0

    def test_one_process_goes_on_with_it(self, trained, monkeypatch):
        argv = ["--mode=train", f"--log_dir={trained / 'train'}", "--run_id=run"]
        argv += ["--number_of_steps=32", "--log_every_n_steps=1"]
        assert cli.main("datasets.market1501:Market1501", argv) == 0
        assert (trained / "train" / "run" / "model.ckpt-32.index").exists()


@pytest.mark.slow
class TestEnds:
    def test_the_first_failure_gives_the_exit_code(self, tmp_path, drawn_market1501):
        argv = [f"--dataset={drawn_market1501}", "--batch_size=7"]
        assert finish(start(tmp_path, [], argv)) == 2
        assert "must be a multiple of num_images_per_id" in (tmp_path / "log").read_text()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_all(self, tmp_path, drawn_market1501, number):
        process = start(tmp_path, [], [f"--dataset={drawn_market1501}", "--run_id=run"])
        clusters.wait_until(
            lambda: " step 20, " in (tmp_path / "log").read_text(), "step 20 of the training"
        )
        process.send_signal(number)
        assert finish(process) == 128 + number
        log = (tmp_path / "log").read_text()
        last = max(map(int, re.findall(r"^chief: .* step (\d+), ", log, re.MULTILINE)))
        state = (tmp_path / "train" / "run" / "checkpoint").read_text()
        assert state.startswith(f'model_checkpoint_path: "model.ckpt-{last}"')  # none is lost

    @pytest.mark.long
    def test_a_killed_worker_is_started_again(self, tmp_path, drawn_market1501):
        argv = [f"--dataset={drawn_market1501}", "--run_id=run", "--number_of_steps=300"]
        process = start(tmp_path, [], argv)
        clusters.wait_until(
            lambda: " step 20, " in (tmp_path / "log").read_text(), "step 20 of the training"
        )
        os.kill(find_member(process.pid, "worker"), signal.SIGKILL)
        assert finish(process) == 0, (tmp_path / "log").read_text()
        log = (tmp_path / "log").read_text()
        assert "worker-0: ended by SIGKILL; it is started again" in log
        assert "chief: " in log and "step 300/300" in log

    @pytest.mark.long
    def test_members_end_when_the_launcher_is_killed(self, tmp_path, drawn_market1501):
        process = start(tmp_path, [], [f"--dataset={drawn_market1501}", "--run_id=run"])
        clusters.wait_until(
            lambda: " step 20, " in (tmp_path / "log").read_text(), "step 20 of the training"
        )
        process.kill()
        process.wait()
        try:
            clusters.wait_until(lambda: not exists(process.pid), "the end of all members")
        finally:
            end_session(process.pid)
        state = (tmp_path / "train" / "run" / "checkpoint").read_text()
        saved = int(re.match(r'model_checkpoint_path: "model.ckpt-(\d+)"', state)[1])
        assert saved >= 20  # the chief saves

    @pytest.mark.long
    def test_lines_that_nobody_reads_stop_nothing(self, tmp_path, drawn_market1501):
        argv = [f"--dataset={drawn_market1501}", "--run_id=run", "--number_of_steps=1500"]
        reading, writing = os.pipe()
        process = start(tmp_path, [], argv, stderr=writing)
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)  # as "| head" does; the lines are more than a pipe holds
        assert finish(process) == 0
        assert (tmp_path / "train" / "run" / "model.ckpt-1500.index").exists()


def exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def end_session(group):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def find_member(launcher, role):
    children = pathlib.Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for child in children:
        environment = pathlib.Path(f"/proc/{child}/environ").read_bytes().decode().split("\0")
        config = next(line for line in environment if line.startswith("TF_CONFIG="))
        if json.loads(config.partition("=")[2])["task"]["type"] == role:
            return int(child)
    raise AssertionError(f"no {role} among {children}")


class TestShares:
    @pytest.mark.parametrize(
        ("num_gpus", "num_cores", "expected"), [(4, 64, 4), (1, 8, 1), (0, 2, 2), (0, 64, 8)]
    )
    def test_auto(self, num_gpus, num_cores, expected):
        assert launch.choose_num_workers(num_gpus, num_cores) == expected

    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_cores_are_split(self, count):
        cores = list(range(10, 20))
        shares = [launch.share(cores, index, count) for index in range(count)]
        assert [core for own in shares for core in own] == cores
        assert max(map(len, shares)) - min(map(len, shares)) <= 1

    def test_too_few_are_shared(self):
        assert [launch.share(["0", "1"], index, 3) for index in range(3)] == [["0"], ["1"], ["0"]]
        assert launch.share([], 0, 2) == []

    def test_gpus_are_those_that_the_user_shows(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
        assert launch.find_gpus() == ["2", "5"]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert launch.find_gpus() == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the command is missing"),
        (["--"], "the command is missing"),
        (["train_mars.py", "--mode=train"], "the command is missing: write it behind --"),
        (["--num_workers=0", "--", "train_mars.py"], "--num_workers: 0 must be a whole number"),
        (["--num_workers=1.5", "--", "train_mars.py"], "at least 1, or auto"),
        (["--num_ps=x", "--", "train_mars.py"], "--num_ps: x must be a whole number of at least 1"),
        (["--num_restarts=-1", "--", "train_mars.py"], "-1 must be a whole number of at least 0"),
        (["--num_wrokers=2", "--", "train_mars.py"], "did you mean --num_workers"),
        (["--", "no-such-command"], "'no-such-command' is no command"),
        (["--", "no_such_script.py"], "no_such_script.py does not exist"),
        (["--", "true", "--mode=test"], "--mode=test needs no cluster"),
        (["--", "true", "--mode", "export"], "--mode=export needs no cluster"),
    ],
)
def test_usage(argv, message, capsys, caplog):
    try:
        code = launch.main(argv)
    except SystemExit as error:
        code = error.code
    assert code == 2
    (line,) = (capsys.readouterr().err + caplog.text).splitlines()
    assert message in line


@pytest.mark.slow
class TestOtherCommands:
    """The launcher starts what stands behind ``--``, whatever it is."""

    def run(self, tmp_path, text, own=()):
        script = tmp_path / "script.py"
        script.write_text(f"import json, os, pathlib, signal, sys, time\n{text}")
        return launch.main([*own, "--", str(script)])

    def test_none_is_left_if_one_cannot_be_started(self, tmp_path, monkeypatch, caplog):
        started = []

        class Failing(subprocess.Popen):
            def __init__(self, *args, **kwargs):
                if len(started) == 2:
                    raise BlockingIOError(11, "Resource temporarily unavailable")
                super().__init__(*args, **kwargs)
                started.append(self)

        monkeypatch.setattr(subprocess, "Popen", Failing)
        assert self.run(tmp_path, "time.sleep(300)") == 1
        assert "temporarily unavailable" in caplog.messages[-1]
        assert [process.wait(clusters.TIMEOUT_SECS) for process in started] == [-9, -9]

    @pytest.mark.parametrize("role", ["chief", "worker", "evaluator"])
    def test_a_killed_process_is_started_again_so_often(self, tmp_path, caplog, role):
        text = f"""
task = json.loads(os.environ["TF_CONFIG"])["task"]
with open({str(tmp_path / "starts")!r} + task["type"], "a") as file: file.write("x")
if task["type"] == {role!r}: os.kill(os.getpid(), signal.SIGKILL)
if task["type"] == "ps": time.sleep(300)
"""
        assert self.run(tmp_path, text, ["--evaluator", "--num_restarts=2"]) == 128 + 9
        assert (tmp_path / f"starts{role}").read_text() == "xxx"
        assert len([line for line in caplog.messages if "it is started again" in line]) == 2

    def test_lines_pass_as_they_are(self, tmp_path, capfdbinary, monkeypatch):
        text = "os.write(1, b'gr\\xc3\\xbc\\xff\\xdfe\\n')"
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        assert self.run(tmp_path, text) == 0
        assert b"chief: gr\xc3\xbc\xff\xdfe\n" in capfdbinary.readouterr().out


def test_it_needs_no_numpy():
    """It begins at once, and Ctrl-C in its first moments is told in a line."""
    code = "import sys; sys.modules['numpy'] = None; import deep_reid.launch"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

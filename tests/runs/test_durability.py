"""Full disks, killed processes and two trainings of one run: nothing is lost, nothing is half."""

import itertools
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import processes
import pytest

from deep_reid import export
from deep_reid.compat import slim, tf
from deep_reid.config import RunConfig
from deep_reid.errors import RunError
from deep_reid.evaluation import score_log
from deep_reid.runs import checkpoints, records, saving
from deep_reid.runs.run import Run
from deep_reid.system import files

pytestmark = pytest.mark.usefixtures("graph")

ROOT = Path(__file__).parents[2]
CONFIG = RunConfig((32, 16, 3), seed=1)
NO_SPACE = OSError(28, "No space left on device")


class Model:
    """A session with a weight that can be saved."""

    def __init__(self, **saver_kwargs):
        self.weight = slim.model_variable("weight", (1000,), initializer=tf.zeros_initializer())
        self.saver = saving.Saver(**saver_kwargs)
        self.session = tf.Session()

    def save(self, directory, step, value=None):
        value = step if value is None else value
        self.weight.load(np.full(1000, value, np.float32), self.session)
        return self.saver.save(self.session, os.path.join(directory, "model.ckpt"), step)


@pytest.fixture
def model():
    model = Model(max_to_keep=2)
    with model.session:
        yield model


def snapshot(directory):
    return {
        path.relative_to(directory): path.read_bytes()
        for path in Path(directory).rglob("*")
        if path.is_file()
    }


def fail(*args, **kwargs):
    raise NO_SPACE


class TestSave:
    def test_as_many_checkpoints_are_kept_and_recorded_as_was_asked_for(self, model, tmp_path):
        prefixes = [model.save(tmp_path, step) for step in (0, 3, 7)]
        assert records.list_checkpoints(tmp_path) == prefixes[1:]
        assert tf.train.latest_checkpoint(tmp_path) == prefixes[-1]
        endings = ("data-00000-of-00001", "index", "meta")
        expected = {f"model.ckpt-{step}.{ending}" for step in (3, 7) for ending in endings}
        assert set(os.listdir(tmp_path)) == {"checkpoint", *expected}

    def test_in_a_relative_directory_too_names_alone_are_recorded(
        self, model, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "log" / "run").mkdir(parents=True)
        prefix = model.save("log/run", 3)
        assert prefix == "log/run/model.ckpt-3"
        assert tf.train.latest_checkpoint("log/run") == prefix
        (tmp_path / "log").rename(tmp_path / "moved")
        assert tf.train.latest_checkpoint("moved/run") == "moved/run/model.ckpt-3"

    def test_all_is_on_the_disk_before_it_is_recorded_and_before_others_are_deleted(
        self, model, tmp_path, monkeypatch
    ):
        model.save(tmp_path, 1)
        model.save(tmp_path, 2)
        seen, flushed, fsync = [], [], os.fsync
        write_state = records.write_state

        def watched_fsync(descriptor):
            flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        def watched_write_state(directory, prefixes):
            seen.extend(sorted(os.listdir(tmp_path)))
            names = {os.path.basename(path).partition(".")[2] for path in flushed}
            assert names >= {"ckpt-3.index", "ckpt-3.meta", "ckpt-3.data-00000-of-00001"}
            assert flushed[-1] == str(tmp_path)
            write_state(directory, prefixes)

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(records, "write_state", watched_write_state)
        model.save(tmp_path, 3)
        assert {"model.ckpt-1.index", "model.ckpt-2.index", "model.ckpt-3.index"} < set(seen)
        assert Path(flushed[-2]).name.startswith(".checkpoint-")  # the record, then its folder
        assert flushed[-1] == str(tmp_path)

    @pytest.mark.parametrize("name", ["fsync", "replace"])
    def test_a_disk_that_fails_leaves_all_as_it_was(self, model, tmp_path, monkeypatch, name):
        model.save(tmp_path, 1)
        before = snapshot(tmp_path)
        monkeypatch.setattr(os, name, fail)
        message = r"model\.ckpt-2 could not be written \(No space left on device\); earlier ones"
        with pytest.raises(RunError, match=message) as caught:
            model.save(tmp_path, 2)
        assert "resume with the same run_id" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert snapshot(tmp_path) == before

    def test_a_record_that_cannot_be_written_leaves_all_as_it_was(
        self, model, tmp_path, monkeypatch
    ):
        model.save(tmp_path, 1)
        model.save(tmp_path, 2)
        before = snapshot(tmp_path)
        monkeypatch.setattr(records, "write_state", fail)
        with pytest.raises(RunError, match="model.ckpt-3 could not be written"):
            model.save(tmp_path, 3)
        assert snapshot(tmp_path) == before
        monkeypatch.undo()
        model.save(tmp_path, 4)
        steps = [path[-1] for path in records.list_checkpoints(tmp_path)]
        assert steps == ["2", "4"]

    @pytest.mark.parametrize(
        "error",
        [
            tf.errors.ResourceExhaustedError(None, None, "x; No space left on device"),
            tf.errors.UnknownError(None, None, "x; Input/output error"),
            tf.errors.OutOfRangeError(None, None, "x; File too large"),
        ],
    )
    def test_errors_of_tensorflows_writer_are_one_line(self, model, tmp_path, monkeypatch, error):
        model.save(tmp_path, 1)
        before = snapshot(tmp_path)

        def write_half(saver, session, path, *args, **kwargs):
            Path(f"{path}-2.data-00000-of-00001.tempstate1").write_bytes(b"half")
            raise error

        monkeypatch.setattr(tf.train.Saver, "save", write_half)
        with pytest.raises(RunError, match=error.message):
            model.save(tmp_path, 2)
        assert snapshot(tmp_path) == before

    def test_an_error_that_is_none_of_the_disk_stays_what_it_is(self, model, tmp_path):
        slim.model_variable("unset", ())
        saver = saving.Saver()
        with pytest.raises(tf.errors.FailedPreconditionError):
            saver.save(model.session, str(tmp_path / "model.ckpt"))
        assert os.listdir(tmp_path) == []

    def test_the_same_checkpoint_is_not_written_again_but_another_of_its_name_is(
        self, model, tmp_path
    ):
        prefix = model.save(tmp_path, 1)
        inode = os.stat(f"{prefix}.index").st_ino
        model.save(tmp_path, 1)
        assert os.stat(f"{prefix}.index").st_ino == inode
        model.session.run(model.weight.assign_add(tf.ones(1000)))
        model.saver.save(model.session, str(tmp_path / "model.ckpt"), 1)
        assert tf.train.load_checkpoint(prefix).get_tensor("weight")[0] == 2.0
        assert records.list_checkpoints(tmp_path) == [prefix]

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_model_that_is_not_finite_is_not_kept(self, model, tmp_path, value):
        model.save(tmp_path, 1)
        before = snapshot(tmp_path)
        message = r"model\.ckpt-2 is not kept, as weight is not finite .*: lower --learning_rate"
        with pytest.raises(RunError, match=message):
            model.save(tmp_path, 2, value)
        assert snapshot(tmp_path) == before

    def test_a_value_that_changed_on_the_disk_is_noticed(self, model, tmp_path):
        prefix = model.save(tmp_path, 1)
        assert checkpoints.is_readable(prefix)
        path = Path(f"{prefix}.data-00000-of-00001")
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
        assert not checkpoints.is_readable(prefix)


def network(images):
    weight = slim.model_variable("weight", (1000,), initializer=tf.zeros_initializer())
    return images[:, 0, 0, :] + weight[0], None


def test_a_finalize_that_fails_leaves_nothing(model, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    prefix = model.save(tmp_path / "run", 1)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match=r"final could not be written .* try again"):
        export.finalize(
            lambda image, is_training: tf.cast(image, tf.float32),
            network,
            prefix,
            (2, 2, 3),
            tmp_path / "out" / "final",
        )
    assert os.listdir(tmp_path / "out") == []


def run_python(code, *args, prefix=(), **kwargs):
    return subprocess.run(
        [*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, **kwargs,
    )  # fmt: skip


SAVE_TWICE = """
    import os, signal, sys, resource
    import numpy as np
    from deep_reid.evaluation import score_log
    from deep_reid.runs import checkpoints, records, saving
    from deep_reid.system import files
    from deep_reid.compat import slim, tf
    from deep_reid.errors import RunError
    directory = sys.argv[1]
    size = tf.placeholder(tf.int32, ())
    weight = tf.Variable(tf.zeros([4]), validate_shape=False)
    grow = tf.assign(weight, tf.random.uniform([size]), validate_shape=False)
    with tf.Session() as session:
        saver = saving.Saver()
        session.run(grow, {size: 4})
        saver.save(session, directory + "/model.ckpt", 1)
        before = sorted(os.listdir(directory))
        session.run(grow, {size: 2**20})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if len(sys.argv) > 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        try:
            saver.save(session, directory + "/model.ckpt", 2)
        except RunError as error:
            print(error)
    try:
        with files.replacing(directory + "/checkpoint") as path, open(path, "wb") as file:
            file.write(bytes(2**22))
    except OSError as error:
        print(error.filename, error.strerror)
    log = score_log.ScoreLog(directory)
    try:
        log.append({"step": 1, "x": "x" * 2**22})
    except RunError as error:
        print(error)
    os.unlink(directory + "/metrics.jsonl")
    print(sorted(os.listdir(directory)) == before)
    print(records.list_checkpoints(directory))
"""


def start_code(code, folder, *args):
    """Start code as a script, in a process that is forked from one with TensorFlow."""
    (folder / "script.py").write_text(textwrap.dedent(code))
    output = folder / "output.txt"
    output.touch()
    argv = [*map(str, args)]
    return processes.start_script(folder / "script.py", argv, ROOT, [ROOT], output), output


def check_output(output, directory, reason):
    lines = output.splitlines()
    assert lines[0].startswith(f"checkpoint {directory}/model.ckpt-2 could not be written (")
    assert reason in lines[0]
    assert lines[1] == f"{directory}/checkpoint {reason}"
    assert lines[2].startswith("the scores of step 1 could not be written to")
    assert reason in lines[2]
    assert lines[3] == "True"
    assert lines[4] == str([f"{directory}/model.ckpt-1"])


@pytest.mark.slow
def test_files_that_may_not_grow_leave_the_checkpoint_before(tmp_path):
    (tmp_path / "run").mkdir()
    process, output = start_code(SAVE_TWICE, tmp_path, tmp_path / "run", "limit")
    process.join(120)
    assert process.exitcode == 0, output.read_text()
    check_output(output.read_text(), tmp_path / "run", "File too large")


@pytest.mark.slow
def test_a_disk_that_is_full_leaves_the_checkpoint_before(tmp_path):
    """With a real file system of two megabytes, which ends with the process."""
    mount = f'mount -t tmpfs -o size=2m tmpfs "{tmp_path}" && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    can_mount = (
        shutil.which("unshare")
        and not subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    )
    if not can_mount:
        pytest.skip("needs the right to mount")
    process = run_python(SAVE_TWICE, tmp_path, prefix=prefix)
    assert process.returncode == 0, process.stderr
    check_output(process.stdout, tmp_path, "No space left on device")


def hold(directory, has_begun=None):
    with Run.open(directory, "run") as run:
        run.begin(CONFIG)
        if has_begun is not None:
            has_begun.set()
            time.sleep(100)


@pytest.fixture
def other(tmp_path):
    """Another process that trains the run "run"."""
    has_begun = processes.CONTEXT.Event()
    process = processes.CONTEXT.Process(target=hold, args=(tmp_path, has_begun))
    process.start()
    assert has_begun.wait(60)
    yield process
    process.kill()
    process.join()


class TestLock:
    def test_a_second_training_is_refused_and_changes_nothing(self, tmp_path, other):
        before = snapshot(tmp_path)
        expected = rf"run run is being trained by process {other.pid} on \S+ since 20.*another run"
        with pytest.raises(RunError, match=expected), Run.open(tmp_path, "run") as run:
            run.begin(RunConfig((32, 16, 3), seed=2))
        assert snapshot(tmp_path) == before

    def test_when_the_first_is_killed_the_second_may_start_at_once(self, tmp_path, other):
        other.kill()
        other.join()
        with Run.open(tmp_path, "run") as run:
            run.begin(CONFIG)

    def test_another_run_is_not_refused(self, tmp_path, other):
        with Run.open(tmp_path, "run2") as run:
            run.begin(CONFIG)

    def test_a_training_is_refused_before_it_touches_the_run(self, tmp_path, other):
        from linear_model import LinearModel, ones

        before = snapshot(tmp_path)
        with pytest.raises(RunError, match=f"process {other.pid}"):
            LinearModel().run(ones(3), tmp_path)
        assert snapshot(tmp_path) == before

    def test_who_trains_an_open_run_keeps_others_out_until_it_is_closed(self, tmp_path):
        from linear_model import LinearModel, ones

        expected = f"is being trained by process {os.getpid()}"
        with Run.open(tmp_path, "run") as run:
            run.begin(CONFIG)
            LinearModel().run(ones(3), None, run_id=None, run=run)
            with pytest.raises(RunError, match=expected):
                processes.call(hold, tmp_path)
            with pytest.raises(RunError, match=expected), Run.open(tmp_path, "run"):
                pass
            with pytest.raises(RunError, match=expected):
                processes.call(hold, tmp_path)
        with Run.open(tmp_path, "run") as run:
            assert run.first_step == 3

    def test_a_forked_process_that_outlives_the_training_holds_nothing(self, tmp_path):
        code = """
            import os, sys, time
            from deep_reid.runs.run import Run
            with Run.open(sys.argv[1], "run"):
                open(sys.argv[1] + "/run/file", "w").close()
                if os.fork() == 0:
                    for descriptor in (0, 1, 2):
                        os.close(descriptor)
                    time.sleep(5)
                os._exit(0)
        """
        process, output = start_code(code, tmp_path, tmp_path)
        process.join(120)
        assert process.exitcode == 0, output.read_text()
        with Run.open(tmp_path, "run"):
            pass

    def test_a_second_evaluation_into_a_directory_is_refused(self, tmp_path):
        from deep_reid.system import locks

        code = """
            import sys
            from deep_reid.system import locks
            with locks.holding(sys.argv[1], "run a", locks.EVALUATION):
                pass
        """
        with locks.holding(tmp_path, "run a", locks.EVALUATION):
            expected = f"run a is being evaluated by process {os.getpid()} on"
            second = run_python(code, tmp_path)
            assert expected in second.stderr
            assert "stop it, or use another eval_log_dir" in second.stderr
            # It may be the run's own directory: training and evaluation do not exclude each other.
            with locks.holding(tmp_path, "run a", locks.TRAINING):
                pass
        assert run_python(code, tmp_path).returncode == 0

    def test_a_training_that_ends_unused_leaves_the_lock_of_an_evaluation(self, tmp_path):
        from deep_reid.system import locks

        with locks.holding(tmp_path / "run", "run run", locks.EVALUATION):
            with Run.open(tmp_path, "run"):
                pass
            assert (tmp_path / "run" / "evaluation.lock").exists()
        with Run.open(tmp_path, "run"):
            with locks.holding(tmp_path / "run", "run run", locks.EVALUATION):
                pass
            assert (tmp_path / "run" / "lock").exists()

    @pytest.mark.parametrize("is_used", [False, True])
    def test_folders_that_were_made_for_nothing_but_the_lock_are_removed(self, tmp_path, is_used):
        from deep_reid.system import locks

        (tmp_path / "old").mkdir()
        folder = tmp_path / "old" / "new" / "run"
        with locks.holding(folder, "run", locks.EVALUATION):
            if is_used:
                (folder / "metrics.jsonl").touch()
        assert (tmp_path / "old").exists()
        assert (tmp_path / "old" / "new").exists() == folder.exists() == is_used
        with locks.holding(tmp_path / "old", "run", locks.EVALUATION):
            pass
        assert (tmp_path / "old").exists()

    def test_without_locks_a_warning_says_so(self, tmp_path, monkeypatch, caplog):
        def refuse(*args):
            raise OSError(95, "Operation not supported")

        from deep_reid.system import locks

        monkeypatch.setattr(locks.fcntl, "flock", refuse)
        with Run.open(tmp_path, "run"):
            pass
        assert "cannot be locked (Operation not supported)" in caplog.text
        monkeypatch.setattr(locks, "fcntl", None)
        with Run.open(tmp_path, "run"):
            pass
        assert "has no locks" in caplog.text

    def test_a_directory_that_nothing_was_written_to_is_removed(self, tmp_path):
        with Run.open(tmp_path / "log") as run:
            assert (tmp_path / "log" / run.run_id / "lock").exists()
        assert not (tmp_path / "log").exists()


def train_and_save_each_step(directory):
    from linear_model import LinearModel

    LinearModel().run(
        itertools.repeat((np.ones(4, np.float32),)), directory, save_interval_secs=1e-6,
        save_summaries_secs=0, max_checkpoints_to_keep=2,
    )  # fmt: skip


@pytest.mark.slow
def test_a_training_that_is_killed_while_it_saves_leaves_whole_checkpoints(tmp_path):
    from linear_model import LinearModel, ones, weight_in

    for number in range(3):
        process = processes.CONTEXT.Process(target=train_and_save_each_step, args=(tmp_path,))
        process.start()
        deadline = time.monotonic() + 60
        wanted = 20 * (number + 1)
        while time.monotonic() < deadline:
            latest = records.list_checkpoints(tmp_path / "run")
            if latest and int(latest[-1].rpartition("-")[2]) >= wanted:
                break
            time.sleep(0.01)
        process.kill()
        process.join()
        latest = records.list_checkpoints(tmp_path / "run")
        assert latest
        for path in latest:
            assert checkpoints.is_readable(path)
            assert weight_in(path) == int(path.rpartition("-")[2]) >= wanted - 1
    with tf.Graph().as_default():
        LinearModel().run(ones(3), tmp_path)
    assert not list((tmp_path / "run").glob(".saving-*"))


class TestScoreLog:
    def test_a_line_that_lacks_only_its_end_is_kept(self, tmp_path):
        (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}')
        log = score_log.ScoreLog(tmp_path)
        log.append({"step": 3})
        expected = '{"step": 1}\n{"step": 2}\n{"step": 3}\n'
        assert (tmp_path / "metrics.jsonl").read_text() == expected

    @pytest.mark.parametrize("torn", [b'{"st', b"\xff\x00", b"3", b'{"step": "x"}'])
    def test_a_torn_line_is_passed_over_and_cut_off(self, tmp_path, torn):
        (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + torn)
        log = score_log.ScoreLog(tmp_path)
        assert [line["step"] for line in log.lines] == [1]
        log.append({"step": 3})
        assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 3}\n'

    def test_a_line_is_on_the_disk_when_append_returns(self, tmp_path, monkeypatch):
        flushed, fsync = [], os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(os.fstat(fd)), fsync(fd)))
        score_log.ScoreLog(tmp_path / "new").append({"step": 3})
        assert flushed[0].st_size == len('{"step": 3}\n')

    def test_a_full_disk_leaves_the_lines_before(self, tmp_path, monkeypatch):
        log = score_log.ScoreLog(tmp_path)
        log.append({"step": 1})
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(RunError, match=r"scores of step 2 .* \(No space left on device\)"):
            log.append({"step": 2})
        assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


class TestReplacing:
    def test_the_folder_is_flushed_after_the_file_got_its_name(self, tmp_path, monkeypatch):
        seen, fsync = [], os.fsync

        def watched_fsync(descriptor):
            seen.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.listdir(tmp_path)))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", watched_fsync)
        files.write_text(tmp_path / "result.txt", "x")
        assert seen[-1] == (str(tmp_path), ["result.txt"])

    def test_a_full_disk_leaves_the_old_file_and_names_it(self, tmp_path, monkeypatch):
        files.write_text(tmp_path / "result.txt", "old")
        monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space")))
        with pytest.raises(OSError) as caught:
            files.write_text(tmp_path / "result.txt", "new")
        assert caught.value.filename == str(tmp_path / "result.txt")
        assert snapshot(tmp_path) == {Path("result.txt"): b"old"}

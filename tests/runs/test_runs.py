"""Runs: how they are named, opened, found, waited for, and undone."""

import logging
import os
import threading
from pathlib import Path

import pytest
from saved import save

from deep_reid.compat import tf
from deep_reid.config import RunConfig
from deep_reid.errors import DataError, MissingPathError, RunError, UsageError
from deep_reid.runs import folder, labels, records
from deep_reid.runs.run import Run
from deep_reid.system import locks

pytestmark = pytest.mark.usefixtures("graph")

CONFIG = RunConfig((32, 16, 3), seed=1)


def begin(log_dir, run_id):
    with Run.open(log_dir, run_id) as run:
        run.begin(CONFIG)


class TestOpenRun:
    def test_makes_the_directory_and_is_the_latest(self, tmp_path):
        with Run.open(tmp_path / "new" / "log", "baseline") as run:
            run.begin(CONFIG)
            assert run.run_id == "baseline"
            assert Path(run.run_dir) == tmp_path / "new" / "log" / "baseline"
        assert (tmp_path / "new" / "log" / "baseline").is_dir()
        assert folder.find_latest_run(tmp_path / "new" / "log") == "baseline"

    def test_without_a_name_each_run_gets_a_new_one(self, tmp_path):
        names = []
        for _ in range(4):
            with Run.open(tmp_path) as run:
                run.begin(CONFIG)
            names.append(run.run_id)
        assert len(set(names)) == 4
        assert all((tmp_path / name).is_dir() for name in names)
        assert folder.find_latest_run(tmp_path) == names[-1]

    def test_two_that_begin_in_the_same_second_get_two_runs(self, tmp_path):
        with Run.open(tmp_path) as first, Run.open(tmp_path) as second:
            assert first.run_id != second.run_id

    def test_a_resumed_run_keeps_its_files_and_becomes_the_latest(self, tmp_path):
        for name in ("first", "second", "first"):
            with Run.open(tmp_path, name) as run:
                run.begin(CONFIG)
                (tmp_path / "first" / "file").write_text("kept")
        assert (tmp_path / "first" / "file").read_text() == "kept"
        assert folder.find_latest_run(tmp_path) == "first"

    @pytest.mark.parametrize("run_id", ["a/b", "../a", "/a", "a/", "", ".", "..", "latest_run"])
    def test_a_name_that_is_no_plain_folder_name_is_refused(self, tmp_path, run_id):
        log_dir = tmp_path / "log"
        with pytest.raises(UsageError, match="plain folder name"), Run.open(log_dir, run_id):
            pass
        assert not log_dir.exists()

    def test_what_was_not_begun_leaves_nothing(self, tmp_path):
        for run_id in (None, "run"):
            with Run.open(tmp_path / "new" / "log", run_id) as run:
                assert os.listdir(run.run_dir) == ["lock"]
        assert list(tmp_path.iterdir()) == []

    def test_a_new_run_has_no_checkpoint(self, tmp_path):
        with Run.open(tmp_path, "run") as run:
            assert (run.checkpoint, run.first_step) == (None, 0)

    def test_a_run_goes_on_at_its_newest_checkpoint_that_can_be_read(self, tmp_path):
        prefixes = save(tmp_path / "run", [0, 3, 7])
        with Run.open(tmp_path, "run") as run:
            assert (run.checkpoint, run.first_step) == (prefixes[2], 7)
        Path(f"{prefixes[2]}.index").write_bytes(b"cut")
        joined = Run.join(tmp_path, "run")
        assert (joined.checkpoint, joined.first_step) == (prefixes[1], 3)
        assert tf.train.latest_checkpoint(tmp_path / "run") == prefixes[2]
        with Run.open(tmp_path, "run") as run:
            assert (run.checkpoint, run.first_step) == (prefixes[1], 3)
        assert tf.train.latest_checkpoint(tmp_path / "run") == prefixes[1]


class TestFindLatestRun:
    def test_none_where_there_is_no_run(self, tmp_path):
        assert folder.find_latest_run(tmp_path) is None
        assert folder.find_latest_run(tmp_path / "missing") is None

    def test_a_run_whose_directory_was_removed_is_none(self, tmp_path):
        folder.record_latest_run(tmp_path, "gone")
        assert folder.find_latest_run(tmp_path) is None

    def test_runs_of_other_programs_are_found_by_the_age_of_their_checkpoints(self, tmp_path):
        for age, name in enumerate(["b", "a", "c"]):
            save(tmp_path / name, [1])
            os.utime(tmp_path / name / "checkpoint", (1e9 - age, 1e9 - age))
        (tmp_path / "empty").mkdir()
        assert folder.find_latest_run(tmp_path) == "b"

    def test_what_is_recorded_comes_before_what_is_young(self, tmp_path):
        (tmp_path / "recorded").mkdir()
        folder.record_latest_run(tmp_path, "recorded")
        save(tmp_path / "younger", [1])
        assert folder.find_latest_run(tmp_path) == "recorded"


class TestWaitForRun:
    def test_a_run_that_exists_is_returned_at_once(self, tmp_path):
        (tmp_path / "run").mkdir()
        folder.record_latest_run(tmp_path, "run")
        assert folder.wait_for_run(tmp_path, interval_secs=60, timeout_secs=0) == "run"

    def test_waits_until_there_is_one_and_says_so_once(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        starter = threading.Timer(0.2, begin, (tmp_path / "log", "run"))
        starter.start()
        assert folder.wait_for_run(tmp_path / "log", interval_secs=0.02, timeout_secs=20) == "run"
        starter.join()
        assert caplog.text.count("Waiting for a run") == 1

    @pytest.mark.parametrize("path", ["out/trai", "out", "out/train/later", "out/eval"])
    def test_directories_of_runs_nearby_are_named(self, tmp_path, caplog, path):
        caplog.set_level(logging.INFO)
        begin(tmp_path / "out" / "train", "a")
        (tmp_path / "out" / "eval" / "a").mkdir(parents=True)
        with pytest.raises(MissingPathError):
            folder.wait_for_run(tmp_path / path, interval_secs=0.02, timeout_secs=0.05)
        assert f"name --log_dir: there are runs in {tmp_path}/out/train\n" in caplog.text

    @pytest.mark.parametrize("timeout_secs", [None, 60])
    @pytest.mark.parametrize(("name", "meant"), [("basline", "baseline"), ("zzz", None)])
    def test_a_name_that_no_run_has_ends_the_wait_where_there_are_others(
        self, tmp_path, name, meant, timeout_secs
    ):
        begin(tmp_path, "baseline")
        begin(tmp_path, "other")
        with pytest.raises(MissingPathError) as caught:
            folder.wait_for_run(tmp_path, name, timeout_secs=timeout_secs)
        line = str(caught.value)
        question = "; name" if meant is None else f": did you mean {meant}? Name"
        start = f"{tmp_path} has no run {name}, but baseline, other{question} one of them"
        assert line.startswith(start)
        assert "start its training first" in line

    def test_a_run_whose_folder_is_there_is_waited_for(self, tmp_path):
        begin(tmp_path, "baseline")
        (tmp_path / "young").mkdir()  # a training has just started
        starter = threading.Timer(0.2, begin, (tmp_path, "young"))
        starter.start()
        assert folder.wait_for_run(tmp_path, "young", interval_secs=0.02, timeout_secs=20)
        starter.join()

    def test_gives_up_with_the_way_out(self, tmp_path):
        with pytest.raises(MissingPathError, match="no run after 0.1 s: start one"):
            folder.wait_for_run(tmp_path, interval_secs=0.02, timeout_secs=0.1)


class TestLocateRun:
    """The directory of runs, the folder of a run, or what is neither."""

    @pytest.fixture
    def log_dir(self, tmp_path):
        begin(tmp_path / "log", "a")
        save(tmp_path / "log" / "b", [7])
        return tmp_path / "log"

    @pytest.mark.parametrize("run_id", [None, "a", "b", "c"])
    def test_the_directory_of_runs(self, log_dir, run_id):
        assert folder.locate_run(log_dir, run_id) == (str(log_dir), run_id)
        missing = str(log_dir / "later")
        assert folder.locate_run(missing, run_id) == (missing, run_id)

    @pytest.mark.parametrize("name", ["a", "b"])
    @pytest.mark.parametrize("form", ["{}", "{}/", "{}/.", "{}/../{}"])
    def test_the_folder_of_a_run(self, log_dir, monkeypatch, name, form):
        path = form.replace("{}", str(log_dir / name), 1).format(name)
        for run_id in (None, name):
            assert folder.locate_run(path, run_id) == (str(log_dir), name)
        monkeypatch.chdir(log_dir / name)
        assert folder.locate_run(".") == (str(log_dir), name)
        monkeypatch.chdir(log_dir)
        assert folder.locate_run(name) == (str(log_dir), name)

    def test_another_run_within_a_run(self, log_dir):
        with pytest.raises(UsageError, match=f"is itself a run, a, .*--log_dir={log_dir}$"):
            folder.locate_run(log_dir / "a", "b")

    @pytest.mark.parametrize(
        "name",
        ["model.ckpt-7", "model.ckpt-7.index", "checkpoint", "model.ckpt-99", "model.ckpt-99.meta"],
    )
    def test_a_checkpoint_is_refused_with_the_directory_of_runs(self, log_dir, name):
        with pytest.raises(UsageError, match=f"no directory of runs: --log_dir={log_dir}/b names"):
            folder.locate_run(log_dir / "b" / name)

    def test_another_file_is_refused(self, log_dir):
        for name in ("notes", "notes/", "notes/x"):
            (log_dir / "notes").touch()
            with pytest.raises(UsageError, match="notes.* is .*no directory of runs"):
                folder.locate_run(f"{log_dir}/{name}")

    @pytest.mark.parametrize("run_id", ["x/a", "../log/a", "/log/a", "", "..", "a/model.ckpt-7"])
    def test_a_path_as_the_name_of_a_run(self, log_dir, run_id):
        with pytest.raises(UsageError, match="must be a plain folder name"):
            folder.locate_run(log_dir, run_id)


class TestBegin:
    def test_settings_are_there_before_the_name_is_recorded(self, tmp_path, monkeypatch):
        record_latest_run, seen = folder.record_latest_run, []

        def watched_record_latest_run(log_dir, run_id):
            seen.append(RunConfig.load(Path(log_dir) / run_id))
            record_latest_run(log_dir, run_id)

        monkeypatch.setattr(folder, "record_latest_run", watched_record_latest_run)
        begin(tmp_path, "run")
        assert seen == [CONFIG]

    def test_a_run_that_ends_well_stays_the_latest(self, tmp_path):
        with Run.open(tmp_path) as run:
            run.begin(CONFIG)
            assert folder.find_latest_run(tmp_path) == run.run_id
        assert folder.find_latest_run(tmp_path) == run.run_id
        assert RunConfig.load(tmp_path / run.run_id) == CONFIG

    def test_settings_and_classes_are_recorded(self, tmp_path):
        with Run.open(tmp_path, "run") as run:
            run.begin(CONFIG, ["anna", "bob"])
        assert RunConfig.load(tmp_path / "run") == CONFIG
        assert labels.load(tmp_path / "run") == ["anna", "bob"]

    @pytest.mark.parametrize(
        ("config", "class_names", "error", "match"),
        [
            (RunConfig((16, 16, 3), seed=1), ["anna"], UsageError, "run run has image_shape"),
            (CONFIG, ["carl"], DataError, "run run was trained on 1 identities"),
        ],
    )
    def test_another_network_or_other_identities_are_refused(
        self, tmp_path, config, class_names, error, match
    ):
        with Run.open(tmp_path, "run") as run:
            run.begin(CONFIG, ["anna"])
        before = sorted((tmp_path / "run").iterdir())
        with pytest.raises(error, match=match), Run.open(tmp_path, "run") as run:
            run.begin(config, class_names)
        assert sorted((tmp_path / "run").iterdir()) == before
        assert RunConfig.load(tmp_path / "run") == CONFIG
        assert labels.load(tmp_path / "run") == ["anna"]

    @pytest.mark.parametrize("steps", [[], [0]], ids=["no checkpoint", "start weights alone"])
    @pytest.mark.parametrize("error", [DataError, UsageError, MissingPathError])
    def test_a_new_run_with_wrong_data_or_settings_is_undone(self, tmp_path, error, steps):
        with pytest.raises(error, match="wrong"), Run.open(tmp_path, "new") as run:
            run.begin(CONFIG)
            save(tmp_path / "new", steps)
            raise error("wrong")
        assert list(tmp_path.iterdir()) == []
        assert folder.find_latest_run(tmp_path) is None

    def test_the_run_before_is_the_latest_again(self, tmp_path):
        begin(tmp_path, "before")
        with pytest.raises(DataError), Run.open(tmp_path, "new") as run:
            run.begin(CONFIG)
            assert folder.find_latest_run(tmp_path) == "new"
            raise DataError("wrong")
        assert folder.find_latest_run(tmp_path) == "before"
        assert not (tmp_path / "new").exists()

    def test_a_new_run_that_has_learned_something_is_kept(self, tmp_path):
        with pytest.raises(DataError), Run.open(tmp_path, "new") as run:
            run.begin(CONFIG)
            save(tmp_path / "new", [0, 3])
            raise DataError("wrong")
        assert folder.find_latest_run(tmp_path) == "new"
        assert len(records.list_checkpoints(tmp_path / "new")) == 2

    @pytest.mark.parametrize("error", [RunError, RuntimeError, KeyboardInterrupt])
    def test_a_run_that_is_stopped_by_anything_else_is_kept(self, tmp_path, error):
        with pytest.raises(error), Run.open(tmp_path, "new") as run:
            run.begin(CONFIG)
            raise error
        assert folder.find_latest_run(tmp_path) == "new"
        assert RunConfig.load(tmp_path / "new") == CONFIG

    def test_a_resumed_run_is_kept_whatever_happens(self, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "file").write_text("kept")
        with pytest.raises(DataError), Run.open(tmp_path, "run") as run:
            run.begin(CONFIG)
            raise DataError("wrong")
        assert (tmp_path / "run" / "file").read_text() == "kept"
        assert folder.find_latest_run(tmp_path) == "run"

    def test_a_wrong_name_leaves_nothing(self, tmp_path):
        with pytest.raises(UsageError), Run.open(tmp_path / "log", "a/b") as run:
            run.begin(CONFIG)
        assert not (tmp_path / "log").exists()


def test_what_was_killed_before_it_wrote_anything_is_removed_and_nothing_else(tmp_path):
    for name in ("20260102-030405", "20260102-030405-2", "named", "in_use"):
        (tmp_path / name).mkdir()
    for name in ("named", "in_use", "20260102-030405-2"):
        (tmp_path / name / "lock").touch()
    (tmp_path / "of_the_user").mkdir()
    (tmp_path / "results" / "lock").mkdir(parents=True)
    (tmp_path / "results" / "table.csv").touch()
    (tmp_path / "lock").touch()
    for path in tmp_path.iterdir():
        os.utime(path, (10**9, 10**9))
    (tmp_path / "20260102-030405-3").mkdir()  # it has just begun
    with locks.holding(tmp_path / "in_use", "run in_use"), Run.open(tmp_path, "own") as run:
        assert set(os.listdir(tmp_path)) == {
            "20260102-030405-3", "in_use", "of_the_user", "results", "lock", "own"
        }  # fmt: skip
        assert run.run_id == "own"

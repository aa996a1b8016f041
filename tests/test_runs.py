"""Runs: how they are named, found, waited for, and undone."""

import logging
import os
import threading
from pathlib import Path

import pytest
from saved import save

from deep_reid.config import RunConfig
from deep_reid.errors import DataError, MissingPathError, RunError, UsageError
from deep_reid.runs import checkpoints, folder

pytestmark = pytest.mark.usefixtures("graph")

CONFIG = RunConfig((32, 16, 3), seed=1)


class TestStartRun:
    def test_makes_the_directory_and_is_the_latest(self, tmp_path):
        assert folder.start_run(tmp_path / "new" / "log", "baseline") == "baseline"
        assert (tmp_path / "new" / "log" / "baseline").is_dir()
        assert folder.find_latest_run(tmp_path / "new" / "log") == "baseline"

    def test_without_a_name_each_run_gets_a_new_one(self, tmp_path):
        names = [folder.start_run(tmp_path) for _ in range(4)]
        assert len(set(names)) == 4
        assert all((tmp_path / name).is_dir() for name in names)
        assert folder.find_latest_run(tmp_path) == names[-1]

    def test_a_resumed_run_keeps_its_files_and_becomes_the_latest(self, tmp_path):
        folder.start_run(tmp_path, "first")
        (tmp_path / "first" / "file").write_text("kept")
        folder.start_run(tmp_path, "second")
        folder.start_run(tmp_path, "first")
        assert (tmp_path / "first" / "file").read_text() == "kept"
        assert folder.find_latest_run(tmp_path) == "first"

    @pytest.mark.parametrize("run_id", ["a/b", "../a", "/a", "a/", "", ".", "..", "latest_run"])
    def test_a_name_that_is_no_plain_folder_name_is_refused(self, tmp_path, run_id):
        log_dir = tmp_path / "log"
        with pytest.raises(UsageError, match="plain folder name"):
            folder.start_run(log_dir, run_id)
        assert not log_dir.exists()


class TestFindLatestRun:
    def test_none_where_there_is_no_run(self, tmp_path):
        assert folder.find_latest_run(tmp_path) is None
        assert folder.find_latest_run(tmp_path / "missing") is None

    def test_a_run_whose_directory_was_removed_is_none(self, tmp_path):
        folder.start_run(tmp_path, "gone")
        (tmp_path / "gone").rmdir()
        assert folder.find_latest_run(tmp_path) is None

    def test_runs_of_other_programs_are_found_by_the_age_of_their_checkpoints(self, tmp_path):
        for age, name in enumerate(["b", "a", "c"]):
            save(tmp_path / name, [1])
            os.utime(tmp_path / name / "checkpoint", (1e9 - age, 1e9 - age))
        (tmp_path / "empty").mkdir()
        assert folder.find_latest_run(tmp_path) == "b"

    def test_what_is_recorded_comes_before_what_is_young(self, tmp_path):
        folder.start_run(tmp_path, "recorded")
        save(tmp_path / "younger", [1])
        assert folder.find_latest_run(tmp_path) == "recorded"


class TestWaitForRun:
    def test_a_run_that_exists_is_returned_at_once(self, tmp_path):
        folder.start_run(tmp_path, "run")
        assert folder.wait_for_run(tmp_path, interval_secs=60, timeout_secs=0) == "run"

    def test_waits_until_there_is_one_and_says_so_once(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        starter = threading.Timer(0.2, folder.start_run, (tmp_path / "log", "run"))
        starter.start()
        assert folder.wait_for_run(tmp_path / "log", interval_secs=0.02, timeout_secs=20) == "run"
        starter.join()
        assert caplog.text.count("Waiting for a run") == 1

    def test_says_which_runs_there_are_in_its_place(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        with folder.open_run(tmp_path, CONFIG, "baseline"):
            pass
        with pytest.raises(MissingPathError, match="no run basline after"):
            folder.wait_for_run(tmp_path, "basline", interval_secs=0.01, timeout_secs=0.01)
        assert f"Waiting for a run basline in {tmp_path}, which has baseline" in caplog.text

    def test_gives_up_with_the_way_out(self, tmp_path):
        with pytest.raises(MissingPathError, match="no run after 0.1 s: start one"):
            folder.wait_for_run(tmp_path, interval_secs=0.02, timeout_secs=0.1)


class TestOpenRun:
    def test_settings_are_there_before_the_name_is_recorded(self, tmp_path, monkeypatch):
        start_run, seen = folder.start_run, []

        def watched_start_run(log_dir, run_id):
            seen.append(RunConfig.load(Path(log_dir) / run_id))
            return start_run(log_dir, run_id)

        monkeypatch.setattr(folder, "start_run", watched_start_run)
        with folder.open_run(tmp_path, CONFIG, "run") as run_id:
            assert run_id == "run"
        assert seen == [CONFIG]

    def test_a_run_that_ends_well_stays_the_latest(self, tmp_path):
        with folder.open_run(tmp_path, CONFIG) as run_id:
            assert folder.find_latest_run(tmp_path) == run_id
        assert folder.find_latest_run(tmp_path) == run_id
        assert RunConfig.load(tmp_path / run_id) == CONFIG

    @pytest.mark.parametrize("steps", [[], [0]], ids=["no checkpoint", "start weights alone"])
    @pytest.mark.parametrize("error", [DataError, UsageError, MissingPathError])
    def test_a_new_run_with_wrong_data_or_settings_is_undone(self, tmp_path, error, steps):
        opened_run = folder.open_run(tmp_path, CONFIG, "new")
        with pytest.raises(error, match="wrong"), opened_run:
            save(tmp_path / "new", steps)
            raise error("wrong")
        assert list(tmp_path.iterdir()) == []
        assert folder.find_latest_run(tmp_path) is None

    def test_the_run_before_is_the_latest_again(self, tmp_path):
        folder.start_run(tmp_path, "before")
        with pytest.raises(DataError), folder.open_run(tmp_path, CONFIG, "new"):
            assert folder.find_latest_run(tmp_path) == "new"
            raise DataError("wrong")
        assert folder.find_latest_run(tmp_path) == "before"
        assert not (tmp_path / "new").exists()

    def test_a_new_run_that_has_learned_something_is_kept(self, tmp_path):
        with pytest.raises(DataError), folder.open_run(tmp_path, CONFIG, "new"):
            save(tmp_path / "new", [0, 3])
            raise DataError("wrong")
        assert folder.find_latest_run(tmp_path) == "new"
        assert len(checkpoints.list_checkpoints(tmp_path / "new")) == 2

    @pytest.mark.parametrize("error", [RunError, RuntimeError, KeyboardInterrupt])
    def test_a_run_that_is_stopped_by_anything_else_is_kept(self, tmp_path, error):
        with pytest.raises(error), folder.open_run(tmp_path, CONFIG, "new"):
            raise error
        assert folder.find_latest_run(tmp_path) == "new"
        assert RunConfig.load(tmp_path / "new") == CONFIG

    def test_a_resumed_run_is_kept_whatever_happens(self, tmp_path):
        folder.start_run(tmp_path, "run")
        (tmp_path / "run" / "file").write_text("kept")
        with pytest.raises(DataError), folder.open_run(tmp_path, CONFIG, "run"):
            raise DataError("wrong")
        assert (tmp_path / "run" / "file").read_text() == "kept"
        assert folder.find_latest_run(tmp_path) == "run"

    def test_a_wrong_name_leaves_nothing(self, tmp_path):
        with pytest.raises(UsageError), folder.open_run(tmp_path / "log", CONFIG, "a/b"):
            pass
        assert not (tmp_path / "log").exists()

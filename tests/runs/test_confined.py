"""A run touches nothing outside its own folder, whatever its record of checkpoints names."""

import contextlib
import os
import shutil
from pathlib import Path

import numpy as np
import processes
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deep_reid.compat import slim, tf
from deep_reid.errors import DataError, RunError
from deep_reid.evaluation import projector
from deep_reid.evaluation.best import BestCheckpoint
from deep_reid.runs import checkpoints, records, saving, watching
from deep_reid.runs.folder import find_latest_run
from deep_reid.runs.run import Run

ENDINGS = ("data-00000-of-00001", "index", "meta")


def save(log_dir, run_id, steps, max_to_keep=2):
    """Train a run, which saves at these steps; return where it began."""
    with Run.open(log_dir, run_id) as run, tf.Graph().as_default(), tf.Session() as session:
        weight = slim.model_variable("weight", (10,), initializer=tf.zeros_initializer())
        step_var = tf.train.get_or_create_global_step()
        saver = saving.Saver(max_to_keep=max_to_keep)
        # As TensorFlow does when a session is restored.
        state = tf.train.get_checkpoint_state(run.run_dir)
        saver.recover_last_checkpoints(state.all_model_checkpoint_paths if state else [])
        for step in steps:
            weight.load(np.full(10, step, np.float32), session)
            step_var.load(step, session)
            saver.save(session, os.path.join(run.run_dir, "model.ckpt"), step)
        return run.first_step


def record(run_dir, entries):
    lines = [f'model_checkpoint_path: "{entries[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{entry}"' for entry in entries]
    Path(run_dir, "checkpoint").write_text("\n".join(lines) + "\n")


def snapshot(folder):
    return {x.relative_to(folder): x.read_bytes() for x in Path(folder).rglob("*") if x.is_file()}


@pytest.fixture
def places(tmp_path):
    """A run with checkpoints 1 and 2, and a folder of others of the same and another name."""
    save(tmp_path / "log", "run", [1, 2])
    other = tmp_path / "victim"
    save(other, "run", [1, 2, 3], max_to_keep=5)
    (other / "precious.txt").write_text("precious")
    for ending in ENDINGS:
        (other / f"precious.{ending}").write_text("precious")
    return tmp_path / "log" / "run", other


KINDS = {
    "up": "../../victim/precious",
    "up, with an ending": "../../victim/precious.txt",
    "absolute": "{other}/run/model.ckpt-3",
    "same name, up": "../../victim/run/model.ckpt-1",
    "same name, absolute": "{other}/run/model.ckpt-2",
    "through the folder": "../run/../../victim/run/model.ckpt-3",
    "home": "~/precious",
    "a folder": "../../victim/",
    "the folder itself": ".",
    "above": "..",
    "nothing": "",
    "slashes": "//",
}


class TestEntriesElsewhere:
    @pytest.mark.parametrize("position", [0, 1, 2], ids=["first", "middle", "last"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_run_that_goes_on_changes_nothing_else(self, places, kind, position):
        run_dir, other = places
        entries = ["model.ckpt-1", "model.ckpt-2"]
        entries.insert(position, KINDS[kind].format(other=other))
        record(run_dir, entries)
        before = snapshot(other)
        step = save(run_dir.parent, "run", [10, 20, 30])
        assert snapshot(other) == before
        # An empty last entry is no record at all; the newest is taken then.
        assert step == (1 if kind == "same name, up" and position == 2 else 2)
        names = {path.name for path in run_dir.glob("*.index")}
        assert names == {"model.ckpt-20.index", "model.ckpt-30.index"}

    def test_the_warning_names_the_entry_once(self, places, caplog):
        run_dir, other = places
        record(run_dir, [f"{other}/precious", "model.ckpt-2"])
        for _ in range(3):
            assert records.list_checkpoints(run_dir) == [str(run_dir / "model.ckpt-2")]
        messages = [x.getMessage() for x in caplog.records if "precious" in x.getMessage()]
        assert len(messages) == 1
        assert f"{run_dir}/checkpoint" in messages[0] and "Copy its files there" in messages[0]

    def test_a_record_of_others_alone_is_no_new_run(self, tmp_path, places):
        _, other = places
        (tmp_path / "log" / "empty").mkdir()
        record(tmp_path / "log" / "empty", [f"{other}/run/model.ckpt-3"])
        before = snapshot(tmp_path)
        with pytest.raises(DataError, match="records only checkpoints in other folders: copy"):
            save(tmp_path / "log", "empty", [1])
        assert {x: y for x, y in snapshot(tmp_path).items() if x.name != "lock"} == {
            x: y for x, y in before.items() if x.name != "lock"
        }

    @settings(
        max_examples=150,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        parts=st.lists(
            st.sampled_from(["..", ".", "", "run", "victim", "model.ckpt-1", "a\\b", "é", "x y"]),
            min_size=1,
            max_size=6,
        ),
        is_absolute=st.booleans(),
    )
    def test_whatever_is_recorded_what_is_listed_lies_in_the_folder(
        self, tmp_path, parts, is_absolute
    ):
        run_dir = tmp_path / "log" / "run"
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "model.ckpt-1.index").touch()
        path = os.path.join(tmp_path if is_absolute else "", *parts)
        record(run_dir, [path.replace("\\", "\\\\")])
        recorded = records.read_state(run_dir) or []
        for prefix in [*recorded, *records.list_checkpoints(run_dir)]:
            assert os.path.dirname(prefix) == str(run_dir)
            for name in records.list_files(prefix):
                assert os.path.dirname(name) == str(run_dir)


class TestMovedRuns:
    """TensorFlow's own saver records absolute paths."""

    @pytest.fixture
    def absolute(self, tmp_path):
        save(tmp_path / "log", "run", [1, 2])
        run_dir = tmp_path / "log" / "run"
        record(run_dir, [f"{run_dir}/model.ckpt-1", f"{run_dir}/model.ckpt-2"])
        return run_dir

    def test_a_copy_goes_on_from_its_own_checkpoints(self, tmp_path, absolute):
        shutil.copytree(tmp_path / "log", tmp_path / "copy")
        before = snapshot(absolute)
        assert save(tmp_path / "copy", "run", [10, 20, 30]) == 2
        assert snapshot(absolute) == before
        assert sorted(x.name for x in (tmp_path / "copy" / "run").glob("*.index")) == [
            "model.ckpt-20.index",
            "model.ckpt-30.index",
        ]

    def test_a_moved_one_goes_on_and_can_be_evaluated(self, tmp_path, absolute):
        (tmp_path / "log").rename(tmp_path / "moved")
        moved = tmp_path / "moved" / "run"
        expected = [str(moved / f"model.ckpt-{step}") for step in (1, 2)]
        assert records.list_checkpoints(moved) == expected
        assert records.resolve_checkpoint(moved) == expected[-1]
        assert save(tmp_path / "moved", "run", [10]) == 2

    def test_a_link_to_a_run_is_that_run(self, tmp_path, absolute):
        (tmp_path / "log" / "link").symlink_to("run")
        assert save(tmp_path / "log", "link", [10, 20]) == 2
        assert sorted(x.name for x in absolute.glob("*.index")) == [
            "model.ckpt-10.index",
            "model.ckpt-20.index",
        ]


def test_a_link_in_place_of_a_file_of_the_run_is_not_followed(tmp_path, places):
    run_dir, other = places
    (run_dir / "checkpoint").unlink()
    (run_dir / "checkpoint").symlink_to(other / "precious.txt")
    (run_dir / "model.ckpt-2.index").unlink()
    (run_dir / "model.ckpt-2.index").symlink_to(other / "precious.index")
    before = snapshot(other)
    save(tmp_path / "log", "run", [10, 20, 30])
    assert snapshot(other) == before


def test_a_link_in_place_of_a_folder_of_the_run_is_not_followed(tmp_path, places):
    """A folder that others made: what looks like leftovers in `victim` is not the run's."""
    run_dir, other = places
    (other / "score.json").write_text("{}")
    (other / ".mine-12345678.tsv").write_text("precious")
    (other / "journal").write_text("model.ckpt-1")
    (run_dir / "projector_config.pbtxt").write_text("features of step 1")
    links = "projector", "best", ".best-x", ".saving-x", "eval/projector"
    (run_dir / "eval").mkdir()
    for name in links:
        (run_dir / name).symlink_to(other)
    (run_dir / "best").unlink()  # as if the folder had been put aside
    before = snapshot(other)
    save(tmp_path / "log", "run", [10, 20, 30])
    saving.remove_leftovers_of_evaluation(run_dir / "eval")
    projector.write_sprite(run_dir / "eval", np.zeros((2, 8, 4, 3), np.uint8))
    projector.write_features(run_dir / "eval", 7, np.zeros((2, 3)), {"identity": ["1", "2"]})
    projector.copy_features(run_dir, run_dir / "eval", 7)
    line = {"step": 20, "checkpoint": str(run_dir / "model.ckpt-20"), "Precision@1": 0.5}
    BestCheckpoint(run_dir, "Precision@1").offer(line)
    assert snapshot(other) == before
    assert not any((run_dir / name).is_symlink() for name in links)
    for name in ("projector", "eval/projector"):
        assert len(os.listdir(run_dir / name)) == 3
    assert records.list_checkpoints(run_dir / "best") == [str(run_dir / "best" / "model.ckpt-20")]


def use_all(run_dir):
    """Go on with a run, and use its checkpoints; any error must be of a documented kind."""
    log_dir, run_id = os.path.split(run_dir)
    with contextlib.suppress(DataError, OSError, RunError):
        find_latest_run(log_dir)
    with contextlib.suppress(DataError, OSError, RunError):
        save(log_dir, run_id, [10, 20, 30])
    for prefix in records.list_checkpoints(run_dir):
        with contextlib.suppress(DataError):
            checkpoints.check_readable(prefix)
        watching.digest(prefix)
    with contextlib.suppress(OSError):
        projector.copy_features(run_dir, run_dir, 7)
    with contextlib.suppress(OSError):
        line = {"step": 2, "checkpoint": "model.ckpt-2", "Precision@1": 0.5}
        BestCheckpoint(run_dir, "Precision@1").offer(line)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["lock", "checkpoint", "../latest_run", "model.ckpt-2.index", "model.ckpt-2.meta",
     "model.ckpt-2.data-00000-of-00001", ".saving-x/journal", "projector_config.pbtxt",
     "best/score.json", "best.lock", "config.json", "labels.json"],
)  # fmt: skip
def test_a_pipe_in_place_of_a_file_is_not_waited_for(places, name):
    run_dir, _ = places
    path = run_dir / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    process = processes.CONTEXT.Process(target=use_all, args=(str(run_dir),))
    process.start()
    process.join(100)
    has_ended = process.exitcode is not None
    process.kill()
    assert has_ended and process.exitcode == 0


@pytest.mark.parametrize(
    "line", ["", ".", "..", "/", "config.json", "checkpoint", "notes", "../other/model.ckpt-7", "*"]
)
def test_a_journal_that_names_anything_else_removes_nothing_else(tmp_path, line):
    run_dir, other = tmp_path / "run", tmp_path / "other"
    for folder, step in ((run_dir, 3), (other, 7)):
        save(tmp_path, folder.name, [step])
        for name in ("config.json", "notes"):
            (folder / name).touch()
    before = sorted(tmp_path.rglob("*"))
    (run_dir / ".saving-x").mkdir()
    (run_dir / ".saving-x" / "journal").write_text(f"{line}\nmodel.ckpt-9")
    saving.remove_leftovers(run_dir)
    assert sorted(tmp_path.rglob("*")) == before

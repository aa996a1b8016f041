"""Own images that are not in order: one clear line each, and nothing written."""

import csv
import dataclasses
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import processes
import pytest

from datasets.custom import Custom
from deep_reid import cli
from deep_reid.config import RunConfig
from deep_reid.runs import labels

ARGS = ("--mode=train", "--batch_size=8", "--image_shape", "32", "16", "--number_of_steps=1",
        "--network=tiny:Net")  # fmt: skip


def run(caplog, *argv):
    """Run the script in this process; return exit code and the error lines."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    code = cli.main(Custom, [str(arg) for arg in argv])
    return code, [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_folders(directory, counts):
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = random.integers(0, 256, (32, 16, 3), np.uint8)
            cv2.imwrite(str(directory / name / f"{number}.jpg"), image)
    return directory


def write_csv(directory, *rows):
    write_folders(directory, {"a": 4, "b": 4})
    with open(directory / "people.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return directory / "people.csv"


def check(caplog, workplace, dataset, parts, *argv, code=1):
    actual_code, errors = run(caplog, *ARGS, f"--dataset={dataset}", *argv)
    assert actual_code == code
    assert len(errors) == 1
    assert "\n" not in errors[0]
    for part in parts:
        assert part in errors[0]
    assert not [path for path in (workplace / "output").rglob("*") if path.is_file()]


class TestBadData:
    def test_no_data_set_is_given(self, caplog, workplace):
        code, errors = run(caplog, "--mode=train")
        assert code == 2
        assert "--dataset is missing: name your own images" in errors[0]

    @pytest.mark.parametrize("mode", ["train", "eval", "test", "export"])
    def test_a_data_set_that_does_not_exist_is_named_with_its_form(self, caplog, workplace, mode):
        code, errors = run(caplog, f"--mode={mode}", "--dataset=people")
        assert code == 1
        assert len(errors) == 1
        assert "people does not exist" in errors[0]
        assert "per identity" in errors[0]
        assert not (workplace / "output").exists()

    def test_a_csv_file_with_a_missing_column(self, caplog, workplace):
        path = write_csv(workplace / "data", ["path", "camera"], ["a/0.jpg", "c1"])
        check(caplog, workplace, path, ["people.csv, line 1", "identity"])

    def test_a_path_that_does_not_exist(self, caplog, workplace):
        rows = [["path", "identity"], ["a/0.jpg", "a"], ["a/9.jpg", "a"], ["b/9.jpg", "b"]]
        path = write_csv(workplace / "data", *rows)
        check(caplog, workplace, path, ["people.csv, line 3", "9.jpg"])

    def test_an_identity_in_two_splits(self, caplog, workplace):
        rows = [["path", "identity", "split"], ["a/0.jpg", "a", "train"], ["b/0.jpg", "b", "train"],
                ["a/1.jpg", "a", "query"]]  # fmt: skip
        path = write_csv(workplace / "data", *rows)
        check(caplog, workplace, path, ["people.csv, line 2", "people.csv, line 4"])

    def test_a_file_that_is_listed_twice(self, caplog, workplace):
        rows = [["a/0.jpg", "a"], ["b/0.jpg", "b"], ["./a/0.jpg", "a"]]
        path = write_csv(workplace / "data", *rows)
        check(caplog, workplace, path, ["people.csv, line 1", "people.csv, line 3", "twice"])

    def test_a_csv_file_with_other_separators_and_quotes(self, caplog, workplace):
        path = write_csv(workplace / "data")
        path.write_text('"path";"identity"\n"a/0.jpg";"a"\n"a/1.jpg","a"\n')
        check(caplog, workplace, path, ["line 3", "quotes"])

    def test_one_identity_only(self, caplog, workplace):
        write_folders(workplace / "data", {"anna": 5})
        check(caplog, workplace, "data", ["one identity to train on (anna)"])

    def test_a_folder_without_images_is_refused(self, caplog, workplace):
        (workplace / "data" / "anna").mkdir(parents=True)
        check(caplog, workplace, "data", ["data", "no"])

    def test_images_without_folders(self, caplog, workplace):
        write_folders(workplace / "data", {"anna": 5})
        check(caplog, workplace, "data/anna", ["one folder per identity"])

    def test_a_file_that_is_no_csv_file(self, caplog, workplace):
        write_folders(workplace / "data", {"anna": 1})
        check(caplog, workplace, "data/anna/0.jpg", ["0.jpg"])

    @pytest.mark.parametrize("content", [b"", b"junk"])
    def test_an_image_that_cannot_be_read(self, caplog, workplace, content):
        write_folders(workplace / "data", {"anna": 4, "bob": 4})
        (workplace / "data" / "bob" / "2.jpg").write_bytes(content)
        reason = "it is not a JPEG, PNG or BMP image" if content else "empty"
        check(caplog, workplace, "data", ["2.jpg", reason], "--number_of_steps=20")

    def test_more_identities_for_validation_than_there_are(self, caplog, workplace):
        write_folders(workplace / "data", dict.fromkeys("abcd", 4))
        parts = ["num_validation (9) is too large", "use at most 2"]
        check(caplog, workplace, "data", parts, "--num_validation=9", code=2)


class TestUsage:
    def test_no_run_is_said_before_no_data(self, caplog, workplace):
        for mode in ("test", "export", "freeze"):
            code, errors = run(caplog, f"--mode={mode}")
            assert code == 1
            assert "has no run: train first" in errors[0]

    @pytest.mark.parametrize(
        ("argv", "part"),
        [
            (["--mode=test", "--check_data"], "--check_data goes with --mode=train"),
            (["--restore_path="], "--restore_path/--checkpoint: a path must not be empty"),
            (["--dataset="], "a path must not be empty"),
        ],
    )
    def test_flags_that_mean_nothing_are_refused(self, caplog, workplace, capsys, argv, part):
        with pytest.raises(SystemExit) as caught:
            run(caplog, *argv)
        assert caught.value.code == 2
        assert part in capsys.readouterr().err

    def test_a_scope_to_leave_out_that_is_none_is_warned_about(self, caplog, workplace):
        write_folders(workplace / "data", dict.fromkeys("abc", 4))
        code, _ = run(caplog, *ARGS, "--dataset=data", "--exclude_from_restore", "bal")
        assert code == 0
        assert "scope 'bal' has no variables here; there are tiny" in caplog.text

    def test_a_file_that_is_no_checkpoint(self, caplog, workplace):
        write_folders(workplace / "data", dict.fromkeys("abc", 4))
        (workplace / "notes.md").write_text("no checkpoint at all, but a text of some length" * 9)
        parts = ["notes.md is no checkpoint"]
        check(caplog, workplace, "data", parts, "--restore_path=notes.md")


class TestCheckData:
    def test_all_that_is_wrong_is_listed_before_training(self, caplog, workplace):
        write_folders(workplace / "data", dict.fromkeys("abc", 4))
        (workplace / "data" / "a" / "1.jpg").write_bytes(b"")
        shutil.copy(workplace / "data" / "b" / "2.jpg", workplace / "data" / "c" / "copy.jpg")
        whole = (workplace / "data" / "c" / "3.jpg").read_bytes()
        (workplace / "data" / "c" / "3.jpg").write_bytes(whole[: len(whole) // 2])
        check(caplog, workplace, "data", ["3 of 13 images cannot be used"], "--check_data")
        listed = [r.getMessage() for r in caplog.records if ".jpg: " in r.getMessage()]
        assert len(listed) == 3
        assert "a/1.jpg: " in listed[0]
        assert "empty" in listed[0]
        assert "c/3.jpg: it is a truncated JPEG image" in listed[1]
        assert "c/copy.jpg: it is a copy of data/b/2.jpg" in listed[2]

    def test_data_in_order_is_trained_on(self, caplog, workplace):
        write_folders(workplace / "data", dict.fromkeys("abc", 4))
        code, _ = run(caplog, *ARGS, "--dataset=data", "--check_data")
        assert code == 0
        assert "All 12 images can be read" in caplog.text


class TestBatches:
    def test_shrink_to_the_identities_that_there_are(self, caplog, workplace):
        write_folders(workplace / "data", dict.fromkeys("abc", 4))
        code, _ = run(caplog, *ARGS, "--dataset=data", "--batch_size=128", "--run_id=run")
        assert code == 0
        expected = "There are no more than 3 identities to train on: the batch size is 12, not 128"
        assert expected in caplog.text
        assert RunConfig.load("output/custom/train/run").batch_size == 12


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder with data and a run of it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_folders(folder / "data", dict.fromkeys("abcdef", 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        argv = [*ARGS, "--dataset=data", "--run_id=run", "--num_validation=2", "--gray"]
        assert cli.main(Custom, argv) == 0
    return folder


class TestResume:
    """A run that goes on is on the data that it began with."""

    @pytest.fixture
    def begun(self, elsewhere, workplace):
        """A copy of the run, as if it was begun in this folder."""
        shutil.copytree(elsewhere, workplace, dirs_exist_ok=True)
        run_dir = workplace / "output" / "custom" / "train" / "run"
        config = RunConfig.load(run_dir)
        assert config.dataset == str(elsewhere / "data")
        dataclasses.replace(config, dataset=str(workplace / "data")).save(run_dir)
        return run_dir

    def resume(self, caplog, *argv):
        return run(caplog, "--mode=train", "--run_id=run", "--batch_size=8", *argv)

    def test_nothing_has_to_be_told_again(self, caplog, begun):
        code, _ = self.resume(caplog, "--number_of_steps=2")
        assert code == 0
        assert "Resuming from the run's own checkpoint" in caplog.text
        config = RunConfig.load(begun)
        assert config.image_shape == (32, 16, 1)
        assert (config.num_classes, config.num_validation) == (4, 2)
        assert len(labels.load(begun)) == 4

    @pytest.mark.parametrize("change", ["new", "gone"])
    def test_other_identities_are_named_and_nothing_is_lost(self, caplog, begun, workplace, change):

        def snapshot():
            files = [path for path in begun.iterdir() if path.name != "lock"]
            return {path.name: path.read_bytes() for path in files}

        before = snapshot()
        if change == "new":
            write_folders(workplace / "data", {"zoë": 4})
        else:
            shutil.rmtree(workplace / "data" / labels.load(begun)[0])
        code, errors = self.resume(caplog, "--number_of_steps=2")
        assert code == 1
        assert "run run was trained on 4 identities" in errors[0]
        assert snapshot() == before

    @pytest.mark.parametrize(
        ("argv", "part"),
        [
            (["--loss_mode=triplet"], "loss_mode cosine-softmax, not triplet"),
            (["--no-gray"], "image_shape (32, 16, 1), not (32, 16, 3)"),
            (["--network=mars_small128"], "network tiny:Net, not mars_small128"),
            (["--trainable_scopes", "tiny"], "trainable_scopes (), not ('tiny',)"),
        ],
    )
    def test_what_cannot_differ_is_refused(self, caplog, begun, argv, part):
        code, errors = self.resume(caplog, "--number_of_steps=2", *argv)
        assert code == 2
        assert part in errors[0]

    def test_its_own_checkpoint_comes_before_restore_path(self, caplog, begun):
        code, _ = self.resume(caplog, "--number_of_steps=2", f"--restore_path={begun}")
        assert code == 0
        assert "is not used: this run has a checkpoint of its own" in caplog.text

    def test_evaluation_on_what_was_trained_on_is_refused(self, caplog, begun, workplace):
        for argv in (["--mode=eval", "--timeout_secs=1"], ["--mode=test"]):
            code, errors = run(caplog, *argv, "--split_seed=5")
            assert code == 1
            assert "was trained on" in errors[0]
            assert "identities to evaluate on" in errors[0]


def test_a_name_with_a_line_break_and_colors_is_one_line_of_the_log(tmp_path):
    folder = tmp_path / "people"
    for person in ("anna", "bob"):
        (folder / person).mkdir(parents=True)
        for number in range(4):
            (folder / person / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "anna" / "x\n2026-01-01 00:00:00 INFO    forged\x1b[31m.jpg").write_bytes(b"bad")
    script, output = Path(__file__).parents[2] / "train_custom.py", tmp_path / "output.txt"
    argv = ["--check_data", f"--dataset={folder}", "--num_validation=0"]
    assert processes.call(processes.run_script, script, argv, tmp_path, [], output) == 1
    written = output.read_text()
    assert "forged" in written
    assert not [line for line in written.splitlines() if line.startswith("2026-01-01 00:")]
    assert "\x1b" not in written

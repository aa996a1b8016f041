"""The command line: defaults, what is refused and how, which run and checkpoint are meant."""

import json
import logging
import pathlib
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from scipy import io
from tracks import write_sequence

from datasets.market1501 import Market1501
from datasets.mars import Mars
from deep_reid.cli import evaluate, program, train
from deep_reid.cli.arguments import ArgumentParser
from deep_reid.cli.settings import find_run_dir, settle
from deep_reid.compat import tf
from deep_reid.config import RunConfig
from deep_reid.config.setting import MODES
from deep_reid.errors import DataError, RunError

ROOT = pathlib.Path(__file__).parents[2]


def parse(*argv, dataset_class=Market1501):
    return ArgumentParser(dataset_class).parse_args(argv)


class TestArguments:
    def test_the_names_and_defaults_of_the_original_are_kept(self):
        assert parse().mode == "train"
        config = settle(parse(), Market1501)
        assert config.batch_size == 128
        assert config.learning_rate == 1e-3
        assert config.number_of_steps is None
        flags = ArgumentParser(Market1501).format_usage()
        for name in ("dataset_dir", "log_dir", "eval_log_dir", "run_id", "loss_mode",
                     "restore_path", "sdk_dir"):  # fmt: skip
            assert f"[--{name} " in flags

    @pytest.mark.parametrize("dataset_class", [Market1501, Mars])
    def test_default_directories_are_under_the_working_directory(self, dataset_class):
        args = parse(dataset_class=dataset_class)
        for directory in (args.log_dir, args.eval_log_dir):
            assert directory.startswith(f"./output/{dataset_class.NAME}/")

    def test_the_modes_are_these_in_this_order(self):
        assert list(MODES) == [
            "train", "eval", "test", "search", "track", "export", "finalize", "freeze"
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("argv", "reason"),
        [
            (["--mode=trian"], "--mode: trian is unknown: use one of train, eval"),
            (["--mode=trian"], "freeze"),
            (["--loss_mode=softmax"], "cosine-softmax"),
            (["--batch_size=many"], "--batch_size: many must be a whole number of at least 1"),
            (["--batch_size=0"], "--batch_size: 0 must be a whole number of at least 1"),
            (["--learning_rate=-1"], "--learning_rate: -1 must be a number greater than 0"),
            (["--learning_rate=nan"], "--learning_rate: nan must be"),
            (["--seed=-1"], "--seed: -1 must be a whole number from 0 to"),
            (["--number_of_steps=1.5"], "--number_of_steps: 1.5 must be"),
            (["--timeout_secs=inf"], "--timeout_secs: inf must be"),
            (["--precision=bf16"], "--precision: bf16 is unknown: use one of float32"),
            (["--precision=bf16"], "bfloat16"),
            (["--intra_op_threads=0"], "--intra_op_threads: 0 must be a whole number"),
            (["--inter_op_threads=all"], "--inter_op_threads: all must be a whole number"),
            (["--num_enqueue_threads=0"], "--num_enqueue_threads: 0 must be a whole number"),
            (["--queue_capacity=-5"], "--queue_capacity: -5 must be a whole number"),
            (["--xla=yes"], "--xla: ignored explicit argument 'yes'"),
            (["--mode=test", "--benchmark_input"], "--benchmark_input goes with --mode=train"),
            (["--mode=eval", "--benchmark_model"], "--benchmark_model goes with --mode=train"),
            (
                ["--mode=freeze", "--precision=bfloat16"],
                "not with --mode=freeze: weights are float32",
            ),
            (["--mode=eval", "--restore_path=x"], "not with --mode=eval"),
            (["--mode=eval", "--restore_path=x"], "name the run with --run_id"),
            (["--no_preprocess"], "--no_preprocess goes with --mode=freeze"),
            (["--mode=freeze", "--frozen_graph=a.pb"], "--frozen_graph goes with --mode=test"),
            (["--mode=export", "--features=a.mat"], "--features goes with --mode=test"),
            (["--mode=eval", "--report_dir=report"], "--report_dir goes with --mode=test"),
            (["--keep_best"], "--keep_best needs --eval_every with --mode=train"),
            (["--batchsize=3"], "unrecognized arguments: --batchsize=3"),
            (["--batch=3"], "unrecognized arguments: --batch=3"),
            (["train"], "unrecognized arguments: train; did you mean --mode=train?"),
            (["--batchsize=3"], "did you mean --batch_size?"),
            (["--learning-rate=3"], "did you mean --learning_rate?"),
            (["--help=traning"], "--help=traning is unknown: use one of all, run"),
        ],
    )
    def test_wrong_values_end_with_code_2_and_say_what_is_right(self, argv, reason, capsys):
        with pytest.raises(SystemExit) as caught:
            program.main(Market1501, argv)
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert reason in error
        assert len(error.splitlines()) == 1


def run(caplog, *argv, dataset_class=Market1501):
    """Run a script in this process; return exit code and the error lines."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    code = program.main(dataset_class, [str(arg) for arg in argv])
    return code, [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


@pytest.fixture
def log_dir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "log"


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((128, 64, 3), np.uint8))


class TestWhichRun:
    """Each mode takes the run that is meant, or ends with a line; eval never waits in vain."""

    @pytest.fixture
    def runs(self, log_dir):
        for name in ("first", "second"):
            (log_dir / name).mkdir(parents=True)
            (log_dir / name / "config.json").write_text("{}")
            (log_dir / name / "model.ckpt-7.index").write_bytes(b"")
        return log_dir

    @pytest.mark.parametrize(
        ("folder", "run_id", "part"),
        [
            ("", "first_", "has no run first_, but first, second: did you mean first?"),
            ("first/model.ckpt-7", None, "is no directory of runs"),
            ("first/model.ckpt-7.index", None, "is no directory of runs"),
            ("first", "second", "is itself a run, first, and has no run second"),
            ("", "first/model.ckpt-7", "must be a plain folder name"),
            ("", "../log/first", "must be a plain folder name"),
        ],
    )
    def test_what_is_no_run_ends_it_with_a_suggestion(
        self, caplog, runs, drawn_market1501, folder, run_id, part
    ):
        argv = [f"--run_id={run_id}"] if run_id else []
        code, errors = run(
            caplog,
            "--mode=eval",
            f"--dataset={drawn_market1501}",
            f"--log_dir={runs / folder}",
            *argv,
        )
        assert code in (1, 2)
        (line,) = errors
        assert part in line

    @pytest.mark.parametrize("typed", ["fiirst", "FIRST", "first2", "zzz"])
    @pytest.mark.parametrize(
        "argv",
        [f"--mode={mode}" for mode in MODES if mode != "train"]
        + ["--mode=test --features=x.mat --query_features=x.mat", "--mode=test --frozen_graph=x.pb"]
        + ["--mode=search --frozen_graph=x.pb", "--mode=freeze --checkpoint={log}/second"]
        + [f"--mode={mode} --no_dataset" for mode in MODES if mode != "train"],
    )
    def test_every_mode_names_the_runs_where_there_is_none_of_the_name(
        self, caplog, runs, drawn_market1501, argv, typed
    ):
        argv = argv.format(log=runs).split()
        if "--mode=search" in argv:
            write_image(runs / "image.jpg")
            argv += [f"--query={runs}", f"--gallery={runs}"]
        elif "--mode=track" in argv:
            for name in ("deep_sort_realtime", "trackeval"):
                pytest.importorskip(name, reason="needs the extra 'track'")
            write_sequence(runs / "sequence")
            argv += [f"--sequences={runs / 'sequence'}", f"--track_dir={runs / 'out'}"]
        elif "--no_dataset" not in argv:
            argv.append(f"--dataset={drawn_market1501}")
        argv = [arg for arg in argv if arg != "--no_dataset"]
        code, errors = run(caplog, *argv, f"--log_dir={runs}", f"--run_id={typed}")
        assert code == 1
        (line,) = errors
        question = "; name" if typed == "zzz" else ": did you mean first? Name"
        assert f"{runs} has no run {typed}, but first, second{question} one of them" in line

    @pytest.mark.parametrize("mode", ["train", "test", "export", "freeze", "finalize"])
    @pytest.mark.parametrize("path", ["fiirst", "fiirst/model.ckpt-7", "fiirst/model.ckpt-7.index"])
    def test_a_checkpoint_of_a_run_that_is_not_there_names_the_runs(
        self, caplog, runs, drawn_market1501, mode, path
    ):
        argv = [f"--mode={mode}", f"--restore_path={runs / path}"]
        code, errors = run(caplog, *argv, f"--dataset={drawn_market1501}")
        assert code == 1
        assert f"{runs} has the runs first, second: did you mean first?" in errors[0]

    def test_a_training_without_a_name_says_that_it_is_new_and_when_it_ends(
        self, caplog, runs, drawn_market1501, monkeypatch
    ):
        monkeypatch.setattr(train, "_train_run", lambda *args: None)
        argv = [f"--dataset={drawn_market1501}", f"--log_dir={runs}", "--batch_size=8"]
        assert run(caplog, *argv) == (0, [])
        new = "Without --run_id, a run is new; to go on with one, name it: first, second"
        endless = "Training goes on until Ctrl-C, as there is no --number_of_steps"
        assert {new, endless} <= set(caplog.messages)
        assert run(caplog, *argv, "--run_id=third", "--number_of_steps=9") == (0, [])
        assert not {new, endless} & set(caplog.messages)

    def test_a_training_under_a_new_name_names_the_runs_that_could_go_on(
        self, caplog, runs, drawn_market1501
    ):
        argv = [f"--dataset={drawn_market1501}", f"--log_dir={runs}", "--run_id=fiirst"]
        run(caplog, *argv, "--restore_path=missing")
        assert (
            "Run fiirst is new; to go on with another: --run_id=first, second: did you mean first?"
            in caplog.messages
        )

    @pytest.mark.parametrize("mode", ["eval", "test", "export", "freeze", "finalize"])
    def test_the_folder_of_a_run_stands_for_it(self, runs, mode):
        args = parse(f"--mode={mode}", f"--log_dir={runs / 'first'}")
        assert find_run_dir(args) == str(runs / "first")


class TestBadInput:
    """One line that names the thing and the way out; code 2 for usage, 1 for data; nothing left."""

    def check(self, caplog, log_dir, code, parts, *argv, dataset_class=Market1501):
        actual_code, errors = run(
            caplog, f"--log_dir={log_dir}", *argv, dataset_class=dataset_class
        )
        assert actual_code == code
        assert len(errors) == 1
        assert "\n" not in errors[0]
        for part in parts:
            assert part in errors[0]
        assert not log_dir.exists()

    @pytest.mark.parametrize("dataset_class", [Market1501, Mars])
    @pytest.mark.parametrize("mode", ["train", "eval", "test", "export"])
    def test_no_data_set_says_where_to_get_it_and_how_to_draw_one(
        self, caplog, log_dir, mode, dataset_class
    ):
        parts = [dataset_class.DEFAULT_DIR, "http://", "python -m datasets.synthetic --layout"]
        self.check(caplog, log_dir, 1, parts, f"--mode={mode}", dataset_class=dataset_class)

    def test_an_empty_folder(self, caplog, log_dir, tmp_path):
        (tmp_path / "data" / "bounding_box_train").mkdir(parents=True)
        parts = ["bounding_box_train", "has no .jpg files"]
        self.check(caplog, log_dir, 1, parts, f"--dataset_dir={tmp_path}/data")

    def test_a_file_name_that_does_not_parse(self, caplog, log_dir, tmp_path):
        write_image(tmp_path / "data" / "bounding_box_train" / "person1.jpg")
        parts = ["person1.jpg", "PPPP_cCsS_FFFFFF_DD.jpg"]
        self.check(caplog, log_dir, 1, parts, f"--dataset_dir={tmp_path}/data")

    def test_a_label_out_of_range(self, caplog, log_dir, tmp_path):
        write_image(tmp_path / "data" / "bounding_box_train" / "1502_c1s1_000001_01.jpg")
        parts = ["1502_c1s1_000001_01.jpg", "0..1501"]
        self.check(caplog, log_dir, 1, parts, f"--dataset_dir={tmp_path}/data")

    def test_fewer_identities_than_a_batch_takes(self, caplog, log_dir, drawn_market1501):
        parts = ["needs 32 identities, but the data has 18", "--batch_size"]
        self.check(caplog, log_dir, 1, parts, f"--dataset_dir={drawn_market1501}")

    def test_a_batch_size_that_is_no_multiple_of_four(self, caplog, log_dir, drawn_market1501):
        parts = ["batch_size (130)", "use 128 or 132"]
        self.check(
            caplog, log_dir, 2, parts, f"--dataset_dir={drawn_market1501}", "--batch_size=130"
        )

    @pytest.mark.parametrize("mode", ["test", "export", "finalize", "freeze"])
    def test_no_run_yet(self, caplog, log_dir, drawn_market1501, mode):
        parts = [str(log_dir), "--mode=train", "--restore_path"]
        self.check(caplog, log_dir, 1, parts, f"--mode={mode}", f"--dataset_dir={drawn_market1501}")

    @pytest.mark.parametrize("mode", ["train", "finalize", "freeze"])
    def test_a_checkpoint_that_is_not_there(self, caplog, log_dir, drawn_market1501, mode):
        self.check(
            caplog, log_dir, 1, ["checkpoint nowhere/model.ckpt-1 does not exist"],
            f"--mode={mode}", "--restore_path=nowhere/model.ckpt-1",
            f"--dataset_dir={drawn_market1501}", *["--batch_size=16"] * (mode == "train"),
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("argv", "part"),
        [
            (["--features=a.mat", "--frozen_graph=b.pb"], "--features and --frozen_graph are two"),
            (["--checkpoint=c", "--frozen_graph=b.pb"], "--frozen_graph and --restore_path are"),
            (["--query_features=a.mat"], "--query_features goes with --features"),
            (["--features=a.mat"], "--features needs --query_features"),
        ],
    )
    def test_sources_of_features_that_do_not_go_together(
        self, caplog, log_dir, drawn_market1501, argv, part
    ):
        self.check(
            caplog, log_dir, 2, [part], "--mode=test", f"--dataset_dir={drawn_market1501}", *argv
        )

    def test_a_frozen_graph_that_is_not_there_or_none(
        self, caplog, log_dir, tmp_path, drawn_market1501
    ):
        argv = ["--mode=test", f"--dataset_dir={drawn_market1501}"]
        self.check(caplog, log_dir, 1, ["x.pb does not exist"], *argv, "--frozen_graph=x.pb")
        (tmp_path / "x.pb").write_bytes(b"no graph")
        self.check(caplog, log_dir, 1, ["x.pb", "name a file of"], *argv, "--frozen_graph=x.pb")

    def test_a_frozen_graph_is_no_checkpoint(self, caplog, log_dir):
        parts = ["market1501.pb is a frozen graph"]
        self.check(caplog, log_dir, 1, parts, "--mode=freeze", "--restore_path=market1501.pb")

    def test_a_run_that_is_not_there(self, caplog, log_dir):
        parts = [f"{log_dir} has no run nobody", "--mode=train"]
        self.check(caplog, log_dir, 1, parts, "--mode=freeze", "--run_id=nobody")

    def test_a_file_where_the_data_set_should_be(self, caplog, log_dir, tmp_path):
        (tmp_path / "data.zip").write_bytes(b"zip")
        parts = ["data.zip is a file, not the folder of Market-1501"]
        self.check(caplog, log_dir, 1, parts, f"--dataset_dir={tmp_path}/data.zip")

    def test_a_run_id_that_is_a_path(self, caplog, log_dir, drawn_market1501):
        self.check(
            caplog, log_dir, 2, ["run_id ('../elsewhere') must be a plain folder name"],
            "--run_id=../elsewhere", "--batch_size=16", f"--dataset_dir={drawn_market1501}",
        )  # fmt: skip

    def test_evaluation_without_a_run_gives_up_in_time(self, caplog, log_dir, drawn_market1501):
        self.check(
            caplog, log_dir, 1, ["has no run after 0.1 s"],
            "--mode=eval", "--timeout_secs=0.1", f"--dataset_dir={drawn_market1501}",
        )  # fmt: skip

    def test_an_image_that_cannot_be_read(self, caplog, log_dir, tmp_path):
        for person in range(1, 6):
            for detection in range(1, 5):
                name = f"{person:04d}_c1s1_000001_{detection:02d}.jpg"
                write_image(tmp_path / "data" / "bounding_box_train" / name)
        (tmp_path / "data" / "bounding_box_train" / "0003_c1s1_000001_02.jpg").write_bytes(b"junk")
        code, errors = run(
            caplog, f"--log_dir={log_dir}", f"--dataset_dir={tmp_path}/data", "--batch_size=16",
            "--seed=1", "--number_of_steps=50", "--image_shape", "32", "16",
            "--network=tiny:Net",
        )  # fmt: skip
        assert code == 1
        assert len(errors) == 1
        assert "0003_c1s1_000001_02.jpg cannot be read" in errors[0]
        assert not log_dir.exists()


class FailingDataset:
    """Stands for a data set class whose construction goes wrong."""

    NAME = "failing"
    TITLE = "Failing"
    DEFAULT_DIR = "."
    IMAGE_SHAPE = (128, 64, 3)
    MAX_LABEL = 1
    COMPACT_LABELS = False
    error = None

    def __init__(self, *args):
        raise self.error


class TestErrors:
    def fail(self, monkeypatch, caplog, error, *argv):
        monkeypatch.setattr(FailingDataset, "error", error)
        return run(caplog, *argv, dataset_class=FailingDataset)

    def test_an_error_of_the_user_is_one_line_without_a_trace(self, monkeypatch, caplog):
        code, errors = self.fail(monkeypatch, caplog, DataError("this\nand that"))
        assert (code, errors) == (1, [r"this\nand that"])
        assert caplog.records[-1].exc_info in (None, False)

    def test_with_debug_the_trace_comes_along(self, monkeypatch, caplog):
        code, _ = self.fail(monkeypatch, caplog, DataError("this"), "--debug")
        assert code == 1
        assert caplog.records[-1].exc_info[0] is DataError

    def test_an_error_of_the_system_is_one_line(self, monkeypatch, caplog):
        error = PermissionError(13, "Permission denied", "/data")
        code, errors = self.fail(monkeypatch, caplog, error)
        assert code == 1
        assert errors == ["/data: Permission denied; check the path and its permissions"]

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            MemoryError("Unable to allocate 745. GiB for an array"),
            RuntimeError("can't start new thread"),
            ImportError("libtensorflow_cc.so.2: failed to map segment from shared object"),
        ],
    )
    def test_a_lack_of_memory_is_one_line(self, monkeypatch, caplog, error):
        code, errors = self.fail(monkeypatch, caplog, error)
        assert code == 1
        assert len(errors) == 1
        assert errors[0].startswith(f"there is not enough memory ({str(error) or 'MemoryError'}): ")
        assert "lower --batch_size" in errors[0]

    def test_a_fault_of_the_program_keeps_its_trace(self, monkeypatch, caplog):
        with pytest.raises(RuntimeError, match="^fault$"):
            self.fail(monkeypatch, caplog, RuntimeError("fault"))

    def test_a_full_disk_is_no_question_of_permissions(self, monkeypatch, caplog):
        error = OSError(28, "No space left on device", "/data/a.pb")
        code, errors = self.fail(monkeypatch, caplog, error)
        assert code == 1
        assert errors == ["/data/a.pb: No space left on device; free some space"]

    def test_a_full_disk_in_tensorflow_has_a_way_out_too(self, monkeypatch, caplog):
        error = tf.errors.ResourceExhaustedError(None, None, "/a.pbtxt; No space left on device")
        code, errors = self.fail(monkeypatch, caplog, error)
        assert code == 1
        assert errors == ["/a.pbtxt; No space left on device; free some space"]

    def test_a_bug_keeps_its_trace(self, monkeypatch, caplog):
        with pytest.raises(ZeroDivisionError):
            self.fail(monkeypatch, caplog, ZeroDivisionError())

    def test_ctrl_c_ends_with_130(self, monkeypatch, caplog):
        assert self.fail(monkeypatch, caplog, KeyboardInterrupt()) == (130, [])
        assert caplog.messages == ["Reading Failing in .", "Interrupted"]


class TestOneIdentityForValidation:
    def test_is_warned_about(self, caplog, tmp_path, log_dir):
        for person in range(1, 13):
            write_image(
                tmp_path / "data" / "bounding_box_train" / f"{person:04d}_c1s1_000001_01.jpg"
            )
        run(caplog, f"--dataset_dir={tmp_path}/data", f"--log_dir={log_dir}")
        warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert len(warnings) == 1
        assert "CMC over one identity is always 1" in warnings[0]


class TestFewIdentitiesForValidation:
    """Validation says how few identities it has before it scores; nothing is said twice."""

    @pytest.mark.parametrize("num", [1, 2, 3, 9, 10, 11])
    @pytest.mark.parametrize("argv", ["--mode=eval --run_id=run", "--eval_every=2"])
    def test_are_warned_about(self, caplog, tmp_path, log_dir, monkeypatch, num, argv):
        for person in range(1, 16):
            for camera in (1, 2):
                name = f"{person:04d}_c{camera}s1_000001_01.jpg"
                write_image(tmp_path / "data" / "bounding_box_train" / name)
        RunConfig((128, 64, 3), seed=1, num_validation=num).save(log_dir / "run")
        module = train if "eval_every" in argv else evaluate

        def stop():
            raise RunError("enough")

        monkeypatch.setattr(module, "import_tensorflow", stop)
        argv = [*argv.split(), f"--dataset={tmp_path}/data", f"--log_dir={log_dir}"]
        argv += [f"--num_validation={num}"] + ["--batch_size=8"] * (module is train)
        assert run(caplog, *argv) == (1, ["enough"])
        warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert len(warnings) == (num < 10)
        if 1 < num < 10:
            assert warnings[0] == (
                f"The scores are of {num} identities, and those of fewer than 10 say little: keep "
                "more for validation with --num_validation"
            )


class TestScores:
    """--mode=test on ready features: needs neither checkpoints nor images."""

    def run(self, caplog, dataset_dir, tmp_path, gallery, query, *argv):
        paths = [tmp_path / "gallery.npy", tmp_path / "query.npy"]
        for path, features in zip(paths, (gallery, query), strict=True):
            np.save(path, features)
        return run(
            caplog, "--mode=test", f"--dataset_dir={dataset_dir}", f"--features={paths[0]}",
            f"--query_features={paths[1]}", f"--metrics_file={tmp_path}/metrics.json", *argv,
        )  # fmt: skip

    @pytest.fixture
    def features(self, drawn_market1501):
        """Features that point to the identity: all queries are answered rightly."""
        dataset = Market1501(drawn_market1501)
        directions = np.random.default_rng(0).normal(size=(1502, 16))
        return [directions[split.labels] for split in (dataset.gallery, dataset.query)]

    def test_perfect_features_have_perfect_scores(
        self, caplog, capsys, drawn_market1501, tmp_path, features
    ):
        assert self.run(caplog, drawn_market1501, tmp_path, *features) == (0, [])
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        assert metrics["rank1"] == metrics["mAP_standard"] == metrics["mAP_matlab"] == 1.0
        dataset = Market1501(drawn_market1501)
        assert metrics["num_queries"] == len(dataset.query)
        assert metrics["num_junk"] == np.count_nonzero(dataset.gallery.labels == -1)
        assert metrics["num_distractors"] == np.count_nonzero(dataset.gallery.labels == 0)
        assert metrics["num_gallery"] + metrics["num_junk"] == len(dataset.gallery)
        assert metrics["versions"]["Deep ReID"]
        table = capsys.readouterr().out
        assert "rank-1                    100.00" in table
        assert "mAP (Market-1501 MATLAB)  100.00" in table

    def test_neither_images_nor_tensorflow_are_needed(self, drawn_market1501, tmp_path, features):
        argv = ["--mode=test", f"--dataset_dir={tmp_path}", f"--metrics_file={tmp_path}/m.json"]
        dataset = Market1501(drawn_market1501)
        for split, values in zip((dataset.gallery, dataset.query), features, strict=True):
            for filename in split.filenames:
                path = tmp_path / pathlib.Path(filename).relative_to(drawn_market1501)
                path.parent.mkdir(exist_ok=True)
                path.touch()
            np.save(tmp_path / f"{path.parent.name}.npy", values)
        argv.append(f"--features={tmp_path}/bounding_box_test.npy")
        argv.append(f"--query_features={tmp_path}/query.npy")
        code = (
            "import sys; sys.modules['tensorflow'] = sys.modules['tf_slim'] = None; "
            "from datasets.market1501 import Market1501; from deep_reid import cli; "
            f"sys.exit(cli.main(Market1501, {argv!r}))"
        )
        process = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stderr
        assert "rank-1                    100.00" in process.stdout

    def check(self, result, tmp_path, *parts):
        """Check that an error of features has these parts, and names the data set."""
        code, errors = result
        assert code == 1
        assert len(errors) == 1
        assert re.match(r"test on /\S+: ", errors[0])
        for part in parts:
            assert part in errors[0]
        assert not (tmp_path / "metrics.json").exists()

    def test_too_few_features(self, caplog, drawn_market1501, tmp_path, features):
        result = self.run(caplog, drawn_market1501, tmp_path, features[0][:-1], features[1])
        self.check(result, tmp_path, "the gallery features have the shape")

    def test_features_of_different_dimensions_are_refused(
        self, caplog, drawn_market1501, tmp_path, features
    ):
        result = self.run(caplog, drawn_market1501, tmp_path, features[0], features[1][:, :8])
        self.check(result, tmp_path, "dimension 8", "16")

    def test_not_a_number(self, caplog, drawn_market1501, tmp_path, features):
        features[1][2, 3] = np.nan
        result = self.run(caplog, drawn_market1501, tmp_path, *features)
        self.check(result, tmp_path, "row 2 of the query features is not finite")

    def test_a_mat_file_without_the_variable(self, caplog, drawn_market1501, tmp_path, features):
        io.savemat(tmp_path / "x.mat", {"feat": features[0]})
        result = self.run(
            caplog, drawn_market1501, tmp_path, *features, f"--features={tmp_path}/x.mat"
        )
        self.check(result, tmp_path, "x.mat has no variable 'features' (it has feat)")

    def draw(self, folder, names):
        for name in names:
            write_image(folder / name)

    def test_labels_that_never_meet(self, caplog, tmp_path):
        self.draw(tmp_path / "query", ["0001_c1s1_000001_00.jpg"])
        self.draw(tmp_path / "bounding_box_test", ["0002_c2s1_000001_01.jpg"])
        result = self.run(caplog, tmp_path, tmp_path, np.ones((1, 4)), np.ones((1, 4)))
        self.check(result, tmp_path, "none of the 1 queries has a match in the gallery")

    def test_queries_without_a_match_are_counted_and_said(self, caplog, tmp_path):
        self.draw(tmp_path / "query", ["0001_c1s1_000001_00.jpg", "0003_c1s1_000001_00.jpg"])
        self.draw(tmp_path / "bounding_box_test", ["0001_c2s1_000001_01.jpg"])
        assert self.run(caplog, tmp_path, tmp_path, np.ones((1, 4)), np.ones((2, 4))) == (0, [])
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        assert (metrics["num_queries_without_match"], metrics["rank1"]) == (1, 1.0)
        assert "1 of 2 queries have no match in the gallery" in caplog.text

    def test_features_that_cannot_be_read_are_named_with_the_data_set(
        self, caplog, log_dir, drawn_market1501, tmp_path
    ):
        (tmp_path / "a.npy").write_bytes(b"nothing")
        of_both = ["--features=a.npy", "--query_features=a.npy"]
        for argv in (["--features=a.npy"], of_both, ["--features=x.mat", "--query_features=x.mat"]):
            _, errors = run(caplog, "--mode=test", f"--dataset={drawn_market1501}", *argv)
            assert errors[0].startswith(f"test on {drawn_market1501}: ")

    @pytest.mark.parametrize("num", [1, 2, 9, 10, 11])
    def test_scores_of_few_identities_are_warned_about(self, caplog, tmp_path, num):
        for camera, folder in ((1, "query"), (2, "bounding_box_test")):
            names = [f"{person + 1:04d}_c{camera}s1_000001_00.jpg" for person in range(num)]
            self.draw(tmp_path / folder, names)
        features = np.eye(num, 12)
        assert self.run(caplog, tmp_path, tmp_path, features, features) == (0, [])
        line = f"The scores are of {num} identities, and those of fewer than 10 say little: "
        assert (line in caplog.text) == (num < 10)

    def test_with_one_camera_only_the_query_itself_is_left_out(self, caplog, tmp_path):
        names = ["0001_c1s1_000001_01.jpg", "0001_c1s1_000002_01.jpg", "0002_c1s1_000003_01.jpg"]
        self.draw(tmp_path / "query", names[:1])
        self.draw(tmp_path / "bounding_box_test", names)
        gallery = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]])
        assert self.run(caplog, tmp_path, tmp_path, gallery, gallery[:1]) == (0, [])
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        # Itself would be a hit at rank 1; its other image comes behind the other person.
        assert (metrics["rank1"], metrics["rank5"], metrics["mAP_standard"]) == (0.0, 1.0, 0.5)
        assert "only the query itself is left out" in caplog.text

    def test_a_report_without_its_packages_says_so_before_any_work(
        self, caplog, monkeypatch, tmp_path
    ):
        monkeypatch.setitem(sys.modules, "jinja2", None)
        code, errors = run(caplog, "--mode=test", f"--report_dir={tmp_path}/report")
        assert code == 2
        assert "pip install -e '.[report]'" in errors[0]

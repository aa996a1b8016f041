"""The command that tracks: files, page, table and errors, with a fake network and a real one."""

import csv
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tiny
from tracks import write_rows, write_sequence

from datasets import synthetic
from datasets.custom import Custom
from deep_reid import __main__ as command
from deep_reid.cli import program
from deep_reid.cli import track as track_mode
from deep_reid.tracking import deep_sort, threshold

ROOT = pathlib.Path(__file__).parents[2]
EXTRA = ("deep_sort_realtime", "trackeval", "matplotlib", "jinja2")


@pytest.fixture
def with_extra():
    for name in EXTRA:
        pytest.importorskip(name, reason="needs the extra 'track'")


class FakeEncoder:
    """Takes the width of a box as its feature; closes as an encoder does."""

    def __init__(self, value=1.0):
        self.value = value
        self.image_shape = (32, 16, 3)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, frame, boxes):
        assert frame.ndim == (3 if self.image_shape[2] == 3 else 2)
        features = np.ones((len(boxes), 128), np.float32) * self.value
        features[:, 0] *= boxes[:, 2]
        return features


def track_here(inputs, jobs, settings, progress):
    """Track without further processes, which take seconds to start."""
    progress(len(jobs))
    return {
        (name, distance): deep_sort.track(
            **vars(inputs[name]), max_cosine_distance=distance, settings=settings
        )
        for name, distance in jobs
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        write_sequence(tmp_path / "all" / name)
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch, caplog, capsys):
    """Track as the command does, with a fake network."""
    caplog.set_level("INFO")
    encoder = FakeEncoder()
    source = {"checkpoint": "fake.ckpt", "run": "fake", "step": 1}
    monkeypatch.setattr(track_mode, "open_encoder", lambda *_: (source, encoder))
    monkeypatch.setattr(threshold, "track_all", track_here)

    def run(*argv, value=1.0, num_channels=3, code=0):
        caplog.clear()
        encoder.image_shape = (32, 16, num_channels)
        capsys.readouterr()
        encoder.value = value
        argv = ["--mode=track", "--track_dir=out", *argv]
        assert program.main(Custom, argv) == code, caplog.text
        if code:
            (line,) = [x.getMessage() for x in caplog.records if x.levelname == "ERROR"]
            assert "\n" not in line
            assert not (folder / "out").exists()
            return line
        return capsys.readouterr().out

    return run


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.usefixtures("with_extra")
class TestOutputs:
    def test_a_missing_graph_is_named_before_the_sequences_are_read(self, run, caplog):
        line = run("--sequences", "all", "--frozen_graph=missing.pb", code=1)
        assert line.startswith("frozen graph missing.pb does not exist")
        assert "frames" not in caplog.text

    def test_all_files_are_written_and_the_table_comes_last(self, run, folder, caplog):
        table = run("--sequences", "all")
        names = {"features/{}.npy", "tracks/{}.txt"}
        expected = {name.format(letter) for name in names for letter in "abc"}
        expected |= {
            "videos/b.mp4",
            "videos/c.mp4",
            "scores.csv",
            "track.html",
            "track.html.manifest.json",
        }
        written = {str(x.relative_to(folder / "out")) for x in (folder / "out").rglob("*.*")}
        assert written == expected
        assert np.load(folder / "out/features/a.npy").shape == (16, 138)
        rows = [line.split() for line in table.splitlines()]
        assert rows[0][:3] == ["sequence", "part", "threshold"]
        assert [row[:2] for row in rows[1:]] == [
            ["b", "test"], ["c", "test"], ["all", "test"], ["a", "train"]
        ]  # fmt: skip
        assert "all have the same scores on a (IDF1 " in caplog.text

    def test_scores_are_those_of_all_thresholds(self, run, folder):
        run("--sequences", "all/b", "--train_sequences", "all/a", "--no-video")
        lines = read(folder / "out/scores.csv")
        assert {(line["sequence"], line["part"]) for line in lines} == {
            ("a", "train"), ("b", "test"), ("all", "train"), ("all", "test")
        }  # fmt: skip
        assert len(lines) == 4 * len(threshold.DISTANCES)
        assert {line["max_cosine_distance"] for line in lines} >= {"0.2", "1"}
        assert all(0 <= float(line["idf1"]) <= 1 for line in lines)
        assert not (folder / "out/videos").exists()

    def test_what_is_of_other_calls_is_named(self, run, folder, caplog):
        run("--sequences", "all", "--no-video")
        assert "Of earlier calls" not in caplog.text
        assert "Overwriting" not in caplog.text
        run("--sequences", "all/a", "--no-video")
        assert "Overwriting out/track.html" in caplog.text
        left = "out/features/b.npy, out/features/c.npy, out/tracks/b.txt, out/tracks/c.txt"
        assert f"Of earlier calls, and not written anew: {left}" in caplog.text

    def test_a_training_sequence_that_is_named_twice_is_for_training(self, run, folder):
        run("--sequences", "all", "--train_sequences", "all/b", "--no-video")
        parts = {line["sequence"]: line["part"] for line in read(folder / "out/scores.csv")}
        assert (parts["a"], parts["b"], parts["c"]) == ("test", "train", "test")

    def test_a_given_threshold_needs_no_training_sequences(self, run, folder, caplog):
        run("--sequences", "all", "--max_cosine_distance=0.3", "--no-video")
        lines = read(folder / "out/scores.csv")
        assert {line["part"] for line in lines} == {"test"}
        assert {line["max_cosine_distance"] for line in lines} == {"0.2", "0.3"}
        page = (folder / "out/track.html").read_text()
        assert "max_cosine_distance 0.3 was given." in page
        assert "ID switches against" not in page

    def test_the_page_has_scores_charts_and_pictures(self, run, folder):
        run("--sequences", "all", "--no-video")
        page = (folder / "out/track.html").read_text()
        assert page.count("data:image/svg+xml") == 2
        assert page.count("data:image/jpeg") == 2 * 3  # three frames of each of b and c
        assert "all other sequences" in page
        assert "all training sequences" not in page  # it is one
        assert "://" not in page.replace("http://www.w3.org", "")  # nothing is loaded

    def test_without_truth_there_is_a_page_without_scores(self, run, folder, caplog):
        for name in "abc":
            os.unlink(folder / "all" / name / "gt/gt.txt")
        assert run("--sequences", "all", "--no-video") == ""
        assert read(folder / "out/scores.csv") == []
        assert "without gt/gt.txt, so without scores" in caplog.text
        assert "is Deep SORT&#39;s default" in (folder / "out/track.html").read_text()

    def test_a_network_of_gray_images_gets_gray_frames(self, run, folder):
        run("--sequences", "all", "--no-video", num_channels=1)
        assert np.load(folder / "out/features/a.npy").shape == (16, 138)

    def test_made_detections_are_said_to_be_made(self, run, folder, caplog):
        os.unlink(folder / "all/b/det/det.txt")
        run("--sequences", "all", "--no-video")
        assert caplog.text.count("made from gt/gt.txt with gaps and jitter") == 1


FAULTS = {
    "no sequences given": ([], 2, "track needs --sequences"),
    "a missing folder": (["--sequences", "none"], 1, "none does not exist or is not a folder"),
    "a folder without sequences": (["--sequences", "empty"], 1, "empty has no sequences"),
    "a missing training folder": (
        ["--sequences", "all", "--train_sequences", "none"], 1, "none does not exist",
    ),
    "training sequences and a threshold": (
        ["--sequences", "all", "--train_sequences", "all/a", "--max_cosine_distance=0.2"],
        2, "--train_sequences, or is --max_cosine_distance: give one",
    ),
    "too high a confidence": (
        ["--sequences", "all", "--min_confidence=0.95"], 1,
        "a: no detection has the confidence 0.95 of --min_confidence, the highest is 0.9: lower it",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("with_extra")
class TestErrors:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_are_one_line_and_nothing_is_written(self, run, folder, fault):
        (folder / "empty").mkdir()
        argv, code, message = FAULTS[fault]
        assert message in run(*argv, code=code)

    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
    def test_features_that_break_deep_sort_are_refused(self, run, value):
        line = run("--sequences", "all", value=value, code=1)
        assert "its feature is" in line
        assert "Deep SORT divides by its length" in line

    def test_a_damaged_frame_of_the_last_sequence_leaves_no_file_of_the_others(self, run, folder):
        (folder / "all/c/img1/000005.png").write_bytes(b"no image")
        assert "c/img1/000005.png cannot be decoded" in run("--sequences", "all", code=1)

    def test_so_does_a_damaged_frame_without_detections(self, run, folder):
        write_rows(folder / "all/c/det/det.txt", [(1, -1, 5, 5, 8, 16)], "1")
        (folder / "all/c/img1/000005.png").write_bytes(b"no image")
        assert "c/img1/000005.png cannot be decoded" in run("--sequences", "all", code=1)

    def test_an_output_that_is_a_folder(self, run, folder):
        (folder / "other/scores.csv").mkdir(parents=True)
        argv = ("--sequences", "all", "--track_dir=other")
        assert "scores.csv: Is a directory" in run(*argv, code=1)

    @pytest.mark.parametrize(
        ("flag", "message"),
        [
            ("--max_cosine_distance=0", "must be a number greater than 0"),
            ("--max_cosine_distance=3", "must be at most 2"),
            ("--nms_max_overlap=1.5", "must be a number greater than 0 and at most 1"),
            ("--min_confidence=nan", "must be a number"),
            ("--query=x", "--query goes with --mode=search, not with --mode=track"),
            ("--loss_mode=triplet", "not with --mode=track"),
        ],
    )
    def test_wrong_flags(self, folder, capsys, flag, message):
        with pytest.raises(SystemExit) as caught:
            program.main(Custom, ["--mode=track", "--sequences", "all", flag])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", EXTRA)
def test_a_missing_package_is_named_before_tensorflow_is_imported(
    folder, monkeypatch, caplog, name
):
    for other in EXTRA:
        monkeypatch.setitem(sys.modules, other, type(sys)(other))
        sys.modules[other].__spec__ = "there"
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(track_mode, "settle", None)  # comes before TensorFlow
    assert program.main(Custom, ["--mode=track", "--sequences", "all"]) == 2
    (line,) = [x.getMessage() for x in caplog.records if x.levelname == "ERROR"]
    assert line.startswith(f"--mode=track needs {name.replace('_', '-')}: pip install ")
    assert "pip install -e '.[track]'" in line
    assert not (folder / "output").exists()


def test_the_command_track_is_the_mode(folder, monkeypatch):
    calls = []
    monkeypatch.setattr(track_mode, "track", lambda args, dataset_class: calls.append(args))
    assert command.main(["track", "--sequences", "all", "--track_dir=x"]) == 0
    (args,) = calls
    assert (args.mode, list(args.sequences), args.track_dir) == ("track", ["all"], "x")


@pytest.mark.slow
@pytest.mark.usefixtures("with_extra")
def test_boxes_outside_their_frames_are_counted_in_one_line(folder, monkeypatch, caplog):
    """With the real encoder: it warns for each frame, which would be many lines."""
    train(folder)
    rows = [(frame, -1, 500, 500, 8, 16) for frame in range(1, 9)]
    rows += [(frame, -1, 4, 4, 8, 16) for frame in range(1, 9)]
    write_rows(folder / "all/b/det/det.txt", rows, "1,-1,-1,-1")
    argv = ["--mode=track", "--sequences", "all/b", "--max_cosine_distance=0.2", "--no-video"]
    assert program.main(Custom, [*argv, "--log_dir=train"]) == 0
    warnings = [x.getMessage() for x in caplog.records if x.levelname == "WARNING"]
    assert [x for x in warnings if "no pixel" in x] == [
        "b: 8 of 16 boxes have no pixel on their frame: they get the feature of noise"
    ]
    written = np.load(folder / "output/custom/track/features/b.npy")
    assert written.shape == (16, 10 + tiny.FEATURE_SIZE)
    np.testing.assert_allclose(np.linalg.norm(written[:, 10:], axis=1), 1, atol=1e-5)


def train(folder):
    if not (folder / "people").exists():
        synthetic.draw_folders(folder / "people", num_identities=4, images_per_identity=4)
    argv = [
        "--mode=train", f"--dataset={folder}/people", "--log_dir=train", "--run_id=one",
        "--number_of_steps=1", "--batch_size=8", "--image_shape", "32", "16",
        "--network=tiny:Net",
    ]  # fmt: skip
    assert program.main(Custom, argv) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("with_extra")
def test_checkpoint_in_a_process_and_frozen_graph_in_this_one_track_alike(folder, monkeypatch):
    """The process is as users type it, and has further ones; this one tracks alone."""
    train(folder)
    freeze = ["--mode=freeze", "--log_dir=train", "--output=one.pb"]
    assert program.main(Custom, freeze) == 0
    synthetic.draw_mot(folder / "drawn/x", num_identities=2, images_per_identity=8, seed=3)
    synthetic.draw_mot(folder / "drawn/y", num_identities=2, images_per_identity=8, seed=4)
    argv = ["--sequences", "drawn"]
    process = subprocess.run(
        [sys.executable, "-m", "deep_reid", "track", *argv, "--log_dir=train", "--track_dir=a"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))},
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.split()[:3] == ["sequence", "part", "threshold"]
    assert "Traceback" not in process.stderr
    argv = ["--mode=track", *argv, "--frozen_graph=one.pb", "--track_dir=b"]
    monkeypatch.setattr(threshold, "track_all", track_here)
    assert program.main(Custom, argv) == 0
    for name in "xy":
        written = [np.load(folder / which / "features" / f"{name}.npy") for which in "ab"]
        np.testing.assert_allclose(*written, atol=1e-5)
        tracks = [(folder / which / "tracks" / f"{name}.txt").read_text() for which in "ab"]
        assert tracks[0] == tracks[1]
        assert all(len(line.split(",")) == 10 for line in tracks[0].splitlines())
    assert (folder / "a/videos/y.mp4").stat().st_size > 1000
    assert "one.pb" in (folder / "b/track.html").read_text()

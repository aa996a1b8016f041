"""Where outputs go, what tells their origin, and that nothing is overwritten silently."""

import json
import logging
import os
import shutil
import stat
import threading

import pytest
from saved import save

from datasets import synthetic
from datasets.custom import Custom
from deep_reid import cli
from deep_reid.cli import outputs
from deep_reid.cli.outputs import Origin
from deep_reid.config import RunConfig

A = Origin(run="a", step=10, checkpoint="log/a/model.ckpt-10")
A_LATER = Origin(run="a", step=20, checkpoint="log/a/model.ckpt-20")
B = Origin(run="b", step=10, checkpoint="log/b/model.ckpt-10")
PUBLISHED = Origin(run=None, step=0, checkpoint="published/model.ckpt")
OTHER = Origin(run=None, step=0, checkpoint="other/model.ckpt")


@pytest.fixture(autouse=True)
def _work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_run(run_dir):
    RunConfig((32, 16, 3), seed=1).save(run_dir)
    return str(run_dir)


class TestDefaultPath:
    def test_is_in_the_folder_of_the_run(self, tmp_path):
        run_dir = make_run(tmp_path / "log" / "run")
        path = outputs.default_path("custom", run_dir, "export", "custom.pb")
        assert path == os.path.join(run_dir, "export", "custom.pb")

    def test_of_the_best_checkpoint_too(self, tmp_path):
        run_dir = make_run(tmp_path / "log" / "run")
        best = make_run(tmp_path / "log" / "run" / "best")
        (tmp_path / "log" / "run" / "best" / "score.json").write_text("{}")
        assert outputs.default_path("custom", best, "x") == os.path.join(run_dir, "x")
        assert outputs.name_of_run(best) == "run"

    @pytest.mark.parametrize("run_dir", [None, "", "published", "missing"])
    def test_of_a_checkpoint_without_a_run_is_beside_the_runs(self, tmp_path, run_dir):
        (tmp_path / "published").mkdir()
        assert outputs.default_path("mars", run_dir, "x.pb") == "./output/mars/x.pb"
        assert outputs.name_of_run(run_dir) is None


class TestOverwriting:
    @pytest.mark.parametrize(
        ("earlier", "new", "is_named"),
        [
            (A, A, False),
            (A, A_LATER, False),
            (A, B, True),
            (A, PUBLISHED, True),
            (PUBLISHED, PUBLISHED, False),
            (PUBLISHED, OTHER, True),
            (PUBLISHED, A, True),
        ],
    )
    @pytest.mark.parametrize("file", ["graph.pb", "weights.ckpt.index"])
    def test_what_came_from_another_run_is_named(
        self, tmp_path, caplog, earlier, new, is_named, file
    ):
        (tmp_path / file).write_text("content")
        path = file.removesuffix(".index")
        outputs.write_manifest(path, earlier)
        outputs.warn_of_overwriting(path, new)
        assert [f"{path}, which is of {earlier}, with {new}" in caplog.text] == [is_named]

    @pytest.mark.parametrize("manifest", [None, "", "[]", "{}", '{"run": 1}', "[" * 10**5])
    def test_what_is_of_unknown_origin_is_named(self, tmp_path, caplog, manifest):
        (tmp_path / "graph.pb").write_text("content")
        if manifest is not None:
            (tmp_path / "graph.pb.manifest.json").write_text(manifest)
        outputs.warn_of_overwriting("graph.pb", A)
        assert "Overwriting graph.pb, of which no manifest tells the run" in caplog.text

    def test_what_is_not_there_is_no_matter(self, caplog):
        outputs.warn_of_overwriting("graph.pb", A)
        outputs.warn_of_overwriting(os.devnull, A)
        outputs.write_manifest(os.devnull, A)
        assert not caplog.text
        assert not os.path.exists(os.devnull + ".manifest.json")


@pytest.fixture
def run(caplog):
    caplog.set_level(logging.INFO)

    def run(*argv, code=0):
        caplog.clear()
        assert cli.main(Custom, list(argv)) == code, caplog.text
        return caplog.text

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    synthetic.draw_folders(folder / "people", num_identities=4, images_per_identity=4)
    for run_id in ("good", "stray"):
        argv = [
            "--mode=train", f"--dataset={folder}/people", f"--log_dir={folder}/train",
            f"--run_id={run_id}", "--number_of_steps=1", "--batch_size=8",
            "--image_shape", "32", "16", "--num_validation=2",
        ]  # fmt: skip
        assert cli.main(Custom, argv) == 0
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """A copy of two runs, of which the second is a stray one."""
    shutil.copytree(trained / "train", tmp_path / "output" / "custom" / "train")
    (tmp_path / "people").mkdir()
    return tmp_path / "output" / "custom" / "train"


@pytest.mark.slow
class TestModes:
    def test_which_run_is_taken_is_said_and_how_to_take_another(self, runs, run):
        for argv in (["--mode=freeze"], ["--mode=finalize"], ["--mode=export"], ["--mode=test"]):
            line = "Using run stray, step 1: ./output/custom/train/stray/model.ckpt-1"
            assert f"{line}; --run_id takes another one: good\n" in run(*argv)
            assert "takes another" not in run(*argv, "--run_id=good")
        text = run("--mode=eval", "--max_num_evaluations=1")
        assert "Evaluating run stray on 8 images; --run_id takes another one: good\n" in text

    def test_outputs_are_in_the_folder_of_their_run_with_a_manifest(self, runs, run):
        for run_id in ("good", "stray"):
            for mode in ("freeze", "finalize", "export", "test"):
                text = run(f"--mode={mode}", f"--run_id={run_id}")
                assert "Overwriting" not in text
            export = runs / run_id / "export"
            for name in ("custom.pb", "custom.ckpt", "feat_test.mat"):
                manifest = json.loads((export / f"{name}.manifest.json").read_text())
                assert (manifest["run"], manifest["step"]) == (run_id, 1)
            metrics = json.loads((runs / run_id / "test_metrics.json").read_text())
            assert (metrics["run"], metrics["step"]) == (run_id, 1)
        assert sorted(os.listdir()) == ["output", "people"]
        # The run goes on as before: what is in export/ are not its checkpoints.
        run("--mode=train", "--run_id=good", "--number_of_steps=2")
        assert (runs / "good" / "model.ckpt-2.index").exists()

    def test_outputs_elsewhere_name_what_they_overwrite(self, runs, run):
        run("--mode=freeze", "--run_id=good", "--output=custom.pb")
        text = run("--mode=freeze", "--output=custom.pb")
        assert "Overwriting custom.pb, which is of run good, step 1, with run stray, step 1" in text

    def test_devices_pipes_and_links_stay_what_they_are(self, runs, run, tmp_path):
        (tmp_path / "store").mkdir()
        (tmp_path / "link.json").symlink_to("store/metrics.json")
        run("--mode=test", "--metrics_file=link.json")
        assert json.loads((tmp_path / "store" / "metrics.json").read_text())["run"] == "stray"
        assert (tmp_path / "link.json").is_symlink()
        run("--mode=test", f"--metrics_file={os.devnull}")
        run("--mode=freeze", f"--output={os.devnull}")
        assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
        os.mkfifo(tmp_path / "pipe")
        got = []
        reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
        reader.start()
        run("--mode=test", "--metrics_file=pipe")
        reader.join()
        assert json.loads(got[0])["run"] == "stray"

    @pytest.mark.parametrize(
        "argv", [["--mode=test", "--metrics_file=people"], ["--mode=freeze", "--output=people"]]
    )
    def test_a_folder_is_refused(self, runs, run, argv):
        assert "people: Is a directory; name a file" in run(*argv, code=1)


def test_the_copy_of_the_best_is_named_by_its_run(tmp_path):
    make_run(tmp_path / "log" / "run")
    save(tmp_path / "log" / "run", [1])
    assert outputs.name_of_run(str(tmp_path / "log" / "run")) == "run"

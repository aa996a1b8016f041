"""Features in shards: each process writes its own, and a test scores all of them."""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy import io

from datasets import synthetic
from datasets.custom import Custom
from deep_reid import cli
from deep_reid.cli import feature_files, outputs
from deep_reid.errors import DataError
from deep_reid.scoring import shards
from deep_reid.system import files

ROOT = pathlib.Path(__file__).parents[2]
SHARDS = "export/feat_test-*-of-00003.npy"
DATA = ["--dataset=people"]
BATCH = "--batch_size=8"


def run(folder, *argv, code=0, **environment):
    """Run the script in a process of its own; return its log and its output."""
    process = subprocess.run(
        [sys.executable, str(ROOT / "train_custom.py"), *DATA, *argv],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert process.returncode == code, process.stderr
    return process.stderr, process.stdout


def read_scores(path):
    return {
        name: value
        for name, value in json.loads(path.read_text()).items()
        if name.startswith(("rank", "mAP", "num"))
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A run on few images, whose features were written at once, and in three processes."""
    folder = tmp_path_factory.mktemp("work")
    synthetic.draw_folders(folder / "people", num_identities=10, images_per_identity=6)
    run(
        folder, "--mode=train", "--run_id=a", "--number_of_steps=2", "--batch_size=8",
        "--image_shape", "32", "16", "--num_validation=5", "--seed=1",
    )  # fmt: skip
    run(folder, "--mode=export", "--sdk_dir=whole", BATCH)
    for index in range(3):  # as a Kubernetes job with three completions does
        flag = f"--shard={index}/3"
        run(folder, "--mode=export", "--sdk_dir=export", BATCH, flag, JOB_COMPLETION_INDEX="x")
    return folder


@pytest.fixture
def copy(work, tmp_path):
    shutil.copytree(work / "export", tmp_path / "export")
    return tmp_path


@pytest.mark.slow
class TestProcesses:
    def test_three_shards_are_byte_for_byte_the_features_of_one_run(self, work):
        whole = io.loadmat(work / "whole" / "feat_test.mat")["features"]
        paths = shards.find_shards(str(work / SHARDS))
        assert [len(np.load(path)) for path in paths] == [8, 8, 14]
        together = np.concatenate([np.load(path) for path in paths])
        assert together.dtype == whole.dtype == np.float32
        assert together.tobytes() == np.ascontiguousarray(whole).tobytes()
        assert np.asarray(shards.Shards(paths)).tobytes() == together.tobytes()

    def test_the_index_beside_each_names_its_images(self, work):
        tables = [
            list(csv.DictReader(pathlib.Path(path).with_suffix(".csv").open()))
            for path in (work / "whole/feat_test.mat", *shards.find_shards(str(work / SHARDS)))
        ]
        whole, *parts = tables
        for part in parts:
            assert [line["row"] for line in part] == [str(row) for row in range(len(part))]
        names = ("path", "identity", "camera")
        lines = [[line[name] for name in names] for part in parts for line in part]
        assert lines == [[line[name] for name in names] for line in whole]

    def test_all_shards_score_as_the_one_file_does(self, work):
        run(work, "--mode=test", "--features=whole/feat_test.mat", "--metrics_file=whole.json")
        run(work, "--mode=test", f"--features={SHARDS}", "--metrics_file=shards.json")
        assert read_scores(work / "whole.json") == read_scores(work / "shards.json")
        assert json.loads((work / "shards.json").read_text())["features"] == SHARDS

    def test_a_test_writes_its_features_in_shards_too(self, work):
        run(work, "--mode=freeze", "--output=a.pb")
        before = set(os.listdir(work))
        for index in range(2):
            log, table = run(
                work, "--mode=test", "--frozen_graph=a.pb", BATCH, f"--shard={index}/2"
            )
            assert not table
            assert f"features-{index:05d}-of-00002.npy" in log
        assert set(os.listdir(work)) == before
        pattern = "output/custom/export/features-*-of-00002.npy"
        for argv in (["--frozen_graph=a.pb", BATCH], [f"--features={pattern}"]):
            run(work, "--mode=test", *argv, f"--metrics_file={len(argv)}.json")
        assert read_scores(work / "2.json") == read_scores(work / "1.json")

    def test_a_shard_of_another_run_is_overwritten_with_a_warning(self, work, tmp_path):
        run_dir = work / "output" / "custom" / "train"
        shutil.copytree(work / "export", tmp_path / "export")
        shutil.copytree(run_dir / "a", run_dir / "b")
        argv = ["--mode=export", f"--sdk_dir={tmp_path}/export", BATCH, "--shard=1/3"]
        log, _ = run(work, "--run_id=a", *argv)
        assert "Overwriting" not in log
        log, _ = run(work, "--run_id=b", *argv)
        assert "00001-of-00003.npy, which is of run a" in log
        log, _ = run(work, "--mode=test", f"--features={tmp_path}/{SHARDS}", code=1)
        assert "are not of one set" in log.splitlines()[-1]
        shutil.rmtree(run_dir / "b")

    def test_incomplete_sets_are_refused(self, work, copy):
        (copy / "export" / "feat_test-00001-of-00003.npy").unlink()
        log, _ = run(work, "--mode=test", f"--features={copy}/{SHARDS}", code=1)
        assert "1 of 3 shards are missing: " in log.splitlines()[-1]
        assert "feat_test-00001-of-00003.npy" in log.splitlines()[-1]


@pytest.mark.parametrize("text", ["3/3", "-1/3", "1", "1/0", "1/", "a/b", "1/2/3", "0.5/2", ""])
def test_a_shard_is_i_of_n(capsys, text):
    with pytest.raises(SystemExit) as info:
        cli.main(Custom, ["--mode=export", f"--shard={text}"])
    assert info.value.code == 2
    assert "must be i/n, shard i of n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag", ["--features=x.npy", "--rerank", "--report_dir=out", "--metrics_file=x.json"]
)
def test_a_shard_is_not_scored(caplog, flag):
    assert cli.main(Custom, ["--mode=test", "--dataset=.", "--shard=0/3", flag]) == 2
    assert f"give {flag.partition('=')[0]} to the test that reads all shards" in caplog.text


class TestManifests:
    """Shards that have the right names, but do not belong together."""

    @pytest.fixture
    def write(self, tmp_path):
        def write(index, first_row=None, end_row=None, rows_of_all=9, **origin):
            path = shards.shard_path(tmp_path / "x", index, 3)
            np.save(path, np.ones((3, 2), np.float32))
            made_of = {"run": "a", "step": 10, "checkpoint": "a/model.ckpt-10", **origin}
            rows = {"first_row": 3 * index if first_row is None else first_row}
            rows["end_row"] = rows["first_row"] + 3 if end_row is None else end_row
            outputs.write_manifest(path, outputs.Origin(**made_of), **rows, rows_of_all=rows_of_all)
            return path

        return write

    def check(self, tmp_path):
        pattern = str(tmp_path / "x-*.npy")
        feature_files.check_shards(shards.Shards(shards.find_shards(pattern)))

    def test_a_set_of_one_checkpoint(self, write, tmp_path):
        for index in range(3):
            write(index, checkpoint=f"mounted/at/{index}/model.ckpt-10")
        self.check(tmp_path)

    @pytest.mark.parametrize(
        "other",
        [{"run": "b"}, {"step": 20}, {"precise_batch_norm": 9}, {"inputs": "data set x"},
         {"rows_of_all": 8}],
    )  # fmt: skip
    def test_one_of_another_kind(self, write, tmp_path, other):
        for index in range(3):
            write(index, **(other if index == 1 else {}))
        with pytest.raises(DataError, match="x-00000-of-00003.npy and .*x-00001.* not of one set"):
            self.check(tmp_path)

    def test_one_without_a_manifest_and_none_with_one(self, write, tmp_path):
        paths = [write(index) for index in range(3)]
        os.unlink(paths[2] + outputs.ENDING)
        with pytest.raises(DataError, match="not of one set"):
            self.check(tmp_path)
        for path in paths[:2]:
            os.unlink(path + outputs.ENDING)
        self.check(tmp_path)

    def test_rows_that_do_not_follow_each_other(self, write, tmp_path):
        write(0)
        write(1, first_row=2)
        write(2)
        with pytest.raises(DataError, match="begins with row 2, .* have 3 rows: .*batch_size"):
            self.check(tmp_path)

    def test_features_in_memory_need_no_manifest(self):
        feature_files.check_shards(np.ones((2, 2)))


def test_an_empty_shard_has_the_columns_of_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    origin = outputs.Origin(run="a", step=1, checkpoint="x")

    def encode(images, batch_size, progress):
        assert len(images)
        return np.arange(3.0 * len(images), dtype=np.float32).reshape(-1, 3)

    for index in range(4):
        listed = feature_files.list_files({"out/x.mat": ["a.jpg", "b.jpg"]}, (index, 4), 1)
        feature_files.write_files(listed, encode, 1, origin, lambda image: ("", ""))
    features = shards.Shards(shards.find_shards("out/x-*.npy"))
    feature_files.check_shards(features)
    assert [len(np.load(path)) for path in features.paths] == [0, 1, 0, 1]
    assert features.shape == (2, 3)
    assert files.read_json("out/x-00003-of-00004.npy.manifest.json")["first_row"] == 1

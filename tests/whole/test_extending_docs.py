"""The examples of docs/extending.md, as a reader runs them: copied from the page, in processes."""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys

import cv2
import numpy as np
import processes
import pytest

from datasets import synthetic
from deep_reid import Encoder
from deep_reid.config import RunConfig

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(\w+\.py)`.*?^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"^python (\w+\.py .*)$", PAGE, re.MULTILINE)
IMAGE_SHAPE = (32, 16, 3)
# What makes it small: the page's commands are for real data.
SMALL = {
    "train": ["--number_of_steps=2", "--batch_size=8", "--image_shape", "32", "16"],
    "eval": ["--max_num_evaluations=1"],
    "test": [],
    "freeze": [],
}


def test_the_page_has_three_examples_and_their_commands():
    assert list(FILES) == ["my_network.py", "my_losses.py", "train_my_dataset.py"]
    own = [command for command in COMMANDS if command.startswith("train_my_dataset.py")]
    assert [re.search(r"--mode=(\w+)", command)[1] for command in own] == list(SMALL)
    assert len(COMMANDS) == len(own) + 2


@pytest.mark.parametrize("name", FILES)
def test_no_example_is_long(name):
    assert len(FILES[name].splitlines()) <= 60
    ast.parse(FILES[name])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reader's folder: the files of the page, and drawn people in two layouts."""
    folder = tmp_path_factory.mktemp("reader")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    synthetic.draw_folders(folder / "people", num_identities=22, images_per_identity=4)
    data = folder / "resources" / "my_dataset"
    for split, identities in (("train", range(1, 21)), ("query", (21, 22)), ("gallery", (21, 22))):
        (data / split).mkdir(parents=True)
        for identity in identities:
            for number, path in enumerate(sorted((folder / "people" / f"{identity:04}").iterdir())):
                name = f"{identity:04}_c{number % 2 + 1}_{number:03}.jpg"
                if split != "query" or number == 0:
                    (data / split / name).write_bytes(path.read_bytes())
    return folder


def split(folder, command):
    """Split a command into the script's path and arguments that make it small."""
    script, *argv = command.split()
    path = folder / script if script in FILES else ROOT / script
    return str(path), [*argv, *SMALL[re.search(r"--mode=(\w+)", command)[1]]]


def run(folder, command):
    """Run a command of the page in the reader's folder; returns what it wrote."""
    path, argv = split(folder, command)
    output = folder / f"output-{len(list(folder.glob('output-*')))}.txt"
    code = processes.call(processes.run_script, path, argv, folder, [ROOT], output)
    assert code == 0, output.read_text()
    return output.read_text()


def run_dir_of(folder, name):
    log_dir = folder / "output" / name / "train"
    return log_dir / (log_dir / "latest_run").read_text().strip()


@pytest.mark.slow
@pytest.mark.parametrize("command", [x for x in COMMANDS if x.startswith("train_custom.py")])
def test_an_example_trains_alone(folder, command):
    run(folder, command)
    config = RunConfig.load(run_dir_of(folder, "custom"))
    assert f"--network={config.network}" in command or f"--loss_mode={config.loss_mode}" in command


def command_of(mode):
    return next(x for x in COMMANDS if x.startswith(f"train_my_dataset.py --mode={mode}"))


@pytest.fixture(scope="module")
def trained(folder):
    """The reader's folder after the training with all three examples, in a process as it is."""
    path, argv = split(folder, command_of("train"))
    process = subprocess.run(
        [sys.executable, path, *argv], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return folder


@pytest.mark.slow
class TestAllThreeTogether:
    def test_training_records_their_names(self, trained):
        config = RunConfig.load(run_dir_of(trained, "my_dataset"))
        assert config.network == "my_network:SmallNetwork"
        assert config.loss_mode == "my_losses:contrastive"
        assert config.num_classes is None  # the loss needs no classifier

    def test_evaluation_finds_them(self, trained):
        run(trained, command_of("eval"))
        run_id = run_dir_of(trained, "my_dataset").name
        records = trained / "output" / "my_dataset" / "eval" / run_id / "metrics.jsonl"
        assert [json.loads(line)["step"] for line in records.read_text().splitlines()] == [2]

    def test_the_test_ranks_by_the_measure_of_the_loss(self, trained):
        assert "rank-1" in run(trained, command_of("test"))
        metrics = json.loads((run_dir_of(trained, "my_dataset") / "test_metrics.json").read_text())
        assert metrics["measure"] == "cosine"
        assert metrics["num_queries"] == 2

    def test_the_frozen_graph_gives_the_features_of_the_checkpoint(self, trained, monkeypatch):
        run(trained, command_of("freeze"))
        monkeypatch.chdir(trained)
        monkeypatch.setattr(sys, "path", sys.path[:])
        images = [cv2.imread(str(path)) for path in sorted(trained.glob("people/0001/*.jpg"))]
        features = []
        for path in (trained / "my_dataset.pb", run_dir_of(trained, "my_dataset")):
            with Encoder(path) as encoder:
                assert (encoder.image_shape, encoder.feature_size) == (IMAGE_SHAPE, 128)
                features.append(encoder(images))
        np.testing.assert_array_equal(*features)
        np.testing.assert_allclose(np.linalg.norm(features[0], axis=1), 1.0, rtol=1e-5)

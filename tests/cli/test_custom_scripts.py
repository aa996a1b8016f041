"""Own images from a folder to a frozen graph, as a user does it: real processes, few flags."""

import json
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from scipy import io
from score_bounds import assert_scores_of_features

from datasets import synthetic
from datasets.custom import Custom
from deep_reid.compat import tf
from deep_reid.config import RunConfig
from deep_reid.runs import labels

ROOT = pathlib.Path(__file__).parents[2]
SIZE = {"num_identities": 24, "images_per_identity": 6}

pytestmark = [pytest.mark.slow, pytest.mark.long]


def run(*argv, cwd, code=0):
    """Run the script to its end and return what it wrote."""
    process = subprocess.run(
        [sys.executable, str(ROOT / "train_custom.py"), *map(str, argv)],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=800,
    )  # fmt: skip
    assert process.returncode == code, process.stderr
    return process.stdout + process.stderr


def read_graph(path):
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(tf.GraphDef.FromString(path.read_bytes()), name="")
    return graph


def use_graph(path, images):
    with tf.Session(graph=read_graph(path)) as session:
        return session.run("features:0", {"images:0": np.stack(images)})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The same people as folders and as a CSV file, and walking in a MOT sequence."""
    directory = tmp_path_factory.mktemp("drawn")
    synthetic.draw_folders(directory / "people", **SIZE)
    synthetic.draw_csv(directory / "csv", **SIZE)
    synthetic.draw_mot(directory / "sequence", **SIZE)
    return {
        "folders": directory / "people",
        "csv": directory / "csv" / "people.csv",
        "mot": directory / "sequence",
    }


@pytest.fixture(scope="module")
def trained(drawn, tmp_path_factory):
    """A working folder after the three commands: train, eval, freeze."""
    cwd = tmp_path_factory.mktemp("work")
    run("--mode=train", f"--dataset={drawn['folders']}", "--batch_size=16", "--loss_mode=triplet",
        "--number_of_steps=30", cwd=cwd)  # fmt: skip
    run("--mode=eval", "--max_num_evaluations=2", cwd=cwd)
    run("--mode=freeze", cwd=cwd)
    return cwd


def metrics_of(cwd, *argv):
    run("--mode=test", "--metrics_file=metrics.json", *argv, cwd=cwd)
    metrics = json.loads((cwd / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def test_three_commands_lead_to_a_frozen_graph(trained, drawn):
    (run_dir,) = (path for path in (trained / "output/custom/train").iterdir() if path.is_dir())
    records = (trained / "output/custom/eval" / run_dir.name / "metrics.jsonl").read_text()
    assert [json.loads(line)["step"] for line in records.splitlines()] == [0, 30]
    filenames = sorted(drawn["folders"].rglob("*.jpg"))[:5]
    graph = run_dir / "export" / "custom.pb"
    features = use_graph(graph, [cv2.imread(str(name)) for name in filenames])
    assert features.shape == (5, 128)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, rtol=1e-5)


def test_the_same_data_in_another_form_has_the_same_score(trained, drawn):
    expected = metrics_of(trained)
    assert expected["num_queries"] == 12  # two identities for validation, six images of each
    assert metrics_of(trained, f"--dataset={drawn['csv']}") == expected


@pytest.mark.parametrize("form", ["csv", "mot"])
def test_every_form_can_be_trained_on(drawn, form, tmp_path):
    run("--mode=train", f"--dataset={drawn[form]}", "--batch_size=8", "--image_shape", "32", "16",
        "--number_of_steps=2", cwd=tmp_path)  # fmt: skip
    assert (
        len(labels.load(next((tmp_path / "output/custom/train").glob("*/labels.json")).parent))
        == 22
    )
    run("--mode=eval", "--max_num_evaluations=1", cwd=tmp_path)


def test_a_gray_run_is_gray_in_all_modes(drawn, tmp_path):
    for name in drawn["folders"].rglob("*.jpg"):
        # Of the network's size: the two ways to the score below resize differently.
        path = tmp_path / "square" / name.parent.name / f"{name.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(name)), (64, 64)))
    run("--mode=train", "--dataset=square", "--batch_size=16", "--run_id=gray",
        "--gray", "--image_shape", "64", "64", "--number_of_steps=10",
        # What is hardly trained has all its images at one place, where rounding makes the ranks.
        "--learning_rate=0.01", "--seed=1", "--deterministic", cwd=tmp_path)  # fmt: skip
    run_dir = tmp_path / "output/custom/train/gray"
    assert RunConfig.load(run_dir).image_shape == (64, 64, 1)
    output = run("--mode=freeze", cwd=tmp_path)
    assert ": uint8, (N, 64, 64, 1), gray\n" in output
    graph = run_dir / "export" / "custom.pb"
    shape = read_graph(graph).get_tensor_by_name("images:0").shape.as_list()
    assert shape == [None, 64, 64, 1]
    run("--mode=eval", "--max_num_evaluations=1", cwd=tmp_path)
    run("--mode=export", cwd=tmp_path)
    dataset = Custom(tmp_path / "square")
    exported = io.loadmat(run_dir / "export" / "feat_test.mat")["features"]
    for argv in [], [f"--frozen_graph={graph}", "--run_id=gray"]:
        assert_scores_of_features(metrics_of(tmp_path, *argv), dataset.test_set(), exported)
    # As the documentation says it: what OpenCV reads.
    images = [
        cv2.imread(name, cv2.IMREAD_GRAYSCALE)[..., None] for name in dataset.validation.filenames
    ]
    np.testing.assert_allclose(use_graph(graph, images), exported, atol=1e-5)
    run("--mode=train", "--run_id=gray", "--batch_size=16", "--number_of_steps=11", cwd=tmp_path)
    assert (run_dir / "model.ckpt-11.index").exists()


def test_fine_tuning_on_more_classes_starts_ahead(tmp_path):
    synthetic.draw_folders(tmp_path / "old", num_identities=20, images_per_identity=8)
    synthetic.draw_folders(tmp_path / "new", num_identities=30, images_per_identity=8, seed=7)
    common = ["--mode=train", "--num_validation=0", "--image_shape", "32", "32", "--seed=1"]
    run(*common, "--dataset=old", "--batch_size=80", "--number_of_steps=150", "--run_id=old",
        cwd=tmp_path)  # fmt: skip
    losses = {}
    for name, argv in {
        "scratch": [],
        "tuned": [f"--restore_path={os.path.join('output', 'custom', 'train', 'old')}"],
    }.items():
        output = run(*common, "--dataset=new", "--batch_size=80", "--number_of_steps=20",
                     "--log_every_n_steps=1", f"--run_id={name}", *argv, cwd=tmp_path)  # fmt: skip
        lines = [line for line in output.splitlines() if ", loss " in line]
        losses[name] = [float(line.split(", loss ")[1].split(",")[0]) for line in lines]
    assert "restored                           66" in output
    assert "ball/mean_vectors ([128, 20] in the checkpoint, [128, 30] here)" in output
    # Per class: both are on the same 30 classes, of which a guess has the loss ln(30).
    assert len(losses["tuned"]) == len(losses["scratch"]) == 20
    assert np.mean(losses["tuned"]) < np.mean(losses["scratch"])


def test_parts_of_the_network_are_trained_and_restored_by_scope(trained, drawn):
    run("--mode=train", f"--dataset={drawn['folders']}", "--batch_size=16", "--loss_mode=triplet",
        "--number_of_steps=2", "--run_id=part", f"--restore_path={trained / 'output/custom/train'}",
        "--exclude_from_restore", "fc1", "--trainable_scopes", "fc1", "conv4_3",
        cwd=trained)  # fmt: skip
    part = tf.train.load_checkpoint(str(trained / "output/custom/train/part/model.ckpt-2"))
    (first,) = (trained / "output/custom/train").glob("2*/model.ckpt-30.index")
    old = tf.train.load_checkpoint(str(first.with_suffix("")))
    for name, is_equal in {
        "conv1_1/weights": True, "conv4_1/1/weights": True, "conv4_3/1/weights": False,
        "fc1/weights": False,
    }.items():  # fmt: skip
        assert np.array_equal(part.get_tensor(name), old.get_tensor(name)) == is_equal, name


def test_market_labels_may_be_compact(drawn_market1501, tmp_path):
    process = subprocess.run(
        [sys.executable, str(ROOT / "train_market1501.py"), f"--dataset_dir={drawn_market1501}",
         "--batch_size=16", "--number_of_steps=1", "--compact_labels", "--run_id=compact"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=800,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    run_dir = tmp_path / "output/market1501/train/compact"
    assert RunConfig.load(run_dir).num_classes == 18
    names = labels.load(run_dir)
    assert names == sorted(names, key=int)


def test_the_published_network_is_trained_and_frozen(drawn, tmp_path):
    run("--mode=train", f"--dataset={drawn['folders']}", "--batch_size=16", "--number_of_steps=2",
        "--network=mars_small128", cwd=tmp_path)  # fmt: skip
    run("--mode=freeze", cwd=tmp_path)
    run("--mode=finalize", "--output=weights.ckpt", cwd=tmp_path)
    # Away from its run, a checkpoint has to be told of.
    from_run, from_weights = metrics_of(tmp_path), metrics_of(
        tmp_path, "--restore_path=weights.ckpt", "--network=mars_small128",
        f"--dataset={drawn['folders']}",
    )  # fmt: skip
    assert from_run == from_weights
    output = run("--mode=test", "--restore_path=weights.ckpt", f"--dataset={drawn['folders']}",
                 cwd=tmp_path, code=2)  # fmt: skip
    assert "is of another network than deep_sort" in output

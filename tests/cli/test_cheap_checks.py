"""Mistakes are answered before TensorFlow is imported, which takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

from datasets import synthetic
from deep_reid import nets
from deep_reid.compat import tf
from deep_reid.config import RunConfig
from deep_reid.config.run import NETWORKS

ROOT = Path(__file__).parents[2]
CODE = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            sys.exit("TensorFlow was imported")

sys.meta_path.insert(0, Blocked())
sys.argv = ["train_custom.py", *sys.argv[1:]]
sys.path.insert(0, {root!r})  # as python train_custom.py does
runpy.run_path({script!r}, run_name="__main__")
"""
# Each with a part of its line.
MISTAKES = {
    "--mode=train --run_id=a/b": "run_id ('a/b') must be a plain folder name",
    "--mode=train --restore_path=missing": "checkpoint missing does not exist",
    "--mode=train --restore_path=log/run": "holds no checkpoint",
    "--mode=train --trainable_scopes conv9_9": "trainable scope 'conv9_9' has no variables",
    "--mode=train --trainable_scopes fc1 bal/x": "trainable scope 'bal/x' has no variables",
    "--mode=train --num_validation=99": "num_validation",
    "--mode=test --run_id=missing": "has no run missing",
    "--mode=export --run_id=missing": "has no run missing",
    "--mode=freeze --run_id=missing": "has no run missing",
    "--mode=finalize --run_id=missing": "has no run missing",
    "--mode=test --restore_path=log/run/model.ckpt-7": "model.ckpt-7 does not exist",
    "--mode=export --restore_path=log/run/model.ckpt-7": "model.ckpt-7 does not exist",
    "--mode=freeze --restore_path=missing.ckpt": "missing.ckpt does not exist",
    "--mode=finalize --restore_path=missing.ckpt": "missing.ckpt does not exist",
    "--mode=freeze --run_id=run": "holds no checkpoint",
    "--mode=freeze --restore_path=graph.pb": "graph.pb is a frozen graph",
    "--mode=test --frozen_graph=missing.pb": "frozen graph missing.pb does not exist",
    "--mode=test --features=missing.mat": "features missing.mat do not exist",
    "--mode=test --network=deep_sorted": "deep_sorted is unknown",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    synthetic.draw_folders(folder / "people", num_identities=4, images_per_identity=4)
    RunConfig((32, 16, 3), seed=1, dataset=str(folder / "people")).save(folder / "log" / "run")
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_without_tensorflow(work, mistake):
    code = CODE.format(root=str(ROOT), script=str(ROOT / "train_custom.py"))
    argv = [*mistake.split(), "--dataset=people", "--log_dir=log"]
    result = subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=work, capture_output=True, text=True, check=False
    )
    assert "TensorFlow was imported" not in result.stderr
    assert result.returncode in (1, 2)
    assert MISTAKES[mistake] in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_scopes_that_are_known_are_those_of_the_networks(name, graph):
    factory = nets.load_network(name).create_network_factory(
        is_training=True, num_classes=5, add_logits=True
    )
    factory(tf.zeros((4, 128, 64, 3)))
    found = {variable.op.name.partition("/")[0] for variable in tf.trainable_variables()}
    assert found == set(nets.SCOPES)


def test_scopes_that_may_be_right_are_not_refused():
    nets.check_scopes("deep_sort", ["fc1", "conv1_1/weights", "conv.*", "(fc1|ball)"])
    nets.check_scopes("own:Net", ["whatever"])

"""One training through the command line opens its run once, and hands it down."""

import collections
import fcntl
import os

import pytest

from datasets.market1501 import Market1501
from deep_reid.cli import program
from deep_reid.compat import tf

pytestmark = pytest.mark.slow


@pytest.fixture
def run_dir(tmp_path):
    return str(tmp_path / "log" / "run")


@pytest.fixture
def counts(run_dir, monkeypatch):
    """How often the run's lock is taken, its folder made, and each of its checkpoints read."""
    counts = collections.Counter()

    def count(module, function_name, name_of):
        function = getattr(module, function_name)

        def counted(*args, **kwargs):
            counts.update(filter(None, [name_of(*args)]))
            return function(*args, **kwargs)

        monkeypatch.setattr(module, function_name, counted)

    def name_of_checkpoint(prefix, *_):
        directory, name = os.path.split(prefix)
        return name if directory == run_dir else None

    count(os, "mkdir", lambda path, *_: "folder" if os.fspath(path) == run_dir else None)
    count(os, "open", lambda path, *_: "lock file" if str(path) == f"{run_dir}/lock" else None)
    count(fcntl, "flock", lambda descriptor, how: "lock" if how & fcntl.LOCK_EX else None)
    count(tf.train, "load_checkpoint", name_of_checkpoint)
    return counts


def test_a_training_takes_its_lock_makes_its_folder_and_reads_its_newest_checkpoint_once(
    counts, run_dir, drawn_market1501
):
    def train(number_of_steps):
        counts.clear()
        argv = [
            f"--dataset_dir={drawn_market1501}",
            f"--log_dir={os.path.dirname(run_dir)}",
            "--run_id=run",
            "--batch_size=8",
            "--network=tiny:Net",
            "--image_shape",
            "32",
            "16",
            "--seed=1",
            f"--number_of_steps={number_of_steps}",
        ]
        assert program.main(Market1501, argv) == 0
        return counts

    assert train(1) == {"lock file": 1, "lock": 1, "folder": 1}
    assert train(2) == {"lock file": 1, "lock": 1, "model.ckpt-1": 1}
    assert tf.train.latest_checkpoint(run_dir) == os.path.join(run_dir, "model.ckpt-2")

"""What differs between a run and the run whose weights it starts from."""

import dataclasses

import pytest

from deep_reid.config import RunConfig
from deep_reid.runs import resuming

SOURCE = RunConfig((64, 32, 3), network="deep_sort", learning_rate=0.01, num_classes=7, seed=1)


@pytest.fixture
def checkpoint(tmp_path):
    SOURCE.save(tmp_path / "run")
    return str(tmp_path / "run" / "model.ckpt-5")


def compare(checkpoint, **changes):
    return resuming.compare_with_source(checkpoint, dataclasses.replace(SOURCE, **changes))


def test_nothing_differs(checkpoint):
    assert compare(checkpoint) == []


def test_what_determines_the_features_is_named(checkpoint):
    assert compare(checkpoint, image_shape=(128, 64, 3), loss_mode="triplet") == [
        "loss_mode triplet (was cosine-softmax)",
        "image_shape (128, 64, 3) (was (64, 32, 3))",
    ]


def test_so_is_how_it_was_trained(checkpoint):
    assert compare(checkpoint, learning_rate=0.5) == ["learning_rate 0.5 (was 0.01)"]


def test_data_machine_and_length_are_each_run_s_own(checkpoint):
    changes = {
        "dataset": "elsewhere", "num_classes": 9, "seed": 2, "number_of_steps": 30,
        "restore_path": checkpoint, "num_validation": 3, "name_pattern": "viper",
        "save_interval_secs": 7, "precision": "bfloat16",
    }  # fmt: skip
    assert compare(checkpoint, **changes) == []


@pytest.mark.parametrize("content", [None, "", "{", "[" * 100_000])
def test_weights_without_a_record_can_be_used(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert compare(str(tmp_path / "model.ckpt-5"), learning_rate=0.5) == []

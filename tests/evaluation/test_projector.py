"""Files for TensorBoard's embedding projector."""

import re

import cv2
import numpy as np
import pytest

from deep_reid.evaluation import projector
from deep_reid.runs import saving
from deep_reid.runs.run import Run
from deep_reid.system import files

METADATA = {
    "identity": ["Anna", "Bo\nb", "\u200bC", "d\udcff", "<e>"],
    "camera": [1, 2, 1, 2, 1],
    "path": ["a\tb.png", "b\r\n.png", "c\x1b[31m.png", "d\u2028.png", "e.png"],
}


@pytest.mark.parametrize("num_images", [1, 2, 10_000, 10_001, 25_000])
def test_rows_are_spread_over_all_images_and_limited(num_images):
    rows = projector.choose_rows(num_images)
    assert len(rows) == len(np.unique(rows)) == min(num_images, projector.MAX_IMAGES)
    assert (rows[0], rows[-1]) == (0, num_images - 1)


def test_features_metadata_and_sprite_have_a_row_per_image(tmp_path):
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    projector.write_features(tmp_path, 7, features, METADATA)
    projector.write_sprite(tmp_path, np.zeros((5, 8, 4, 3), np.uint8))
    config = (tmp_path / "projector_config.pbtxt").read_text()
    paths = dict(re.findall(r'(\w+_path): "([^"]+)"', config))
    read = np.loadtxt(tmp_path / paths["tensor_path"], delimiter="\t", dtype=np.float32)
    np.testing.assert_array_equal(read, features)
    lines = (tmp_path / paths["metadata_path"]).read_text().splitlines()
    assert lines[0] == "identity\tcamera\tpath"
    assert lines[1] == "Anna\t1\ta\\tb.png"
    assert all(len(line.split("\t")) == 3 for line in lines)
    assert len(lines) == 1 + 5
    width, height = map(int, re.findall(r"single_image_dim: (\d+)", config))
    sprite = cv2.imread(str(tmp_path / paths["image_path"]))
    assert sprite.shape == (3 * height, 3 * width, 3)
    assert 'tensor_name: "features of step 7"' in config


def test_the_config_is_what_tensorboard_reads(tmp_path):
    config_pb2 = pytest.importorskip("tensorboard.plugins.projector.projector_config_pb2")
    from google.protobuf import text_format

    projector.write_features(tmp_path, 7, np.zeros((2, 3)), {"identity": ["1", "2"]})
    text = (tmp_path / "projector_config.pbtxt").read_text()
    (embedding,) = text_format.Parse(text, config_pb2.ProjectorConfig()).embeddings
    assert list(embedding.sprite.single_image_dim) == [
        projector.SPRITE_WIDTH,
        projector.SPRITE_HEIGHT,
    ]


def assert_is_shown(folder, step):
    """TensorBoard reads the files of a configuration only within the folder that it is in."""
    config = (folder / "projector_config.pbtxt").read_text()
    assert f"features of step {step}" in config
    paths = [folder / path for path in re.findall(r'\w+_path: "([^"]+)"', config)]
    assert len(paths) == 3
    assert all(path.resolve().is_relative_to(folder.resolve()) for path in paths)
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("is_linked", [False, True])
def test_in_the_folder_of_the_run_too_the_features_come_first(tmp_path, is_linked):
    run_dir, eval_dir = tmp_path / "train" / "run", tmp_path / "eval" / "deep" / "run"
    run_dir.mkdir(parents=True)
    if is_linked:
        (tmp_path / "eval").mkdir()
        (tmp_path / "elsewhere" / "on" / "disk").mkdir(parents=True)
        (tmp_path / "eval" / "deep").symlink_to(tmp_path / "elsewhere" / "on" / "disk")
    projector.write_sprite(eval_dir, np.zeros((2, 8, 4, 3), np.uint8))
    for step in (7, 8):
        projector.write_features(eval_dir, step, np.full((2, 3), step), {"identity": ["1", "2"]})
        projector.copy_features(run_dir, eval_dir, step)
        assert assert_is_shown(run_dir, step) == assert_is_shown(eval_dir, step)


def test_where_the_evaluation_writes_into_the_run_nothing_is_copied(tmp_path):
    projector.write_sprite(tmp_path, np.zeros((2, 8, 4, 3), np.uint8))
    projector.write_features(tmp_path, 7, np.zeros((2, 3)), {"identity": ["1", "2"]})
    before = assert_is_shown(tmp_path, 7)
    projector.copy_features(tmp_path, tmp_path / "projector" / "..", 7)
    assert assert_is_shown(tmp_path, 7) == before


def test_tensorboard_finds_features_in_both_folders(tmp_path):
    plugin = pytest.importorskip("tensorboard.plugins.projector.projector_plugin")
    for folder in (tmp_path / "train", tmp_path / "eval"):
        folder.mkdir()
    projector.write_sprite(tmp_path / "eval", np.zeros((2, 8, 4, 3), np.uint8))
    projector.write_features(tmp_path / "eval", 7, np.zeros((2, 3)), {"identity": ["1", "2"]})
    projector.copy_features(tmp_path / "train", tmp_path / "eval", 7)
    find = getattr(plugin, "_rel_to_abs_asset_path")  # noqa: B009  it refuses paths elsewhere
    for folder in (tmp_path / "train", tmp_path / "eval"):
        config = folder / "projector_config.pbtxt"
        for path in re.findall(r'\w+_path: "([^"]+)"', config.read_text()):
            assert find(path, str(config)) == str(folder.resolve() / path)


def sweep_as_training(run_dir):
    with Run.open(run_dir.parent, run_dir.name):
        pass


@pytest.mark.parametrize(
    "sweep", [sweep_as_training, saving.remove_leftovers_of_evaluation], ids=["train", "eval"]
)
def test_what_a_killed_evaluation_left_in_the_folder_of_the_run_is_removed(
    tmp_path, monkeypatch, sweep
):
    """An earlier release wrote there, and so does this one from another disk."""
    run_dir, eval_dir = tmp_path / "run", tmp_path / "eval"
    (run_dir / "projector").mkdir(parents=True)
    for name in ("config.json", "notes.txt", "projector/mine.tsv", "projector/.mine"):
        (run_dir / name).write_text("{}")
    projector.write_sprite(eval_dir, np.zeros((2, 8, 4, 3), np.uint8))
    projector.write_features(eval_dir, 7, np.zeros((2, 3)), {"identity": ["1", "2"]})
    projector.copy_features(run_dir, eval_dir, 7)
    before = {path for path in run_dir.rglob("*") if path.name != "lock"}
    replacing = files.replacing
    with monkeypatch.context() as patched:
        patched.setattr(files, "replacing", lambda path, folder=None: replacing(path))
        # As a kill does, keep what is half-written.
        patched.setattr(files.os, "replace", lambda *_: None)
        patched.setattr(files.os, "unlink", lambda *_: None)
        projector.copy_features(run_dir, eval_dir, 8)
    left = {path for path in run_dir.rglob("*") if path.name != "lock"} - before
    assert len(left) == 4
    assert all(path.name.startswith(".") for path in left)
    sweep(run_dir)
    assert {path for path in run_dir.rglob("*") if path.name != "lock"} == before


def test_the_users_configuration_in_the_folder_of_the_run_stays(tmp_path):
    config = tmp_path / "projector_config.pbtxt"
    config.write_text('embeddings { tensor_name: "mine" }')
    projector.copy_features(tmp_path, tmp_path / "eval", 7)
    assert config.read_text() == 'embeddings { tensor_name: "mine" }'


def test_the_folder_of_a_run_that_was_deleted_stays_deleted(tmp_path):
    projector.copy_features(tmp_path / "train" / "run", tmp_path / "eval", 7)
    assert list(tmp_path.iterdir()) == []

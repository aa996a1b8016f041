"""The index beside features: which image each row is of."""

import csv
import os

import numpy as np
import pytest

from datasets import custom, synthetic
from datasets.market1501 import Market1501
from datasets.mars import Mars
from deep_reid.cli import export
from deep_reid.cli.command import Command
from deep_reid.cli.export import export as run_export
from deep_reid.cli.outputs import Origin
from deep_reid.scoring import feature_index
from deep_reid.system import matlab


def read(path):
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def own_images(tmp_path):
    """Own images whose names need care."""
    import cv2

    root = tmp_path / "own"
    for split in ("train", "query", "gallery"):
        names = ["Bo", "Cy"] if split == "train" else ['Ana, "A"', "Zoë", "=1+1"]
        for name in names:
            for number in range(2):
                path = root / split / name / f"{split} {number},x.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((8, 4, 3), 90, np.uint8))
    return root


@pytest.fixture
def do_export(tmp_path, monkeypatch):
    """Export with a fake encoder: the feature of an image is its number of bytes."""

    def do_export(dataset_class, data_dir):
        def create_encoder(*_):
            return lambda images, **_: np.array(
                [[os.path.getsize(image), 1.0] for image in images], np.float32
            )

        origin = Origin(run=None, step=1, checkpoint="model.ckpt-1")
        monkeypatch.setattr(export, "find_checkpoint", lambda *_: origin)
        monkeypatch.setattr(export, "create_encoder", create_encoder)
        args = Command(
            mode="export",
            log_dir=str(tmp_path / "log"),
            sdk_dir=str(tmp_path / "out"),
            given={"dataset": str(data_dir)},
        )
        run_export(args, dataset_class)
        return tmp_path / "out"

    return do_export


@pytest.mark.parametrize("name", ["market1501", "mars", "own"])
def test_each_row_is_of_the_image_that_the_index_names(request, do_export, name):
    fixture, dataset_class = {
        "market1501": ("drawn_market1501", Market1501),
        "mars": ("drawn_mars", Mars),
        "own": ("own_images", custom.Custom),
    }[name]
    data_dir = request.getfixturevalue(fixture)
    out = do_export(dataset_class, data_dir)
    dataset = dataset_class(data_dir)
    for filename, images in dataset.export_files().items():
        features = matlab.read_variable(out / filename, "features", "")
        lines = read((out / filename).with_suffix(".csv"))
        assert len(lines) == len(features) == len(images)
        assert list(lines[0]) == ["path", "identity", "camera", "row"]
        for row, (line, image) in enumerate(zip(lines, images, strict=True)):
            assert int(line["row"]) == row
            assert line["path"] == os.path.abspath(image)
            assert os.path.getsize(line["path"]) == features[row, 0]
    splits = [getattr(dataset, split) for split in dataset.TEST_SPLITS]
    expected = {
        os.path.abspath(image): (dataset.name_of(int(label)), str(int(camera)))
        for split in splits
        for image, label, camera in zip(split.filenames, split.labels, split.cameras, strict=True)
    }
    for filename in dataset.export_files():
        for line in read((out / filename).with_suffix(".csv")):
            assert (line["identity"], line["camera"]) == expected[line["path"]]
            if name != "own":  # as the data names it: 0002_c1s1_..., 00-1C1T..., -1_c1s1_...
                assert os.path.basename(line["path"]).startswith(line["identity"])
                assert len(line["identity"]) == 4 or line["identity"] == "-1"


def test_without_the_tables_of_tracks_the_index_has_paths(tmp_path, do_export, caplog):
    synthetic.draw_mars(tmp_path / "mars", num_identities=4, num_test_identities=2, num_cameras=2)
    (tmp_path / "mars" / "info" / "tracks_test_info.mat").unlink()
    lines = read(do_export(Mars, tmp_path / "mars") / "feat_test.csv")
    assert {line["identity"] for line in lines} == {""}
    assert all(os.path.exists(line["path"]) for line in lines)
    assert "The index is without identities and cameras" in caplog.text


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    names = [os.fsdecode(b"/a\xff.jpg"), "/line\nend.jpg", '/"quoted", twice.jpg']
    path = feature_index.write_index(tmp_path / "f.mat", names)
    assert [line["path"] for line in read(path)] == names
    assert b"a\xff.jpg" in (tmp_path / "f.csv").read_bytes()

"""Search in features that lie in files, exact and by an index."""

import csv
import json
import os
import pathlib
import sys

import numpy as np
import pytest

from datasets.custom import Custom
from deep_reid.cli import feature_files, outputs, program
from deep_reid.cli import search as search_mode
from deep_reid.scoring import approximate, feature_index, shards
from deep_reid.scoring import search as searching

COUNT, DIMENSION = 400, 8
ORIGIN = outputs.Origin(run=None, step=0, checkpoint="model.ckpt-7")


def features_of(paths, **_):
    """Return features that depend on the names alone: those around one of 40 centers are alike."""
    numbers = [int(pathlib.Path(path).stem) for path in paths]
    centers = np.random.default_rng(0).standard_normal((40, DIMENSION))
    rows = [
        centers[number % 40] + 0.1 * np.random.default_rng(number).standard_normal(DIMENSION)
        for number in numbers
    ]
    return np.array(rows, np.float32)


def read(folder="out"):
    with open(f"{folder}/results.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A gallery of images that exist as names only, some queries, and the gallery's shards."""
    monkeypatch.chdir(tmp_path)
    source = {"checkpoint": ORIGIN.checkpoint}
    monkeypatch.setattr(search_mode, "choose_encoder", lambda *_: (source, features_of))
    for folder, numbers in (("crops", range(COUNT)), ("wanted", [3, 1007, 1039])):
        (tmp_path / folder).mkdir()
        for number in numbers:
            (tmp_path / folder / f"{number:06d}.jpg").touch()
    (tmp_path / "wanted" / "000005.jpg").symlink_to(tmp_path / "crops" / "000005.jpg")
    images = searching.list_images("crops")
    for index in range(3):
        files = feature_files.list_files({"export/gallery.mat": images}, (index, 3), 128)
        feature_files.write_files(files, features_of, 128, ORIGIN, lambda path: ("", ""))
    return tmp_path


@pytest.fixture
def run(work, caplog):
    def run(*argv, code=0):
        caplog.clear()
        caplog.set_level("INFO")
        argv = ["--mode=search", "--query=wanted", "--search_dir=out", *argv]
        assert program.main(Custom, argv) == code, caplog.text
        return caplog.text

    return run


IN_FILES = "--features=export/gallery-*.npy"


def test_results_are_those_of_a_search_in_the_images(run):
    run("--gallery=crops")
    expected = read()
    for path in pathlib.Path("out").iterdir():
        path.unlink()
    run(IN_FILES)
    assert read() == expected
    assert len(expected) == 40
    # A query that is in the gallery, here through a link, is not among its results.
    own = [line["path"] for line in expected if line["query"].endswith("000005.jpg")]
    assert len(own) == 10 and not any(path.endswith("000005.jpg") for path in own)
    written = set(os.listdir("out"))
    assert {"results.csv", "query.npy", "query.csv"} <= written
    assert not {"gallery.npy", "gallery.csv"} & written


def test_one_file_is_a_gallery_too(run):
    run(IN_FILES)
    expected = read()
    together = np.asarray(shards.Shards(shards.find_shards("export/gallery-*.npy")))
    shards.write_array("all.npy", together)
    feature_index.write_index("all.npy", searching.list_images("crops"))
    run("--features=all.npy")
    assert read() == expected


class TestErrors:
    def test_two_galleries(self, run):
        assert "two galleries" in run(IN_FILES, "--gallery=crops", code=2)

    def test_none(self, run):
        assert "search needs --gallery" in run(code=2)

    def test_no_index_beside_the_features(self, run):
        os.unlink("export/gallery-00001-of-00003.csv")
        assert "gallery-00001-of-00003.csv does not exist" in run(IN_FILES, code=1)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda lines: lines[:-1], "400 rows, and the index beside it 399"),
            (lambda lines: [*lines[:5], *lines[6:]], "line 6: it must be of row 4"),
            (lambda lines: lines[1:], "does not begin with path,identity,camera,row"),
            (lambda _: [], "does not begin with path,identity,camera,row"),
        ],
    )
    def test_an_index_that_does_not_fit(self, run, change, message):
        path = pathlib.Path("export/gallery-00002-of-00003.csv")
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
        assert message in run(IN_FILES, code=1)
        assert not os.path.exists("out")

    def test_features_of_another_network_are_named(self, run, monkeypatch):
        assert "mean nothing" not in run(IN_FILES)
        other = {"checkpoint": "other.ckpt-7"}
        monkeypatch.setattr(search_mode, "choose_encoder", lambda *_: (other, features_of))
        assert "The features are of checkpoint model.ckpt-7" in run(IN_FILES)

    def test_features_of_another_dimension(self, run, monkeypatch):
        source = {"checkpoint": ORIGIN.checkpoint}
        narrow = lambda paths, **_: features_of(paths)[:, :3]  # noqa: E731
        monkeypatch.setattr(search_mode, "choose_encoder", lambda *_: (source, narrow))
        assert "dimension 3 and the gallery features 8" in run(IN_FILES, code=1)

    @pytest.mark.parametrize("index", ["exact", "faiss"])
    def test_features_without_a_row(self, run, index):
        shards.write_array("empty.npy", np.zeros((0, DIMENSION), np.float32))
        feature_index.write_index("empty.npy", [], lambda path: ("", ""))
        text = run("--features=empty.npy", f"--index={index}", code=1)
        assert "empty.npy has no rows" in text

    def test_faiss_is_named_where_it_is_missing(self, run, monkeypatch):
        monkeypatch.setitem(sys.modules, "faiss", None)
        text = run(IN_FILES, "--index=faiss", code=2)
        assert "--index=faiss needs faiss-cpu: pip install faiss-cpu (in a clone: " in text
        assert not os.path.exists("out")

    def test_an_index_is_of_files(self, capsys, work):
        with pytest.raises(SystemExit):
            program.main(Custom, ["--mode=search", "--gallery=crops", "--index=faiss"])
        assert "--index needs --features" in capsys.readouterr().err


class TestIndex:
    @pytest.fixture(autouse=True)
    def _faiss(self):
        pytest.importorskip("faiss", reason="needs the extra 'index'")

    def test_is_built_once_and_its_recall_is_told(self, run):
        run(IN_FILES)
        exact = {(line["query"], line["path"]): line["cosine_distance"] for line in read()}
        text = run(IN_FILES, "--index=faiss")
        assert "Building an index of 400 images" in text
        first = read()
        found = {(line["query"], line["path"]) for line in first}
        facts = json.loads(pathlib.Path("out/results.csv.manifest.json").read_text())
        assert facts["recall@10"] == pytest.approx(len(found & set(exact)) / len(exact))
        assert 0.3 < facts["recall@10"] <= 1.0
        # Distances are exact, whatever the index has found.
        for line in first:
            if (line["query"], line["path"]) in exact:
                assert line["cosine_distance"] == exact[line["query"], line["path"]]
        assert not any(line["path"].endswith("000005.jpg") for line in first
                       if line["query"].endswith("000005.jpg"))  # fmt: skip
        text = run(IN_FILES, "--index=faiss")
        assert "Building" not in text
        assert "recall@10 of the index" in text
        assert read() == first

    def test_is_built_anew_for_other_features(self, run):
        run(IN_FILES, "--index=faiss")
        path = "export/gallery-00001-of-00003.npy"
        shards.write_array(path, np.load(path)[::-1])
        assert "Building" in run(IN_FILES, "--index=faiss")

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (0.0, "is zero and has no direction"),
            (np.nan, "is not finite"),
            (1e300, "is not finite"),
        ],
    )
    def test_features_that_cannot_be_compared(self, run, value, message):
        path = "export/gallery-00001-of-00003.npy"
        features = np.load(path).astype(float)
        features[3] = value
        shards.write_array(path, features)
        text = run(IN_FILES, "--index=faiss", code=1)
        assert f"row {len(np.load('export/gallery-00000-of-00003.npy')) + 3} of the gallery" in text
        assert message in text
        assert not os.path.exists("out/index.faiss")

    def test_a_file_that_is_no_index(self, run):
        run(IN_FILES, "--index=faiss")
        pathlib.Path("out/index.faiss").write_bytes(b"x" * 99)
        text = run(IN_FILES, "--index=faiss", code=1)
        assert "index.faiss cannot be read as an index" in text

    def test_features_in_a_mat_file(self, run):
        images = searching.list_images("crops")
        files = feature_files.list_files({"all.mat": images}, None, 128)
        feature_files.write_files(files, features_of, 128, ORIGIN, lambda path: ("", ""))
        run("--features=all.mat")
        text = run("--features=all.mat", "--index=faiss", code=2)
        assert "needs .npy files" in text

    @pytest.mark.parametrize("measure", ["cosine", "euclidean"])
    @pytest.mark.parametrize("count", [1, 3, 50, 5000])
    def test_distances_are_those_of_an_exact_search(self, measure, count):
        random = np.random.default_rng(0)
        gallery = random.standard_normal((count, 6)).astype(np.float32)
        query = gallery[: min(count, 20)] + np.float32(0.01)
        index = approximate.Index.build(gallery, measure)
        k = min(5, count)
        indices, distances = index.find(query, gallery, k)
        assert indices.shape == distances.shape == (len(query), k)
        np.testing.assert_array_equal(distances, np.sort(distances, axis=1))
        for row, items in enumerate(indices):
            for item, distance in zip(items, distances[row], strict=True):
                if item < 0:
                    assert np.isinf(distance)
                    continue
                a, b = (x.astype(float) for x in (query[row], gallery[item]))
                cosine = 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                expected = cosine if measure == "cosine" else np.linalg.norm(a - b)
                assert distance == pytest.approx(expected, abs=1e-9)
        # The nearest one is in the query's own cell, or close to it.
        assert np.mean(indices[:, 0] == np.arange(len(query))) > 0.8

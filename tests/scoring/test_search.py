"""Search: the nearest images of a folder, in a table, as features, and on a page."""

import csv
import os
import sys

import cv2
import numpy as np
import pytest

from datasets.custom import Custom
from deep_reid.cli import program
from deep_reid.cli import search as search_mode
from deep_reid.errors import DataError, MissingPathError
from deep_reid.scoring import search


def draw(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 4, 3), color, np.uint8))
    return path


def encode(images, **_):
    """Take the mean color as the feature."""
    means = [cv2.imread(os.fspath(image)).mean(axis=(0, 1)) for image in images]
    return (np.array(means) / 255.0).astype(np.float32)


@pytest.fixture
def folders(tmp_path):
    """Crops whose names need care, in subfolders."""
    random = np.random.default_rng(0)
    for number in range(25):
        folder = tmp_path / "crops" / ("a, b" if number % 2 else "c")
        draw(folder / f'crop "{number}".png', random.integers(0, 255, 3))
    for number in range(3):
        draw(tmp_path / "wanted" / f"{number}.JPG", random.integers(0, 255, 3))
    draw(tmp_path / "crops" / ".hidden" / "x.png", 0)
    draw(tmp_path / "crops" / "@eaDir" / "x.png", 0)
    (tmp_path / "crops" / "notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def run(folders, monkeypatch, caplog):
    """Search as the command does, with a fake network."""
    monkeypatch.chdir(folders)
    source = {"checkpoint": "model.ckpt-7"}
    monkeypatch.setattr(search_mode, "choose_encoder", lambda *_: (source, encode))

    def run(*argv):
        caplog.clear()
        code = program.main(Custom, ["--mode=search", "--search_dir=out", *map(str, argv)])
        errors = [x.getMessage() for x in caplog.records if x.levelname == "ERROR"]
        return code, errors

    return run


def read(path):
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def plain_search(query, gallery, count):
    """Search by loops: for each query the nearest images, by cosine distance."""
    results = {}
    for path in query:
        feature = encode([path])[0].astype(float)
        distances = {}
        for other in gallery:
            values = encode([other])[0].astype(float)
            lengths = np.linalg.norm(values) * np.linalg.norm(feature)
            if os.path.realpath(path) != os.path.realpath(other):
                distances[other] = 1.0 - values @ feature / lengths
        results[path] = sorted(distances.items(), key=lambda item: item[1])[:count]
    return results


@pytest.mark.parametrize("count", [1, 10, 100])
@pytest.mark.parametrize("query", ["wanted", "wanted/1.JPG", "crops", "crops/c"])
def test_results_are_the_nearest_images_without_the_query_itself(run, folders, query, count):
    argv = (f"--query={query}", "--gallery=crops", f"--num_results={count}")
    assert run(*argv) == (0, [])
    lines = read(folders / "out" / "results.csv")
    assert list(lines[0]) == ["query", "rank", "path", "cosine_distance"]
    gallery = [str(path) for path in (folders / "crops").glob("[!.@]*/*.png")]
    assert len(gallery) == 25
    if (folders / query).is_file():
        paths = [str(folders / query)]
    else:
        paths = [str(x) for x in (folders / query).glob("**/*.*") if "crop " in x.name or
                 x.suffix == ".JPG"]  # fmt: skip
    expected = plain_search(paths, gallery, count)
    assert {line["query"] for line in lines} == set(paths)
    for path in paths:
        found = [line for line in lines if line["query"] == path]
        assert [int(line["rank"]) for line in found] == list(range(1, len(found) + 1))
        assert [line["path"] for line in found] == [other for other, _ in expected[path]]
        np.testing.assert_allclose(
            [float(line["cosine_distance"]) for line in found],
            [distance for _, distance in expected[path]],
            atol=1e-12,
        )


@pytest.mark.parametrize("measure", ["cosine", "euclidean"])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-5, 1e-7])
def test_distances_are_named_and_are_read_back_as_they_are(tmp_path, measure, spread):
    """The features of a network that has just begun to learn are close together."""
    random = np.random.default_rng(0)
    center = random.normal(size=16)
    query, gallery = (
        search.Images(
            [str(tmp_path / f"{name}{row}.png") for row in range(size)],
            (center + spread * random.normal(size=(size, 16))).astype(np.float32),
        )
        for name, size in (("q", 5), ("g", 40))
    )
    results = search.search(query, gallery, measure, 40)
    search.write_results(tmp_path / "out", results)
    lines = read(tmp_path / "out" / "results.csv")
    assert list(lines[0]) == ["query", "rank", "path", f"{measure}_distance"]
    found = [distance for items in results.found for _, distance in items]
    assert [float(line[f"{measure}_distance"]) for line in lines] == found
    as_float32 = np.float32([line[f"{measure}_distance"] for line in lines])
    assert np.array_equal(as_float32, np.float32(found))
    assert len(set(found)) > 100  # else equal texts would do


def test_features_have_an_index_of_paths(run, folders):
    assert run("--query=wanted", "--gallery=crops") == (0, [])
    for name in ("query", "gallery"):
        features = np.load(folders / "out" / f"{name}.npy")
        lines = read(folders / "out" / f"{name}.csv")
        assert [int(line["row"]) for line in lines] == list(range(len(features)))
        np.testing.assert_array_equal(encode([line["path"] for line in lines]), features)


def test_the_page_shows_each_query_with_its_results(run, folders):
    pytest.importorskip("jinja2", reason="needs the extra 'report'")
    pytest.importorskip("matplotlib", reason="needs the extra 'report'")
    assert run("--query=wanted", "--gallery=crops") == (0, [])
    text = (folders / "out" / "search.html").read_text()
    figures = text.split("<figure")[1:]
    assert len(figures) == 3
    assert all(figure.count("<img") == 11 for figure in figures)
    assert "<strong>0.JPG</strong>" in figures[0]
    assert "<li>a, b/crop &#34;" in text
    assert "image missing" not in text
    assert "match" not in "".join(figures[:-1] + [figures[-1].partition("</section>")[0]])
    for name in ("query", "gallery"):
        path = {"query": "wanted", "gallery": "crops"}[name]
        assert f"<dt>{name}</dt><dd>{path}</dd>" in text


def test_without_the_packages_of_the_page_the_table_is_written(run, folders, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run("--query=wanted", "--gallery=crops") == (0, [])
    assert "search.html needs jinja2: pip install jinja2" in caplog.text
    assert sorted(os.listdir(folders / "out")) == [
        "gallery.csv", "gallery.npy", "query.csv", "query.npy", "results.csv",
        "results.csv.manifest.json",
    ]  # fmt: skip


def break_paths(root):
    """Make what cannot be searched; return the reason for each."""
    (root / "empty").mkdir()
    (root / "hidden" / ".x").mkdir(parents=True)
    draw(root / "hidden" / ".x" / "a.png", 0)
    (root / "texts").mkdir()
    (root / "texts" / "a.txt").write_text("no image")
    os.mkfifo(root / "pipe")
    (root / "dangling").symlink_to("nowhere")
    return {
        "missing": "does not exist: name an image, or a folder",
        "dangling": "does not exist: name an image, or a folder",
        "empty": "has no images",
        "hidden": "has no images",
        "texts": "has no images",
        "pipe": "is neither a file nor a folder",
        os.devnull: "is neither a file nor a folder",
    }


@pytest.mark.parametrize("flag", ["--query", "--gallery"])
def test_an_error_of_a_path_names_its_flag_and_nothing_is_written(run, folders, flag):
    other = "--gallery=crops" if flag == "--query" else "--query=wanted"
    for path, reason in break_paths(folders).items():
        code, (line,) = run(f"{flag}={path}", other)
        assert code == 1
        assert line.startswith(f"{flag}: {path} {reason}")
        assert not (folders / "out").exists()


@pytest.mark.parametrize("flag", ["--query", "--gallery"])
@pytest.mark.parametrize("is_image", [True, False])
def test_an_image_that_cannot_be_read_is_named_with_its_flag(
    run, folders, monkeypatch, flag, is_image
):
    """An error of the network is neither the query's nor the gallery's."""
    draw(folders / "other" / "a.png", 50)
    bad = os.path.join("other", "a.png") if is_image else "model.ckpt-7"

    def encode_or_fail(images, **kwargs):
        if not is_image or bad in images:
            raise DataError(f"{bad} cannot be read")
        return encode(images)

    source = {"checkpoint": "model.ckpt-7"}
    monkeypatch.setattr(search_mode, "choose_encoder", lambda *_: (source, encode_or_fail))
    code, errors = run(
        f"{flag}=other", "--gallery=crops" if flag == "--query" else "--query=wanted"
    )
    named = f"{flag}: {bad} cannot be read" if is_image else f"{bad} cannot be read"
    assert (code, errors) == (1, [named])
    assert not (folders / "out").exists()


@pytest.mark.parametrize("given", [[], ["--gallery=crops"], ["--query=wanted"]])
def test_what_is_not_named_is_asked_for(run, folders, given):
    code, (line,) = run(*given)
    assert code == 2
    for flag in ("--query", "--gallery"):
        assert (flag in line) != any(flag in argument for argument in given)


SOURCES = [
    {"run": "a", "step": 7, "checkpoint": "a/model.ckpt-7"},
    {"run": "a", "step": 9, "checkpoint": "a/model.ckpt-9"},
    {"run": "b", "step": 7, "checkpoint": "b/model.ckpt-7"},
    {"run": "b", "step": 7, "frozen_graph": "x.pb"},
    {"run": None, "step": 0, "checkpoint": "published/model.ckpt"},
    {"frozen_graph": "y.pb"},
]


def test_another_search_says_what_it_overwrites(run, folders, monkeypatch, caplog):
    """Another network, query or gallery; not a later step of the same run."""
    monkeypatch.setitem(sys.modules, "jinja2", None)  # without pages it takes less time
    searches = [
        (SOURCES.index(source), query, gallery)
        for source in SOURCES
        for query in ("wanted", "wanted/1.JPG")
        for gallery in ("crops", "crops/c")
    ]
    np.random.default_rng(0).shuffle(searches)
    before = None
    for number, query, gallery in searches:
        source = SOURCES[int(number)]
        monkeypatch.setattr(search_mode, "choose_encoder", lambda *_, s=source: (s, encode))
        made_of = source.get("run") or source.get("checkpoint") or source["frozen_graph"]
        kind = (made_of, query, gallery)
        for _ in range(2):
            assert run(f"--query={query}", f"--gallery={gallery}") == (0, [])
            lines = [x.getMessage() for x in caplog.records if "Overwriting" in x.getMessage()]
            assert len(lines) == (before not in (None, kind)), (before, kind)
            for line in lines:
                old, new = line.split(", with ")
                for (network, *paths), text in ((before, old), (kind, new)):
                    assert network in text
                    assert all(str(folders / path) in text for path in paths)
            before = kind


@pytest.mark.parametrize("name", search.FILENAMES)
def test_files_of_others_are_named_before_they_are_overwritten(run, folders, caplog, name):
    (folders / "out").mkdir()
    (folders / "out" / name).write_text("precious")
    assert run("--query=wanted", "--gallery=crops") == (0, [])
    assert f"Overwriting out/{name}, of which no manifest tells the run" in caplog.text


def test_the_query_may_be_the_only_image(run, folders, caplog):
    draw(folders / "one" / "a.png", 50)
    assert run("--query=one/a.png", "--gallery=one") == (0, [])
    assert read(folders / "out" / "results.csv") == []
    assert "1 of 1 queries have no results: the gallery holds no image but the" in caplog.text
    assert run("--query=one/a.png", "--gallery=crops") == (0, [])
    assert "have no results" not in caplog.text


def test_names_that_are_not_utf8_are_found(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"\xe9t\xe9.png")
    with open(name, "wb") as file:
        file.write(b"x")
    (path,) = search.list_images(tmp_path)
    assert os.fsencode(path) == name
    results = search.Results(
        search.Images([path], np.ones((1, 2), np.float32)),
        search.Images([path], np.ones((1, 2), np.float32)),
        [[(0, 0.0)]],
        "cosine",
    )
    search.write_results(tmp_path / "out", results)
    assert os.fsencode(read(tmp_path / "out" / "results.csv")[0]["path"]) == name


def test_a_folder_without_images_and_a_missing_one(tmp_path):
    with pytest.raises(DataError, match=r"has no images.*\.jpg"):
        search.list_images(tmp_path)
    with pytest.raises(MissingPathError):
        search.list_images(tmp_path / "no")

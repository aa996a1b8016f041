"""The report: one page with the scores, the distances and the strips, which needs nothing else."""

import base64
import html
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest

from deep_reid.errors import DataError, UsageError
from deep_reid.scoring import charts, protocols, report, tracks
from deep_reid.scoring.names import Names
from deep_reid.scoring.ranking import FeatureSet, Rerank, nearest, rank
from deep_reid.system import files

pytest.importorskip("matplotlib", reason="needs the extra 'report'")
pytest.importorskip("jinja2", reason="needs the extra 'report'")

TABLE = [("rank 1", "61.23 %"), ("mAP (standard)", "47.89 %"), ("queries", "1,234")]
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Tells which parts of the captions of a page in a frame are on one line, and in their column.
MEASURE = """
const measure = frame => {
    const inner = frame.contentDocument;
    const parts = [...inner.querySelectorAll(".items small span, .distance")].map(part => {
        const range = inner.createRange();
        range.selectNodeContents(part);
        const bottoms = [...range.getClientRects()].map(x => x.bottom);
        // Bold text ends a little lower; the next line is 15 pixels below.
        const isOneLine = Math.max(...bottoms) - Math.min(...bottoms) < 8;
        const fits = range.getBoundingClientRect().right
            <= part.closest("li").getBoundingClientRect().right + 1;
        return {text: part.textContent, isOneLine, fits};
    });
    return {width: inner.documentElement.scrollWidth, parts};
};
window.onload = () => {
    const found = [...document.querySelectorAll("iframe")].map(measure);
    document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
};
"""


class Page(html.parser.HTMLParser):
    """The elements of a page, as pairs of a tag and its attributes."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def with_tag(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def frames(self):
        """Per strip the row of its query, and the kinds of its items."""
        strips = []
        for tag, attributes in self.elements:
            if tag == "figure":
                strips.append((int(attributes["data-query"]), []))
            elif strips and tag == "div" and attributes.get("class", "").startswith("frame "):
                strips[-1][1].append(attributes["class"].split()[1])
        return strips


def draw_set(random, name, labels, noise=0.4):
    """Features that tell of the identity, with noise."""
    features = np.eye(12)[labels % 12] + noise * random.standard_normal((len(labels), 12))
    return FeatureSet(features, labels, random.integers(1, 4, len(labels)), name=name)


@pytest.fixture(scope="module")
def query():
    random = np.random.default_rng(1)
    return draw_set(random, "query", random.integers(1, 9, 40))


@pytest.fixture(scope="module")
def gallery():
    random = np.random.default_rng(2)
    return draw_set(random, "gallery", random.integers(-1, 9, 150))


@pytest.fixture(scope="module")
def clear(query, gallery):
    """Queries and a gallery that a threshold separates."""
    random = np.random.default_rng(3)
    sets = [draw_set(random, each.name, each.labels, noise=0.15) for each in (query, gallery)]
    return {"query": sets[0], "gallery": sets[1], "result": rank(*sets)}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A red image, in the channel order of OpenCV."""
    path = tmp_path_factory.mktemp("images") / "a <b> & c.png"
    cv2.imwrite(str(path), np.full((160, 60, 3), (20, 30, 200), np.uint8))
    return str(path)


@pytest.fixture
def write(tmp_path, query, gallery, image):
    """Write a report, and return its path."""

    def write(**changes):
        measure = changes.get("measure", "cosine")
        arguments = {
            "title": "A report",
            "table": TABLE,
            "result": rank(query, gallery, measure=measure),
            "query": query,
            "gallery": gallery,
            "query_images": [image] * len(query),
            "gallery_images": [image] * len(gallery),
            "measure": measure,
            "settings": {"checkpoint": "model.ckpt-7", "versions": {"numpy": "2.0"}},
        }
        return report.write_report(tmp_path / "out", **(arguments | changes))

    return write


def decoded_images(text, media_type):
    found = re.findall(rf'src="data:{re.escape(media_type)};base64,([^"]+)"', text)
    return [base64.b64decode(data, validate=True) for data in found]


class TestPage:
    def test_it_is_named_report_html_and_is_the_only_file(self, write, tmp_path):
        path = write()
        assert path == tmp_path / "out" / "report.html"
        assert list(path.parent.iterdir()) == [path]

    def test_it_has_the_table_and_the_settings(self, write):
        text = write().read_text()
        for name, value in TABLE:
            assert re.search(rf">{re.escape(name)}</th>\s*<td>{re.escape(value)}</td>", text)
        assert "<dt>checkpoint</dt><dd>model.ckpt-7</dd>" in text
        assert "<dd>numpy 2.0</dd>" in text

    def test_settings_without_a_value_are_not_shown(self, write):
        nothing = {"a": None, "b": "", "c": {}, "d": [], "e": (), "zero": 0, "no": False}
        text = write(settings=nothing).read_text()
        assert re.findall("<dt>(.*)</dt><dd>(.*)</dd>", text) == [("zero", "0"), ("no", "False")]

    @pytest.mark.parametrize(
        "title", ["your own images", "Market-1501", "MARS", "iLIDS", "über", ""]
    )
    def test_its_title_begins_with_a_capital_letter(self, write, title):
        text = write(title=title).read_text()
        (shown,), (tab,) = (re.findall(f"<{tag}>(.*)</{tag}>", text) for tag in ("h1", "title"))
        assert shown == tab
        assert (shown[:1].upper(), shown[1:]) == (shown[:1], title[1:])

    @pytest.mark.parametrize("is_reranked", [False, True])
    def test_each_column_has_a_header_and_each_score_its_unit(
        self, write, query, gallery, is_reranked
    ):
        results = {"score": rank(query, gallery)}
        if is_reranked:
            results["re-ranked"] = rank(query, gallery, rerank=Rerank())
        table = protocols.format_table(results, unit=" %")[1:]
        text = write(table=table, reranked=results.get("re-ranked")).read_text()
        headers = re.findall('<th scope="col">([^<]+)</th>', text)
        assert headers == [
            "score or number",
            *(["plain", "re-ranked"] if is_reranked else ["value"]),
        ]
        rows = re.findall('<th scope="row">([^<]+)</th>((?:<td>[^<]+</td>)+)', text)
        assert len(rows) == len(table)
        for name, cells in rows:
            values = re.findall("<td>([^<]+)</td>", cells)
            assert len(values) == len(headers) - 1
            assert all(value.endswith(" %") == name.startswith(("rank", "mAP")) for value in values)

    def test_it_needs_nothing_from_elsewhere(self, write):
        text = write().read_text()
        page = Page(text)
        assert not re.search(r"https?://|url\(|@import|//fonts", text)
        assert not page.with_tag("script") + page.with_tag("link") + page.with_tag("iframe")
        assert not [attributes for _, attributes in page.elements if "href" in attributes]
        sources = [attributes["src"] for _, attributes in page.elements if "src" in attributes]
        assert sources
        assert all(source.startswith("data:image/") for source in sources)

    def test_each_picture_has_a_text_for_those_who_do_not_see_it(self, write):
        images = Page(write().read_text()).with_tag("img")
        assert len(images) == 15 * 11 + 2
        assert all(attributes["alt"] for attributes in images)

    def test_the_same_input_gives_the_same_page(self, write):
        assert write().read_bytes() == write().read_bytes()

    def test_its_size_is_sensible(self, write, tmp_path):
        photo = np.random.default_rng(0).integers(0, 256, (64, 32, 3)).astype(np.uint8)
        path = str(tmp_path / "large.jpg")
        cv2.imwrite(path, cv2.resize(photo, (512, 1024), interpolation=cv2.INTER_CUBIC))
        written = write(query_images=[path] * 40, gallery_images=[path] * 150)
        assert written.stat().st_size < 3e6

    def test_what_the_user_names_is_escaped(self, write):
        text = write(
            title="<script>alert(1)</script> & co",
            table=[("<i>a</i>", "1 < 2")],
            settings={"<b>": {"<u>": '"&"'}},
        ).read_text()
        page = Page(text)
        assert not [tag for tag in ("script", "i", "b", "u") if page.with_tag(tag)]
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co</h1>" in text
        assert page.with_tag("img")[5]["title"].endswith("/a <b> & c.png")

    def test_with_re_ranking_there_are_two_columns_and_two_curves(self, write, query, gallery):
        text = write(
            table=[("rank 1", "61.23 %", "72.34 %"), ("queries", "40")],
            reranked=rank(query, gallery, rerank=Rerank()),
            nearest_kwargs={"rerank": Rerank()},
        ).read_text()
        assert "<td>61.23 %</td><td>72.34 %</td>" in text
        assert '<td colspan="2">40</td>' in text
        curves = decoded_images(text, "image/svg+xml")[0].decode()
        assert "re-ranked" in curves
        assert "re-ranked distance" in text


class TestCurve:
    def test_its_words_have_the_scores(self, write, query, gallery):
        (curve,) = [a for a in Page(write().read_text()).with_tag("img") if a.get("id") == "cmc"]
        result = rank(query, gallery)
        for k in (1, 5, 20):
            assert f"{100 * result.rank_k(k):.1f} %" in curve["alt"]

    @pytest.mark.parametrize("noise", [0.0, 0.2, 1.0, 30.0])
    def test_its_axis_begins_at_zero(self, write, query, gallery, noise):
        """Also where all scores are high: else small differences would look large."""
        random = np.random.default_rng(0)
        sets = [draw_set(random, each.name, each.labels, noise) for each in (query, gallery)]
        curve = decoded_images(write(result=rank(*sets)).read_text(), "image/svg+xml")[0].decode()
        labels = [int(x) for x in re.findall(r">(\d+) %</text>", curve)]
        assert (min(labels), max(labels)) == (0, 100)

    def test_it_is_a_vector_image_with_text(self, write):
        curve, distribution = decoded_images(write().read_text(), "image/svg+xml")
        assert b">rank</text>" in curve
        assert b">smallest cosine distance to a track</text>" in distribution


def advised(text):
    """The thresholds that a page gives, in code and in large type."""
    return (
        [float(x) for x in re.findall(r"max_cosine_distance = ([^<]+)</code>", text)],
        [float(x) for x in re.findall(r"<dt>Threshold</dt><dd>(\S+)", text)],
    )


class TestDistances:
    def test_the_page_gives_the_threshold_as_advice(self, write, clear):
        distances = tracks.track_distances(clear["query"], clear["gallery"])
        threshold = tracks.distance_threshold(distances.own, distances.other, share=0.01)
        assert threshold.separates
        text = write(**clear).read_text()
        assert advised(text) == ([threshold.distance],) * 2
        assert f"{100 * threshold.share_of_own:.1f} % of the detections would find" in text

    @pytest.mark.parametrize("noise", [0.9, 1.5, 5.0])
    def test_a_network_that_does_not_separate_gets_no_number(self, write, noise):
        random = np.random.default_rng(0)
        labels = np.repeat(np.arange(1, 31), 12)
        features = np.eye(30)[labels - 1] + noise * random.standard_normal((360, 30))
        mixed = FeatureSet(features, labels, np.tile([1, 2, 3], 120))
        images = ["none.jpg"] * 360
        text = write(
            result=rank(mixed, mixed),
            query=mixed,
            gallery=mixed,
            query_images=images,
            gallery_images=images,
        ).read_text()
        assert "The network has not learned enough" in text
        assert advised(text) == ([], [])
        assert "threshold" not in decoded_images(text, "image/svg+xml")[1].decode()

    def test_a_collapsed_network_gets_no_number(self, write, query, gallery):
        same = [
            FeatureSet(np.ones_like(each.features), each.labels, each.cameras)
            for each in (query, gallery)
        ]
        text = write(query=same[0], gallery=same[1], result=rank(*same)).read_text()
        assert "The network has not learned enough" in text
        assert advised(text) == ([], [])

    def test_a_euclidean_threshold_is_none_for_deep_sort(self, write, clear):
        long = {
            name: FeatureSet(3.0 * clear[name].features, clear[name].labels, clear[name].cameras)
            for name in ("query", "gallery")
        }
        text = write(measure="euclidean", **(clear | long)).read_text()
        assert "This is a Euclidean distance of features that are not of unit length" in text
        assert "max_cosine_distance =" not in text

    def test_a_threshold_of_unit_vectors_is_a_cosine_distance(self, write, clear):
        unit = {
            name: FeatureSet(
                clear[name].features / np.linalg.norm(clear[name].features, axis=1, keepdims=True),
                clear[name].labels,
                clear[name].cameras,
            )
            for name in ("query", "gallery")
        }
        distances = tracks.track_distances(unit["query"], unit["gallery"], measure="cosine")
        threshold = tracks.distance_threshold(distances.own, distances.other)
        text = write(measure="euclidean", **(clear | unit)).read_text()
        assert advised(text) == ([threshold.distance],) * 2
        distribution = decoded_images(text, "image/svg+xml")[1]
        assert b"smallest cosine distance to a track" in distribution

    @pytest.mark.parametrize("measure", ["cosine", "euclidean"])
    @pytest.mark.parametrize("length", [1.0, 3.0])
    def test_where_it_is_another_distance_than_that_of_the_ranking_the_page_says_why(
        self, write, clear, measure, length
    ):
        sets = [
            FeatureSet(length * x.features / np.linalg.norm(x.features, axis=1, keepdims=True),
                       x.labels, x.cameras)
            for x in (clear["query"], clear["gallery"])
        ]  # fmt: skip
        changes = {"query": sets[0], "gallery": sets[1], "result": rank(*sets, measure=measure)}
        text = write(measure=measure, **changes).read_text()
        (of_ranking,) = re.findall(r"ranked by (\w+) distance", text)
        (of_chart,) = re.findall(
            r">smallest (\w+) distance to a track<",
            decoded_images(text, "image/svg+xml")[1].decode(),
        )
        sentence = (
            f"are {of_chart} distances, as Deep SORT computes them, while the rankings on this"
        )
        assert (f"{sentence} page are by {of_ranking} distance" in text) == (of_chart != of_ranking)
        assert ("half of the squared Euclidean distance" in text) == (of_chart != of_ranking)

    def test_with_a_single_identity_the_page_says_what_is_missing(self, write):
        features = np.random.default_rng(0).random((4, 3))
        single = FeatureSet(features, [5, 5, 5, 5], [1, 2, 3, 4])
        text = write(
            result=rank(single, single),
            query=single,
            gallery=single,
            query_images=["none.jpg"] * 4,
            gallery_images=["none.jpg"] * 4,
        ).read_text()
        assert "4 distances to tracks of the same identity, and 0 to tracks of others" in text

    @pytest.mark.parametrize(("num_queries", "has_advice"), [(33, False), (34, True)])
    def test_one_percent_is_not_told_from_fewer_than_a_hundred_wrong_tracks(
        self, write, num_queries, has_advice
    ):
        labels = np.arange(num_queries) % 4 + 1
        query = FeatureSet(np.eye(4)[labels - 1], labels, np.ones(num_queries))
        gallery = FeatureSet(np.eye(4), [1, 2, 3, 4], [2, 2, 2, 2])
        text = write(
            query=query,
            gallery=gallery,
            result=rank(query, gallery),
            query_images=["none.jpg"] * num_queries,
            gallery_images=["none.jpg"] * 4,
        ).read_text()
        assert (len(advised(text)[0]), len(advised(text)[1])) == (has_advice, has_advice)
        assert (
            f"{3 * num_queries} to tracks of others, of which 100 or more" in text
        ) != has_advice

    def test_without_cameras_the_page_does_not_speak_of_them(self, write, query, gallery):
        bare = [FeatureSet(each.features, each.labels, name=each.name) for each in (query, gallery)]
        text = write(query=bare[0], gallery=bare[1], result=rank(*bare)).read_text()
        assert "camera" not in text.replace("cross-camera", "")


@pytest.mark.parametrize("value", [0.009, 0.00899, 0.0012, 1e-4, 0.00999, 3.2e-5])
def test_small_distances_have_two_digits(value):
    text = charts.format_distance(value)
    assert float(text) == pytest.approx(value, rel=0.05)
    assert len(text.partition("e")[0].replace(".", "").lstrip("0")) == 2


@pytest.mark.parametrize("switches", [(29, 29, 29), (0, 1, 1)])
def test_switches_are_drawn_on_an_axis_of_whole_numbers(switches):
    pytest.importorskip("matplotlib")
    distances = (0.1, 0.2, 0.4)
    curve = {d: types.SimpleNamespace(switches=n) for d, n in zip(distances, switches, strict=True)}
    url = charts.draw_thresholds({"test": curve}, "switches", 0.2)
    image = base64.b64decode(url.partition(",")[2]).decode()
    texts = re.findall(r">(\d+\.\d+)</text>", image)
    assert set(texts) <= {f"{distance:g}" for distance in distances}


class TestChosenQueries:
    def test_they_are_the_best_the_median_and_the_worst(self, query, gallery):
        result = rank(query, gallery)
        chosen = report.choose_queries(result, 3)
        precisions = result.average_precision
        ordered = np.sort(precisions[np.isfinite(precisions)])
        assert precisions[chosen["best"]].tolist() == ordered[:-4:-1].tolist()
        assert precisions[chosen["worst"]].tolist() == ordered[:3].tolist()
        assert np.median(ordered) == pytest.approx(np.median(precisions[chosen["median"]]), abs=0.1)

    @pytest.mark.parametrize("num_queries", [1, 2, 3, 4, 14, 15, 16])
    def test_all_have_a_match_and_are_different(self, gallery, num_queries):
        query = draw_set(np.random.default_rng(0), "query", np.repeat([3, 0], num_queries))
        chosen = report.choose_queries(rank(query, gallery))
        rows = np.concatenate(list(chosen.values()))
        assert len(chosen["best"]) == min(5, max(1, num_queries // 3))
        assert len(set(rows.tolist())) == len(rows)
        assert np.all(rows < num_queries)

    def test_ties_are_broken_the_same_way_each_time_and_not_by_the_order(self):
        labels = np.repeat(np.arange(1, 101), 3)
        features = FeatureSet(np.eye(100)[labels - 1], labels, np.tile([1, 2, 3], 100))
        result = rank(features, features)
        assert result.mean_average_precision == 1.0
        chosen = report.choose_queries(result)
        again = report.choose_queries(result)
        assert all(chosen[name].tolist() == again[name].tolist() for name in chosen)
        assert len(set(labels[chosen["best"]])) > 3


class TestStrips:
    @pytest.mark.parametrize("nearest_kwargs", [None, {"same_camera_is_junk": False}])
    def test_frames_are_what_nearest_says(self, write, query, gallery, nearest_kwargs):
        text = write(nearest_kwargs=nearest_kwargs).read_text()
        strips = Page(text).frames()
        chosen = np.concatenate(list(report.choose_queries(rank(query, gallery)).values()))
        items = nearest(query, gallery, chosen, **(nearest_kwargs or {}))
        names = dict(enumerate(("no-match", "match", "junk", "distractor")))
        assert [row for row, _ in strips] == chosen.tolist()
        for (_, kinds), codes in zip(strips, items.codes.tolist(), strict=True):
            assert kinds == ["query", *(names[code] for code in codes)]
        shown = re.findall(r"</span> (\d\.\d{3})</span><small>", text)
        assert shown == [f"{distance:.3f}" for distance in items.distances.ravel()]

    def test_signs_tell_the_kinds_without_color(self, write):
        text = write().read_text()
        marks = dict(re.findall(r'"distance"><span class="mark ([\w-]+)">(.)</span>', text))
        assert marks == {"match": "✓", "no-match": "✗", "distractor": "✗", "junk": "–"}

    def test_a_small_gallery_gives_short_strips(self, write, query, image):
        gallery = draw_set(np.random.default_rng(0), "gallery", np.array([1, 2, 3]))
        text = write(
            gallery=gallery, result=rank(query, gallery), gallery_images=[image] * 3
        ).read_text()
        assert {len(kinds) for _, kinds in Page(text).frames()} == {1 + 3}

    def test_thumbnails_are_small_and_in_true_colors(self, write):
        thumbnail, *_ = decoded_images(write().read_text(), "image/jpeg")
        image = cv2.imdecode(np.frombuffer(thumbnail, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (160, 60, 3)
        np.testing.assert_allclose(image.mean(axis=(0, 1)), (20, 30, 200), atol=4)

    def test_large_images_are_scaled_down_in_their_proportions(self, write, tmp_path):
        path = str(tmp_path / "wide.png")
        cv2.imwrite(path, np.zeros((300, 960, 3), np.uint8))
        thumbnail, *_ = decoded_images(write(query_images=[path] * 40).read_text(), "image/jpeg")
        assert cv2.imdecode(np.frombuffer(thumbnail, np.uint8), 1).shape == (30, 96, 3)

    @pytest.mark.parametrize("content", [None, b"", b"no image"])
    def test_an_image_that_cannot_be_read_is_a_gray_box(self, write, tmp_path, content):
        path = tmp_path / "broken.jpg"
        if content is not None:
            path.write_bytes(content)
        text = write(query_images=[str(path)] * 40).read_text()
        assert text.count(">image missing</span>") == 15
        assert len(decoded_images(text, "image/jpeg")) == 150


def name_of(label):
    return f"<Person>\t{label}\udcff"


class TestNames:
    """People and images are called as the data call them."""

    @pytest.fixture
    def folder(self, tmp_path, query, gallery):
        """Write an image for each item."""
        for name, features in (("query", query), ("gallery", gallery)):
            for row, label in enumerate(features.labels):
                path = tmp_path / "data" / name / f"p{label}" / f"{row}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((8, 4, 3), row, np.uint8))
        return tmp_path / "data"

    @pytest.fixture
    def images(self, folder, query, gallery):
        return {
            f"{name}_images": [
                str(folder / name / f"p{label}" / f"{row}.png")
                for row, label in enumerate(features.labels)
            ]
            for name, features in (("query", query), ("gallery", gallery))
        }

    def test_each_item_has_identity_camera_and_path(self, write, query, gallery, folder, images):
        text = write(names=Names(name_of, folder), **images).read_text()
        chosen = np.concatenate(list(report.choose_queries(rank(query, gallery)).values()))
        items = nearest(query, gallery, chosen)
        figures = text.split("<figure")[1:]
        for row, indices, figure in zip(chosen, items.indices.tolist(), figures, strict=True):
            query_path = f"query/p{query.labels[row]}/{row}.png"
            assert (
                f"&lt;Person&gt;\\t{query.labels[row]}\\udcff, camera {query.cameras[row]}"
                in figure
            )
            assert query_path in html.unescape(re.sub("<[^>]+>", "", figure))
            assert (folder / query_path).exists()
            shown = re.findall(r"<small><span>([^<]+)</span><span>([^<]+)</span></small>", figure)
            assert len(shown) == 1 + len(indices)
            for index, words in zip(indices, shown[1:], strict=True):
                label = gallery.labels[index]
                who = {-1: "junk", 0: "distractor"}.get(
                    int(label), f"&lt;Person&gt;\\t{label}\\udcff"
                )
                assert words == (who, f"camera {gallery.cameras[index]}")
            paths = re.findall(r"<li>([^<]+)</li>", figure)
            assert paths == [f"gallery/p{gallery.labels[index]}/{index}.png" for index in indices]

    def test_paths_outside_of_the_folder_are_whole(self, write, folder, images, tmp_path):
        text = write(names=Names(folder=tmp_path / "other"), **images).read_text()
        assert f"<li>{folder}/gallery/" in text

    def test_a_file_stands_for_its_folder(self, folder):
        listing = folder / "people.csv"
        listing.write_text("")
        assert Names(folder=listing).path(folder / "a" / "b.png") == os.path.join("a", "b.png")

    def test_relative_paths_are_shown_from_the_folder_on(self, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        for name in ("data", "./data", "data/", folder):
            assert Names(folder=name).path(os.path.join("data", "a.png")) == "a.png"
            assert Names(folder=name).path(str(folder / "a.png")) == "a.png"
        assert Names(folder="dat").path(os.path.join("data", "a.png")) == "data/a.png"

    def test_the_query_is_not_its_own_result(self, write, gallery, folder, images):
        people = np.flatnonzero(gallery.labels > 0)
        query = FeatureSet(
            gallery.features[people],
            gallery.labels[people],
            gallery.cameras[people],
            name="query",
        )
        text = write(
            query=query,
            result=rank(query, gallery),
            query_images=[images["gallery_images"][row] for row in people],
            gallery_images=images["gallery_images"],
            nearest_kwargs={"self_indices": people},
        ).read_text()
        for figure in text.split("<figure")[1:]:
            assert len(re.findall("<li><div", figure)) == 1 + 10
            (path,) = re.findall(r"<span>.* · ([^<]+)</span></figcaption>", figure)
            assert f"<li>{path}</li>" not in figure


class TestErrors:
    def test_images_must_be_as_many_as_the_items(self, write, image):
        with pytest.raises(DataError, match="gallery has 150 items, but 3 images"):
            write(gallery_images=[image] * 3)

    def test_the_page_is_written_whole_or_not_at_all(self, write, monkeypatch):
        path = write()
        before = path.read_bytes()

        def fail(descriptor):
            raise OSError("the disk is full")

        monkeypatch.setattr(files.os, "fsync", fail)
        with pytest.raises(OSError, match="disk is full"):
            write(title="Another report")
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
    def test_a_missing_package_is_named_with_what_to_install(self, write, monkeypatch, package):
        monkeypatch.setitem(sys.modules, package, None)
        expected = re.escape(
            f"--report_dir needs {package}: pip install {package} "
            "(in a clone: pip install -e '.[report]')"
        )
        with pytest.raises(UsageError, match=f"^{expected}$"):
            report.check_dependencies()
        with pytest.raises(UsageError, match=f"^{expected}$"):
            write()

    def test_the_module_can_be_imported_without_the_packages(self):
        block = "import sys; sys.modules.update(matplotlib=None, jinja2=None); "
        code = block + "import deep_reid.scoring.report"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs Debian's chromium: apt-get install chromium"
)
class TestInBrowser:
    @pytest.fixture
    def browse(self, tmp_path):
        def browse(*options):
            return subprocess.run(
                ["chromium", *CHROMIUM_FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *options],
                check=True,
                capture_output=True,
                timeout=120,
            ).stdout.decode()

        return browse

    def test_the_document_has_the_numbers_the_curves_and_the_strips(self, write, browse):
        page = Page(dom := browse("--dump-dom", write().as_uri()))
        assert all(value in dom for _, value in TABLE)
        assert {"cmc", "distribution"} <= {a.get("id") for a in page.with_tag("img")}
        strips = page.frames()
        assert len(strips) == 15
        assert all(len(kinds) == 11 for _, kinds in strips)

    def test_captions_are_not_broken(self, write, browse, tmp_path):
        """No name, no "camera 1", no mark with its distance: on a screen of any size."""
        text = write(names=Names("{:04d}".format)).read_text()
        text = html.escape(re.sub("<meta http-equiv[^>]+>", "", text))
        outer = tmp_path / "outer.html"
        # In frames, as a window of chromium is at least 500 pixels wide.
        widths = [320, 375, 480, 760, 770, 1000, 1001, 1200]
        frames = [f'<iframe width="{x}" height="900" srcdoc="{text}"></iframe>' for x in widths]
        outer.write_text(f"{''.join(frames)}<script>{MEASURE}</script>")
        (found,) = re.findall("<pre>(.+)</pre>", browse("--dump-dom", outer.as_uri()))
        for width, one in zip(widths, json.loads(found), strict=True):
            assert one["width"] <= width
            assert len(one["parts"]) == 15 * (11 * 2 + 10)
            broken = [part for part in one["parts"] if not (part["isOneLine"] and part["fits"])]
            assert broken == [], width

    def test_the_screenshot_shows_curves_pictures_and_frames(self, write, browse, tmp_path):
        screenshot = str(tmp_path / "screenshot.png")
        browse(f"--screenshot={screenshot}", "--window-size=1200,6400", write().as_uri())
        pixels = cv2.imread(screenshot)[..., ::-1].astype(int)
        top, strips = pixels[:1300], pixels[1300:]

        def count(part, color):
            return np.count_nonzero(np.abs(part - color).max(axis=-1) <= 6)

        curve, match, no_match = (0x3B, 0x6E, 0xA8), (0x2E, 0x8B, 0x62), (0xC4, 0x51, 0x3F)
        assert count(top, curve) > 300
        assert count(top, match) > 100  # The outlines of the distributions.
        assert count(top, no_match) > 100
        assert count(strips, (200, 30, 20)) > 15 * 11 * 80 * 100  # The red images.
        assert count(strips, match) > 5000
        assert count(strips, no_match) > 5000

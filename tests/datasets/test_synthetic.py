import collections
import dataclasses
import hashlib
import inspect
import io
import os
import pathlib
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import scipy.io

from datasets import synthetic
from datasets.drawn import drawing, figures, scenes, styles
from datasets.own.listing import is_image_name
from deep_reid.errors import DataError, UsageError

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARKET_NAME = re.compile(r"(-1|\d{4})_c([1-6])s([1-6])_(\d{6})_(\d{2})\.jpg")
MARS_NAME = re.compile(r"(00-1|\d{4})C([1-6])T(\d{4})F(\d{3})\.jpg")
SMALL = dict(num_identities=5, num_test_identities=4, num_cameras=3, images_per_camera=2)


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market") / "data"
    return folder, synthetic.draw_market1501(folder, num_distractors=6, seed=7, **SMALL)


@pytest.fixture(scope="module")
def mars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mars") / "data"
    return folder, synthetic.draw_mars(folder, num_distractors=3, seed=7, **SMALL)


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def market_views(folder):
    """Return (label, camera) of each image in a folder; fail on a name that is none."""
    matches = [MARKET_NAME.fullmatch(path.name) for path in sorted(folder.iterdir())]
    assert all(matches)
    return [(int(match[1]), int(match[2])) for match in matches]


def run_cli(*flags):
    return subprocess.run(
        [sys.executable, "-m", "datasets.synthetic", *map(str, flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class TestMarket1501:
    def test_folders_are_complete(self, market):
        names = {path.name for path in market[0].iterdir()}
        folders = {"bounding_box_train", "bounding_box_test", "query", "gt_query"}
        assert names == folders | {"readme.txt"}

    def test_train_and_test_labels_are_disjoint_and_counted(self, market):
        folder, splits = market
        train, gallery, query = (
            market_views(folder / name)
            for name in ("bounding_box_train", "bounding_box_test", "query")
        )
        train_labels = {label for label, _ in train}
        test_labels = {label for label, _ in query}
        assert train_labels | test_labels == set(range(1, 10))
        assert len(train_labels) == 5
        assert len(test_labels) == 4
        assert {label for label, _ in gallery} == test_labels | {0, -1}
        assert [
            (split.name, split.num_images, split.num_identities, split.num_cameras)
            for split in splits
        ] == [
            ("bounding_box_train", len(train), 5, len({camera for _, camera in train})),
            ("bounding_box_test", len(gallery), 4, len({camera for _, camera in gallery})),
            ("query", len(query), 4, len({camera for _, camera in query})),
        ]

    def test_each_camera_of_a_test_person_has_one_query_and_its_gallery(self, market):
        folder, _ = market
        gallery = collections.Counter(market_views(folder / "bounding_box_test"))
        query = collections.Counter(market_views(folder / "query"))
        assert set(query.values()) == {1}
        assert {view for view in gallery if view[0] > 0} == set(query)
        assert {gallery[view] for view in query} == {2}
        assert sum(n for (label, _), n in gallery.items() if label == 0) == 6

    def test_each_query_has_a_match_in_another_camera(self, market):
        folder, _ = market
        gallery = set(market_views(folder / "bounding_box_test"))
        for label, camera in market_views(folder / "query"):
            assert any(one == label and other != camera for one, other in gallery)

    def test_queries_have_detection_zero_and_no_other_image_has(self, market):
        folder, _ = market
        for name in ("bounding_box_train", "bounding_box_test", "query"):
            zero = {
                MARKET_NAME.fullmatch(path.name)[5] == "00" for path in (folder / name).iterdir()
            }
            assert zero == {name == "query"}

    def test_images_are_128_by_64_jpegs(self, market):
        for path in market[0].rglob("*.jpg"):
            assert path.read_bytes()[:3] == b"\xff\xd8\xff"
            assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (128, 64, 3)

    def test_no_image_is_drawn_twice(self, market):
        found = [name for name in hashes(market[0]) if name.endswith(".jpg")]
        assert len(found) == sum(split.num_images for split in market[1])
        assert len({hashes(market[0])[name] for name in found}) == len(found)

    def test_each_query_has_two_files_of_ground_truth(self, market):
        folder, _ = market
        names = [path.stem for path in (folder / "query").iterdir()]
        assert {path.name for path in (folder / "gt_query").iterdir()} == {
            f"{name}_{kind}.mat" for name in names for kind in ("good", "junk")
        }

    def test_ground_truth_counts_from_one_in_the_sorted_gallery(self, market):
        folder, _ = market
        gallery = market_views(folder / "bounding_box_test")
        for path in (folder / "query").iterdir():
            label, camera = int(path.name[:4]), int(path.name[6])
            truth = {"good": [], "junk": []}
            for position, (other, other_camera) in enumerate(gallery, 1):
                if other == -1 or (other == label and other_camera == camera):
                    truth["junk"].append(position)
                elif other == label:
                    truth["good"].append(position)
            for kind, positions in truth.items():
                index = scipy.io.loadmat(folder / "gt_query" / f"{path.stem}_{kind}.mat")
                assert index[f"{kind}_index"].tolist() == [positions]
                assert index[f"{kind}_index"].dtype == np.int32

    def test_no_date_is_stored(self, market):
        for path in (market[0] / "gt_query").iterdir():
            text = path.read_bytes()[:116]
            assert text.startswith(b"MATLAB 5.0 MAT-file")
            assert b"Created on" not in text

    def test_ground_truth_is_a_small_part(self, market):
        images, truth = (
            [path.stat().st_size for path in market[0].rglob(f"*.{ending}")]
            for ending in ("jpg", "mat")
        )
        assert sum(truth) < 0.1 * sum(images)

    def test_readme_names_command_and_seed(self, market):
        text = (market[0] / "readme.txt").read_text()
        assert "python -m datasets.synthetic --layout market1501 --num_identities 5" in text
        assert "--seed 7 --style street --output_dir DIR" in text

    def test_two_cameras_both_see_everybody(self, tmp_path):
        sizes = {**SMALL, "num_test_identities": 20, "num_cameras": 2, "images_per_camera": 1}
        synthetic.draw_market1501(tmp_path / "new", **sizes)
        views = market_views(tmp_path / "new" / "query")
        assert len(views) == len(set(views)) == 2 * 20

    def test_without_distractors_junk_stays(self, tmp_path):
        synthetic.draw_market1501(tmp_path / "new", num_distractors=0, **SMALL)
        labels = {label for label, _ in market_views(tmp_path / "new" / "bounding_box_test")}
        assert 0 not in labels
        assert -1 in labels


class TestMars:
    @staticmethod
    def load(folder, split):
        names = (folder / "info" / f"{split}_name.txt").read_text().splitlines()
        variable = f"track_{split}_info"
        table = scipy.io.loadmat(folder / "info" / f"tracks_{split}_info.mat")[variable]
        return names, table

    def test_folders_are_complete(self, mars):
        folder, _ = mars
        assert {path.name for path in folder.iterdir()} == {
            "bbox_train",
            "bbox_test",
            "info",
            "readme.txt",
        }
        assert {path.name for path in (folder / "info").iterdir()} == {
            "train_name.txt",
            "test_name.txt",
            "tracks_train_info.mat",
            "tracks_test_info.mat",
            "query_IDX.mat",
        }
        train = {path.name for path in (folder / "bbox_train").iterdir()}
        test = {path.name for path in (folder / "bbox_test").iterdir()}
        assert {"00-1", "0000"} < test
        assert len(train) == 5
        assert len(test) == 4 + 2
        assert train | test == {f"{label:04d}" for label in range(10)} | {"00-1"}
        assert not train & test

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_names_list_each_file_once(self, mars, split):
        names, _ = self.load(mars[0], split)
        files = sorted(
            path.relative_to(mars[0] / f"bbox_{split}").as_posix()
            for path in (mars[0] / f"bbox_{split}").rglob("*.jpg")
        )
        assert sorted(f"{name[:4]}/{name}" for name in names) == files

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_table_describes_the_names(self, mars, split):
        names, table = self.load(mars[0], split)
        assert table.dtype == np.int32
        assert table[0, 0] == 1
        assert table[-1, 1] == len(names)
        np.testing.assert_array_equal(table[1:, 0], table[:-1, 1] + 1)
        for first, last, label, camera in table.tolist():
            matches = [MARS_NAME.fullmatch(name) for name in names[first - 1 : last]]
            assert len({match[3] for match in matches}) == 1
            assert {match[1] for match in matches} == {"00-1" if label == -1 else f"{label:04d}"}
            assert {int(match[2]) for match in matches} == {camera}
            assert [int(match[4]) for match in matches] == [1, 2]

    def test_junk_and_distractors_are_in_the_test_table_only(self, mars):
        train, test = (self.load(mars[0], split)[1][:, 2] for split in ("train", "test"))
        assert train.min() > 0
        assert np.sum(test == -1) == 2
        assert np.sum(test == 0) == 3

    def test_no_date_is_stored(self, mars):
        for path in (mars[0] / "info").glob("*.mat"):
            text = path.read_bytes()[:116]
            assert text.startswith(b"MATLAB 5.0 MAT-file")
            assert b"Created on" not in text

    def test_queries_are_one_track_for_each_person_and_camera(self, mars):
        _, table = self.load(mars[0], "test")
        query = scipy.io.loadmat(mars[0] / "info" / "query_IDX.mat")["query_IDX"]
        assert query.dtype == np.uint16
        assert query.shape[0] == 1
        views = [tuple(row) for row in table[query[0].astype(int) - 1, 2:].tolist()]
        assert sorted(views) == sorted({tuple(row) for row in table[:, 2:].tolist() if row[0] > 0})

    def test_queries_have_a_match_elsewhere_even_if_no_query_is_in_the_gallery(self, mars):
        _, table = self.load(mars[0], "test")
        query = scipy.io.loadmat(mars[0] / "info" / "query_IDX.mat")["query_IDX"][0].astype(int) - 1
        gallery = np.delete(table, query, axis=0)
        for _, _, label, camera in table[query]:
            assert np.any((gallery[:, 2] == label) & (gallery[:, 3] != camera))

    def test_images_are_256_by_128(self, mars):
        paths = list(mars[0].rglob("*.jpg"))
        assert len(paths) == sum(split.num_images for split in mars[1])
        assert {cv2.imread(str(path)).shape for path in paths} == {(256, 128, 3)}

    def test_frames_of_a_tracklet_resemble_each_other(self, mars):
        names, table = self.load(mars[0], "train")

        def colors(index):
            path = mars[0] / "bbox_train" / names[index][:4] / names[index]
            return cv2.resize(cv2.imread(str(path)), (8, 16), interpolation=cv2.INTER_AREA) / 255

        starts = table[:, 0] - 1
        within = [np.abs(colors(start) - colors(start + 1)).mean() for start in starts]
        between = [
            np.abs(colors(one) - colors(two)).mean()
            for one, two in zip(starts, starts[1:], strict=False)
        ]
        assert 0 < np.mean(within) < 0.6 * np.mean(between)

    def test_no_distractors_leaves_an_empty_folder(self, tmp_path):
        synthetic.draw_mars(tmp_path / "new", num_distractors=0, **SMALL)
        assert list((tmp_path / "new" / "bbox_test" / "0000").iterdir()) == []


@pytest.mark.parametrize("layout", ["market1501", "mars"])
class TestBothLayouts:
    @staticmethod
    def draw(layout, folder, **sizes):
        return getattr(synthetic, f"draw_{layout}")(folder, **{**SMALL, **sizes})

    def test_same_seed_same_bytes(self, layout, tmp_path, request):
        sizes = dict(num_distractors=6 if layout == "market1501" else 3, seed=7)
        self.draw(layout, tmp_path / "again", **sizes)
        fixture = request.getfixturevalue(layout.replace("1501", ""))
        assert hashes(tmp_path / "again") == hashes(fixture[0])

    def test_other_seed_other_images(self, layout, tmp_path, request):
        self.draw(layout, tmp_path / "other", seed=8)
        fixture = request.getfixturevalue(layout.replace("1501", ""))
        images = [
            {digest for name, digest in hashes(folder).items() if name.endswith(".jpg")}
            for folder in (tmp_path / "other", fixture[0])
        ]
        assert not images[0] & images[1]

    def test_folder_in_use_is_refused_and_untouched(self, layout, tmp_path):
        used = tmp_path / "used"
        used.mkdir()
        (used / "mine.txt").write_text("mine")
        with pytest.raises(DataError, match=r"is not empty: .* new or empty folder; remove it or"):
            self.draw(layout, used)
        assert [path.name for path in tmp_path.rglob("*")] == ["used", "mine.txt"]

    def test_file_in_the_way_is_refused(self, layout, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(DataError):
            self.draw(layout, tmp_path / "file")
        with pytest.raises(DataError, match="cannot be written"):
            self.draw(layout, tmp_path / "file" / "below")
        assert (tmp_path / "file").read_text() == "mine"

    def test_empty_folder_is_used(self, layout, tmp_path):
        (tmp_path / "empty").mkdir()
        self.draw(layout, tmp_path / "empty")
        assert (tmp_path / "empty" / "readme.txt").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["empty"]

    def test_failure_leaves_nothing(self, layout, tmp_path, monkeypatch):
        calls = []

        def full_disk(*args):
            calls.append(args)
            if len(calls) == 9:
                raise OSError(28, "No space left on device")
            return real(*args)

        real = pathlib.Path.write_bytes
        monkeypatch.setattr(pathlib.Path, "write_bytes", full_disk)
        with pytest.raises(DataError, match="No space left on device"):
            self.draw(layout, tmp_path / "new")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(os.name != "posix", reason="permission bits")
    def test_permissions_follow_the_umask(self, layout, tmp_path):
        self.draw(layout, tmp_path / "new")
        (tmp_path / "plain").mkdir()
        assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("num_identities", 1),
            ("num_test_identities", 0),
            ("num_cameras", 1),
            ("num_cameras", 7),
            ("images_per_camera", 0),
            ("num_distractors", -1),
            ("seed", -1),
            ("seed", 2**32),
            ("style", "beach"),
        ],
    )
    def test_wrong_sizes_are_refused(self, layout, name, value, tmp_path):
        with pytest.raises(UsageError, match=f"{name} is {value}: must be"):
            self.draw(layout, tmp_path / "new", **{name: value})
        assert list(tmp_path.iterdir()) == []

    def test_labels_end_where_those_of_the_real_data_do(self, layout, tmp_path):
        most = {"market1501": 1501, "mars": 1500}[layout]
        with pytest.raises(
            UsageError, match=f"num_test_identities is {most - 4}: .* 1..{most - 5};"
        ):
            self.draw(layout, tmp_path / "new", num_test_identities=most - 4)


class TestImages:
    def test_an_image_does_not_depend_on_what_was_taken_before(self):
        shot = scenes.Shot(3, 1, 2, 1)
        first, quality = scenes.take(5, shot, 128)
        scenes.take(5, scenes.Shot(4, 1), 128)
        scenes.take(6, shot, 128)
        second, again = scenes.take(5, shot, 128)
        np.testing.assert_array_equal(first, second)
        assert quality == again

    @pytest.mark.parametrize("field", ["person", "camera", "track", "frame"])
    def test_each_part_of_a_shot_changes_the_image(self, field):
        one = scenes.Shot(**{"person": 3, "camera": 1, "track": 1, "frame": 1})
        two = scenes.Shot(**{"person": 3, "camera": 1, "track": 1, "frame": 1, field: 2})
        assert np.any(scenes.take(5, one, 128)[0] != scenes.take(5, two, 128)[0])

    @pytest.mark.parametrize("style", styles.STYLES.values(), ids=styles.STYLES)
    def test_persons_are_dressed_differently(self, style):
        looks = [figures.sample_look(np.random.default_rng(seed), style) for seed in range(200)]
        worn = {(look.top, look.bottom, look.legs, look.bag, look.bag_color) for look in looks}
        assert len(worn) == 200
        assert {look.top.texture for look in looks} == set(style.textures)
        assert {look.bag for look in looks} == set(figures.BAG_KINDS)
        assert {look.legs for look in looks} == set(figures.LEG_KINDS)

    def test_colors_are_read_red_first_and_stored_blue_first(self):
        assert styles.bgr("ff8001") == (1, 128, 255)

    def test_styles_have_no_clothes_and_no_cameras_in_common(self):
        street, station = styles.STYLES.values()
        for part in ("tops", "bottoms", "bags", "shoes", "cameras"):
            assert not set(getattr(street, part)) & set(getattr(station, part))
        assert set(street.textures) & set(station.textures) == {"plain", "logo"}
        assert {*street.textures, *station.textures} == set(figures.TEXTURES)

    @pytest.mark.parametrize("draw", synthetic.DRAW.values(), ids=synthetic.DRAW)
    def test_each_layout_is_drawn_in_each_style(self, draw, tmp_path):
        pictures = []
        for style in styles.STYLES:
            draw(tmp_path / style, num_identities=2, style=style)
            path = sorted((tmp_path / style).rglob("*.jpg"))[0]
            pictures.append(cv2.imread(str(path)).astype(int))
            readme = next((tmp_path / style).glob("*readme.txt")).read_text()
            assert f"--style {style}" in readme
        assert np.abs(pictures[0] - pictures[1]).mean() > 20

    @pytest.mark.parametrize(
        "texture", sorted(set(figures.TEXTURES) - {"plain", "logo", "sash", "dots"})
    )
    def test_textured_cloth_shows_both_colors(self, texture):
        canvas = np.zeros((200, 100, 4), dtype=np.uint8)
        brush = figures.Brush(canvas, (50, 200), 200)
        square = [(-0.2, 0.5), (0.2, 0.5), (0.2, 0.8), (-0.2, 0.8)]
        brush.polygon(square, figures.Fabric((10, 20, 30), (200, 210, 220), texture))
        cloth = canvas[canvas[..., 3] > 0]
        second = np.all(cloth == (200, 210, 220, 255), axis=1)
        assert np.all(second | np.all(cloth == (10, 20, 30, 255), axis=1))
        assert 0.3 < second.mean() < 0.7
        painted = np.flatnonzero(np.any(canvas[..., 3] > 0, axis=1))
        assert (painted.min(), painted.max()) == (40, 100)

    def test_shapes_beyond_the_canvas_are_cut_off(self):
        canvas = np.zeros((20, 10, 4), dtype=np.uint8)
        brush = figures.Brush(canvas, (5, 20), 20)
        cloth = figures.Fabric((1, 2, 3), (4, 5, 6), "checks")
        brush.polygon([(3, 3), (4, 3), (4, 4)], cloth)
        assert not canvas.any()
        brush.polygon([(-9, -9), (9, -9), (9, 9), (-9, 9)], cloth)
        assert canvas[..., 3].min() == 255

    @pytest.mark.parametrize(("yaw", "visible"), [(0, False), (np.pi, True)])
    def test_a_backpack_is_seen_from_behind(self, yaw, visible):
        look = figures.sample_look(np.random.default_rng(0))
        red = (0, 0, 250)
        look = dataclasses.replace(
            look, bag="backpack", bag_color=red, hair_length=0.0, top=figures.Fabric((9, 9, 9))
        )
        canvas = np.zeros((400, 200, 4), dtype=np.uint8)
        brush = figures.Brush(canvas, (100, 380), 360)
        figures.paint_person(brush, look, figures.Pose(yaw, 1.0, 0.4, 0.1))
        share = np.all(canvas[..., :3] == red, axis=2).sum() / (canvas[..., 3] == 255).sum()
        assert (share > 0.1) == visible


@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thirty") / "data"
    synthetic.draw_market1501(folder, num_identities=30)
    return folder


class TestDifficulty:
    """The usual protocol in plain loops: colors alone must not do, and learning must."""

    @staticmethod
    def read(folder):
        paths = sorted(folder.iterdir())
        return market_views(folder), np.stack([cv2.imread(str(path)) for path in paths])

    @staticmethod
    def rank_1(folder, describe):
        gallery, query = (
            list(zip(views, describe(images), strict=True))
            for views, images in map(
                TestDifficulty.read, (folder / "bounding_box_test", folder / "query")
            )
        )
        hits = 0
        for view, code in query:
            allowed = [item for item in gallery if item[0] != view and item[0][0] != -1]
            best = min(allowed, key=lambda item: float(np.sum((item[1] - code) ** 2)))
            hits += best[0][0] == view[0]
        assert len(query) > 60
        return hits / len(query)

    @pytest.mark.parametrize(
        ("rows", "columns"),
        [
            (slice(None), slice(None)),
            (slice(26, 102), slice(20, 44)),
            (slice(32, 70), slice(22, 42)),
        ],
        ids=["all", "person", "chest"],
    )
    def test_mean_color_does_not_do(self, rows, columns, thirty):
        score = self.rank_1(thirty, lambda images: images[:, rows, columns].mean(axis=(1, 2)))
        assert score < 0.5

    def test_linear_discriminants_of_the_training_persons_do(self, thirty):
        def shrink(images):
            small = [cv2.resize(one, (16, 32), interpolation=cv2.INTER_AREA) for one in images]
            return np.stack(small).reshape(len(images), -1) / 255

        views, images = self.read(thirty / "bounding_box_train")
        labels = np.array([label for label, _ in views])
        pixels = shrink(images)
        middle = pixels.mean(axis=0)
        axes = np.linalg.svd(pixels - middle, full_matrices=False)[2][:80].T
        codes = (pixels - middle) @ axes
        means = {label: codes[labels == label].mean(axis=0) for label in set(labels.tolist())}
        within = codes - np.stack([means[label] for label in labels.tolist()])
        values, vectors = np.linalg.eigh(within.T @ within / len(codes) + 1e-4 * np.eye(80))
        whiten = axes @ (vectors / np.sqrt(values))
        between = np.stack(list(means.values())) @ (vectors / np.sqrt(values))
        spread = np.linalg.svd(between - between.mean(axis=0), full_matrices=False)[2][:25].T
        score = self.rank_1(thirty, lambda images: (shrink(images) - middle) @ whiten @ spread)
        assert score > 0.7


class TestCommandLine:
    @pytest.mark.parametrize("layout", ["market1501", "mars"])
    def test_draws_and_says_what_comes_next(self, layout, tmp_path):
        folder = tmp_path / "my data"
        flags = ("--num_identities", 2, "--num_cameras", 2, "--images_per_camera", 1)
        done = run_cli("--layout", layout, "--output_dir", folder, *flags)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert re.fullmatch(r"\w+train: \d+ images, 2 identities, 2 cameras", lines[0])
        script = f"train_{layout}.py"
        assert lines[-1] == f"Next: python {script} --mode=train --dataset_dir='{folder}'"
        assert (folder / "readme.txt").exists()

    def test_folder_in_use_is_one_line_and_exit_1(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        done = run_cli("--layout", "mars", "--output_dir", tmp_path)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert str(tmp_path) in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    @pytest.mark.parametrize(
        "flags",
        [
            (),
            ("--layout", "mars"),
            ("--layout", "cuhk", "--output_dir", "OUT"),
            ("--layout", "mars", "--output_dir", "OUT", "--num_cameras", "1"),
            ("--layout", "mars", "--output_dir", "OUT", "--num_identities", "some"),
            ("--layout", "mars", "--output_dir", "OUT", "--colour", "red"),
            ("--layout", "mars", "--output_dir", "OUT", "--style", "beach"),
        ],
        ids=["none", "no_folder", "layout", "range", "type", "unknown", "style"],
    )
    def test_wrong_flags_exit_2(self, flags, tmp_path, capsys):
        flags = [str(tmp_path / "new") if flag == "OUT" else flag for flag in flags]
        with pytest.raises(SystemExit) as stop:
            synthetic.main(flags)
        assert stop.value.code == 2
        assert "error:" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("value", ["x", "1.5", "", "1e3"])
    def test_a_number_that_is_none_is_named_with_its_rule(self, value, tmp_path, capsys):
        argv = ["--layout=mot", f"--output_dir={tmp_path}/new", f"--num_identities={value}"]
        with pytest.raises(SystemExit) as stop:
            synthetic.main(argv)
        assert stop.value.code == 2
        assert f"{value} must be a whole number" in capsys.readouterr().err

    def test_wrong_flag_of_a_process_exits_2(self, tmp_path):
        flags = ("--layout", "market1501", "--output_dir", tmp_path / "new", "--num_cameras", 7)
        done = run_cli(*flags)
        assert done.returncode == 2
        assert "num_cameras is 7: must be in 2..6" in done.stderr
        assert not (tmp_path / "new").exists()

    def test_neither_tensorflow_nor_the_networks_are_imported(self):
        code = (
            "import sys, datasets.synthetic;"
            "sys.exit(any(name.split('.')[0] == 'tensorflow' for name in sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
        assert done.returncode == 0


def test_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path, monkeypatch, caplog):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "take", interrupt)
    code = synthetic.main(["--layout=market1501", f"--output_dir={tmp_path}/drawn"])
    assert code == 130
    assert "Interrupted" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(tmp_path, monkeypatch, caplog, number):
    monkeypatch.setattr(scenes, "take", lambda *args: os.kill(os.getpid(), number))
    argv = ["--layout=market1501", f"--output_dir={tmp_path}/drawn"]
    assert synthetic.main(argv) == 128 + number
    assert caplog.messages[-1] == f"Interrupted by {number.name}: nothing was written"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("module", ["datasets.synthetic", "deep_reid.serve_bench"])
class TestImportsOfCommands:
    """What goes wrong while NumPy and OpenCV are imported is told in a line."""

    def run(self, module, tmp_path, content):
        (tmp_path / "numpy.py").write_text(content)
        return subprocess.run(
            [sys.executable, "-m", module, "--layout=mot", "model.pb"],
            cwd=pathlib.Path(synthetic.__file__).parents[1],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_a_missing_package_is_named(self, module, tmp_path):
        result = self.run(module, tmp_path, "raise ModuleNotFoundError(name='numpy')\n")
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert "the package numpy is missing in this Python" in line

    def test_a_signal_ends_it(self, module, tmp_path):
        content = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
        result = self.run(module, tmp_path, content)
        assert result.returncode == 130
        (line,) = result.stderr.splitlines()
        assert "Interrupted" in line


@pytest.mark.parametrize("layout", synthetic.LAYOUTS)
def test_progress_counts_images_and_ends_at_their_number(layout, tmp_path, monkeypatch):
    bars = []

    class Bar(drawing.tqdm):
        def __init__(self, **settings):
            super().__init__(**settings | {"file": io.StringIO(), "delay": 0})
            bars.append(self)

    monkeypatch.setattr(drawing, "tqdm", Bar)
    draw = synthetic.DRAW[layout]
    sizes = {**SMALL, "images_per_identity": 5}
    known = inspect.signature(draw).parameters
    draw(tmp_path / "new", **{name: size for name, size in sizes.items() if name in known})
    names = [path.name for path in (tmp_path / "new").rglob("*") if is_image_name(path.name)]
    assert [(bar.n, bar.total) for bar in bars] == [(len(names), len(names))]

import configparser
import csv
import inspect
import itertools
import pathlib
import re
import shlex

import cv2
import numpy as np
import pytest

from datasets import synthetic
from datasets.drawn import own as drawn_own
from datasets.drawn import scenes
from deep_reid.errors import DataError, UsageError

LAYOUTS = ["folders", "csv", "mot"]
README = {"folders": ".readme.txt"}
# More identities than a frame holds, and an odd number of images.
SMALL = dict(num_identities=12, images_per_identity=3, seed=7)
JPEG_NAMES = [
    (f"{identity:04d}", f"{image:06d}") for identity in range(1, 13) for image in (1, 2, 3)
]


def draw(layout, folder, **sizes):
    return getattr(synthetic, f"draw_{layout}")(folder, **{**SMALL, **sizes})


def contents(folder):
    """Map the path of each file below a folder to its bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Map each layout to its folder and what the function returned."""
    root = tmp_path_factory.mktemp("own")
    return {layout: (root / layout, draw(layout, root / layout)) for layout in LAYOUTS}


@pytest.fixture(scope="module")
def table(drawn):
    """Read people.csv: list of dict."""
    with open(drawn["csv"][0] / "people.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def rows(drawn):
    """Read gt.txt: list of lists of int."""
    lines = (drawn["mot"][0] / "gt" / "gt.txt").read_text().splitlines()
    return [[int(cell) for cell in line.split(",")] for line in lines]


@pytest.mark.parametrize("layout", LAYOUTS)
class TestAllForms:
    def test_sizes_are_counted(self, layout, drawn):
        assert drawn[layout][1] == [synthetic.SplitSize("all", 36, 12, 1)]

    def test_same_seed_same_bytes(self, layout, drawn, tmp_path):
        draw(layout, tmp_path / "again")
        assert contents(tmp_path / "again") == contents(drawn[layout][0])

    def test_other_seed_other_images(self, layout, drawn, tmp_path):
        draw(layout, tmp_path / "other", seed=8)
        images = [
            {data for name, data in contents(folder).items() if name.endswith(("jpg", "png"))}
            for folder in (tmp_path / "other", drawn[layout][0])
        ]
        assert not images[0] & images[1]

    def test_readme_names_command(self, layout, drawn):
        text = (drawn[layout][0] / README.get(layout, "readme.txt")).read_text()
        flags = "--num_identities 12 --images_per_identity 3 --seed 7 --output_dir DIR"
        assert f"python -m datasets.synthetic --layout {layout} {flags}\n" in text

    def test_defaults_are_the_same_in_all_forms(self, layout):
        parameters = inspect.signature(getattr(synthetic, f"draw_{layout}")).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        del defaults["output_dir"]
        assert defaults == dict(num_identities=40, images_per_identity=8, seed=1234)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("num_identities", 1),
            ("num_identities", 10_000),
            ("images_per_identity", 0),
            ("images_per_identity", 1000),
            ("seed", -1),
            ("seed", 2**32),
        ],
    )
    def test_wrong_sizes_are_refused(self, layout, name, value, tmp_path):
        with pytest.raises(UsageError, match=f"{name} is {value}: must be in"):
            draw(layout, tmp_path / "new", **{name: value})
        assert list(tmp_path.iterdir()) == []

    def test_folder_in_use_is_refused_and_untouched(self, layout, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(DataError, match="is not empty"):
            draw(layout, tmp_path)
        assert [path.name for path in tmp_path.rglob("*")] == ["mine.txt"]

    def test_failure_leaves_nothing(self, layout, tmp_path, monkeypatch):
        calls = itertools.count(1)

        def full_disk(*args):
            if next(calls) == 9:
                raise OSError(28, "No space left on device")
            return real(*args)

        real = pathlib.Path.write_bytes
        monkeypatch.setattr(pathlib.Path, "write_bytes", full_disk)
        with pytest.raises(DataError, match="No space left on device"):
            draw(layout, tmp_path / "new")
        assert list(tmp_path.iterdir()) == []


class TestFolders:
    def test_each_identity_has_a_folder_of_its_images(self, drawn):
        names = {f"{identity}/{image}.jpg" for identity, image in JPEG_NAMES}
        assert set(contents(drawn["folders"][0])) == names | {".readme.txt"}

    def test_images_are_128_by_64_jpegs_and_all_different(self, drawn):
        paths = list(drawn["folders"][0].rglob("*.jpg"))
        for path in paths:
            assert path.read_bytes()[:3] == b"\xff\xd8\xff"
            assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (128, 64, 3)
        assert len({path.read_bytes() for path in paths}) == 36

    def test_more_images_or_identities_keep_the_others(self, drawn, tmp_path):
        draw("folders", tmp_path / "few", num_identities=3, images_per_identity=2)
        few, all_ = contents(tmp_path / "few"), contents(drawn["folders"][0])
        del few[".readme.txt"]
        assert len(few) == 6
        assert few.items() <= all_.items()

    def test_nobody_is_in_a_drawn_benchmark_too(self, drawn, tmp_path, monkeypatch):
        shots = []

        def note(seed, shot, height):
            shots.append(shot.person)
            return real(seed, shot, height)

        real = scenes.take
        monkeypatch.setattr(scenes, "take", note)
        draw("folders", tmp_path / "new")
        own = set(shots)
        shots.clear()
        synthetic.draw_market1501(tmp_path / "market", num_identities=12, seed=7)
        assert len(own) == 12
        assert not own & set(shots)


class TestCsv:
    def test_header_and_rows(self, table):
        assert table == [
            {"path": f"images/{identity}_{image}.jpg", "identity": identity}
            for identity, image in JPEG_NAMES
        ]

    def test_all_files_are_in_the_table(self, drawn, table):
        names = {row["path"] for row in table}
        assert set(contents(drawn["csv"][0])) == names | {"people.csv", "readme.txt"}

    def test_images_are_those_of_the_folders_form(self, drawn, table):
        one, two = contents(drawn["csv"][0]), contents(drawn["folders"][0])
        for row, (identity, image) in zip(table, JPEG_NAMES, strict=True):
            assert one[row["path"]] == two[f"{identity}/{image}.jpg"]


class TestMot:
    def test_structure(self, drawn):
        frames = {f"img1/{number:06d}.png" for number in range(1, 7)}  # 10 and 2 persons
        others = {"gt/gt.txt", "seqinfo.ini", "readme.txt"}
        assert set(contents(drawn["mot"][0])) == frames | others

    def test_about_the_sequence(self, drawn):
        config = configparser.ConfigParser()
        config.optionxform = str
        config.read(drawn["mot"][0] / "seqinfo.ini")
        about = dict(config["Sequence"])
        assert about["imDir"] == "img1"
        assert about["imExt"] == ".png"
        assert about["seqLength"] == "6"
        shape = int(about["imHeight"]), int(about["imWidth"]), 3
        paths = (drawn["mot"][0] / "img1").iterdir()
        assert {cv2.imread(str(path)).shape for path in paths} == {shape}

    def test_each_track_is_an_identity_once_in_a_frame(self, rows):
        assert {len(row) for row in rows} == {9}
        assert {tuple(row[4:]) for row in rows} == {(64, 128, 1, 1, 1)}
        views = [(row[1], row[0]) for row in rows]
        assert views == sorted(set(views))
        assert [track for track, _ in views] == [int(identity) for identity, _ in JPEG_NAMES]
        assert {frame for _, frame in views} == set(range(1, 7))

    def test_boxes_hold_the_images_of_the_folders_form_in_their_order(self, drawn, rows):
        for row, (identity, image) in zip(rows, JPEG_NAMES, strict=True):
            frame, _, left, top, width, height = row[:6]
            pixels = cv2.imread(str(drawn["mot"][0] / "img1" / f"{frame:06d}.png"))
            expected = cv2.imread(str(drawn["folders"][0] / identity / f"{image}.jpg"))
            box = pixels[top : top + height, left : left + width]
            np.testing.assert_array_equal(box, expected)

    def test_boxes_lie_in_the_frame_and_do_not_overlap(self, drawn, rows):
        covered = {}
        for frame, _, left, top, width, height, *_ in rows:
            assert min(left, top) >= 0
            assert left + width <= drawn_own.FRAME_WIDTH
            assert top + height <= drawn_own.FRAME_HEIGHT
            shape = drawn_own.FRAME_HEIGHT, drawn_own.FRAME_WIDTH
            count = covered.setdefault(frame, np.zeros(shape, dtype=int))
            count[top : top + height, left : left + width] += 1
        assert {int(count.max()) for count in covered.values()} == {1}


class TestDifficulty:
    def test_mean_color_does_not_do(self, tmp_path):
        synthetic.draw_folders(tmp_path / "new", num_identities=30, images_per_identity=2)
        images = np.stack(
            [cv2.imread(str(path)) for path in sorted((tmp_path / "new").rglob("*.jpg"))]
        )
        colors = images[:, 26:102, 20:44].mean(axis=(1, 2))
        apart = np.linalg.norm(colors[::2, None] - colors[None, 1::2], axis=2)
        hits = np.mean(apart.argmin(axis=1) == np.arange(30))
        assert 1 / 30 < hits < 0.5


class TestCommandLine:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_draws_and_says_what_comes_next(self, layout, tmp_path, caplog):
        caplog.set_level("INFO")
        folder = tmp_path / "my data"
        flags = ["--num_identities=12", "--images_per_identity=3", "--seed=7"]
        code = synthetic.main([f"--layout={layout}", f"--output_dir={folder}", *flags])
        assert code == 0
        path = folder / "people.csv" if layout == "csv" else folder
        command = f"python train_custom.py --mode=train --dataset={shlex.quote(str(path))}"
        assert caplog.messages == ["all: 36 images, 12 identities, 1 cameras", f"Next: {command}"]
        assert path.exists()

    def test_flags_that_are_not_given_are_the_defaults(self, tmp_path):
        flags = ["--layout=csv", f"--output_dir={tmp_path / 'new'}", "--images_per_identity=1"]
        assert synthetic.main(flags) == 0
        text = (tmp_path / "new" / "readme.txt").read_text()
        assert "--num_identities 40 --images_per_identity 1 --seed 1234" in text

    @pytest.mark.parametrize(
        ("layout", "flag", "others"),
        [
            *[(layout, "num_cameras", "market1501, mars") for layout in LAYOUTS],
            ("folders", "num_test_identities", "market1501, mars"),
            ("csv", "images_per_camera", "market1501, mars"),
            ("mot", "num_distractors", "market1501, mars"),
            ("market1501", "images_per_identity", "csv, folders, mot"),
            ("mars", "images_per_identity", "csv, folders, mot"),
        ],
    )
    def test_flags_of_other_layouts_exit_2(self, layout, flag, others, tmp_path, capsys):
        with pytest.raises(SystemExit) as stop:
            synthetic.main(
                [f"--layout={layout}", f"--output_dir={tmp_path / 'new'}", f"--{flag}=3"]
            )
        assert stop.value.code == 2
        error = capsys.readouterr().err.splitlines()[-1]
        rule = f"--{flag} has no meaning for --layout {layout}, only for {others}; leave it out"
        assert error.endswith(rule)
        assert list(tmp_path.iterdir()) == []

    def test_help_says_for_which_layouts_a_flag_is(self, capsys):
        with pytest.raises(SystemExit):
            synthetic.main(["--help"])
        text = " ".join(capsys.readouterr().out.split())
        for name in ("num_test_identities", "num_cameras", "images_per_camera", "num_distractors"):
            entry = re.search(rf"--{name} {name.upper()} (.*?)(?= --|$)", text)[1]
            assert "market1501" in entry
            assert "mars" in entry
        assert "--images_per_identity IMAGES_PER_IDENTITY folders, csv, mot" in text

    @pytest.mark.parametrize("layout", synthetic.DRAW)
    def test_each_flag_is_an_argument_of_some_layout(self, layout, tmp_path):
        names = list(inspect.signature(synthetic.DRAW[layout]).parameters)
        assert names[0] == "output_dir"
        flags = [f"--{name}=2" for name in names[1:]]
        folder = tmp_path / "new"
        assert synthetic.main([f"--layout={layout}", f"--output_dir={folder}", *flags]) == 0
        text = (folder / README.get(layout, "readme.txt")).read_text()
        assert all(f"--{name} 2" in text for name in names[1:])

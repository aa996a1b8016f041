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
from datasets.drawn import mot as drawn_mot
from datasets.drawn import scenes
from datasets.own import mot
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
    """Read gt.txt: list of lists of float."""
    return read_boxes(drawn["mot"][0] / "gt" / "gt.txt")


def read_boxes(path):
    return [[float(cell) for cell in line.split(",")] for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    """Draw a sequence that is long enough to track in; return folder, boxes and detections."""
    folder = tmp_path_factory.mktemp("sequence") / "walk"
    synthetic.draw_mot(folder, num_identities=8, images_per_identity=32, seed=3)
    return folder, *(np.array(read_boxes(folder / name)) for name in ("gt/gt.txt", "det/det.txt"))


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
        flags = (
            "--num_identities 12 --images_per_identity 3 --seed 7 --style street --output_dir DIR"
        )
        assert f"python -m datasets.synthetic --layout {layout} {flags}\n" in text

    def test_defaults_are_the_same_in_all_forms(self, layout):
        parameters = inspect.signature(getattr(synthetic, f"draw_{layout}")).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        del defaults["output_dir"]
        images = 40 if layout == "mot" else 8
        assert defaults == dict(
            num_identities=40, images_per_identity=images, seed=1234, style="street"
        )

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

        def note(seed, shot, *args):
            shots.append(shot.person)
            return real(seed, shot, *args)

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
    def test_it_has_the_files_of_a_mot_sequence(self, drawn, rows):
        length = int(max(row[0] for row in rows))
        frames = {f"img1/{number:06d}.jpg" for number in range(1, length + 1)}
        others = {"gt/gt.txt", "det/det.txt", "seqinfo.ini", "readme.txt"}
        assert set(contents(drawn["mot"][0])) == frames | others

    def test_about_the_sequence(self, drawn, rows):
        config = configparser.ConfigParser()
        config.optionxform = str
        config.read(drawn["mot"][0] / "seqinfo.ini")
        about = dict(config["Sequence"])
        assert about["imDir"] == "img1"
        assert about["imExt"] == ".jpg"
        assert int(about["seqLength"]) == max(row[0] for row in rows)
        shape = int(about["imHeight"]), int(about["imWidth"]), 3
        paths = (drawn["mot"][0] / "img1").iterdir()
        assert {cv2.imread(str(path)).shape for path in paths} == {shape}

    def test_each_track_is_an_identity_once_in_a_frame(self, rows):
        assert {len(row) for row in rows} == {9}
        views = [(row[1], row[0]) for row in rows]
        assert views == sorted(set(views))
        assert [track for track, _ in views] == [int(identity) for identity, _ in JPEG_NAMES]

    def test_the_reader_takes_it(self, drawn, tmp_path):
        listing = mot.read_sequences(drawn["mot"][0], tmp_path)
        assert len(set(listing.identities)) == 12


class TestTracking:
    """A sequence has what is hard in tracking: see the columns of gt.txt and det.txt."""

    def tracks(self, boxes):
        return [boxes[boxes[:, 1] == track] for track in np.unique(boxes[:, 1])]

    def test_boxes_lie_mostly_in_the_frame(self, sequence):
        _, boxes, _ = sequence
        centers = boxes[:, 2:4] + boxes[:, 4:6] / 2
        assert centers.min() > 0
        assert (centers < (drawn_mot.FRAME_WIDTH, drawn_mot.FRAME_HEIGHT)).all()
        np.testing.assert_allclose(boxes[:, 5], 2 * boxes[:, 4], atol=0.2)

    def test_several_are_seen_at_a_time(self, sequence):
        _, boxes, _ = sequence
        counts = np.bincount(boxes[:, 0].astype(int))[1:]
        assert counts.min() >= 1
        assert counts.max() >= 6

    def test_they_move_smoothly(self, sequence):
        for track in self.tracks(sequence[1]):
            assert (np.diff(track[:, 0]) == 1).all()
            centers = track[:, 2:4] + track[:, 4:6] / 2
            steps = np.diff(centers, axis=0)
            # The velocity changes little from frame to frame, and the boxes overlap.
            assert np.abs(np.diff(steps, axis=0)).max() < 2
            assert np.abs(steps).max() < 10
            assert np.linalg.norm(centers[-1] - centers[0]) > 15

    def test_people_turn_in_small_steps(self, sequence):
        walks = drawn_mot.DrawnMot(num_identities=8, images_per_identity=32, seed=3).walks
        turns = [abs(walk.yaw[-1] - walk.yaw[0]) for walk in walks]
        assert np.mean(turns) > 0.5
        assert max(abs(np.diff(walk.yaw)).max() for walk in walks) < 0.3

    def test_they_hide_behind_each_other(self, sequence):
        _, boxes, _ = sequence
        hidden = [(track[:, 8] < 0.5).any() for track in self.tracks(boxes)]
        assert sum(hidden) >= 2
        assert (boxes[:, 8] <= 1).all()
        assert np.median(boxes[:, 8]) > 0.9

    def test_the_person_is_in_the_box(self, sequence):
        folder, boxes, _ = sequence
        background = scenes.paint_background(3, 0, (drawn_mot.FRAME_HEIGHT, drawn_mot.FRAME_WIDTH))
        background = scenes.develop(background, 0, np.random.default_rng(0)).astype(int)
        for frame, _, left, top, width, height, *_, visible in boxes[::7]:
            if visible < 0.9:
                continue
            image = cv2.imread(str(folder / "img1" / f"{int(frame):06d}.jpg"))
            differs = np.abs(image - background).max(axis=2) > 60
            box = np.s_[int(top) : int(top + height), int(max(left, 0)) : int(left + width)]
            assert 0.12 < differs[box].mean() < 0.8

    def test_detections_have_gaps_and_jitter(self, sequence):
        _, boxes, found = sequence
        assert found.shape[1] == 10
        assert (found[:, 1] == -1).all()
        assert (np.diff(found[:, 0]) >= 0).all()
        assert 0 < found[:, 6].min() <= found[:, 6].max() <= 1
        num_matched, shifts = 0, []
        for box in boxes:
            same = found[found[:, 0] == box[0]]
            apart = np.abs(same[:, 2:6] - box[2:6]).max(axis=1, initial=0)
            if len(same) and apart.min() < 20:
                num_matched += 1
                shifts.append(apart.min())
        assert 0.6 < num_matched / len(boxes) < 0.95
        assert 1 < np.mean(shifts) < 10


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
        if layout == "mot":
            folder = shlex.quote(str(folder))
            command += f"; to track: python train_custom.py --mode=track --sequences {folder}"
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
        assert error.endswith(f"{rule} (--help lists all settings)")
        assert list(tmp_path.iterdir()) == []

    def test_help_says_for_which_layouts_a_flag_is(self, capsys):
        with pytest.raises(SystemExit):
            synthetic.main(["--help"])
        text = " ".join(capsys.readouterr().out.split())
        for name in ("num_test_identities", "num_cameras", "images_per_camera", "num_distractors"):
            entry = re.search(rf"--{name} {name.upper()} (.*?)(?= --|$)", text)[1]
            assert "market1501" in entry
            assert "mars" in entry
        assert "--images_per_identity IMAGES_PER_IDENTITY folders, csv: images of" in text

    @pytest.mark.parametrize("layout", synthetic.DRAW)
    def test_each_flag_is_an_argument_of_some_layout(self, layout, tmp_path):
        names = list(inspect.signature(synthetic.DRAW[layout]).parameters)
        assert names[0] == "output_dir"
        values = {name: "station" if name == "style" else "2" for name in names[1:]}
        flags = [f"--{name}={value}" for name, value in values.items()]
        folder = tmp_path / "new"
        assert synthetic.main([f"--layout={layout}", f"--output_dir={folder}", *flags]) == 0
        text = (folder / README.get(layout, "readme.txt")).read_text()
        assert all(f"--{name} {value}" in text for name, value in values.items())

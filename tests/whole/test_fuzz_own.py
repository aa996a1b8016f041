"""Whatever people's own files hold, and what runs leave: what it says, or one documented line."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.own import csv_listing, folders, mot
from deep_reid.cli import outputs
from deep_reid.config import RunConfig
from deep_reid.errors import DataError, ReidError, UsageError
from deep_reid.runs import records, resuming, saving
from deep_reid.system.name_patterns import PRESETS, NamePattern

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
fuzz = settings(
    max_examples=1500,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def changed(examples, pieces):
    """One of some texts, with some of its parts replaced by pieces, as bytes."""
    changes = st.lists(
        st.tuples(
            st.floats(0, 1), st.integers(0, 4), st.sampled_from(pieces) | st.text(max_size=2)
        ),
        max_size=5,
    )

    def change(example_and_changes):
        text, all_changes = example_and_changes
        for share, length, piece in all_changes:
            start = int(share * len(text))
            text = text[:start] + piece + text[start + length :]
        return text.encode("utf-8", "surrogatepass")

    return st.tuples(st.sampled_from(examples), changes).map(change) | st.binary(max_size=60)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def check_line(error):
    assert len(str(error).splitlines()) == 1, str(error)


NUMBERS = ["-1", "nan", "1e308", "9" * 400, "0.5", "\0", "\u0661", " ", "\n", ",", "x"]
IMAGE = cv2.imencode(".png", np.zeros((20, 20, 3), np.uint8))[1].tobytes()


def read_sequences(data, crops):
    try:
        listing = mot.read_sequences(data, crops)
    except DataError as error:
        check_line(error)
        assert not crops.exists() or not os.listdir(crops)
        return
    assert all(os.path.isfile(name) for name in listing.filenames)


KITTI_ROW = "{} 1 {} 0 {} -1.57 2 3 12 15 1.5 1.6 3.9 0 1 20 -1.5\n"
KITTI = [
    KITTI_ROW.format(0, "Car", 0) + KITTI_ROW.format(1, "Pedestrian", 3),
    KITTI_ROW.format(0, "DontCare", -1),
]


@settings(fuzz, max_examples=500)
@given(changed(KITTI, [*NUMBERS, "Car", "DontCare"]))
def test_labels_of_kitti(content):
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory, "training")
        for number in range(2):
            path = data / "image_02" / "0000" / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(IMAGE)
        (data / "label_02").mkdir()
        (data / "label_02" / "0000.txt").write_bytes(content)
        read_sequences(data, Path(directory, "crops"))


SEQINFO = ["[Sequence]\nname=A\nimDir=img1\nframeRate=30\nseqLength=2\nimExt=.png\n"]


@settings(fuzz, max_examples=500)
@given(changed(SEQINFO, ["[", "]", "=", "%", "%(x)s", "..", "/", "imDir", "\n ", ";", *NUMBERS]))
def test_seqinfo(content):
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory, "SEQ")
        (data / "img1").mkdir(parents=True)
        (data / "img1" / "000001.png").write_bytes(IMAGE)
        (data / "gt").mkdir()
        (data / "gt" / "gt.txt").write_text("1,1,2,3,8,9,1,1,1\n")
        (data / "seqinfo.ini").write_bytes(content)
        read_sequences(data, Path(directory, "crops"))


LISTS = [
    "path identity camera\na.jpg Ann 1\nb.jpg Bob 2\n",
    "fid\timage_path\tpid\n1\ta.jpg\tAnn\n2\tb.jpg\tBob\n",
    "sep=;\nimage_path;person_id\na.jpg;Ann\nsub\\b.jpg;Bob\n",
    "a.jpg\nb.jpg\n",
    "0002_c1s1_000451_03.jpg 1\n",
]
LIST_PIECES = ["sep=", ";", "\t", " ", ",", "\\", '"', "\r", "\n", "\ufeff", "pid", "fid", "-1"]
PATTERNS = [None, *PRESETS, r"(?P<identity>\w)", r"(?P<identity>a*)*(?P<camera>\d)?", "(?P<split>)"]


@fuzz
@given(changed(LISTS, LIST_PIECES), st.sampled_from(PATTERNS))
def test_lists_with_patterns(content, pattern):
    with tempfile.TemporaryDirectory() as directory:
        for name in ("a.jpg", "b.jpg", "sub/b.jpg", "0002_c1s1_000451_03.jpg"):
            Path(directory, name).parent.mkdir(exist_ok=True)
            Path(directory, name).touch()
        path = Path(directory, "people.txt")
        path.write_bytes(content)
        try:
            listing = csv_listing.read_csv(path, pattern and NamePattern(pattern))
        except (DataError, UsageError) as error:
            check_line(error)
            return
        assert all(os.path.exists(name) for name in listing.filenames)


NAMES = ["0002_c1s1_000451_03.jpg", "0001C1T0001F001.jpg", "a.jpg", "0001_c2.png", "x.JPEG"]
FOLDERS = ["", "train", "query", "gallery", "Test", "@eaDir", ".x", "cam_a", "0001", "Ann"]
FILE_NAMES = (
    changed(NAMES, ["-1", "_c", "\n", "\x1b[31m", "\udcff", " ", ".", "c0"])
    .map(lambda name: name.replace(b"/", b"").replace(b"\0", b""))
    .filter(lambda name: name not in (b"", b".", b".."))
)


@settings(fuzz, max_examples=500)
@given(
    st.lists(st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=2), FILE_NAMES), max_size=6),
    st.sampled_from(PATTERNS),
)
def test_folders_with_patterns(paths, pattern):
    with tempfile.TemporaryDirectory() as directory:
        for parts, name in paths:
            parent = Path(directory, *parts)
            parent.mkdir(parents=True, exist_ok=True)
            if not os.path.isdir(os.path.join(os.fsencode(parent), name)):
                with open(os.path.join(os.fsencode(parent), name), "wb"):
                    pass
        try:
            listing = folders.read_folders(directory, pattern and NamePattern(pattern))
        except ReidError as error:
            check_line(error)
            return
        assert all(os.path.exists(name) for name in listing.filenames)


RECORD = 'model_checkpoint_path: "model.ckpt-2"\nall_model_checkpoint_paths: "model.ckpt-2"\n'
JOURNALS = ["model.ckpt-3", "model.ckpt-2", "model.ckpt-3\nmodel.ckpt-4", "../other/model.ckpt-1"]
JOURNAL_PIECES = ["..", "/", "\n", "\0", "*", "[", "model.ckpt-2", "model.ckpt", "config.json", "."]


@settings(fuzz, max_examples=1000)
@given(changed(JOURNALS, JOURNAL_PIECES), st.sampled_from([RECORD, RECORD[:30], "", None]))
def test_journals_of_what_a_kill_left(content, record):
    with tempfile.TemporaryDirectory() as directory:
        run_dir, other = Path(directory, "run"), Path(directory, "other")
        for place, steps in ((run_dir, (2, 3)), (other, (1, 2, 3))):
            place.mkdir()
            for step in steps:
                for ending in ("index", "data-00000-of-00001", "meta"):
                    (place / f"model.ckpt-{step}.{ending}").touch()
        (run_dir / "config.json").touch()
        if record is not None:
            (run_dir / "checkpoint").write_text(record)
        (run_dir / ".saving-x").mkdir()
        (run_dir / ".saving-x" / "journal").write_bytes(content)
        saving.remove_leftovers(run_dir)
        assert len(list(other.iterdir())) == 9
        assert (run_dir / "config.json").exists()
        assert records.exists(str(run_dir / "model.ckpt-2"))
        assert not (run_dir / ".saving-x").exists()
        is_named = b"model.ckpt-3" in content.replace(b"\r", b"\n").split(b"\n")
        is_kept = records.exists(str(run_dir / "model.ckpt-3"))
        assert not (is_named and record == RECORD and is_kept)
        assert is_kept or record == RECORD


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
FACTS = st.fixed_dictionaries(
    {}, optional={name: VALUES for name in ("run", "step", "checkpoint", "kind", "inputs", "other")}
)


@settings(fuzz, max_examples=500)
@given(st.one_of(FACTS.map(json.dumps).map(str.encode), st.binary(max_size=40)))
def test_manifests(folder, content):
    path = folder / "custom.pb"
    path.touch()
    Path(f"{path}.manifest.json").write_bytes(content)
    known = outputs.read_origin(str(path))
    if known is not None:
        assert isinstance(known.run, str | None) and isinstance(known.step, int)
        assert all(isinstance(x, str) for x in (known.checkpoint, known.kind, known.inputs))
    origin = outputs.Origin(run="run", step=3, checkpoint="model.ckpt-3")
    outputs.warn_of_overwriting(str(path), origin)
    outputs.write_manifest(str(path), origin)
    assert json.loads(Path(f"{path}.manifest.json").read_text())["run"] == "run"


CONFIG = json.loads(json.dumps(RunConfig((32, 16, 3)).__dict__))


@fuzz
@given(st.sampled_from(sorted(CONFIG)), VALUES, st.binary(max_size=20) | VALUES)
def test_a_run_with_any_settings_goes_on_or_is_refused(folder, name, value, names):
    shutil.rmtree(folder / "run", ignore_errors=True)
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(json.dumps({**CONFIG, name: value}))
    text = names if isinstance(names, bytes) else json.dumps(names).encode()
    (folder / "run" / "labels.json").write_bytes(text)
    try:
        resuming.compare(folder / "run", RunConfig((32, 16, 3)), ["Ann", "Bob"])
    except ReidError as error:
        check_line(error)

"""Whatever a file or a name holds: what it says, or one of the documented errors."""

import io
import json
import os
import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from datasets import market1501, mars
from datasets.own import csv_listing
from deep_reid.config import RunConfig
from deep_reid.errors import DataError, MissingPathError
from deep_reid.images import files as images
from deep_reid.runs import folder, labels, records
from deep_reid.scoring import protocols

NUM_EXAMPLES = 10_000

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
fuzz = settings(
    max_examples=NUM_EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def nearly(alphabet, example):
    """Text that is random, or an example with some characters changed."""
    positions = st.lists(
        st.tuples(st.integers(0, len(example)), st.sampled_from(alphabet + "é\0 ")), max_size=4
    )

    def change(changes):
        characters = list(example)
        for position, character in changes:
            characters[position : position + 1] = character
        return "".join(characters)

    return st.one_of(st.text(max_size=40), positions.map(change))


@fuzz
@given(nearly(string.digits + "-cs_.jpgJPG", "0002_c1s1_000451_03.jpg"))
def test_names_of_market1501(name):
    try:
        person, camera, sequence, frame, detection = market1501.parse_filename(name)
    except DataError:
        return
    assert person >= -1
    assert min(camera, sequence, frame, detection) >= 0


@fuzz
@given(nearly(string.digits + "-CTF.jpg", "0001C1T0001F001.jpg"))
def test_names_of_mars(name):
    try:
        person, camera, tracklet, frame = mars.parse_filename(name)
    except DataError:
        return
    assert -1 <= person <= 9999
    assert min(camera, tracklet, frame) >= 0


CELLS = st.one_of(
    st.sampled_from(["a.png", "b.png", "anna", "bob", "c1", "train", "query", "gallery", "path",
                     "identity", "camera", "split", "-1", "", " ", '"', "a\nb", "ü"]),
    st.text(max_size=8),
)  # fmt: skip
ROWS = st.lists(st.lists(CELLS, max_size=6).map(",".join), max_size=6).map("\n".join)


@fuzz
@given(st.one_of(ROWS.map(lambda text: text.encode("utf-8", "ignore")), st.binary(max_size=60)))
def test_any_csv_file_is_read_or_refused_in_one_line(tmp_path, content):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    path = tmp_path / "people.csv"
    path.write_bytes(content)
    try:
        listing = csv_listing.read_csv(path)
    except (DataError, MissingPathError) as error:
        assert "people.csv" in str(error)
        assert "\n" not in str(error)
        return
    assert len(listing) > 0
    assert all(os.path.exists(filename) for filename in listing.filenames)
    assert len(listing.identities) == len(listing.splits) == len(listing.filenames)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
RIGHT = json.loads(json.dumps({**RunConfig((32, 16, 3)).__dict__}))


@st.composite
def configs(draw):
    """A right file with some settings changed, left out or added."""
    config = dict(RIGHT)
    for name in draw(st.lists(st.sampled_from([*RIGHT, "unknown"]), max_size=3)):
        config[name] = draw(VALUES)
    for name in draw(st.lists(st.sampled_from(list(RIGHT)), max_size=2)):
        config.pop(name, None)
    return json.dumps(config).encode("utf-8", "surrogatepass")


@fuzz
@given(st.one_of(configs(), VALUES.map(json.dumps).map(str.encode), st.binary(max_size=60)))
def test_any_config_file_is_read_or_refused_by_name(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    try:
        config = RunConfig.load(tmp_path)
    except DataError as error:
        assert "config.json" in str(error)
        assert "\n" not in str(error)
        return
    config.save(tmp_path)
    assert RunConfig.load(tmp_path) == config


@fuzz
@given(st.one_of(VALUES.map(json.dumps).map(str.encode), st.binary(max_size=60)))
def test_any_label_file_is_read_or_refused_by_name(tmp_path, content):
    (tmp_path / "labels.json").write_bytes(content)
    try:
        names = labels.load(tmp_path)
    except DataError as error:
        assert "labels.json" in str(error)
        return
    assert len(set(names)) == len(names)


def create_features(name):
    buffer = io.BytesIO()
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    if name == "f.npy":
        np.save(buffer, features)
    else:
        form = "4" if name == "4.mat" else "5"
        savemat(buffer, {"features": features}, format=form, do_compression=name == "c.mat")
    return name, buffer.getvalue()


@st.composite
def features_files(draw):
    """A file of features with some bytes changed, left out or added."""
    name, content = draw(
        st.sampled_from([create_features(n) for n in ("f.npy", "f.mat", "c.mat", "4.mat")])
    )
    content = bytearray(content)
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(content)))
        content[start : start + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return name, bytes(content)


@settings(fuzz, max_examples=3000)
@given(features_files())
def test_files_of_features(tmp_path, name_and_content):
    name, content = name_and_content
    (tmp_path / name).write_bytes(content)
    try:
        features = protocols.load_features(tmp_path / name)
    except DataError as error:
        assert name in str(error)
        assert "\n" not in str(error)
        return
    assert isinstance(features, np.ndarray)


@settings(fuzz, max_examples=300)
@given(st.integers(1, 200_000), st.sampled_from(["[", '{"a":', "[[1],"]))
def test_json_that_is_nested(tmp_path, depth, opening):
    (tmp_path / "config.json").write_text(opening * depth)
    (tmp_path / "labels.json").write_text(opening * depth)
    with pytest.raises(DataError):
        RunConfig.load(tmp_path)
    with pytest.raises(DataError):
        labels.load(tmp_path)


@fuzz
@given(
    st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0\x20Exif\0\0"])
)
def test_whatever_the_bytes_an_orientation_is_from_1_to_8(content, start):
    assert images.read_orientation(start + content) in range(1, 9)
    assert images.explain_contents(start + content)


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    """A log directory with whole, partial and nameless files."""
    directory = tmp_path_factory.mktemp("log")
    (directory / "run").mkdir()
    for name in ("model.ckpt-3.index", "model.ckpt-3.data-00000-of-00001", "model.ckpt-9.meta",
                 "old.ckpt", "config.json"):  # fmt: skip
        (directory / "run" / name).write_bytes(b"content")
    (directory / "latest_run").write_text("run\n")
    return directory


PARTS = st.one_of(
    st.sampled_from(["run", "model.ckpt-3", "model.ckpt-3.index", "model.ckpt-9", "checkpoint",
                     "old.ckpt", "latest_run", "..", ".", "", "x.pb", "a" * 300]),
    st.text(max_size=12),
)  # fmt: skip


@fuzz
@given(st.lists(PARTS, max_size=4).map("/".join))
def test_paths_of_checkpoints(log_dir, path):
    path = str(log_dir / path) if not path.startswith("/") else f"{log_dir}{path}"
    try:
        prefix = records.resolve_checkpoint(path)
    except DataError as error:
        assert "\n" not in str(error) or "\n" in path
        return
    assert records.exists(prefix)


@fuzz
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_records_of_runs(tmp_path, latest_run, state):
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "latest_run").write_bytes(latest_run)
    (tmp_path / "run" / "checkpoint").write_bytes(state)
    assert folder.find_latest_run(tmp_path) is None or (tmp_path / "run").is_dir()
    assert records.list_checkpoints(tmp_path / "run") == []

"""The command that times exported networks."""

import subprocess
import sys

import numpy as np
import pytest

from deep_reid import serve_bench

# TensorFlow takes seconds to import.
WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
from deep_reid import serve_bench
sys.exit(serve_bench.main(sys.argv[1:]))
"""


@pytest.fixture
def clock(monkeypatch):
    """A clock that only fake encoders advance."""
    now = [0.0]
    monkeypatch.setattr(serve_bench.time, "perf_counter", lambda: now[0])
    return now


class Fake:
    """An encoder that takes a known time, and more after another one has computed."""

    runtime = "Fake 1.0"
    image_shape = (8, 4, 3)
    last = None

    def __init__(self, clock, secs, secs_after_another=0.0):
        self.clock = clock
        self.secs, self.slow_for = secs, secs_after_another
        self.num_calls = 0

    def __call__(self, crops):
        assert all(crop.shape[2] == self.image_shape[2] for crop in crops)
        if Fake.last is not self:
            Fake.last, self.disturbed_until = self, self.clock[0] + self.slow_for
        self.num_calls += 1
        self.clock[0] += self.secs * (3 if self.clock[0] < self.disturbed_until else 1)
        return np.zeros((len(crops), 4), np.float32)


def test_times_are_those_of_the_models(clock):
    encoders = {"slow": Fake(clock, 0.03), "fast": Fake(clock, 0.01)}
    seconds = serve_bench.measure(encoders, num_crops=2, seconds=0.5)
    assert seconds == {"slow": pytest.approx(0.03), "fast": pytest.approx(0.01)}


def test_the_first_calls_of_a_turn_are_not_counted(clock):
    encoders = {name: Fake(clock, 0.001, secs_after_another=0.04) for name in ("one", "other")}
    seconds = serve_bench.measure(encoders, num_crops=1, seconds=1.0)
    assert list(seconds.values()) == pytest.approx([0.001, 0.001])


def test_a_call_that_takes_longer_than_a_turn_is_counted(clock):
    encoders = {name: Fake(clock, 7.0) for name in ("one", "other")}
    seconds = serve_bench.measure(encoders, num_crops=1, seconds=1.0)
    assert list(seconds.values()) == [7.0, 7.0]


def test_each_model_has_several_turns(clock):
    encoders = {"one": Fake(clock, 9.0), "other": Fake(clock, 9.0)}
    serve_bench.measure(encoders, num_crops=1, seconds=1.0)
    assert all(encoder.num_calls > 5 for encoder in encoders.values())


def test_gray_networks_get_gray_crops(clock):
    gray = Fake(clock, 0.001)
    gray.image_shape = (8, 4, 1)
    serve_bench.measure({"gray": gray}, num_crops=3, seconds=0.01)
    assert gray.num_calls


def test_the_table_compares_with_the_first_model():
    encoders = {"a.pb": Fake(None, 0.0), "b.onnx": Fake(None, 0.0)}
    seconds = {1: {"a.pb": 0.004, "b.onnx": 0.002}, 10: {"a.pb": 0.010, "b.onnx": 0.040}}
    assert serve_bench.tabulate(encoders, seconds) == [
        ["model", "runtime", "1 crops", "10 crops"],
        ["a.pb", "Fake 1.0", "4.0 ms, 1.00 x", "10.0 ms, 1.00 x"],
        ["b.onnx", "Fake 1.0", "2.0 ms, 2.00 x", "40.0 ms, 0.25 x"],
    ]


def test_the_fastest_over_all_numbers_of_crops_is_recommended():
    seconds = {1: {"a": 0.004, "b": 0.002}, 10: {"a": 0.010, "b": 0.019}}
    assert serve_bench.recommend(seconds) == "b"
    assert serve_bench.recommend({10: seconds[10]}) == "a"


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (["missing.file"], "checkpoint missing.file does not exist"),
        (["missing.onnx"], "ONNX missing.onnx does not exist"),
        (["missing_openvino_model"], "missing_openvino_model does not exist"),
        (["text"], "text is no checkpoint"),
        (["here.pb", "missing.pb"], "frozen graph missing.pb does not exist"),
        (["here.pb", "folder"], "folder holds no checkpoint"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_loaded(tmp_path, models, words):
    (tmp_path / "text").write_text("no network")
    (tmp_path / "here.pb").touch()
    (tmp_path / "folder").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *models],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert words in done.stderr

"""A threshold that is chosen on some sequences and reported on others."""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from tracks import write_rows, write_sequence

from deep_reid.tracking import deep_sort, processes, scores, sequences, threshold

pytest.importorskip("deep_sort_realtime", reason="needs the extra 'track'")
pytest.importorskip("trackeval", reason="needs the extra 'track'")


def score(idf1, switches=0):
    return scores.Scores(0.0, idf1, switches, 0.0, 0, 0, 1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({0.1: (0.5, 0), 0.2: (0.7, 9), 0.3: (0.6, 0)}, 0.2),
        ({0.1: (0.7, 3), 0.2: (0.7, 2), 0.3: (0.7, 3)}, 0.2),  # the fewest switches
        ({0.1: (0.7001, 3), 0.2: (0.7, 2)}, 0.2),  # not for a hundredth of a percent
        ({d / 10: (0.7, 2) for d in range(3, 8)}, 0.5),  # the middle
        ({d / 10: (0.7, 2) for d in range(1, 6)}, 0.2),  # Deep SORT's default
        ({0.1: (0.2, 2), 0.2: (0.7, 2), 0.3: (0.7, 2), 0.4: (0.7, 2), 0.5: (0.1, 2)}, 0.3),
        ({0.2: (0.0, 0)}, 0.2),
    ],
)
def test_the_best_threshold_is_recommended(values, expected):
    found = {distance: score(*value) for distance, value in values.items()}
    assert threshold.recommend(found) == expected
    assert threshold.recommend(dict(reversed(found.items()))) == expected


def test_deep_sorts_default_is_among_those_that_are_tried():
    assert deep_sort.DEFAULT_DISTANCE in threshold.DISTANCES
    assert list(threshold.DISTANCES) == sorted(set(threshold.DISTANCES))


@pytest.mark.parametrize(
    ("best", "text"),
    [(0, "the smallest that was tried"), (-1, "the largest that was tried"), (5, None)],
)
def test_a_best_threshold_at_an_end_of_the_scale_is_explained(best, text):
    chosen = threshold.DISTANCES[best]
    found = {distance: score(float(distance == chosen)) for distance in threshold.DISTANCES}
    distance, reason = threshold.choose({"a": "train"}, {"train": found})
    assert distance == chosen
    assert f"{chosen:g} is recommended: it has the best IDF1 on a, 100.0 %" in reason
    assert ("that was tried" in reason) == (text is not None)
    assert text is None or text in reason


def cross(folder, meeting, distance):
    """Write a sequence in which two persons meet, are hidden, and go back.

    Their features are at this cosine distance.
    """
    rows, features = [], []
    away = 10  # frames in which neither is seen
    for track in (0, 1):
        for frame in range(1, 2 * meeting + away):
            if meeting <= frame < meeting + away:
                continue
            way = min(frame, 2 * meeting + away - frame)
            left = 20.0 + 3 * way if track else 80.0 - 3 * way
            rows.append((frame, track, left, 10, 16, 32))
    write_sequence(folder, 2 * meeting + away, rows)
    angle = np.arccos(1 - distance)
    for _, track, *_ in sorted(rows):
        features.append([np.cos(track * angle), np.sin(track * angle)])
    write_rows(folder / "det/det.txt", [(f, -1, *box) for f, _, *box in sorted(rows)], "1")
    return sequences.load(folder), np.float32(features)


@pytest.fixture(scope="module")
def crossings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossings")
    return [cross(folder / name, 10, 0.06) for name in ("a", "b")]


def evaluate(crossings, parts, given=None, **kwargs):
    loaded = [sequence for sequence, _ in crossings]
    features = {sequence.name: values for sequence, values in crossings}
    return threshold.evaluate(loaded, features, parts, given, **kwargs)


KILLED = """
import os, pathlib, sys, time
import numpy as np
from deep_reid.tracking import deep_sort, processes

if __name__ == "__main__":
    rows = np.array([[frame, -1, 5, 5, 8, 16, 1, -1, -1, -1] for frame in range(1, 2000)], float)
    inputs = {"a": processes.Detections(rows, np.ones((1999, 4), np.float32), range(1, 2000))}
    def show(_):
        print(*(process.pid for process in processes.multiprocessing.active_children()), flush=True)
    processes.track_all(inputs, [("a", 0.1 + i / 1e4) for i in range(1000)], progress=show)
"""


def is_running(pid):
    try:
        return "Z" not in pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="asks Linux which processes run")
def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    root = str(pathlib.Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "killed.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert pids
    assert all(map(is_running, pids))
    process.kill()
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 300
    while any(map(is_running, pids)):
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
class TestEvaluate:
    def test_it_is_chosen_on_training_sequences_and_reported_on_others(self, crossings):
        counts = []

        def start(num):
            counts.append(num)
            return counts.append

        result = evaluate(crossings, {"a": "train", "b": "test"}, start=start)
        num_runs = 2 * len(threshold.DISTANCES)
        assert counts == [num_runs, *[1] * num_runs]
        assert list(result.totals["train"]) == sorted(threshold.DISTANCES)
        assert result.distance == threshold.recommend(result.totals["train"])
        assert result.reported == "test"
        assert "all have the same scores on a (IDF1 " in result.reason
        assert result.scores["b"] == result.totals["test"]
        for name in "ab":
            np.testing.assert_array_equal(
                result.tracks[name],
                deep_sort.track(
                    crossings[0][0].detections, crossings[0][1],
                    crossings[0][0].frame_numbers, result.distance,
                ),
            )  # fmt: skip

    def test_a_given_threshold_stands_beside_deep_sorts_default(self, crossings):
        result = evaluate(crossings, {"a": "test", "b": "test"}, 0.05)
        assert (result.distance, list(result.totals)) == (0.05, ["test"])
        assert list(result.totals["test"]) == [0.05, 0.2]
        assert result.reason == "max_cosine_distance 0.05 was given."

    def test_a_sequence_alone_says_that_its_scores_are_too_high(self, crossings):
        result = evaluate(crossings[:1], {"a": "train"})
        assert result.reported == "train"
        assert "No other sequence has ground truth: expect lower scores" in result.reason

    def test_without_truth_there_are_tracks_and_no_scores(self, crossings, tmp_path):
        sequence, features = cross(tmp_path / "c", 10, 0.06)
        os.unlink(tmp_path / "c/gt/gt.txt")
        crossings = [(sequences.load(tmp_path / "c"), features)]
        result = evaluate(crossings, {"c": "test"})
        assert (result.distance, result.reported, result.scores) == (0.2, None, {})
        assert "is Deep SORT's default: without ground truth" in result.reason
        assert len(result.tracks["c"])

    def test_features_that_do_not_matter_are_said_to(self, crossings):
        same = [(sequence, np.ones_like(features)) for sequence, features in crossings]
        result = evaluate(same, {"a": "train", "b": "test"})
        assert result.distance == 0.2
        assert "is Deep SORT's default, and none is recommended" in result.reason
        assert "all have the same scores on a (IDF1 " in result.reason

    def test_processes_compute_with_one_thread_and_this_one_keeps_its_setting(
        self, crossings, monkeypatch
    ):
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
        with processes._one_thread():
            assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert "MKL_NUM_THREADS" not in os.environ

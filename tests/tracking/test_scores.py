"""Scores of tracks: by hand, and as TrackEval's own program computes them from files."""

import numpy as np
import pytest
from tracks import walk, write_sequence

from deep_reid.tracking import deep_sort, scores, sequences

trackeval = pytest.importorskip("trackeval", reason="needs the extra 'track'")


def as_truth(rows):
    empty = np.empty((0, 6))
    return sequences.Truth(np.array(rows, np.float64), empty, np.empty(0, bool))


def score_one(truth, tracks):
    return scores.score({"a": truth}, {"a": np.array(tracks, np.float64).reshape(-1, 6)})["a"]


class TestByHand:
    """A person in frames 1 to 4, one box a frame."""

    ROWS = [(frame, 7, 10.0, 10.0, 20.0, 40.0) for frame in range(1, 5)]

    def test_all_is_right(self):
        found = score_one(as_truth(self.ROWS), [(row[0], 3, *row[2:]) for row in self.ROWS])
        assert found == (1.0, 1.0, 0, 1.0, 0, 0, 4)

    def test_the_track_changes_once(self):
        tracks = [(row[0], 1 + (row[0] > 2), *row[2:]) for row in self.ROWS]
        found = score_one(as_truth(self.ROWS), tracks)
        # One of two tracks is the person: 2 right boxes, 2 false and 2 missing identities.
        # HOTA: each of 4 pairs has 2 of 4 boxes in common: sqrt(1 * 0.5).
        assert found == (0.75, pytest.approx(0.5), 1, pytest.approx(np.sqrt(0.5)), 0, 0, 4)

    def test_a_box_is_missing_and_another_is_false(self):
        tracks = [(row[0], 3, *row[2:]) for row in self.ROWS[:3]] + [(4, 3, 300, 10, 20, 40)]
        found = score_one(as_truth(self.ROWS), tracks)
        # 3 of 5 boxes agree, in detection and in association.
        assert found == (0.5, pytest.approx(0.75), 0, pytest.approx(0.6), 1, 1, 4)

    def test_no_tracks(self):
        assert score_one(as_truth(self.ROWS), [])[1:] == (0.0, 0, 0.0, 0, 4, 4)

    def test_sequences_are_joined_by_their_boxes(self):
        truths = {"a": as_truth(self.ROWS), "b": as_truth(self.ROWS[:2])}
        right = np.array([(row[0], 3, *row[2:]) for row in self.ROWS])
        found = scores.score(truths, {"a": right, "b": np.empty((0, 6))})
        assert list(found) == ["a", "b", scores.ALL]
        assert found[scores.ALL].idf1 == pytest.approx(8 / 10)
        assert found[scores.ALL].mota == pytest.approx(4 / 6)

    def test_what_fits_to_an_ignored_box_is_left_out(self):
        ignored = np.array([(frame, 9, 200.0, 10, 20, 40) for frame in range(1, 5)])
        truth = sequences.Truth(np.array(self.ROWS), ignored, np.ones(4, bool))
        tracks = [(row[0], 3, *row[2:]) for row in self.ROWS]
        tracks += [(frame, 4, 203, 10, 20, 40) for frame in range(1, 5)]
        assert score_one(truth, tracks)[4] == 0
        truth = sequences.Truth(np.array(self.ROWS), ignored, np.zeros(4, bool))
        assert score_one(truth, tracks)[4] == 4


@pytest.mark.parametrize("seed", range(3))
def test_overlaps_are_those_of_loops(seed):
    random = np.random.default_rng(seed)
    first, second = (random.integers(1, 20, (n, 4)).astype(float) for n in (5, 7))
    expected = np.empty((5, 7))
    for i, (a, b, c, d) in enumerate(first):
        for j, (e, f, g, h) in enumerate(second):
            width = max(0, min(a + c, e + g) - max(a, e))
            shared = width * max(0, min(b + d, f + h) - max(b, f))
            expected[i, j] = shared / (c * d + g * h - shared)
    np.testing.assert_allclose(scores.overlaps(first, second), expected)


def spoil(rows, random):
    """Tracks with jitter, gaps, swapped and new identities, and false boxes."""
    tracks = []
    for frame, track, *box in rows:
        if random.random() < 0.15:
            continue
        number = track + 100 * (random.random() < 0.1) + (track % 2 if frame > 12 else 0)
        tracks.append((frame, number, *(np.array(box) + random.normal(0, 1.2, 4))))
    tracks += [(int(frame), 900, *random.uniform(5, 30, 4)) for frame in random.permutation(20)[:8]]
    seen, unique = set(), []
    for row in tracks:
        if row[:2] not in seen:
            seen.add(row[:2])
            unique.append(row)
    return np.array([row for row in unique if row[0] > 0], np.float64)


@pytest.mark.parametrize("benchmark", ["MOT15", "MOT17", "MOT20"])
def test_they_are_those_of_the_official_program(tmp_path, benchmark):
    random = np.random.default_rng(len(benchmark) + int(benchmark[3:]))
    truths, tracks = {}, {}
    for number in (1, 2):
        name = f"{benchmark}-0{number}"
        rows = walk(20, tracks=range(1, 9))
        folder = write_sequence(tmp_path / "gt" / name, 20, rows)
        # Other classes, distractors, and boxes that do not count.
        lines = []
        for frame, track, *box in rows:
            kind = {6: 7, 7: 8, 8: 6}.get(track, 1) if benchmark != "MOT15" else -1
            flag = int(kind in (1, -1) and random.random() > 0.1)
            ending = f"{flag},{kind},0.5" if benchmark != "MOT15" else f"{flag},-1,-1,-1"
            lines.append(f"{frame},{track},{','.join(map(str, box))},{ending}\n")
        (folder / "gt/gt.txt").write_text("".join(lines))
        (folder / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\nseqLength=20\n")
        truths[name] = sequences.load(folder).truth
        tracks[name] = np.round(spoil(rows, random), 2)
        deep_sort.write(tmp_path / "tracks/ours/data" / f"{name}.txt", tracks[name])
    quiet = {"PRINT_CONFIG": False, "PRINT_RESULTS": False, "TIME_PROGRESS": False,
             "OUTPUT_SUMMARY": False, "OUTPUT_DETAILED": False, "PLOT_CURVES": False,
             "OUTPUT_EMPTY_CLASSES": False, "LOG_ON_ERROR": None}  # fmt: skip
    dataset = trackeval.datasets.MotChallenge2DBox({
        "GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "tracks"),
        "TRACKERS_TO_EVAL": ["ours"], "BENCHMARK": benchmark, "SKIP_SPLIT_FOL": True,
        "SEQ_INFO": dict.fromkeys(truths, 20), "PRINT_CONFIG": False,
    })  # fmt: skip
    config = {"THRESHOLD": 0.5, "PRINT_CONFIG": False}
    metrics = trackeval.metrics
    results, _ = trackeval.Evaluator(quiet).evaluate(
        [dataset], [metrics.CLEAR(config), metrics.Identity(config), metrics.HOTA()]
    )
    official = results["MotChallenge2DBox"]["ours"]
    ours = scores.score(truths, tracks)
    for name in (*truths, scores.ALL):
        theirs = official["COMBINED_SEQ" if name == scores.ALL else name]["pedestrian"]
        clear = theirs["CLEAR"]
        expected = (
            clear["MOTA"], theirs["Identity"]["IDF1"], clear["IDSW"],
            np.mean(theirs["HOTA"]["HOTA"]), clear["CLR_FP"], clear["CLR_FN"],
            clear["CLR_TP"] + clear["CLR_FN"],
        )  # fmt: skip
        np.testing.assert_allclose(ours[name], expected, rtol=1e-12)
    assert 0.1 < ours[scores.ALL].idf1 < 0.95
    assert ours[scores.ALL].switches > 5

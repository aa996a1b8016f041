"""MOTChallenge sequences to track in: frames, detections and, where it is known, the truth.

Detections are those of ``det/det.txt``. Without this file they are made from ``gt/gt.txt`` with
gaps and jitter, as a detector finds people: see `make_detections`.

Which boxes of the truth count follows the official evaluation of MOTChallenge [1]_. Its flag must
not be 0, and its class must be 1, a pedestrian; where no box is of class 1, all classes count.
Boxes of the classes that look like pedestrians (`_DISTRACTORS`) are neither right nor wrong: what
is tracked there is left out of the scores.

References
----------
.. [1] A. Milan, L. Leal-Taixe, I. Reid, S. Roth, K. Schindler: MOT16: A Benchmark for
   Multi-Object Tracking. arXiv:1603.00831, 2016.
"""

import dataclasses
import logging
import os
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from deep_reid.datasets.own import boxes, mot
from deep_reid.datasets.own.sequences import (
    check_name,
    detections_path,
    find_frames,
    find_incomplete,
    find_sequences,
    ground_truth_path,
    read_frame_rate,
)
from deep_reid.errors import DataError, MissingPathError

_logger = logging.getLogger(__name__)

TRAIN, TEST = "train", "test"
"""Parts: sequences that a threshold is chosen on, and others."""

_PEDESTRIAN = 1
# A person on a vehicle, a person who does not move, a distractor, a reflection; in MOT20 also a
# vehicle without a motor.
_DISTRACTORS = (2, 7, 8, 12)
_DISTRACTORS_OF_MOT20 = (6,)

# Of detections that are made: a detector sees nobody of whom less is visible; it misses some
# persons in a frame, and each one for a part of the time; corners are off by a share of the height.
_LEAST_VISIBLE = 0.35
_MISS, _GAP, _JITTER = 0.04, 1 / 8, 0.025


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """Where the persons of a sequence are.

    Parameters
    ----------
    boxes : np.ndarray of float64, shape (N, 6)
        Frame, track, left, top, width and height of the boxes that count.
    others : np.ndarray of float64, shape (M, 6)
        The same of all other boxes.
    is_ignored : np.ndarray of bool, shape (M,)
        Whether they are neither right nor wrong: what is tracked there is left out of the scores.
    """

    boxes: np.ndarray
    others: np.ndarray
    is_ignored: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedSequence:
    """A sequence to track in.

    Parameters
    ----------
    name : str
    frames : dict of int to Path
        The images by their numbers.
    frame_rate : float
        Frames per second.
    detections : np.ndarray of float64, shape (N, 10)
        The columns of ``det.txt``, in the order of frames.
    are_made : bool
        Whether the detections are made from the truth.
    truth : Truth or None
    """

    name: str
    frames: Mapping[int, Path]
    frame_rate: float
    detections: np.ndarray
    are_made: bool
    truth: Truth | None

    @property
    def frame_numbers(self) -> range:
        """All frames from the first image to the last one."""
        return range(min(self.frames), max(self.frames) + 1)


def find(directories: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Find sequences, with or without ground truth.

    Parameters
    ----------
    directories : iterable of str or Path
        Sequences, and folders of sequences.

    Returns
    -------
    list of Path
        Each sequence once, sorted within each of `directories`.

    Raises
    ------
    MissingPathError
        If a folder does not exist.
    DataError
        If one has no sequences, or two sequences have one name.
    """
    found: dict[str, Path] = {}
    for directory in directories:
        if not os.path.isdir(directory):
            raise MissingPathError(
                f"{directory} does not exist or is not a folder: name a sequence, or a folder of "
                "sequences"
            )
        paths = sorted({*find_sequences(directory), *find_incomplete(directory)})
        if not paths:
            raise DataError(
                f"{directory} has no sequences: a sequence is a folder with its frames in img1, "
                "and boxes in det/det.txt or gt/gt.txt; name one, or the folder above several"
            )
        for path in paths:
            check_name(path)
            found.setdefault(os.path.realpath(path), path)
    names: dict[str, Path] = {}
    for path in found.values():
        first = names.setdefault(_name_of(path), path)
        if first is not path:
            raise DataError(
                f"{first} and {path} have one name, but results are named by their sequence: "
                "rename one of the folders"
            )
    return list(found.values())


def load(directory: Path) -> TrackedSequence:
    """Read the boxes of a sequence, and list its frames.

    Parameters
    ----------
    directory : Path
        Of `find`.

    Returns
    -------
    TrackedSequence

    Raises
    ------
    MissingPathError, DataError
        If it has no frames, or no boxes; if a file has another form (the message names the line);
        if a box has no frame.
    """
    name = _name_of(directory)
    frames = find_frames(directory)
    truth_path, path = ground_truth_path(directory), detections_path(directory)
    truth, counted = None, None
    found: list[tuple[float, ...]]
    if truth_path.is_file():
        truth, counted = _read_truth(name, truth_path, frames)
    if path.is_file():
        found = [row.columns for row in _read(path, boxes.parse_detection, frames)]
        way_out = f"{path} has no detections: run a detector, or remove it to use gt/gt.txt"
    elif counted is not None:
        found = make_detections(name, counted)
        way_out = f"{truth_path} has no visible persons to make detections from: add det/det.txt"
    else:
        raise DataError(
            f"{directory} has neither det/det.txt nor gt/gt.txt: run a detector on its frames, and "
            "write its boxes to det/det.txt"
        )
    if not found:
        raise DataError(way_out)
    found.sort(key=lambda columns: columns[0])  # stable: in a frame, the order of the file
    return TrackedSequence(
        name,
        frames,
        read_frame_rate(directory),
        np.array(found, np.float64),
        not path.is_file(),
        truth,
    )


def split(
    sequences: Iterable[TrackedSequence], train_names: Collection[str] | None
) -> dict[str, str]:
    """Decide on which sequences a threshold is chosen.

    Parameters
    ----------
    sequences : iterable of TrackedSequence
    train_names : collection of str or None
        Names of the training sequences. None: the first half by name, of those with ground truth;
        the only one, if there is only one.

    Returns
    -------
    dict of str to str
        `TRAIN` or `TEST` by the name of a sequence.

    Raises
    ------
    DataError
        If a training sequence has no ground truth.
    """
    have_truth = {one.name: one.truth is not None for one in sequences}
    if train_names is None:
        names = sorted(name for name, has_truth in have_truth.items() if has_truth)
        train_names = names[: max(1, len(names) // 2)]
    without = [name for name in train_names if not have_truth[name]]
    if without:
        raise DataError(
            f"--train_sequences: {without[0]} has no gt/gt.txt, and a threshold is chosen by "
            "scores: name sequences with ground truth"
        )
    return {name: TRAIN if name in train_names else TEST for name in have_truth}


def make_detections(
    name: str, rows: Iterable[boxes.TrueBox], seed: int = 0
) -> list[tuple[float, ...]]:
    """Make detections from the truth: with gaps and jitter, without false alarms.

    Parameters
    ----------
    name : str
        Of the sequence: with the seed, it decides on all that is random.
    rows : iterable of boxes.TrueBox
    seed : int

    Returns
    -------
    list of tuple of float
        Rows of ``det.txt``: persons of whom less than 35 % is visible are missing, and 4 % of the
        others, and each person for an eighth of the frames from the first to the last. Corners are
        off by 2.5 % of the height (standard deviation).
    """
    rng = np.random.default_rng((seed, zlib.crc32(os.fsencode(name))))
    tracks: dict[int, list[boxes.TrueBox]] = {}
    for row in sorted(rows, key=lambda row: (row.track, row.frame)):
        tracks.setdefault(row.track, []).append(row)
    found: list[tuple[float, ...]] = []
    for track in tracks.values():
        length = 1 + track[-1].frame - track[0].frame
        gap = int(length * _GAP)
        start = track[0].frame + int(rng.integers(1 + length - gap))
        for row in track:
            is_missed = rng.random() < _MISS or start <= row.frame < start + gap
            shifts = np.rint(100 * rng.normal(0.0, _JITTER * row.height, 4)) / 100
            left, top, width, height = np.add(row[3:7], shifts).tolist()
            if is_missed or row.visibility < _LEAST_VISIBLE or min(width, height) <= 0:
                continue
            found.append((float(row.frame), -1.0, left, top, width, height, 1.0, -1.0, -1.0, -1.0))
    return found


def _name_of(directory):
    return Path(os.path.abspath(directory)).name


def _read(path, parse, frames):
    """Read the rows of a file, and check that each has a frame."""
    rows, left_out, first = boxes.read(path, path.read_bytes(), parse)
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        _logger.warning("Rows of %s left out: %s", path, reasons)
    mot.check_frames(path, rows, frames, first)
    return rows


def _read_truth(name, path, frames):
    """Return the truth of a sequence, and the rows that count."""
    rows = _read(path, boxes.parse_truth, frames)
    mot.check_tracks(path, rows)
    has_classes = any(row.kind == _PEDESTRIAN for row in rows)
    distractors = _DISTRACTORS + _DISTRACTORS_OF_MOT20 * name.startswith("MOT20")
    counted: list[boxes.TrueBox] = []
    others: list[boxes.TrueBox] = []
    for row in rows:
        is_counted = row.counts and (row.kind == _PEDESTRIAN or not has_classes)
        (counted if is_counted else others).append(row)
    if not counted:
        raise DataError(
            f"{path} has no box that counts: the seventh column must be 1 for boxes to score by"
        )
    is_ignored = [has_classes and row.kind in distractors for row in others]
    return Truth(_as_array(counted), _as_array(others), np.array(is_ignored, bool)), counted


def _as_array(rows):
    return np.array([row[1:7] for row in rows], np.float64).reshape(-1, 6)

"""Reads MOTChallenge sequences [1]_: cuts persons out of video frames by ground-truth boxes.

KITTI's tracking data [2]_ are read, too: ``label_02/0000.txt`` has the boxes of the frames
``image_02/0000/000000.png``, and largely occluded ones are left out.

A MOTChallenge sequence is a folder with ``gt/gt.txt`` and the frames in ``img1`` (``imDir`` of its
``seqinfo.ini``), named by their numbers: ``img1/000001.jpg``. A line of ``gt.txt`` is a box,
``frame,id,left,top,width,height,flag[,class,visibility]``. These boxes are left out and counted:

- flag 0: by the convention of MOTChallenge, the box does not count;
- a negative id: the box belongs to no track;
- a visibility (the ninth column of exactly nine) below `MIN_VISIBILITY`: most of the crop would
  show somebody else. A visibility of -1 is unknown, and the box is kept;
- a width or height that is not positive, or a box outside the frame.

All classes are kept if none are named: their numbers differ between data sets, boxes that do not
count have flag 0, and people also train on cars and animals.

Left and top count from zero. Corners are truncated to whole pixels and clipped to the frame, as
Deep SORT does when it cuts out detections for tracking. There are two differences: boxes are not
widened to the aspect ratio of a network's input, which is unknown here; and the last row and column
of a frame can be part of a crop.

References
----------
.. [1] A. Milan, L. Leal-Taixe, I. Reid, S. Roth, K. Schindler: MOT16: A Benchmark for
   Multi-Object Tracking. arXiv:1603.00831, 2016.
.. [2] A. Geiger, P. Lenz, R. Urtasun: Are we ready for Autonomous Driving? The KITTI Vision
   Benchmark Suite. CVPR, 2012.
"""

import collections
import hashlib
import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from deep_reid.errors import DataError, MissingPathError

from . import boxes, crops
from .listing import Listing, shown
from .sequences import (
    Sequence,
    check_name,
    find_frames,
    find_incomplete,
    find_kitti_labels,
    find_sequences,
    ground_truth_path,
    holds_sequences,
    is_sequence,
    load_kitti,
)

__all__ = [
    "check_frames",
    "check_tracks",
    "find_sequences",
    "holds_sequences",
    "is_sequence",
    "read_sequences",
]

_logger = logging.getLogger(__name__)

# Must change whenever the same data gives other crops.
_CROPS_VERSION = 1

# MOT17 has each sequence three times, once per public detector, with the same ground truth.
_DETECTOR = re.compile(r"-(?:DPM|FRCNN|SDP)$")


def read_sequences(
    directory: str | os.PathLike[str],
    crops_dir: str | os.PathLike[str],
    classes: Collection[str] = (),
) -> Listing:
    """Cut the tracks of one or more sequences out of the frames, and list the crops.

    Each track is an identity, ``SEQUENCE_ID`` (``MOT17-02-SDP_000007``): a person in two sequences
    is two identities. The sequence is the camera, and all crops are for training.

    The crops are written to ``crops_dir/NAME-KEY/IDENTITY/FRAME.png``. The key is a hash of the
    data: a second call with the same data uses these crops. The folder appears when it is complete.
    PNG is lossless: the crops have the pixels of the frames, as tracking sees them.

    Sequences of MOT17 that differ only in the detector are read once, with a warning: otherwise one
    person would be three identities.

    Parameters
    ----------
    directory : str or Path
        A sequence, or a folder of sequences.
    crops_dir : str or Path
        Folder of all crops; made if it does not exist.
    classes : collection of str
        Classes of the boxes to cut out: numbers in MOTChallenge, names in KITTI. Empty: all.

    Returns
    -------
    Listing
        Checked, sorted by identity and frame.

    Raises
    ------
    MissingPathError
        If the folder, or a sequence's folder of frames, does not exist.
    DataError
        If there is no sequence; if ``gt.txt`` or ``seqinfo.ini`` has another form (the message
        names the line); if a box has no frame, or a track has two boxes in a frame; if a frame
        cannot be decoded; if no box is left to cut out.
    """
    sequences = _load_sequences(directory)
    name = Path(os.path.abspath(directory)).name
    folder = Path(crops_dir, f"{name}-{_key(directory, sequences, classes)}")
    if folder.is_dir():
        listing = crops.read(folder)
        _logger.info("%d crops of %s are ready in %s.", len(listing), directory, folder)
        return listing
    left_out = _cut(directory, sequences, classes, folder)
    listing = crops.read(folder)
    _logger.info(
        "%d crops of %d tracks of %s were written to %s; boxes left out: %s.",
        len(listing),
        len(set(listing.identities)),
        directory,
        folder,
        _describe(left_out) or "none",
    )
    return listing


def _cut(directory, sequences, classes, folder):
    """Write the crops of sequences; return the number of boxes left out, by reason."""
    left_out: collections.Counter[str] = collections.Counter()
    jobs, num_boxes = [], 0
    for sequence in sequences:
        kept, others, first = boxes.read(
            sequence.ground_truth_path, sequence.ground_truth, sequence.parse, classes
        )
        left_out += others
        num_boxes += len(kept)
        jobs += _plan(sequence, kept, first)
    _check_any_left(directory, num_boxes, left_out)
    left_out[boxes.OUTSIDE] = crops.write(folder, jobs)
    _check_any_left(directory, num_boxes - left_out[boxes.OUTSIDE], left_out)
    return left_out


def _load_sequences(directory):
    if not os.path.isdir(directory):
        raise MissingPathError(
            f"{directory} does not exist or is not a folder: name a sequence, or a folder of "
            "sequences"
        )
    loaded: dict[tuple[str, bytes], list[tuple[Path, str]]] = {}
    for path in find_sequences(directory):
        check_name(path)
        name = Path(os.path.abspath(path)).name
        key = _DETECTOR.sub("", name), ground_truth_path(path).read_bytes()
        loaded.setdefault(key, []).append((path, name))
    kitti = find_kitti_labels(directory)
    if not loaded and not kitti:
        raise DataError(
            f"{directory} has no sequences with ground truth: gt/gt.txt must be in it, or in its "
            "direct subfolders"
        )
    incomplete = [shown(path.name) for path in find_incomplete(directory)]
    if incomplete:
        _logger.warning(
            "%d sequences have no gt/gt.txt and are left out: %s.",
            len(incomplete),
            ", ".join(incomplete),
        )
    copies = [name for same in loaded.values() for _, name in same[1:]]
    if copies:
        _logger.warning(
            "%d sequences have the ground truth of others and differ only in the detector; they "
            "are left out: %s.",
            len(copies),
            ", ".join(copies),
        )
    sequences = []
    for (_, ground_truth), ((path, name), *_) in loaded.items():
        truth_path = ground_truth_path(path)
        frames = find_frames(path)
        sequences.append(Sequence(name, truth_path, ground_truth, frames, boxes.parse_mot))
    return sequences or [load_kitti(path) for path in kitti]


def _key(directory, sequences, classes):
    """Hash everything that the crops depend on."""
    rules = _CROPS_VERSION, boxes.MIN_VISIBILITY, *sorted(set(classes))
    digest = hashlib.sha256(repr(rules).encode())
    digest.update(os.fsencode(os.path.abspath(directory)))
    for sequence in sequences:
        size = len(sequence.ground_truth)
        digest.update(b"\0%b\0%d\0" % (os.fsencode(sequence.name), size))
        digest.update(sequence.ground_truth)
        for path in sequence.frames.values():
            stat = path.stat()
            digest.update(os.fsencode(path.name) + b"\0%d\0%d\0" % (stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()[:12]


def _plan(sequence, kept, first_box):
    """Return the jobs of a sequence, one for each frame: sequence name, image, boxes."""
    check_frames(sequence.ground_truth_path, kept, sequence.frames, first_box)
    check_tracks(sequence.ground_truth_path, kept)
    by_frame = collections.defaultdict(list)
    for box in kept:
        by_frame[box.frame].append(box)
    return [(sequence.name, sequence.frames[frame], by_frame[frame]) for frame in sorted(by_frame)]


def check_frames(
    path: Path,
    kept: Iterable[crops.Box | boxes.TrueBox | boxes.Detection],
    frames: Mapping[int, Path],
    first_box: int | None,
) -> None:
    """Check that each box has a frame; warn if all boxes may be one frame off.

    Parameters
    ----------
    path : Path
        The file of the boxes, for messages.
    kept : iterable of boxes
    frames : dict of int to Path
    first_box : int or None
        The lowest number of a frame, of all boxes.

    Raises
    ------
    DataError
    """
    missing: dict[int, int] = {}
    for box in kept:
        if box.frame not in frames:
            missing.setdefault(box.frame, box.line)
    first_image = min(frames, default=None)
    if missing:
        frame = min(missing, key=missing.__getitem__)
        raise DataError(
            f"{path}, line {missing[frame]}: frame {frame} has no image: "
            f"{_advise(first_box, first_image)} ({len(missing)} frames are missing)"
        )
    if (first_image, first_box) == (0, 1):
        _logger.warning(
            "%s: the boxes begin in frame 1, the images with 0: if these are the same frame, all "
            "boxes are one frame off; then subtract 1 from the first column.",
            path,
        )


def check_tracks(path: Path, kept: Iterable[crops.Box | boxes.TrueBox]) -> None:
    """Check that no track has two boxes in a frame.

    Raises
    ------
    DataError
    """
    seen: dict[tuple[int, int], int] = {}
    for box in kept:
        first = seen.setdefault((box.frame, box.track), box.line)
        if first != box.line:
            raise DataError(
                f"{path}, line {box.line}: track {box.track} has a second "
                f"box in frame {box.frame}, the first is in line {first}: remove one of them"
            )


def _advise(first_box, first_image):
    if first_image is None or first_box == first_image:
        return "complete the frames, or remove its rows"
    return (
        f"the boxes begin in frame {first_box}, the images with {first_image}; if these are the "
        f"same frame, add {first_image - first_box} to the first column of all rows; if not, "
        "complete the frames"
    )


def _check_any_left(directory, num_boxes, left_out):
    if num_boxes:
        return
    if not left_out.total():
        raise DataError(f"the ground truth of {directory} is empty: write one row for each box")
    reason = left_out.most_common(1)[0][0]
    raise DataError(
        f"all {left_out.total()} boxes of {directory} are left out ({_describe(left_out)}): "
        f"{boxes.WAYS_OUT[reason]}"
    )


def _describe(left_out):
    return ", ".join(f"{count} {reason}" for reason, count in left_out.most_common() if count)

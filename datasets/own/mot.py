"""Reads MOTChallenge sequences [1]_: cuts persons out of video frames by ground-truth boxes.

A sequence is a folder with ``gt/gt.txt`` and the frames in ``img1`` (or ``imDir`` of its
``seqinfo.ini``), named by their numbers: ``img1/000001.jpg``. A line of ``gt.txt`` is a box,
``frame,id,left,top,width,height,flag[,class,visibility]``. These boxes are left out and counted:

- flag 0: by the convention of MOTChallenge, the box does not count;
- a negative id: the box belongs to no track;
- a visibility (the ninth column of exactly nine) below `MIN_VISIBILITY`: most of the crop would
  show somebody else. A visibility of -1 is unknown, and the box is kept;
- a width or height that is not positive, or a box outside the frame.

The class is ignored: its numbers differ between data sets, boxes that do not count have flag 0, and
people also train on cars and animals.

Left and top count from zero. Corners are truncated to whole pixels and clipped to the frame, as
Deep SORT does when it cuts out detections for tracking. There are two differences: boxes are not
widened to the aspect ratio of a network's input, which is unknown here; and the last row and column
of a frame can be part of a crop.

References
----------
.. [1] A. Milan, L. Leal-Taixe, I. Reid, S. Roth, K. Schindler: MOT16: A Benchmark for
   Multi-Object Tracking. arXiv:1603.00831, 2016.
"""

import collections
import configparser
import hashlib
import io
import logging
import math
import os
import re
from pathlib import Path
from typing import NamedTuple

from deep_reid.errors import DataError, MissingPathError

from . import crops
from .listing import Listing, is_image_name, quoted

_logger = logging.getLogger(__name__)

MIN_VISIBILITY = 0.2
"""A box is cut out if at least this share of the person in it is visible."""

# Must change whenever the same data gives other crops.
_CROPS_VERSION = 1

_MAX_NUMBER = 10**15  # below it, floats hold every whole number

_FLAG = "with flag 0"
_NO_TRACK = "with a negative id"
_HIDDEN = f"with a visibility below {MIN_VISIBILITY:g}"
_FLAT = "with no positive width and height"
_OUTSIDE = "outside the frame"

_WAYS_OUT = {
    _FLAG: "set the seventh column to 1 for the boxes to cut out",
    _NO_TRACK: "the second column must hold the number of the person",
    _HIDDEN: "leave the columns of class and visibility out to keep all boxes",
    _FLAT: "columns three to six must be left,top,width,height",
    _OUTSIDE: "columns three to six must be left,top,width,height in pixels of the frames",
}

# MOT17 has each sequence three times, once per public detector, with the same ground truth.
_DETECTOR = re.compile(r"-(?:DPM|FRCNN|SDP)$")


class _Sequence(NamedTuple):
    name: str
    ground_truth_path: Path
    ground_truth: bytes
    frames: dict[int, Path]  # by number


def is_sequence(directory: str | os.PathLike[str]) -> bool:
    """Return whether a folder is a MOTChallenge sequence with ground truth.

    Parameters
    ----------
    directory : str or Path

    Returns
    -------
    bool
        Whether it has the file ``gt/gt.txt``.
    """
    return os.path.isfile(_ground_truth_path(directory))


def find_sequences(directory: str | os.PathLike[str]) -> list[Path]:
    """Find the sequences with ground truth.

    Parameters
    ----------
    directory : str or Path
        A sequence, or a folder of sequences.

    Returns
    -------
    list of Path
        The folder itself if it is a sequence, else its direct subfolders that are sequences,
        sorted and without hidden ones. Empty if there are none, or the folder does not exist.
    """
    directory = Path(directory)
    if is_sequence(directory):
        return [directory]
    if not directory.is_dir():
        return []
    names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    return [directory / name for name in names if is_sequence(directory / name)]


def read_sequences(directory: str | os.PathLike[str], crops_dir: str | os.PathLike[str]) -> Listing:
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
    folder = Path(crops_dir, f"{name}-{_key(directory, sequences)}")
    if folder.is_dir():
        listing = crops.read(folder)
        _logger.info("%d crops of %s are ready in %s.", len(listing), directory, folder)
        return listing
    left_out: collections.Counter[str] = collections.Counter()
    boxes = [_read_boxes(sequence, left_out) for sequence in sequences]
    num_boxes = sum(map(len, boxes))
    _check_any_left(directory, num_boxes, left_out)
    jobs = [job for pair in zip(sequences, boxes, strict=True) for job in _plan(*pair)]
    left_out[_OUTSIDE] = crops.write(folder, jobs)
    _check_any_left(directory, num_boxes - left_out[_OUTSIDE], left_out)
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


def _ground_truth_path(directory):
    return Path(directory, "gt", "gt.txt")


def _load_sequences(directory):
    if not os.path.isdir(directory):
        raise MissingPathError(
            f"{directory} does not exist or is not a folder: name a sequence, or a folder of "
            "sequences"
        )
    loaded: dict[tuple[str, bytes], _Sequence] = {}
    copies = []
    for path in find_sequences(directory):
        name, ground_truth_path = Path(os.path.abspath(path)).name, _ground_truth_path(path)
        key = _DETECTOR.sub("", name), ground_truth_path.read_bytes()
        if key in loaded:
            copies.append(name)
        else:
            loaded[key] = _Sequence(name, ground_truth_path, key[1], _find_frames(path))
    if not loaded:
        raise DataError(
            f"{directory} has no sequences with ground truth: gt/gt.txt must be in it, or in its "
            "direct subfolders"
        )
    if copies:
        _logger.warning(
            "%d sequences have the ground truth of others and differ only in the detector; they "
            "are left out: %s.",
            len(copies),
            ", ".join(copies),
        )
    return list(loaded.values())


def _find_frames(sequence_dir):
    """Return the path of each frame by its number."""
    directory = Path(sequence_dir, _read_image_dir(sequence_dir))
    if not os.path.isdir(directory):
        raise MissingPathError(
            f"{quoted(str(directory))}, the folder of the frames, does not exist: put the images "
            "there, or name another folder as imDir in seqinfo.ini"
        )
    frames: dict[int, Path] = {}
    for name in sorted(filter(is_image_name, os.listdir(directory))):
        stem = Path(name).stem
        if not re.fullmatch("[0-9]{1,15}", stem) or not os.path.isfile(directory / name):
            continue
        first = frames.setdefault(int(stem), directory / name)
        if first.name != name:
            raise DataError(
                f"{directory} has two images of frame {int(stem)}, {first.name} and {name}: "
                "remove one of them"
            )
    return frames


def _read_image_dir(sequence_dir):
    path = Path(sequence_dir, "seqinfo.ini")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8-sig")
    except (configparser.Error, UnicodeDecodeError) as error:
        # Messages of the parser have several lines.
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read: {reason}; correct or remove it") from None
    return parser.get("Sequence", "imDir", fallback="") or "img1"


def _key(directory, sequences):
    """Hash everything that the crops depend on."""
    digest = hashlib.sha256(repr((_CROPS_VERSION, MIN_VISIBILITY)).encode())
    digest.update(os.fsencode(os.path.abspath(directory)))
    for sequence in sequences:
        size = len(sequence.ground_truth)
        digest.update(b"\0%b\0%d\0" % (os.fsencode(sequence.name), size))
        digest.update(sequence.ground_truth)
        for path in sequence.frames.values():
            stat = path.stat()
            digest.update(os.fsencode(path.name) + b"\0%d\0%d\0" % (stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()[:12]


def _read_boxes(sequence, left_out):
    """Return the boxes to cut out of a sequence; count the others by reason in `left_out`."""
    path = sequence.ground_truth_path
    try:
        text = sequence.ground_truth.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is not text: it must have lines frame,id,left,top,width,height,flag"
        ) from None
    boxes = []
    for line, row in enumerate(io.StringIO(text, newline=None), 1):
        if not row.strip():
            continue
        box, reason = _parse_row(row.split(","), line, f"{path}, line {line}")
        if reason is None:
            boxes.append(box)
        else:
            left_out[reason] += 1
    return boxes


def _parse_row(cells, line, place):
    """Return the box of a row, and the reason to leave it out (None: keep it)."""
    if len(cells) < 6:
        raise DataError(
            f"{place}: the row has {len(cells)} of at least six columns "
            "frame,id,left,top,width,height, separated by commas: complete or remove it"
        )
    whole = [_parse_whole_number(cell, place) for cell in cells[:2]]
    box = crops.Box(line, *whole, *(_parse_number(cell, place) for cell in cells[2:6]))
    flag = _parse_number(cells[6], place) if len(cells) > 6 else 1
    visibility = _parse_visibility(cells[8], place) if len(cells) == 9 else 1
    reasons = {
        _FLAG: flag == 0,
        _NO_TRACK: box.track < 0,
        _HIDDEN: visibility < MIN_VISIBILITY,
        _FLAT: box.width <= 0 or box.height <= 0,
    }
    return box, next((reason for reason, applies in reasons.items() if applies), None)


def _parse_number(cell, place):
    try:
        # Python reads 1_000 as a number.
        number = math.nan if "_" in cell else float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{place}: {quoted(cell.strip())} is not a number: correct or remove the row"
        )
    return number


def _parse_whole_number(cell, place):
    number = _parse_number(cell, place)
    if not number.is_integer() or abs(number) >= _MAX_NUMBER:
        raise DataError(
            f"{place}: {quoted(cell.strip())} is not a whole number below 1e15, as frame and id "
            "must be: correct or remove the row"
        )
    return int(number)


def _parse_visibility(cell, place):
    visibility = _parse_number(cell, place)
    if visibility == -1:  # unknown, by the convention of MOTChallenge
        return 1
    if not 0 <= visibility <= 1:
        raise DataError(
            f"{place}: the visibility {visibility:g} must be in 0..1: correct it, or leave the "
            "columns of class and visibility out"
        )
    return visibility


def _plan(sequence, boxes):
    """Return the jobs of a sequence, one for each frame: sequence name, image, boxes."""
    missing = {box.frame: box.line for box in reversed(boxes) if box.frame not in sequence.frames}
    if missing:
        frame = min(missing, key=missing.__getitem__)
        raise DataError(
            f"{sequence.ground_truth_path}, line {missing[frame]}: frame {frame} has no image: "
            f"complete the frames, or remove its rows ({len(missing)} frames are missing)"
        )
    seen: dict[tuple[int, int], int] = {}
    by_frame = collections.defaultdict(list)
    for box in boxes:
        first = seen.setdefault((box.frame, box.track), box.line)
        if first != box.line:
            raise DataError(
                f"{sequence.ground_truth_path}, line {box.line}: track {box.track} has a second "
                f"box in frame {box.frame}, the first is in line {first}: remove one of them"
            )
        by_frame[box.frame].append(box)
    return [(sequence.name, sequence.frames[frame], by_frame[frame]) for frame in sorted(by_frame)]


def _check_any_left(directory, num_boxes, left_out):
    if num_boxes:
        return
    if not left_out.total():
        raise DataError(f"the ground truth of {directory} is empty: write one row for each box")
    reason = left_out.most_common(1)[0][0]
    raise DataError(
        f"all {left_out.total()} boxes of {directory} are left out ({_describe(left_out)}): "
        f"{_WAYS_OUT[reason]}"
    )


def _describe(left_out):
    return ", ".join(f"{count} {reason}" for reason, count in left_out.most_common() if count)

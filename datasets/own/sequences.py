"""Finds sequences with the boxes of tracks: those of MOTChallenge, and of KITTI's tracking."""

import configparser
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deep_reid.errors import DataError, MissingPathError

from . import boxes
from .listing import is_image_name, is_utf_8, quoted, shown

_IMAGE_DIR = "img1"
_KITTI_LABELS, _KITTI_IMAGES = "label_02", "image_02"
_NUM_NAMED = 3

FRAME_RATE = 25.0
"""Frames per second of a sequence that does not name its own."""


class Sequence(NamedTuple):
    """A sequence; `parse` reads a line of its boxes."""

    name: str
    ground_truth_path: Path
    ground_truth: bytes
    frames: dict[int, Path]  # by number
    parse: Callable[..., boxes.Parsed]


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
    return os.path.isfile(ground_truth_path(directory))


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
    return [folder for folder in _subfolders(directory) if is_sequence(folder)]


def find_kitti_labels(directory: str | os.PathLike[str]) -> list[Path]:
    """Find the labels of KITTI's tracking benchmark.

    Parameters
    ----------
    directory : str or Path

    Returns
    -------
    list of Path
        The files ``label_02/*.txt`` of the folder, sorted; empty if it has no ``image_02`` beside
        them.
    """
    if not os.path.isdir(Path(directory, _KITTI_IMAGES)):
        return []
    return sorted(Path(directory, _KITTI_LABELS).glob("[0-9]*.txt"))


def holds_sequences(directory: str | os.PathLike[str]) -> bool:
    """Return whether a folder is a sequence or holds some.

    Parameters
    ----------
    directory : str or Path

    Returns
    -------
    bool

    Raises
    ------
    DataError
        If it holds none, but is certainly a part of one (also a file), or a folder above: the
        message says what is missing, or where the sequences are.
    """
    if find_sequences(directory) or find_kitti_labels(directory):
        return True
    path = Path(directory)
    problem = _explain_part(path) or (_find_problem(path) if path.is_dir() else None)
    if problem:
        raise DataError(f"{shown(str(directory))} {problem}")
    return False


def find_incomplete(directory: str | os.PathLike[str]) -> list[Path]:
    """List the sequences without ground truth: the folder itself, or direct subfolders.

    Parameters
    ----------
    directory : str or Path

    Returns
    -------
    list of Path
    """
    folders = [Path(directory), *_subfolders(Path(directory))]
    return [folder for folder in folders if not is_sequence(folder) and _lacks_boxes(folder)]


def _lacks_boxes(folder):
    """Return whether a folder has what only a sequence has, apart from ground truth."""
    has_frames = (folder / _IMAGE_DIR).is_dir()
    has_parts = detections_path(folder).is_file() or (folder / "seqinfo.ini").is_file()
    return has_parts or (has_frames and {path.name for path in _subfolders(folder)} <= {
        _IMAGE_DIR, "det", "gt"})  # fmt: skip


def _find_problem(directory):
    """Say what is missing in a folder without a sequence; None: it is something else."""
    incomplete = find_incomplete(directory)
    if incomplete:
        names = ", ".join(shown(path.name) for path in incomplete[:_NUM_NAMED])
        return (
            f"has no gt/gt.txt in {names} ({len(incomplete)} sequences): persons are cut out by "
            "boxes with track numbers, which det/det.txt does not have; name a sequence with "
            "ground truth, or add its gt/gt.txt"
        )
    above = next(filter(None, map(_find_above_sequences, _subfolders(directory))), None)
    if above:
        return f"has its sequences in a folder below: name {shown(str(above))}"
    for folder in (directory, *_subfolders(directory)):
        labels, images = folder / _KITTI_LABELS, folder / _KITTI_IMAGES
        if labels.is_dir() != images.is_dir() and (labels.is_dir() or _subfolders(images)):
            missing = images if labels.is_dir() else labels
            return f"looks like KITTI's tracking data, but has no {missing.name}: add it"
    return None


def _explain_part(path):
    """Say that a file or folder is a part of a sequence; None: it is not."""
    absolute = Path(os.path.abspath(path))
    for depth, folder in enumerate(absolute.parents[:2], 1):
        name = absolute.parts[-depth]
        if name in (_IMAGE_DIR, "gt", "det", "seqinfo.ini") and is_sequence(folder):
            return f"is a part of a sequence: name {shown(str(folder))}"
        if name in (_KITTI_IMAGES, _KITTI_LABELS) and find_kitti_labels(folder):
            return f"is a part of KITTI's tracking data: name {shown(str(folder))}"
    return None


def _find_above_sequences(folder, depth=2):
    """Return the folder that holds sequences: this one, or one below it."""
    if find_sequences(folder) or find_kitti_labels(folder):
        return folder
    # A few folders show it; identities, which may be many, hold none.
    below = _subfolders(folder)[:_NUM_NAMED] if depth else []
    return next(filter(None, (_find_above_sequences(sub, depth - 1) for sub in below)), None)


def _subfolders(directory):
    try:
        with os.scandir(directory) as entries:
            names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError:
        return []
    return [directory / name for name in sorted(names)]


def check_name(path: Path) -> None:
    """Check that the path of a sequence is UTF-8, before any crop is written; see `Listing`.

    Raises
    ------
    DataError
    """
    if not is_utf_8(str(path)):
        raise DataError(f"the name of {shown(str(path))} is not UTF-8: rename the folder")


def load_kitti(labels: Path) -> Sequence:
    """Read the labels of a KITTI sequence, and list its frames.

    Parameters
    ----------
    labels : Path
        Of `find_kitti_labels`.

    Returns
    -------
    Sequence

    Raises
    ------
    MissingPathError
        If it has no frames.
    """
    way_out = f"put the images there, or remove {labels}"
    frames = _list_frames(labels.parents[1] / _KITTI_IMAGES / labels.stem, way_out)
    return Sequence(labels.stem, labels, labels.read_bytes(), frames, boxes.parse_kitti)


def detections_path(directory: str | os.PathLike[str]) -> Path:
    """Return where a MOTChallenge sequence has its detections."""
    return Path(directory, "det", "det.txt")


def ground_truth_path(directory: str | os.PathLike[str]) -> Path:
    """Return where a MOTChallenge sequence has its ground truth."""
    return Path(directory, "gt", "gt.txt")


def find_frames(sequence_dir: Path) -> dict[int, Path]:
    """Return the path of each frame of a MOTChallenge sequence by its number.

    Parameters
    ----------
    sequence_dir : Path

    Returns
    -------
    dict of int to Path

    Raises
    ------
    MissingPathError
        If the folder of the frames does not exist.
    DataError
        If it has no images, they are not named by numbers, or two have one number.
    """
    folder = _read_info(sequence_dir).get("Sequence", "imDir", fallback="") or _IMAGE_DIR
    way_out = "put the images there, or name another folder as imDir in seqinfo.ini"
    return _list_frames(Path(sequence_dir, folder), way_out)


def read_frame_rate(sequence_dir: Path) -> float:
    """Return the frames per second of a MOTChallenge sequence, `FRAME_RATE` if it names none.

    Parameters
    ----------
    sequence_dir : Path

    Returns
    -------
    float

    Raises
    ------
    DataError
        If ``seqinfo.ini`` cannot be read.
    """
    text = _read_info(sequence_dir).get("Sequence", "frameRate", fallback="")
    return (
        float(text) if re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", text) and float(text) else FRAME_RATE
    )


def _list_frames(directory, way_out):
    if not os.path.isdir(directory):
        raise MissingPathError(
            f"{quoted(str(directory))}, the folder of the frames, does not exist: {way_out}"
        )
    frames: dict[int, Path] = {}
    names = sorted(filter(is_image_name, os.listdir(directory)))
    for name in names:
        stem = Path(name).stem
        if not re.fullmatch("[0-9]{1,15}", stem) or not os.path.isfile(directory / name):
            continue
        first = frames.setdefault(int(stem), directory / name)
        if first.name != name:
            raise DataError(
                f"{directory} has two images of frame {int(stem)}, {first.name} and {name}: "
                "remove one of them"
            )
    if not names:
        raise DataError(
            f"{shown(str(directory))}, the folder of the frames, has no .jpg, .jpeg, .png or .bmp "
            f"files: {way_out}"
        )
    if not frames:
        raise DataError(
            f"{shown(str(directory))} has no image that is named by its frame number alone, such "
            f"as 000001{Path(names[0]).suffix}: rename {shown(names[0])} and the others"
        )
    return frames


def _read_info(sequence_dir):
    path = Path(sequence_dir, "seqinfo.ini")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8-sig")
    except (configparser.Error, UnicodeDecodeError) as error:
        # Messages of the parser have several lines.
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read: {reason}; correct or remove it") from None
    return parser

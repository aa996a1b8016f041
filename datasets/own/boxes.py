"""Parses boxes: lines of MOTChallenge's ``gt.txt`` and ``det.txt``, and of KITTI's ``label_02``."""

import io
import math
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from deep_reid.errors import DataError, UsageError

from . import crops
from .listing import quoted

MIN_VISIBILITY = 0.2
"""A box is cut out if at least this share of the person in it is visible."""

FLAG = "with flag 0"
NO_TRACK = "with a negative id"
HIDDEN = f"with a visibility below {MIN_VISIBILITY:g}"
FLAT = "with no positive width and height"
OUTSIDE = "outside the frame"
OTHER_CLASS = "of other classes"

WAYS_OUT = {
    FLAG: "set the seventh column to 1 for the boxes to cut out",
    NO_TRACK: "the second column must hold the number of the person",
    HIDDEN: "leave the columns of class and visibility out to keep all boxes",
    FLAT: "columns three to six must be left,top,width,height",
    OUTSIDE: "columns three to six must be left,top,width,height in pixels of the frames",
    OTHER_CLASS: "correct --mot_classes: numbers for MOTChallenge, such as 1 for pedestrians, and "
    "names for KITTI, such as Pedestrian",
}
"""What to do if all boxes are left out for a reason."""

_MAX_NUMBER = 10**15  # below it, floats hold every whole number
_LARGELY_OCCLUDED = 2
_NUM_DETECTION_COLUMNS = 10
_NUMS_WITH_CLASS = (8, 9)  # rows of ten columns have a position in the world instead of a class
# Confidence, and the position in the world, where a row of det.txt has none.
_DETECTION_DEFAULTS = (1.0, -1.0, -1.0, -1.0)

Parsed: TypeAlias = tuple[crops.Box, str | None]
"""A box, and the reason to leave it out (None: keep it)."""


class TrueBox(NamedTuple):
    """A box of the ground truth with all that scores of tracking depend on."""

    line: int
    frame: int
    track: int
    left: float
    top: float
    width: float
    height: float
    counts: bool  # its flag is not 0
    kind: int  # class; -1: unknown
    visibility: float


class Detection(NamedTuple):
    """A row of ``det.txt``."""

    line: int
    frame: int
    columns: tuple[float, ...]  # ten: frame,id,left,top,width,height,confidence,x,y,z


class _Entry(Protocol):
    @property
    def frame(self) -> int: ...


_Row = TypeVar("_Row", bound=_Entry)


def read(
    path: Path,
    data: bytes,
    parse: Callable[..., tuple[_Row, str | None]],
    classes: Collection[str] = (),
) -> tuple[list[_Row], Counter[str], int | None]:
    """Read the boxes of a sequence.

    Parameters
    ----------
    path : Path
        The file, for messages.
    data : bytes
        Its content.
    parse : {parse_mot, parse_kitti, parse_truth, parse_detection}
    classes : collection of str
        Classes of the boxes to keep. Empty: all.

    Returns
    -------
    boxes : list
        What `parse` returns: `crops.Box`, `TrueBox` or `Detection`.
    left_out : Counter of str
        Number of the others by reason.
    first : int or None
        The lowest number of a frame, of all boxes.

    Raises
    ------
    DataError
        If the file has another form; the message names the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is not text: it must have lines frame,id,left,top,width,height,flag"
        ) from None
    boxes, left_out, frames = [], Counter[str](), set()
    for line, row in enumerate(io.StringIO(text, newline=None), 1):
        if not row.strip():
            continue
        box, reason = parse(row, line, f"{path}, line {line}", classes)
        frames.add(box.frame)
        if reason is None:
            boxes.append(box)
        else:
            left_out[reason] += 1
    return boxes, left_out, min(frames, default=None)


def parse_mot(row: str, line: int, place: str, classes: Collection[str]) -> Parsed:
    """Parse ``frame,id,left,top,width,height[,flag[,class[,visibility]]]``; see `read`."""
    cells, box = _parse_mot_box(row, line, place)
    flag = _parse_number(cells[6], place) if len(cells) > 6 else 1
    visibility = _parse_visibility(cells[8], place) if len(cells) == 9 else 1
    if flag == 0:
        return box, FLAG
    if box.track < 0:
        return box, NO_TRACK
    if classes and not _has_class(cells, place, classes):
        return box, OTHER_CLASS
    return box, HIDDEN if visibility < MIN_VISIBILITY else _flat(box)


def parse_truth(row: str, line: int, place: str, classes: Collection[str]) -> tuple:
    """Parse a row as `parse_mot` does, and keep what scores of tracking count or ignore."""
    cells, box = _parse_mot_box(row, line, place)
    flag = _parse_number(cells[6], place) if len(cells) > 6 else 1
    kind = _parse_whole_number(cells[7], place) if len(cells) in _NUMS_WITH_CLASS else -1
    visibility = _parse_visibility(cells[8], place) if len(cells) == 9 else 1
    truth = TrueBox._make((*box, flag != 0, kind, visibility))
    return truth, NO_TRACK if box.track < 0 else _flat(box)


def parse_detection(row: str, line: int, place: str, classes: Collection[str]) -> tuple:
    """Parse ``frame,id,left,top,width,height[,confidence[,x,y,z]]``, a row of ``det.txt``."""
    cells, box = _parse_mot_box(row, line, place)
    further = [_parse_number(cell, place) for cell in cells[6:_NUM_DETECTION_COLUMNS]]
    columns = (*box[1:], *further, *_DETECTION_DEFAULTS[len(further) :])
    return Detection(line, box.frame, tuple(map(float, columns))), _flat(box)


def _parse_mot_box(row, line, place):
    """Return the cells of a row, and the box in the first six."""
    cells = row.split(",")
    if len(cells) < 6:
        raise DataError(
            f"{place}: the row has {len(cells)} of at least six columns "
            "frame,id,left,top,width,height, separated by commas: complete or remove it"
        )
    frame, track = (_parse_whole_number(cell, place) for cell in cells[:2])
    return cells, crops.Box(
        line, frame, track, *(_parse_number(cell, place) for cell in cells[2:6])
    )


def parse_kitti(row: str, line: int, place: str, classes: Collection[str]) -> Parsed:
    """Parse ``frame id type truncated occluded alpha left top right bottom ...``; see `read`."""
    cells = row.split()
    if len(cells) < 10:
        raise DataError(
            f"{place}: the row has {len(cells)} of at least ten columns frame id type truncated "
            "occluded alpha left top right bottom, separated by spaces: complete or remove it"
        )
    frame, track = (_parse_whole_number(cell, place) for cell in cells[:2])
    left, top, right, bottom = (_parse_number(cell, place) for cell in cells[6:10])
    occlusion = _parse_number(cells[4], place)
    box = crops.Box(line, frame, track, left, top, right - left, bottom - top)
    if box.track < 0:
        return box, NO_TRACK
    if classes and cells[2].lower() not in {name.lower() for name in classes}:
        return box, OTHER_CLASS
    return box, HIDDEN if occlusion == _LARGELY_OCCLUDED else _flat(box)


def _flat(box):
    return FLAT if box.width <= 0 or box.height <= 0 else None


def _has_class(cells, place, classes):
    if len(cells) not in _NUMS_WITH_CLASS:
        raise DataError(
            f"{place}: the row has {len(cells)} columns and no class, which is the eighth of eight "
            "or nine: leave --mot_classes out, or add the class"
        )
    for name in classes:
        if not name.lstrip("-").isdecimal():
            raise UsageError(
                f"--mot_classes {name}: the classes of gt.txt are numbers, such as 1 for "
                "pedestrians"
            )
    return _parse_number(cells[7], place) in {int(name) for name in classes}


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

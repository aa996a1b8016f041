"""A drawn sequence in the layout of MOTChallenge, made for tracking.

Persons come and go, walk smoothly, turn, and pass behind each other. A detector misses some of
them, and is not exact.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import cv2
import numpy as np

from . import scenes
from .drawing import FIRST_OWN, Files, encode_lines, size
from .figures import Pose
from .own import Own
from .styles import STYLES

FRAME_HEIGHT, FRAME_WIDTH = 540, 960
_CAMERA = 0
_OPAQUE = 127  # the shadow of a person is not
_PERSONS_AT_A_TIME = 8
# The rows of the feet, and the pixels of a body unit there: at the far end and at the near one.
_FAR, _NEAR = 330, 525
_FAR_UNIT, _NEAR_UNIT = 105, 175
_MARGIN = 50
_DEPTH_STEP = 25  # rows between a person and the one who passes
# A detector sees nobody of whom less is visible.
_LEAST_DETECTED = 0.35
_MISS, _JITTER, _FALSE_ALARMS = 0.04, 0.025, 0.05


class Walk(NamedTuple):
    """The way of a person: one entry for each frame in which the person is."""

    start: int  # number of the first frame, from 0
    x: np.ndarray  # of the feet, in pixels
    y: np.ndarray
    yaw: np.ndarray  # see Pose
    phase: np.ndarray
    stride: float

    def unit(self, index: int) -> float:
        """Return the pixels of a body unit at an entry."""
        share = (self.y[index] - _FAR) / (_NEAR - _FAR)
        return _FAR_UNIT + share * (_NEAR_UNIT - _FAR_UNIT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnMot(Own):
    """Draw a sequence in the layout of MOTChallenge: frames, boxes of persons, and detections.

    Each identity is a track in as many frames as it has images. About eight persons are seen at a
    time; they walk smoothly, turn and hide each other. The ninth column of gt/gt.txt is how much of
    a person is visible. det/det.txt has gaps, jitter and a few false alarms. Coordinates count from
    0.
    """

    NAME = "mot"

    images_per_identity: int = size(40, "frames with a person, 1 to 999")

    @functools.cached_property
    def walks(self) -> list[Walk]:
        """The ways of all persons, in the order in which they come."""
        walks: list[Walk] = []
        for identity in range(1, self.num_identities + 1):
            walks.append(self._plan(identity, walks[-1] if walks else None))
        return walks

    def num_image_files(self) -> int:
        """Return the number of frames; several persons are in one."""
        return max(walk.start + len(walk.x) for walk in self.walks)

    def files(self) -> Files:
        """Yield frames, gt/gt.txt, det/det.txt, seqinfo.ini and readme.txt; see `Layout`."""
        truth, detections = [], []
        length = self.num_image_files()
        for frame in range(length):
            image, boxes = self._draw(frame)
            yield f"img1/{frame + 1:06d}.jpg", image
            truth += [(track, frame + 1, box, visible) for track, box, visible in boxes]
            detections += [(frame + 1, *found) for found in self._detect(frame, boxes)]
        rows = [
            f"{frame},{track},{_join(box)},1,1,{visible:.2f}"
            for track, frame, box, visible in sorted(truth)
        ]
        yield "gt/gt.txt", encode_lines(rows)
        rows = [f"{frame},-1,{_join(box)},{conf:.2f},-1,-1,-1" for frame, box, conf in detections]
        yield "det/det.txt", encode_lines(rows)
        about = ["[Sequence]", "name=drawn", "imDir=img1", "frameRate=25", f"seqLength={length}"]
        about += [f"imWidth={FRAME_WIDTH}", f"imHeight={FRAME_HEIGHT}", "imExt=.jpg"]
        yield "seqinfo.ini", encode_lines(about)
        yield "readme.txt", self.readme()

    def _plan(self, identity, before):
        """Plan the way of a person; each second one passes the one `before` at another depth."""
        rng = np.random.default_rng((self.seed, 15, identity))
        count = self.images_per_identity
        start = (identity - 1) * count // _PERSONS_AT_A_TIME
        time = np.arange(count)
        # The person turns once, within about a second.
        turn = rng.choice((-1, 1)) * rng.uniform(0.4, 1.8)
        progress = (time - rng.uniform(0.3, 0.7) * count) / min(12, 1 + count / 4)
        side = math.pi / 2 * (-1) ** identity
        yaw = side + rng.normal(0, 0.3) + turn / (1 + np.exp(-progress))
        speed = min(rng.uniform(3, 6), 0.8 * (FRAME_WIDTH - 2 * _MARGIN) / count)
        x = np.cumsum(speed * np.sin(yaw))
        y = np.cumsum(min(speed, 0.8 * (_NEAR - _FAR) / count) * 0.4 * np.cos(yaw))
        x, y = x - x[0], y - y[0]
        # The middle of the way: the golden ratio spreads the pairs over the frame.
        share = 0.618 * (identity // 2) % 1
        middle = _MARGIN + share * (FRAME_WIDTH - 2 * _MARGIN), rng.uniform(_FAR, _NEAR)
        goal = middle[0] - x.mean(), middle[1] - y.mean()
        if identity % 2 == 0 and start < before.start + count:
            # Both are at one place in the middle of the frames in which both are.
            meeting = (start + before.start + count) // 2
            mine, other = meeting - start, meeting - before.start
            aside = rng.choice((-1, 1)) * _DEPTH_STEP
            goal = before.x[other] - x[mine], before.y[other] + aside - y[mine]
        x += np.clip(goal[0], _MARGIN - x.min(), FRAME_WIDTH - _MARGIN - x.max())
        y += np.clip(goal[1], _FAR - y.min(), _NEAR - y.max())
        phase = rng.uniform(0, 2 * math.pi) + 0.35 * time
        return Walk(start, x, y, yaw, phase, rng.uniform(0.3, 0.5))

    def _draw(self, frame):
        """Paint a frame, far persons first; return it with track, box and visibility of each."""
        present = [
            (walk.y[frame - walk.start], track, walk)
            for track, walk in enumerate(self.walks, 1)
            if 0 <= frame - walk.start < len(walk.x)
        ]
        present.sort(key=lambda one: one[:2])
        image = scenes.paint_background(self.seed, _CAMERA, (FRAME_HEIGHT, FRAME_WIDTH), self.style)
        owner = np.zeros(image.shape[:2], dtype=np.int64)
        boxes, sizes = [], {}
        for _, track, walk in present:
            index = frame - walk.start
            layer, left, top = self._paint(track, walk, index)
            sizes[track] = np.count_nonzero(layer[..., 3] > _OPAQUE)
            _put(image, owner, layer, left, top, track)
            boxes.append((track, self._box(track, walk, index)))
        seen = np.bincount(owner.ravel(), minlength=self.num_identities + 1)
        rng = np.random.default_rng((self.seed, 16, frame))
        image = scenes.develop(image, _CAMERA, rng, self.style)
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        return jpeg, [(track, box, seen[track] / sizes[track]) for track, box in sorted(boxes)]

    def _paint(self, track, walk, index):
        """Paint a person; return the layer, and where its corner lies in the frame."""
        tilt = STYLES[self.style].cameras[_CAMERA].tilt
        pose = Pose(walk.yaw[index], walk.phase[index], walk.stride, tilt)
        person = FIRST_OWN + track
        layer = scenes.paint_walker(self.seed, person, _CAMERA, pose, walk.unit(index), self.style)
        side = layer.shape[0]
        return layer, round(walk.x[index] - side / 2), round(walk.y[index] - side * 7 / 8)

    def _box(self, track, walk, index):
        """Return left, top, width and height of a whole person, hidden parts included."""
        person = FIRST_OWN + track
        height = walk.unit(index) * scenes.height_of(self.seed, person, self.style) * 1.04
        width = height / 2
        left, top = walk.x[index] - width / 2, walk.y[index] - height * 0.98
        return tuple(round(float(value), 1) for value in (left, top, width, height))

    def _detect(self, frame, boxes):
        """Return box and confidence of what a detector finds."""
        found = []
        for track, box, visible in boxes:
            rng = np.random.default_rng((self.seed, 17, track, frame))
            is_missed = rng.random() < _MISS or frame in self._gap(track)
            if visible < _LEAST_DETECTED or is_missed:
                continue
            shifts = rng.normal(0, _JITTER * box[3], 4)
            moved = tuple(float(value) for value in np.add(box, shifts))
            found.append((moved, min(1.0, 0.3 + 0.6 * visible + 0.1 * rng.random())))
        rng = np.random.default_rng((self.seed, 18, frame))
        if rng.random() < _FALSE_ALARMS:
            left, top = rng.uniform(0, FRAME_WIDTH - 60), rng.uniform(0, FRAME_HEIGHT - 120)
            found.append(((left, top, 60.0, 120.0), 0.3 + 0.2 * rng.random()))
        return found

    def _gap(self, track):
        """Return the frames, an eighth of a track, in which the detector misses a person."""
        walk = self.walks[track - 1]
        rng = np.random.default_rng((self.seed, 19, track))
        length = len(walk.x) // 8
        first = walk.start + int(rng.integers(1 + len(walk.x) - length))
        return range(first, first + length)


def _put(image, owner, layer, left, top, track):
    """Put a painted person into a frame, as far as it lies inside."""
    height, width = layer.shape[:2]
    rows = slice(max(0, top), min(FRAME_HEIGHT, top + height))
    columns = slice(max(0, left), min(FRAME_WIDTH, left + width))
    part = layer[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    image[rows, columns] *= 1 - part[..., 3:] / 255
    image[rows, columns] += part[..., :3]
    owner[rows, columns][part[..., 3] > _OPAQUE] = track


def _join(box):
    return ",".join(f"{value:.1f}" for value in box)

"""Draws pedestrians in the forms in which users have data of their own; free of TensorFlow.

The same arguments give the same pictures in all forms, and names of identities that sort alike.
No form tells the camera.
"""

import csv
import dataclasses
import io

import cv2
import numpy as np

from . import drawing, scenes

IMAGE_HEIGHT, IMAGE_WIDTH = 128, 64
FRAME_HEIGHT, FRAME_WIDTH = 540, 960
# Each person of a frame walks in a column of their own: boxes cannot overlap.
PERSONS_PER_FRAME = 10
_COLUMN = FRAME_WIDTH // PERSONS_PER_FRAME
_HORIZON = FRAME_HEIGHT // 2
# Mean colors tell most of thirty persons in one camera, but four in ten between these two.
_CAMERAS = (1, 2)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Checked arguments; identities and images count from 1."""

    layout: str
    num_identities: int
    images_per_identity: int
    seed: int

    def __post_init__(self):
        drawing.check_range("num_identities", self.num_identities, 2, 9999)
        drawing.check_range("images_per_identity", self.images_per_identity, 1, 999)
        drawing.check_seed(self.seed)

    def identities(self):
        return range(1, self.num_identities + 1)

    def images(self):
        return range(1, self.images_per_identity + 1)

    def jpeg(self, identity, image):
        """Draw an image: content of the file."""
        # Each image of a camera is a walk of its own: consecutive ones would be too easy to match.
        walk, camera = divmod(image - 1, len(_CAMERAS))
        shot = scenes.Shot(drawing.FIRST_OWN + identity, _CAMERAS[camera], walk)
        return drawing.encode_image(self.seed, shot, IMAGE_HEIGHT)


def _draw(output_dir, plan, write, readme="readme.txt"):
    """Let `write` fill the folder, and tell what it holds in `readme`."""
    with drawing.new_folder(output_dir) as folder:
        write(folder, plan)
        drawing.write_readme(folder, plan, readme)
    num_images = plan.num_identities * plan.images_per_identity
    return [drawing.SplitSize("all", num_images, plan.num_identities, 1)]


# ---- a folder of each identity


def _write_folders(root, plan):
    for identity in plan.identities():
        folder = root / f"{identity:04d}"
        folder.mkdir()
        for image in plan.images():
            (folder / f"{image:06d}.jpg").write_bytes(plan.jpeg(identity, image))


def draw_folders(output_dir, *, num_identities=40, images_per_identity=8, seed=1234):
    """Draw a folder of images of 128 x 64 pixels for each identity: `0001/000001.jpg`, ...

    Parameters
    ----------
    output_dir : str or path-like
        New or empty folder; it is complete when it appears.
    num_identities : int
        Persons, 2 to 9999.
    images_per_identity : int
        Images of each person, 1 to 999.
    seed : int
        In 0..2**32 - 1. Decides on all that is random.

    Returns
    -------
    list of SplitSize
        What was drawn: one part, `all`.

    Raises
    ------
    UsageError
        If a number is out of range.
    DataError
        If the folder is not empty or cannot be written.
    """
    plan = _Plan("folders", num_identities, images_per_identity, seed)
    # Hidden: whoever reads folders of identities wonders about any other thing between them.
    return _draw(output_dir, plan, _write_folders, ".readme.txt")


# ---- a table


def _write_csv(root, plan):
    (root / "images").mkdir()
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "identity"))
    for identity in plan.identities():
        for image in plan.images():
            path = f"images/{identity:04d}_{image:06d}.jpg"
            (root / path).write_bytes(plan.jpeg(identity, image))
            table.writerow((path, f"{identity:04d}"))
    (root / "people.csv").write_bytes(text.getvalue().encode())


def draw_csv(output_dir, *, num_identities=40, images_per_identity=8, seed=1234):
    """Draw images of 128 x 64 pixels and `people.csv`, which tells the identity of each.

    Parameters
    ----------
    output_dir : str or path-like
        New or empty folder; it is complete when it appears.
    num_identities : int
        Persons, 2 to 9999.
    images_per_identity : int
        Images of each person, 1 to 999.
    seed : int
        In 0..2**32 - 1. Decides on all that is random.

    Returns
    -------
    list of SplitSize
        What was drawn: one part, `all`.

    Raises
    ------
    UsageError
        If a number is out of range.
    DataError
        If the folder is not empty or cannot be written.
    """
    plan = _Plan("csv", num_identities, images_per_identity, seed)
    return _draw(output_dir, plan, _write_csv)


# ---- a sequence of MOTChallenge


def _groups(plan):
    """List the identities that are seen together: ranges of at most PERSONS_PER_FRAME."""
    identities = plan.identities()
    starts = range(0, len(identities), PERSONS_PER_FRAME)
    return [identities[start : start + PERSONS_PER_FRAME] for start in starts]


def _corner(plan, identity, image):
    """Place a box: left and top, both from 0. The feet are below the horizon."""
    rng = np.random.default_rng((plan.seed, 15, identity, image))
    column = (identity - 1) % PERSONS_PER_FRAME * _COLUMN
    left = column + int(rng.integers(_COLUMN - IMAGE_WIDTH + 1))
    return left, int(rng.integers(_HORIZON - IMAGE_HEIGHT // 2, FRAME_HEIGHT - IMAGE_HEIGHT + 1))


def _empty_frame(image):
    """Paint the plain view, wall above ground, of the camera that takes image number `image`."""
    view = scenes.CAMERAS[_CAMERAS[(image - 1) % len(_CAMERAS)]]
    frame = np.empty((FRAME_HEIGHT, FRAME_WIDTH, 3), dtype=np.uint8)
    frame[:_HORIZON], frame[_HORIZON:] = view.wall_color, view.ground_color
    return frame


def _paint_frame(plan, group, image):
    """Paint image number `image` of each identity of a group: the frame, and their corners."""
    frame = _empty_frame(image)
    corners = {identity: _corner(plan, identity, image) for identity in group}
    for identity, (left, top) in corners.items():
        # As it is read from the file of the other forms: what the JPEG lost is lost here, too.
        data = np.frombuffer(plan.jpeg(identity, image), dtype=np.uint8)
        person = cv2.imdecode(data, cv2.IMREAD_COLOR)
        frame[top : top + IMAGE_HEIGHT, left : left + IMAGE_WIDTH] = person
    return frame, corners


def _write_frames(folder, plan):
    """Write all frames, one group after the other: number of frames, and the rows of gt.txt."""
    folder.mkdir()
    rows, number = [], 0
    for group in _groups(plan):
        for image in plan.images():
            number += 1
            frame, corners = _paint_frame(plan, group, image)
            _, data = cv2.imencode(".png", frame)
            (folder / f"{number:06d}.png").write_bytes(data.tobytes())
            rows += [(number, identity, *corner) for identity, corner in corners.items()]
    return number, rows


def _write_mot(root, plan):
    num_frames, rows = _write_frames(root / "img1", plan)
    (root / "gt").mkdir()
    lines = [
        f"{frame},{identity},{left},{top},{IMAGE_WIDTH},{IMAGE_HEIGHT},1,1,1"
        for frame, identity, left, top in sorted(rows, key=lambda row: (row[1], row[0]))
    ]
    drawing.write_lines(root / "gt" / "gt.txt", lines)
    about = {
        "name": "drawn",
        "imDir": "img1",
        "frameRate": 25,
        "seqLength": num_frames,
        "imWidth": FRAME_WIDTH,
        "imHeight": FRAME_HEIGHT,
        "imExt": ".png",
    }
    lines = ["[Sequence]", *(f"{key}={value}" for key, value in about.items())]
    drawing.write_lines(root / "seqinfo.ini", lines)


def draw_mot(output_dir, *, num_identities=40, images_per_identity=8, seed=1234):
    """Draw a sequence as those of MOTChallenge: frames, and the boxes of the persons in them.

    Each box holds the pixels of one image of the other forms. Up to ten persons are seen together,
    in as many frames as each has images; then come the next. Coordinates count from 0.

    Parameters
    ----------
    output_dir : str or path-like
        New or empty folder; it is complete when it appears.
    num_identities : int
        Persons, 2 to 9999: the tracks 1, 2, ...
    images_per_identity : int
        Boxes of each person, 1 to 999.
    seed : int
        In 0..2**32 - 1. Decides on all that is random.

    Returns
    -------
    list of SplitSize
        What was drawn: one part, `all`; each box is an image.

    Raises
    ------
    UsageError
        If a number is out of range.
    DataError
        If the folder is not empty or cannot be written.
    """
    plan = _Plan("mot", num_identities, images_per_identity, seed)
    return _draw(output_dir, plan, _write_mot)

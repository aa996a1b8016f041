"""Draws a small pedestrian data set, laid out as Market-1501 or MARS; free of TensorFlow.

Everything runs without a download on what is drawn here: the same arguments give the same bytes
in every file. Run ``python -m datasets.synthetic --help`` for the command line.
"""

import argparse
import contextlib
import dataclasses
import io
import logging
import pathlib
import shlex
import sys
import tempfile

import cv2
import numpy as np
import scipy.io

from datasets import scenes
from deep_reid.errors import DataError, ReidError, UsageError

logger = logging.getLogger(__name__)

MAX_LABEL = {"market1501": 1501, "mars": 1500}
IMAGE_HEIGHT = {"market1501": 128, "mars": 256}
IMAGES_PER_CAMERA = {"market1501": 3, "mars": 4}
TRAIN_SCRIPT = {"market1501": "train_market1501.py", "mars": "train_mars.py"}
JUNK, DISTRACTOR = -1, 0
# Numbers of persons, which decide on the look: labels stay below these.
_FIRST_DISTRACTOR, _FIRST_JUNK = 10_000, 20_000
_MAT_HEADER = b"MATLAB 5.0 MAT-file, drawn pedestrians"


@dataclasses.dataclass(frozen=True)
class SplitSize:
    """What was drawn for one part of a data set.

    Attributes
    ----------
    name : str
        Folder of the images.
    num_images, num_identities, num_cameras : int
        Sizes; distractors and junk count as images, not as identities.
    """

    name: str
    num_images: int
    num_identities: int
    num_cameras: int


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Checked arguments, and the order in which all else is derived from them."""

    layout: str
    num_identities: int
    num_test_identities: int
    num_cameras: int
    images_per_camera: int
    num_distractors: int
    seed: int

    @property
    def num_junk(self):
        return (self.num_test_identities + 1) // 2

    def labels(self):
        """SplitSize the labels 1, 2, ... at random: (train, test), sorted lists of int."""
        total = self.num_identities + self.num_test_identities
        order = np.random.default_rng((self.seed, 10)).permutation(total) + 1
        train, test = order[: self.num_identities], order[self.num_identities :]
        return sorted(train.tolist()), sorted(test.tolist())

    def cameras_of(self, label):
        """Tell which cameras see a person: sorted list of int from 0, at least two."""
        rng = np.random.default_rng((self.seed, 11, label))
        count = max(2, int(rng.binomial(self.num_cameras, 0.85)))
        return sorted(rng.permutation(self.num_cameras)[:count].tolist())

    def camera_of_stranger(self, person):
        """Tell which camera sees a distractor or a piece of junk: int from 0."""
        return int(np.random.default_rng((self.seed, 12, person)).integers(self.num_cameras))


def _check_range(name, value, low, high):
    if not low <= value <= high:
        raise UsageError(f"{name} is {value}: must be in {low}..{high}; choose another number")


def _make_plan(
    layout,
    *,
    num_identities,
    num_test_identities,
    num_cameras,
    images_per_camera,
    num_distractors,
    seed,
):
    """Check the sizes, after the defaults took the place of None."""
    if num_test_identities is None:
        num_test_identities = num_identities
    if images_per_camera is None:
        images_per_camera = IMAGES_PER_CAMERA[layout]
    if num_distractors is None:
        num_distractors = num_test_identities
    _check_range("num_identities", num_identities, 2, MAX_LABEL[layout] - 1)
    _check_range("num_test_identities", num_test_identities, 1, MAX_LABEL[layout] - num_identities)
    _check_range("num_cameras", num_cameras, 2, len(scenes.CAMERAS))
    _check_range("images_per_camera", images_per_camera, 1, 999)
    _check_range("num_distractors", num_distractors, 0, 9999)
    _check_range("seed", seed, 0, 2**32 - 1)
    return _Plan(
        layout,
        num_identities,
        num_test_identities,
        num_cameras,
        images_per_camera,
        num_distractors,
        seed,
    )


def _refuse_used(output_dir, target):
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(
            f"{output_dir} is not empty: the data set is only drawn into a new or empty folder; "
            "remove it or choose another output_dir"
        )


@contextlib.contextmanager
def _new_folder(output_dir):
    """Yield an empty folder that becomes `output_dir` if the block ends without an error."""
    target = pathlib.Path(output_dir).resolve()
    try:
        _refuse_used(output_dir, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Only the outer folder is private to this user: the inner one keeps the usual permissions.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as draft:
            folder = pathlib.Path(draft) / "data"
            folder.mkdir()
            yield folder
            if target.exists():
                target.rmdir()
            folder.rename(target)
    except OSError as error:
        raise DataError(
            f"{output_dir} cannot be written ({error.strerror}): its parent has to be a writable "
            "folder with space left; choose another output_dir"
        ) from error


def _write_image(path, seed, shot, height):
    image, quality = scenes.take(seed, shot, height)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(data.tobytes())


def _write_readme(folder, plan):
    flags = " ".join(
        f"--{field.name} {getattr(plan, field.name)}" for field in dataclasses.fields(plan)
    )
    lines = [
        "These pedestrians are drawn: no photograph and no real person is among them.",
        "Drawn by:",
        f"    python -m datasets.synthetic {flags} --output_dir DIR",
    ]
    (folder / "readme.txt").write_bytes(("\n".join(lines) + "\n").encode())


# ---- Market-1501


def _market_name(plan, label, shot, detection):
    """Name an image; the frame number is unique among all images of its label and camera."""
    person = f"{label:04d}" if label >= 0 else str(label)
    if label > 0:
        rng = np.random.default_rng((plan.seed, 13, label, shot.camera))
        sequence, start = int(rng.integers(1, 7)), int(rng.integers(1, 90_000))
        frame = start + 25 * shot.track
    else:
        sequence, frame = 1, 151 + 25 * shot.person
    return f"{person}_c{shot.camera + 1}s{sequence}_{frame:06d}_{detection:02d}.jpg"


def _market_persons(plan, labels, tracks):
    """List (label, shot) of the images `tracks` of each person in each camera."""
    return [
        (label, scenes.Shot(label, camera, track))
        for label in labels
        for camera in plan.cameras_of(label)
        for track in tracks
    ]


def _market_strangers(plan):
    """List (label, shot) of distractors and junk."""
    shots = []
    for label, first, count in (
        (DISTRACTOR, _FIRST_DISTRACTOR, plan.num_distractors),
        (JUNK, _FIRST_JUNK, plan.num_junk),
    ):
        for person in range(first, first + count):
            camera = plan.camera_of_stranger(person)
            shots.append((label, scenes.Shot(person, camera, spoiled=label == JUNK)))
    return shots


def _market_splits(plan):
    """List folder, shots and detection number of each part of the data set."""
    train, test = plan.labels()
    tracks = range(1, plan.images_per_camera + 1)
    gallery = _market_strangers(plan) + _market_persons(plan, test, tracks)
    return (
        ("bounding_box_train", _market_persons(plan, train, tracks), 1),
        ("bounding_box_test", gallery, 1),
        ("query", _market_persons(plan, test, [0]), 0),
    )


def draw_market1501(
    output_dir,
    *,
    num_identities=80,
    num_test_identities=None,
    num_cameras=6,
    images_per_camera=3,
    num_distractors=None,
    seed=1234,
):
    """Draw a data set laid out as Market-1501, images of 128 x 64 pixels.

    Parameters
    ----------
    output_dir : str or path-like
        New or empty folder; it is complete when it appears.
    num_identities : int
        Persons to train on, at least 2; labels of all persons are 1, 2, ... up to 1501.
    num_test_identities : int, optional
        Other persons to test on; by default as many.
    num_cameras : int
        In 2..6. Each person is seen by at least two of them.
    images_per_camera : int
        Images of a person in a camera. There is one more of test persons: the query.
    num_distractors : int, optional
        Images of further persons in the gallery; by default one for each test person.
    seed : int
        In 0..2**32 - 1. Decides on all that is random.

    Returns
    -------
    list of SplitSize
        What was drawn into `bounding_box_train`, `bounding_box_test` and `query`.

    Raises
    ------
    UsageError
        If a number is out of range.
    DataError
        If the folder is not empty or cannot be written.
    """
    plan = _make_plan(
        "market1501",
        num_identities=num_identities,
        num_test_identities=num_test_identities,
        num_cameras=num_cameras,
        images_per_camera=images_per_camera,
        num_distractors=num_distractors,
        seed=seed,
    )
    splits = _market_splits(plan)
    with _new_folder(output_dir) as folder:
        for name, shots, detection in splits:
            _draw_market_split(folder / name, plan, shots, detection)
        _write_readme(folder, plan)
    return [
        _count(name, [(label, shot.camera) for label, shot in shots]) for name, shots, _ in splits
    ]


def _draw_market_split(folder, plan, shots, detection):
    folder.mkdir()
    for label, shot in shots:
        path = folder / _market_name(plan, label, shot, detection)
        _write_image(path, plan.seed, shot, IMAGE_HEIGHT["market1501"])


def _count(name, views):
    """Sum up the (label, camera) of all images."""
    persons = {label for label, _ in views if label > 0}
    return SplitSize(name, len(views), len(persons), len({camera for _, camera in views}))


# ---- MARS


@dataclasses.dataclass(frozen=True)
class _Tracklet:
    """Consecutive images of one person in one camera; `number` counts within the label."""

    label: int
    number: int
    person: int
    camera: int

    @property
    def folder(self):
        return f"{self.label:04d}" if self.label >= 0 else "00-1"

    def name(self, frame):
        return f"{self.folder}C{self.camera + 1}T{self.number:04d}F{frame:03d}.jpg"


def _mars_person(plan, label):
    """List the tracklets of a person: two in two of the cameras, one in each other.

    A query leaves the gallery of some protocols, hence two: each still has a match elsewhere.
    """
    cameras = plan.cameras_of(label)
    rng = np.random.default_rng((plan.seed, 14, label))
    twice = rng.choice(cameras, size=2, replace=False).tolist()
    cameras = sorted(cameras + twice)
    return [_Tracklet(label, number, label, camera) for number, camera in enumerate(cameras, 1)]


def _mars_strangers(plan, label, first, count):
    return [
        _Tracklet(label, number, person, plan.camera_of_stranger(person))
        for number, person in enumerate(range(first, first + count), 1)
    ]


def _mars_queries(tracklets):
    """Pick the first tracklet of each person in each camera: uint16, (1, Q), one-based."""
    first = {}
    for index, tracklet in enumerate(tracklets, 1):
        if tracklet.label > 0:
            first.setdefault((tracklet.label, tracklet.camera), index)
    return np.array([list(first.values())], dtype=np.uint16)


def _write_mat(path, name, value):
    """Store one array; the text in the file header, 116 bytes with a date, becomes constant."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {name: value})
    path.write_bytes(_MAT_HEADER.ljust(116) + buffer.getvalue()[116:])


def _mars_table(tracklets, length):
    """Describe tracklets: int32, (T, 4), first and last image from one, label, camera from one."""
    rows = [
        (index * length + 1, (index + 1) * length, tracklet.label, tracklet.camera + 1)
        for index, tracklet in enumerate(tracklets)
    ]
    return np.array(rows, dtype=np.int32)


def _draw_mars_split(root, split, plan, tracklets):
    folder = root / f"bbox_{split}"
    folder.mkdir()
    names = []
    for tracklet in tracklets:
        (folder / tracklet.folder).mkdir(exist_ok=True)
        for frame in range(plan.images_per_camera):
            spoiled = tracklet.label == JUNK
            shot = scenes.Shot(tracklet.person, tracklet.camera, tracklet.number, frame, spoiled)
            names.append(tracklet.name(frame + 1))
            path = folder / tracklet.folder / names[-1]
            _write_image(path, plan.seed, shot, IMAGE_HEIGHT["mars"])
    info = root / "info"
    (info / f"{split}_name.txt").write_bytes(("\n".join(names) + "\n").encode())
    table = _mars_table(tracklets, plan.images_per_camera)
    _write_mat(info / f"tracks_{split}_info.mat", f"track_{split}_info", table)


def _mars_splits(plan):
    """Map "train" and "test" to their tracklets."""
    train, test = (
        [tracklet for label in labels for tracklet in _mars_person(plan, label)]
        for labels in plan.labels()
    )
    junk = _mars_strangers(plan, JUNK, _FIRST_JUNK, plan.num_junk)
    distractors = _mars_strangers(plan, DISTRACTOR, _FIRST_DISTRACTOR, plan.num_distractors)
    return {"train": train, "test": junk + distractors + test}


def _draw_mars_splits(root, plan, splits):
    (root / "info").mkdir()
    for split, tracklets in splits.items():
        _draw_mars_split(root, split, plan, tracklets)
    (root / "bbox_test" / "0000").mkdir(exist_ok=True)  # there even if no distractor is
    _write_mat(root / "info" / "query_IDX.mat", "query_IDX", _mars_queries(splits["test"]))


def draw_mars(
    output_dir,
    *,
    num_identities=80,
    num_test_identities=None,
    num_cameras=6,
    images_per_camera=4,
    num_distractors=None,
    seed=1234,
):
    """Draw a data set laid out as MARS, images of 256 x 128 pixels.

    Parameters
    ----------
    output_dir : str or path-like
        New or empty folder; it is complete when it appears.
    num_identities : int
        Persons to train on, at least 2; labels of all persons are 1, 2, ... up to 1500.
    num_test_identities : int, optional
        Other persons to test on; by default as many.
    num_cameras : int
        In 2..6. Each person is seen by at least two of them, and twice by two of these.
    images_per_camera : int
        Images of a tracklet.
    num_distractors : int, optional
        Tracklets of further persons in the gallery; by default one for each test person.
    seed : int
        In 0..2**32 - 1. Decides on all that is random.

    Returns
    -------
    list of SplitSize
        What was drawn into `bbox_train` and `bbox_test`.

    Raises
    ------
    UsageError
        If a number is out of range.
    DataError
        If the folder is not empty or cannot be written.
    """
    plan = _make_plan(
        "mars",
        num_identities=num_identities,
        num_test_identities=num_test_identities,
        num_cameras=num_cameras,
        images_per_camera=images_per_camera,
        num_distractors=num_distractors,
        seed=seed,
    )
    splits = _mars_splits(plan)
    with _new_folder(output_dir) as folder:
        _draw_mars_splits(folder, plan, splits)
        _write_readme(folder, plan)
    return [
        _count(f"bbox_{split}", [(t.label, t.camera) for t in tracklets] * plan.images_per_camera)
        for split, tracklets in splits.items()
    ]


# ---- command line


def _parse(argv):
    parser = argparse.ArgumentParser(prog="python -m datasets.synthetic", description=__doc__)
    parser.add_argument("--layout", choices=sorted(MAX_LABEL), required=True)
    parser.add_argument("--output_dir", required=True, help="new or empty folder")
    parser.add_argument("--num_identities", type=int, default=80, help="persons to train on")
    parser.add_argument("--num_test_identities", type=int, help="default: as many as to train on")
    parser.add_argument("--num_cameras", type=int, default=6, help="2 to 6")
    parser.add_argument(
        "--images_per_camera",
        type=int,
        help="of each person (market1501, default 3) or in each tracklet (mars, default 4)",
    )
    parser.add_argument(
        "--num_distractors",
        type=int,
        help="images (market1501) or tracklets (mars) of persons with label 0; "
        "default: num_test_identities",
    )
    parser.add_argument("--seed", type=int, default=1234)
    args = vars(parser.parse_args(argv))
    layout, output_dir = args.pop("layout"), args.pop("output_dir")
    try:
        plan = _make_plan(layout, **args)
    except UsageError as error:
        parser.error(str(error))
    return plan, output_dir


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit code: 0 if all was drawn, 1 if the folder cannot be used, 130 after Ctrl-C. Wrong
        arguments exit with 2.
    """
    plan, output_dir = _parse(argv)
    sizes = dataclasses.asdict(plan)
    draw = {"market1501": draw_market1501, "mars": draw_mars}[sizes.pop("layout")]
    try:
        splits = draw(output_dir, **sizes)
    except ReidError as error:
        logger.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        logger.warning("Interrupted: nothing was written")
        return 130
    for split in splits:
        logger.info("%s: %d images, %d identities, %d cameras", *dataclasses.astuple(split))
    script = TRAIN_SCRIPT[plan.layout]
    folder = shlex.quote(str(output_dir))
    logger.info("Next: python %s --mode=train --dataset_dir=%s", script, folder)
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())

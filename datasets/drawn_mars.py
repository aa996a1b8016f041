"""Draws pedestrians laid out as MARS; free of TensorFlow."""

import dataclasses

import numpy as np

from . import drawing, scenes

IMAGE_HEIGHT = 256


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
            spoiled = tracklet.label == drawing.JUNK
            shot = scenes.Shot(tracklet.person, tracklet.camera, tracklet.number, frame, spoiled)
            names.append(tracklet.name(frame + 1))
            path = folder / tracklet.folder / names[-1]
            drawing.write_image(path, plan.seed, shot, IMAGE_HEIGHT)
    info = root / "info"
    drawing.write_lines(info / f"{split}_name.txt", names)
    table = _mars_table(tracklets, plan.images_per_camera)
    drawing.write_mat(info / f"tracks_{split}_info.mat", f"track_{split}_info", table)


def _mars_splits(plan):
    """Map "train" and "test" to their tracklets."""
    train, test = (
        [tracklet for label in labels for tracklet in _mars_person(plan, label)]
        for labels in plan.labels()
    )
    junk = _mars_strangers(plan, drawing.JUNK, drawing.FIRST_JUNK, plan.num_junk)
    distractors = _mars_strangers(
        plan, drawing.DISTRACTOR, drawing.FIRST_DISTRACTOR, plan.num_distractors
    )
    return {"train": train, "test": junk + distractors + test}


def _draw_mars_splits(root, plan, splits):
    (root / "info").mkdir()
    for split, tracklets in splits.items():
        _draw_mars_split(root, split, plan, tracklets)
    (root / "bbox_test" / "0000").mkdir(exist_ok=True)  # there even if no distractor is
    drawing.write_mat(root / "info" / "query_IDX.mat", "query_IDX", _mars_queries(splits["test"]))


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
    plan = drawing.make_plan(
        "mars",
        num_identities=num_identities,
        num_test_identities=num_test_identities,
        num_cameras=num_cameras,
        images_per_camera=images_per_camera,
        num_distractors=num_distractors,
        seed=seed,
    )
    splits = _mars_splits(plan)
    with drawing.new_folder(output_dir) as folder:
        _draw_mars_splits(folder, plan, splits)
        drawing.write_readme(folder, plan)
    return [
        drawing.count(
            f"bbox_{split}", [(t.label, t.camera) for t in tracklets] * plan.images_per_camera
        )
        for split, tracklets in splits.items()
    ]

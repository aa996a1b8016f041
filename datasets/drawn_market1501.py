"""Draws pedestrians laid out as Market-1501; free of TensorFlow."""

import pathlib

import numpy as np

from . import drawing, ground_truth, market1501, scenes
from .base import Split

IMAGE_HEIGHT = 128


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
        (drawing.DISTRACTOR, drawing.FIRST_DISTRACTOR, plan.num_distractors),
        (drawing.JUNK, drawing.FIRST_JUNK, plan.num_junk),
    ):
        for person in range(first, first + count):
            camera = plan.camera_of_stranger(person)
            shots.append((label, scenes.Shot(person, camera, spoiled=label == drawing.JUNK)))
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
    """Draw a data set laid out as Market-1501, images of 128 x 64 pixels, with `gt_query`.

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
    plan = drawing.make_plan(
        "market1501",
        num_identities=num_identities,
        num_test_identities=num_test_identities,
        num_cameras=num_cameras,
        images_per_camera=images_per_camera,
        num_distractors=num_distractors,
        seed=seed,
    )
    splits = _market_splits(plan)
    with drawing.new_folder(output_dir) as folder:
        for name, shots, detection in splits:
            _draw_market_split(folder / name, plan, shots, detection)
        _write_ground_truth(folder)
        drawing.write_readme(folder, plan)
    return [
        drawing.count(name, [(label, shot.camera) for label, shot in shots])
        for name, shots, _ in splits
    ]


def _draw_market_split(folder, plan, shots, detection):
    folder.mkdir()
    for label, shot in shots:
        path = folder / _market_name(plan, label, shot, detection)
        drawing.write_image(path, plan.seed, shot, IMAGE_HEIGHT)


def _write_ground_truth(folder):
    """Write the two MATLAB files of each query: see `datasets.ground_truth`."""
    (folder / ground_truth.FOLDER).mkdir()
    gallery = Split(*market1501.read_gallery_split_to_str(folder))
    query = Split(*market1501.read_query_split_to_str(folder))
    for filename, label, camera in zip(query.filenames, query.labels, query.cameras, strict=True):
        is_junk = ground_truth.find_junk(label, camera, gallery)
        is_good = (gallery.labels == label) & ~is_junk
        for kind, mask in (("good", is_good), ("junk", is_junk)):
            path = pathlib.Path(ground_truth.path_of(folder, filename, kind))
            positions = np.flatnonzero(mask)[np.newaxis] + 1
            drawing.write_mat(path, f"{kind}_index", positions.astype(np.int32))

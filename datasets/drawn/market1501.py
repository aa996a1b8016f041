"""Pedestrians laid out as Market-1501."""

import dataclasses
import functools

import numpy as np

from deep_reid.samplers.galleries import DISTRACTOR_LABEL, JUNK_LABEL

from .. import ground_truth, market1501
from ..split import Split
from .drawing import Benchmark, Files, SplitSize, count, encode_mat, label_of
from .scenes import Shot


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnMarket1501(Benchmark):
    """Draw a data set laid out as Market-1501, images of 128 x 64 pixels, with `gt_query`.

    Test persons have one more image in each camera: the query.
    """

    NAME = "market1501"
    MAX_LABEL = market1501.MAX_LABEL

    def split_sizes(self) -> list[SplitSize]:
        """Return what is drawn into the three folders of images; see `Layout`."""
        return [count(folder, [*shots.values()]) for folder, shots in self._splits.items()]

    def files(self) -> Files:
        """Yield images, ground truth and readme.txt; see `Layout`."""
        for shots in self._splits.values():
            for path, shot in shots.items():
                yield path, self.jpeg(shot)
        query, gallery = (_as_split(self._splits[name]) for name in ("query", "bounding_box_test"))
        yield from _ground_truth(query, gallery)
        yield "readme.txt", self.readme()

    @functools.cached_property
    def _splits(self) -> dict[str, dict[str, Shot]]:
        """By folder: the shots of its images, by their paths, which are sorted."""
        train, test = self.labels
        strangers = self.strangers(DISTRACTOR_LABEL) + self.strangers(JUNK_LABEL)
        tracks = range(1, self.images_per_camera + 1)
        splits = {
            "bounding_box_train": self._shots(train, tracks),
            "bounding_box_test": strangers + self._shots(test, tracks),
            "query": self._shots(test, [0]),
        }
        return {
            folder: dict(sorted((self._path(folder, shot), shot) for shot in shots))
            for folder, shots in splits.items()
        }

    def _shots(self, labels, tracks):
        views = ((label, camera) for label in labels for camera in self.cameras_of(label))
        return [Shot(*view, track) for view in views for track in tracks]

    def _path(self, folder, shot):
        """Name an image; the frame number is unique among all images of its label and camera."""
        label = label_of(shot)
        sequence, frame = 1, 151 + 25 * shot.person
        if label > 0:
            rng = np.random.default_rng((self.seed, 13, label, shot.camera))
            sequence, start = int(rng.integers(1, 7)), int(rng.integers(1, 90_000))
            frame = start + 25 * shot.track
        person = f"{label:04d}" if label >= 0 else label
        detection = int(folder != "query")
        return f"{folder}/{person}_c{shot.camera + 1}s{sequence}_{frame:06d}_{detection:02d}.jpg"


def _as_split(shots):
    labels = [label_of(shot) for shot in shots.values()]
    return Split(list(shots), labels, [shot.camera for shot in shots.values()])


def _ground_truth(query, gallery):
    """Yield the two MATLAB files of each query: see `datasets.ground_truth`."""
    for filename, label, camera in zip(query.filenames, query.labels, query.cameras, strict=True):
        is_junk = ground_truth.find_junk(label, camera, gallery)
        is_good = (gallery.labels == label) & ~is_junk
        for kind, mask in (("good", is_good), ("junk", is_junk)):
            positions = np.flatnonzero(mask)[np.newaxis] + 1
            path = ground_truth.path_of("", filename, kind)
            yield path, encode_mat(f"{kind}_index", positions.astype(np.int32))

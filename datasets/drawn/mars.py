"""Pedestrians laid out as MARS."""

import dataclasses
import functools

import numpy as np

from deep_reid.samplers.galleries import DISTRACTOR_LABEL, JUNK_LABEL

from .. import mars
from .drawing import Benchmark, Files, SplitSize, count, encode_lines, encode_mat, label_of, size
from .scenes import Shot


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnMars(Benchmark):
    """Draw a data set laid out as MARS, images of 256 x 128 pixels.

    A camera sees one tracklet of a person; two of the person's cameras see two.
    """

    NAME = "mars"
    IMAGE_HEIGHT = 256
    MAX_LABEL = mars.MAX_LABEL

    images_per_camera: int = size(4, "images of a tracklet")

    def split_sizes(self) -> list[SplitSize]:
        """Return what is drawn into `bbox_train` and `bbox_test`; see `Layout`."""
        return [
            count(f"bbox_{split}", tracklets * self.images_per_camera)
            for split, tracklets in self._splits.items()
        ]

    def files(self) -> Files:
        """Yield images, tables of tracklets and readme.txt; see `Layout`."""
        yield "bbox_test/0000", None  # exists even without distractors
        for split in self._splits:
            yield from self._split_files(split)
        yield "info/query_IDX.mat", encode_mat("query_IDX", _queries(self._splits["test"]))
        yield "readme.txt", self.readme()

    def _split_files(self, split):
        names: list[str] = []
        table = []
        for shot in self._splits[split]:
            label = label_of(shot)
            person = f"{label:04d}" if label >= 0 else "00-1"
            first, last = len(names) + 1, len(names) + self.images_per_camera
            table.append((first, last, label, shot.camera + 1))
            for frame in range(self.images_per_camera):
                name = f"{person}C{shot.camera + 1}T{shot.track:04d}F{frame + 1:03d}.jpg"
                names.append(name)
                image = self.jpeg(dataclasses.replace(shot, frame=frame))
                yield f"bbox_{split}/{person}/{name}", image
        yield f"info/{split}_name.txt", encode_lines(names)
        content = encode_mat(f"track_{split}_info", np.array(table, dtype=np.int32))
        yield f"info/tracks_{split}_info.mat", content

    @functools.cached_property
    def _splits(self) -> dict[str, list[Shot]]:
        """Tracklets of each split; a tracklet is represented by its first shot."""
        train, test = (
            [tracklet for label in labels for tracklet in self._tracklets(label)]
            for labels in self.labels
        )
        strangers = self.strangers(JUNK_LABEL) + self.strangers(DISTRACTOR_LABEL)
        return {"train": train, "test": strangers + test}

    def _tracklets(self, label):
        # Some protocols take queries out of the gallery. With two tracklets in two of the cameras,
        # each query still has a match in another camera.
        cameras = self.cameras_of(label)
        rng = np.random.default_rng((self.seed, 14, label))
        cameras += rng.choice(cameras, size=2, replace=False).tolist()
        return [Shot(label, camera, track) for track, camera in enumerate(sorted(cameras), 1)]


def _queries(tracklets):
    """Pick the first tracklet of each person in each camera: uint16, (1, Q), from one."""
    first: dict[tuple[int, int], int] = {}
    for index, shot in enumerate(tracklets, 1):
        if label_of(shot) > 0:
            first.setdefault((shot.person, shot.camera), index)
    return np.array([list(first.values())], dtype=np.uint16)

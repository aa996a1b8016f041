"""Pedestrians in the layouts of your own data: folders, a CSV file, a MOTChallenge sequence.

The same sizes and seed give the same pictures in all layouts, and names of identities in the same
order. No layout names the camera.
"""

import csv
import dataclasses
import io
from collections.abc import Iterator

import cv2
import numpy as np

from .drawing import FIRST_OWN, Files, Layout, SplitSize, encode_lines, size
from .scenes import CAMERAS, Shot

FRAME_HEIGHT, FRAME_WIDTH = 540, 960
_HEIGHT, _WIDTH = Layout.IMAGE_HEIGHT, Layout.IMAGE_HEIGHT // 2
# Each person in a frame has an own column, so that boxes cannot overlap.
_PERSONS_PER_FRAME = 10
_COLUMN = FRAME_WIDTH // _PERSONS_PER_FRAME
_HORIZON = FRAME_HEIGHT // 2
# Mean colors find most of thirty persons in one camera, but only 40 % of them across these two.
_CAMERAS = (1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(Layout):
    """A layout of images of a few persons, without splits; identities and images count from 1."""

    num_identities: int = size(40, "persons, 2 to 9999")
    images_per_identity: int = size(8, "images of a person, 1 to 999")
    seed: int = size(1234, "seed of everything random")

    def __post_init__(self):
        self.check(num_identities=(2, 9999), images_per_identity=(1, 999))

    def split_sizes(self) -> list[SplitSize]:
        """Return what is drawn: one part, `all`; see `Layout`."""
        num_images = self.num_identities * self.images_per_identity
        return [SplitSize("all", num_images, self.num_identities, 1)]

    def jpegs(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield the names of identity and image, and the content of its file."""
        for identity in range(1, self.num_identities + 1):
            for image in range(1, self.images_per_identity + 1):
                yield f"{identity:04d}", f"{image:06d}", self.jpeg_of(identity, image)

    def jpeg_of(self, identity: int, image: int) -> bytes:
        """Draw image number `image` of an identity; the two cameras take turns."""
        # Each image of a camera shows another walk: images of one walk are too easy to match.
        walk, camera = divmod(image - 1, len(_CAMERAS))
        return self.jpeg(Shot(FIRST_OWN + identity, _CAMERAS[camera], walk))


class DrawnFolders(Own):
    """Draw a folder of images of 128 x 64 pixels for each identity: `0001/000001.jpg`, ..."""

    NAME = "folders"

    def files(self) -> Files:
        """Yield the images and a hidden .readme.txt; see `Layout`."""
        for identity, image, jpeg in self.jpegs():
            yield f"{identity}/{image}.jpg", jpeg
        # Hidden: a reader warns about other files beside the folders of identities.
        yield ".readme.txt", self.readme()


class DrawnCsv(Own):
    """Draw images of 128 x 64 pixels, and `people.csv` with the identity of each."""

    NAME = "csv"

    def files(self) -> Files:
        """Yield the images, people.csv and readme.txt; see `Layout`."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("path", "identity"))
        for identity, image, jpeg in self.jpegs():
            path = f"images/{identity}_{image}.jpg"
            yield path, jpeg
            table.writerow((path, identity))
        yield "people.csv", text.getvalue().encode()
        yield "readme.txt", self.readme()


class DrawnMot(Own):
    """Draw a sequence in the layout of MOTChallenge: frames, and the boxes of persons in them.

    Each box has the pixels of one image of the other layouts, and each identity is a track. Up to
    ten persons share a series of frames, one for each of their images; the next ten persons follow.
    Coordinates count from 0.
    """

    NAME = "mot"

    def files(self) -> Files:
        """Yield frames, gt/gt.txt, seqinfo.ini and readme.txt; see `Layout`."""
        boxes, number = [], 0
        for first in range(1, self.num_identities + 1, _PERSONS_PER_FRAME):
            group = range(first, min(first + _PERSONS_PER_FRAME, self.num_identities + 1))
            for image in range(1, self.images_per_identity + 1):
                number += 1
                corners = {identity: self._corner(identity, image) for identity in group}
                yield f"img1/{number:06d}.png", self._frame(image, corners)
                boxes += [(identity, number, *corner) for identity, corner in corners.items()]
        rest = f"{_WIDTH},{_HEIGHT},1,1,1"
        rows = [f"{frame},{track},{left},{top},{rest}" for track, frame, left, top in sorted(boxes)]
        yield "gt/gt.txt", encode_lines(rows)
        about = ["[Sequence]", "name=drawn", "imDir=img1", "frameRate=25", f"seqLength={number}"]
        about += [f"imWidth={FRAME_WIDTH}", f"imHeight={FRAME_HEIGHT}", "imExt=.png"]
        yield "seqinfo.ini", encode_lines(about)
        yield "readme.txt", self.readme()

    def _corner(self, identity, image):
        """Place a box: left and top. The feet are below the horizon."""
        rng = np.random.default_rng((self.seed, 15, identity, image))
        column = (identity - 1) % _PERSONS_PER_FRAME * _COLUMN
        left = column + int(rng.integers(_COLUMN - _WIDTH + 1))
        return left, int(rng.integers(_HORIZON - _HEIGHT // 2, FRAME_HEIGHT - _HEIGHT + 1))

    def _frame(self, image, corners):
        """Paint image number `image` of some identities on a plain wall above plain ground."""
        view = CAMERAS[_CAMERAS[(image - 1) % len(_CAMERAS)]]
        frame = np.empty((FRAME_HEIGHT, FRAME_WIDTH, 3), dtype=np.uint8)
        frame[:_HORIZON], frame[_HORIZON:] = view.wall_color, view.ground_color
        for identity, (left, top) in corners.items():
            # The same pixels as in the other layouts, which lose a little as JPEG.
            data = np.frombuffer(self.jpeg_of(identity, image), dtype=np.uint8)
            person = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
            frame[top : top + _HEIGHT, left : left + _WIDTH] = person
        return cv2.imencode(".png", frame)[1].tobytes()

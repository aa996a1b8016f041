"""Pedestrians in the layouts of your own data: folders, and a CSV file.

The same sizes and seed give the same pictures in both layouts, and names of identities in the same
order. No layout names the camera. A MOTChallenge sequence is in `datasets.drawn.mot`.
"""

import csv
import dataclasses
import io
from collections.abc import Iterator

from .drawing import FIRST_OWN, Files, Layout, SplitSize, size, style
from .scenes import Shot

# Mean colors find most of thirty persons in one camera, but only 40 % of them across these two.
_CAMERAS = (1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(Layout):
    """A layout of images of a few persons, without splits; identities and images count from 1."""

    num_identities: int = size(40, "persons, 2 to 9999")
    images_per_identity: int = size(8, "images of a person, 1 to 999")
    seed: int = size(1234, "seed of everything random")
    style: str = style()

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

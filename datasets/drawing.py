"""What all layouts of drawn data sets share: sizes, folders, images; free of TensorFlow."""

import contextlib
import dataclasses
import io
import pathlib
import tempfile

import cv2
import numpy as np
import scipy.io

from deep_reid.errors import DataError, UsageError

from . import scenes

MAX_LABEL = {"market1501": 1501, "mars": 1500}
JUNK, DISTRACTOR = -1, 0
# Numbers of persons, which decide on the look. Labels stay below these, so that no person is in
# two of the groups; nor are those of a benchmark and those of one's own data the same.
FIRST_DISTRACTOR, FIRST_JUNK, FIRST_OWN = 10_000, 20_000, 30_000
_MAT_HEADER = b"MATLAB 5.0 MAT-file, drawn pedestrians"


@dataclasses.dataclass(frozen=True)
class SplitSize:
    """What was drawn for one part of a data set.

    Attributes
    ----------
    name : str
        Folder of the images; `all` where the data set has no parts.
    num_images, num_identities, num_cameras : int
        Sizes; distractors and junk count as images, not as identities.
    """

    name: str
    num_images: int
    num_identities: int
    num_cameras: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """Checked arguments of a benchmark, and the order in which all else is derived from them.

    Attributes
    ----------
    layout : str
        A key of `MAX_LABEL`.
    num_identities, num_test_identities, num_cameras, images_per_camera, num_distractors, seed : int
        Sizes; see `draw_market1501` and `draw_mars`.
    """

    layout: str
    num_identities: int
    num_test_identities: int
    num_cameras: int
    images_per_camera: int
    num_distractors: int
    seed: int

    @property
    def num_junk(self):
        """Number of images or tracklets of junk, int."""
        return (self.num_test_identities + 1) // 2

    def labels(self):
        """Split the labels 1, 2, ... at random.

        Returns
        -------
        train, test : list of int
            Sorted.
        """
        total = self.num_identities + self.num_test_identities
        order = np.random.default_rng((self.seed, 10)).permutation(total) + 1
        train, test = order[: self.num_identities], order[self.num_identities :]
        return sorted(train.tolist()), sorted(test.tolist())

    def cameras_of(self, label):
        """Tell which cameras see a person.

        Parameters
        ----------
        label : int

        Returns
        -------
        list of int
            Sorted, counted from 0; at least two.
        """
        rng = np.random.default_rng((self.seed, 11, label))
        count = max(2, int(rng.binomial(self.num_cameras, 0.85)))
        return sorted(rng.permutation(self.num_cameras)[:count].tolist())

    def camera_of_stranger(self, person):
        """Tell which camera sees a distractor or a piece of junk.

        Parameters
        ----------
        person : int

        Returns
        -------
        int
            Counted from 0.
        """
        return int(np.random.default_rng((self.seed, 12, person)).integers(self.num_cameras))


def check_range(name, value, low, high):
    """Refuse a number that is out of range.

    Parameters
    ----------
    name : str
        The argument's.
    value, low, high : int
        The number, and the least and greatest that will do.

    Raises
    ------
    UsageError
        If it is out of range.
    """
    if not low <= value <= high:
        raise UsageError(f"{name} is {value}: must be in {low}..{high}; choose another number")


def check_seed(seed):
    """Refuse a seed that NumPy would not take.

    Parameters
    ----------
    seed : int

    Raises
    ------
    UsageError
        If it is not in 0..2**32 - 1.
    """
    check_range("seed", seed, 0, 2**32 - 1)


def make_plan(
    layout,
    *,
    num_identities,
    num_test_identities,
    num_cameras,
    images_per_camera,
    num_distractors,
    seed,
):
    """Check the sizes of a benchmark, after the defaults took the place of None.

    Parameters
    ----------
    layout : str
        A key of `MAX_LABEL`.
    num_identities, num_test_identities, num_cameras, images_per_camera, num_distractors, seed : int
        See `draw_market1501` and `draw_mars`.

    Returns
    -------
    Plan

    Raises
    ------
    UsageError
        If a number is out of range.
    """
    if num_test_identities is None:
        num_test_identities = num_identities
    if num_distractors is None:
        num_distractors = num_test_identities
    check_range("num_identities", num_identities, 2, MAX_LABEL[layout] - 1)
    check_range("num_test_identities", num_test_identities, 1, MAX_LABEL[layout] - num_identities)
    check_range("num_cameras", num_cameras, 2, len(scenes.CAMERAS))
    check_range("images_per_camera", images_per_camera, 1, 999)
    check_range("num_distractors", num_distractors, 0, 9999)
    check_seed(seed)
    return Plan(
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
def new_folder(output_dir):
    """Yield an empty folder that becomes `output_dir` if the block ends without an error.

    Parameters
    ----------
    output_dir : str or path-like
        New or empty folder.

    Yields
    ------
    pathlib.Path
        The draft, next to it.

    Raises
    ------
    DataError
        If the folder is not empty or cannot be written.
    """
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


def encode_image(seed, shot, height):
    """Draw an image as the content of a JPEG file.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    shot : scenes.Shot
        Who is seen where.
    height : int
        Pixels; the width is half of it.

    Returns
    -------
    bytes
    """
    image, quality = scenes.take(seed, shot, height)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def write_image(path, seed, shot, height):
    """Draw an image into a JPEG file.

    Parameters
    ----------
    path : pathlib.Path
        The new file.
    seed, shot, height
        See `encode_image`.
    """
    path.write_bytes(encode_image(seed, shot, height))


def write_lines(path, lines):
    """Write lines, the same bytes on all systems.

    Parameters
    ----------
    path : pathlib.Path
        The new file.
    lines : iterable of str
        Without line ends.
    """
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def write_mat(path, name, value):
    """Write one array as a MATLAB file, the same bytes at any time.

    Parameters
    ----------
    path : pathlib.Path
        The new file.
    name : str
        Name of the variable.
    value : ndarray
    """
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {name: value})
    # SciPy writes the date into the first 116 bytes, which are free text.
    path.write_bytes(_MAT_HEADER.ljust(116) + buffer.getvalue()[116:])


def write_readme(folder, plan, name="readme.txt"):
    """Write what the data set is, and the command that draws it again.

    Parameters
    ----------
    folder : pathlib.Path
        Where to put the file.
    plan : dataclass
        Its fields are the flags of the command.
    name : str
        Name of the file.
    """
    flags = " ".join(
        f"--{field.name} {getattr(plan, field.name)}" for field in dataclasses.fields(plan)
    )
    lines = [
        "These pedestrians are drawn: no photograph and no real person is among them.",
        "Drawn by:",
        f"    python -m datasets.synthetic {flags} --output_dir DIR",
    ]
    write_lines(folder / name, lines)


def count(name, views):
    """Sum up the images of one part of a data set.

    Parameters
    ----------
    name : str
        Folder of the images.
    views : list of (int, int)
        Label and camera of each image.

    Returns
    -------
    SplitSize
    """
    persons = {label for label, _ in views if label > 0}
    return SplitSize(name, len(views), len(persons), len({camera for _, camera in views}))

"""Base classes of the layouts of drawn data sets, and the writer of their files."""

import abc
import dataclasses
import functools
import inspect
import io
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import cv2
import numpy as np
import scipy.io
from tqdm import tqdm

from deep_reid.errors import DataError, UsageError
from deep_reid.samplers.galleries import DISTRACTOR_LABEL, JUNK_LABEL

from ..own.listing import is_image_name
from . import scenes
from .styles import DEFAULT_STYLE, STYLES

# A person's look depends on the person's number. Labels are below these numbers: the persons of all
# groups differ, and so do those of a benchmark and of your own data.
FIRST_DISTRACTOR, FIRST_JUNK, FIRST_OWN = 10_000, 20_000, 30_000
_MAT_HEADER = b"MATLAB 5.0 MAT-file, drawn pedestrians"

Files: TypeAlias = Iterator[tuple[str, bytes | None]]
"""Path in the folder of the data set, and content; None is an empty folder."""


@dataclasses.dataclass(frozen=True)
class SplitSize:
    """Sizes of one part of a drawn data set; distractors and junk do not count as identities."""

    name: str  # folder of the images; "all" if the data set has no parts
    num_images: int
    num_identities: int
    num_cameras: int


def size(default: int | None, text: str) -> Any:
    """Return a field of a layout: a flag of the command line, with its default and its help."""
    return dataclasses.field(default=default, metadata={"help": text})


def style() -> Any:
    """Return the field of a layout for the style of drawing."""
    text = "clothes and cameras: two styles have none in common"
    return dataclasses.field(
        default=DEFAULT_STYLE, metadata={"help": text, "choices": tuple(STYLES)}
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout(abc.ABC):
    """A data set to draw; its fields are the flags of the command line.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    NAME: ClassVar[str]
    """Name in commands."""
    IMAGE_HEIGHT: ClassVar[int] = 128
    """Pixels; the width is half of it."""

    @property
    @abc.abstractmethod
    def seed(self) -> int:
        """Seed of everything random; a field of each layout."""

    @property
    def style(self) -> str:
        """Style of drawing; a field of layouts that have more than one."""
        return DEFAULT_STYLE

    @abc.abstractmethod
    def files(self) -> Files:
        """Yield path and content of each file."""

    @abc.abstractmethod
    def split_sizes(self) -> list[SplitSize]:
        """Return the sizes of what is drawn."""

    def num_image_files(self) -> int:
        """Return the number of image files that `files` yields."""
        return sum(split.num_images for split in self.split_sizes())

    def check_style(self) -> None:
        """Raise a UsageError if the style is unknown."""
        if self.style not in STYLES:
            raise UsageError(f"style is {self.style}: must be one of {', '.join(STYLES)}")

    def check(self, **ranges: tuple[int, int]) -> None:
        """Raise a UsageError if a size is not in its range, ``name=(low, high)``."""
        self.check_style()
        for name, (low, high) in {**ranges, "seed": (0, 2**32 - 1)}.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(
                    f"{name} is {value}: must be in {low}..{high}; choose another number"
                )

    def jpeg(self, shot: scenes.Shot) -> bytes:
        """Draw an image as the content of a file."""
        image, quality = scenes.take(self.seed, shot, self.IMAGE_HEIGHT, self.style)
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

    def readme(self) -> bytes:
        """Return the content of a file with the command that draws the data set again."""
        flags = "".join(f" --{name} {value}" for name, value in dataclasses.asdict(self).items())
        command = f"python -m datasets.synthetic --layout {self.NAME}{flags} --output_dir DIR"
        what = "These pedestrians are drawn: no photograph and no real person is among them."
        return encode_lines([what, "Drawn by:", f"    {command}"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark(Layout):
    """A layout with training and test persons, distractors and junk.

    Labels are in 1..`MAX_LABEL`; chance decides which of them are for training.
    """

    MAX_LABEL: ClassVar[int]
    """The largest label."""

    num_identities: int = size(80, "persons to train on")
    num_test_identities: int = size(None, "other persons to test on (default: num_identities)")
    num_cameras: int = size(6, "cameras, 2 to 6; each person is seen by two or more")
    images_per_camera: int = size(3, "images of a person in a camera")
    num_distractors: int = size(
        None, "images or tracklets of others, with label 0 (default: one for each test person)"
    )
    seed: int = size(1234, "seed of everything random")
    style: str = style()

    def __post_init__(self):
        self.check_style()
        # A frozen dataclass allows no other way to set its fields.
        if self.num_test_identities is None:
            object.__setattr__(self, "num_test_identities", self.num_identities)
        if self.num_distractors is None:
            object.__setattr__(self, "num_distractors", self.num_test_identities)
        self.check(
            num_identities=(2, self.MAX_LABEL - 1),
            num_test_identities=(1, self.MAX_LABEL - self.num_identities),
            num_cameras=(2, len(STYLES[self.style].cameras)),
            images_per_camera=(1, 999),
            num_distractors=(0, 9999),
        )

    @functools.cached_property
    def labels(self) -> tuple[list[int], list[int]]:
        """Labels to train on and labels to test on, two sorted lists."""
        total = self.num_identities + self.num_test_identities
        order = np.random.default_rng((self.seed, 10)).permutation(total) + 1
        train, test = order[: self.num_identities], order[self.num_identities :]
        return sorted(train.tolist()), sorted(test.tolist())

    def cameras_of(self, label: int) -> list[int]:
        """List the cameras that see a person: sorted, from 0, at least two."""
        rng = np.random.default_rng((self.seed, 11, label))
        count = max(2, int(rng.binomial(self.num_cameras, 0.85)))
        return sorted(rng.permutation(self.num_cameras)[:count].tolist())

    def strangers(self, label: int) -> list[scenes.Shot]:
        """List the shots of distractors or of junk, by their label; one camera sees each person."""
        is_junk = label == JUNK_LABEL
        first, count = FIRST_DISTRACTOR, self.num_distractors
        if is_junk:
            first, count = FIRST_JUNK, (self.num_test_identities + 1) // 2
        shots = []
        for person in range(first, first + count):
            rng = np.random.default_rng((self.seed, 12, person))
            camera = int(rng.integers(self.num_cameras))
            shots.append(scenes.Shot(person, camera, person - first + 1, spoiled=is_junk))
        return shots


def label_of(shot: scenes.Shot) -> int:
    """Return the label of the person in an image of a benchmark."""
    if shot.person >= FIRST_JUNK:
        return JUNK_LABEL
    return DISTRACTOR_LABEL if shot.person >= FIRST_DISTRACTOR else shot.person


def count(name: str, shots: Sequence[scenes.Shot]) -> SplitSize:
    """Count the images, persons and cameras of one part of a benchmark."""
    persons = {shot.person for shot in shots if label_of(shot) > 0}
    return SplitSize(name, len(shots), len(persons), len({shot.camera for shot in shots}))


def encode_lines(lines: Iterable[str]) -> bytes:
    """Return the content of a text file, the same bytes on all systems."""
    return "".join(f"{line}\n" for line in lines).encode()


def encode_mat(name: str, value: np.ndarray) -> bytes:
    """Return the content of a MATLAB file with one array; it does not depend on the date."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {name: value})
    # The first 116 bytes are free text, into which SciPy writes the date.
    return _MAT_HEADER.ljust(116) + buffer.getvalue()[116:]


def make_draw(layout: type[Layout]) -> Callable[..., list[SplitSize]]:
    """Return the function that draws a layout.

    Parameters
    ----------
    layout : type
        A subclass of `Layout`.

    Returns
    -------
    callable
        Takes a new or empty folder, and sizes and style by name; returns a list of SplitSize.
        Raises a UsageError if one is out of range, a DataError if the folder is not empty or cannot
        be written.
    """

    def draw(output_dir: str | os.PathLike[str], **sizes: Any) -> list[SplitSize]:
        plan = layout(**sizes)
        _write(output_dir, _show_progress(plan.files(), plan.num_image_files()))
        return plan.split_sizes()

    folder = inspect.Parameter("output_dir", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.Signature([folder, *inspect.signature(layout).parameters.values()])
    draw.__signature__ = signature  # type: ignore[attr-defined]
    draw.__name__, draw.__doc__ = f"draw_{layout.NAME}", layout.__doc__
    return draw


def _show_progress(files, num_images):
    """Hand on the files, and show how many of the images are drawn."""
    with tqdm(total=num_images, desc="Drawing", unit=" images", delay=1) as bar:
        for name, content in files:
            yield name, content
            bar.update(is_image_name(pathlib.PurePath(name).name))


def _write(output_dir, files):
    """Write the files of a data set; the folder appears when it is complete."""
    target = pathlib.Path(output_dir).resolve()
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise DataError(
                f"{output_dir} is not empty: the data set is only drawn into a new or empty "
                "folder; remove it or name another folder (--output_dir)"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        # The folder is made in a subfolder, because only its owner may read the temporary folder.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as draft:
            folder = pathlib.Path(draft, "data")
            for name, content in files:
                path = folder / name
                (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
                if content is not None:
                    path.write_bytes(content)
            if target.exists():
                target.rmdir()
            folder.rename(target)
    except OSError as error:
        raise DataError(
            f"{output_dir} cannot be written ({error.strerror}): its parent must be a writable "
            "folder with space left; name another one (--output_dir)"
        ) from error

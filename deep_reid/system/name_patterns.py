r"""What names of image files tell: identity, camera and split, by a regular expression.

``(?P<identity>\d+)_c(?P<camera>\d+)`` reads 0002_c1s1_000451_03.jpg. The names of some public data
sets have a short form, such as ``market1501``.
"""

import dataclasses
import re

from deep_reid.errors import UsageError
from deep_reid.system.spelling import propose

GROUPS = ("identity", "camera", "split")
"""What a pattern can tell of an image."""

EXAMPLE = r"(?P<identity>\d+)_c(?P<camera>\d+)"


@dataclasses.dataclass(frozen=True)
class Preset:
    """How a public data set names its images.

    Parameters
    ----------
    pattern : str
        Empty: names of images tell nothing.
    example : str
        Path of an image.
    list_forms : tuple of str
        Where the images of its lists are, relative to the list; ``{}`` is what the list has.
    list_example : str
        A list in the data set, if it has lists.
    """

    pattern: str
    example: str
    list_forms: tuple[str, ...] = ("{}",)
    list_example: str = ""


PRESETS = {
    "market1501": Preset(
        r"(?P<identity>-?\d+)_c(?P<camera>\d+)s\d+_\d+_\d+", "0002_c1s1_000451_03.jpg"
    ),
    "dukemtmc": Preset(r"(?P<identity>\d+)_c(?P<camera>\d+)_f\d+", "0005_c2_f0046985.jpg"),
    "veri": Preset(
        r"(?P<identity>\d+)_c(?P<camera>\d+)_\d+_\d+",
        "0001_c001_00016450_0.jpg",
        ("{}", "image_train/{}", "image_test/{}", "image_query/{}"),
        "name_train.txt",
    ),
    "msmt17": Preset(
        r"(?P<identity>\d+)_\d+_(?P<camera>\d+)_\d+[a-z]+_\d+_\d+",
        "0000/0000_000_01_0303morning_0008_0.jpg",
        ("{}", "train/{}", "test/{}", "mask_train_v2/{}", "mask_test_v2/{}"),
        "list_train.txt",
    ),
    "vehicleid": Preset(
        "", "image/0000001.jpg", ("{}", "../image/{}.jpg"), "train_test_split/train_list.txt"
    ),
    "cuhk03": Preset(r"(?P<identity>\d_\d{3})_(?P<camera>[12])_\d{2}\.", "1_001_1_01.png"),
    "viper": Preset(r"(?P<camera>cam_[ab])/(?P<identity>\d+)_\d+", "cam_a/000_45.bmp"),
}


class NamePattern:
    """Reads names of images.

    The pattern must match from the start of the file name; the end may be left out. A pattern with
    ``/`` must match from the start of the name of one of the folders; the folder nearest to the
    file is tried first.

    Parameters
    ----------
    text : str
        A regular expression with some of the named groups `GROUPS`, or one of `PRESETS`.

    Raises
    ------
    UsageError
        If it is neither.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        preset = PRESETS.get(text)
        self.list_forms = preset.list_forms if preset else ("{}",)
        pattern = preset.pattern if preset else text
        try:
            self._pattern = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise UsageError(
                f"{text} is not a regular expression ({error}): {_ways_out(text)}"
            ) from None
        self.groups = frozenset(self._pattern.groupindex)
        if not preset and (not self.groups or self.groups - set(GROUPS)):
            raise UsageError(
                f"{text} must have the groups (?P<identity>...), (?P<camera>...) or "
                f"(?P<split>...), and no other named ones: {_ways_out(text)}"
            )
        self._takes_folders = "/" in re.sub(r"\[\^?\]?[^\]]*\]", "", pattern)

    def __repr__(self) -> str:
        return f"NamePattern({self.text!r})"

    def match(self, path: str) -> dict[str, str] | None:
        """Read the name of an image.

        Parameters
        ----------
        path : str
            Relative to the data set, with ``/`` between folders.

        Returns
        -------
        dict of str to str, or None
            What each group matches. None: the name has another form, or a group has no text.
        """
        start = path.rfind("/") + 1
        match = self._pattern.match(path[start:])
        while match is None and self._takes_folders and start > 0:
            start = path.rfind("/", 0, start - 1) + 1
            match = self._pattern.match(path[start:])
        if match is None:
            return None
        found = match.groupdict()
        return found if all(found.values()) else None


def _ways_out(text):
    return f"write for example '{EXAMPLE}', or one of {', '.join(PRESETS)}{propose(text, PRESETS)}"


def guess_preset(paths: list[str]) -> str | None:
    """Find the data set whose images are named like these.

    Parameters
    ----------
    paths : list of str
        As in `NamePattern.match`.

    Returns
    -------
    str or None
        One of `PRESETS` that matches all names. None: there is none.
    """
    for name, preset in PRESETS.items():
        pattern = NamePattern(name)
        if preset.pattern and paths and all(pattern.match(path) for path in paths):
            return name
    return None

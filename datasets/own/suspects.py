"""Refuses splits and cameras that are taken for identities.

A folder such as ``bounding_box_train`` or ``cam_a`` holds many persons. A network can be trained on
such folders as identities, and has good scores, but has learned nothing of persons.
"""

import os
import re
import unicodedata

from deep_reid.errors import DataError
from deep_reid.system.name_patterns import EXAMPLE, NamePattern, guess_preset

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout"), "test"),
    **dict.fromkeys(("query", "queries", "qry", "probe", "probes"), "query"),
    **dict.fromkeys(("gallery", "galleries", "database", "reference", "enrollment"), "gallery"),
}
"""Words for the parts of a data set, in lower case, and what they mean."""

_IMAGES = {"images", "imgs", "pictures", "photos", "frames", "crops", "jpegs", "jpgs"}
# Words beside that of the split: bounding_box_train, gt_query, image_test, train_all.
_FILLERS = _IMAGES | {"image", "img", "picture", "photo", "frame", "crop", "bounding", "box",
                      "boxes", "bbox", "bboxes", "gt", "set", "data", "all", "multi", "single",
                      "folder", "dir", "split", "labeled", "labelled", "detected", "resized",
                      "reid", "v", "the"}  # fmt: skip
_CONTAINERS = _IMAGES | {
    "image",
    "img",
    "labeled",
    "labelled",
    "unlabeled",
    "detected",
    "distractors",
}
_CAMERAS = {"cam", "cams", "camera", "cameras", "kamera", "camara", "camra", "webcam", "ipcam",
            "cctv", "gopro"}  # fmt: skip
_VIEWS = {"image", "img", "view", "channel", "ch"}
# Words beside that of the camera: where it is, what it sees, and when.
_PLACES = {"front", "back", "rear", "left", "right", "top", "bottom", "center", "centre", "side",
           "north", "south", "east", "west", "inside", "outside", "entrance", "exit", "indoor",
           "outdoor", "lobby", "gate", "door", "hall", "corridor", "street", "parking", "garage",
           "floor", "main", "day", "night", "rgb", "ir", "infrared", "thermal", "visible", "depth",
           "seq", "sequence", "session", "scene", "site"}  # fmt: skip

_ONE = {"splits": "a split", "cameras": "a camera", "folders of images": "a folder of images"}


def _words(name):
    """Split a name into words, in lower case, without accents: also trainImages and trainset."""
    if not name.isascii():
        letters = unicodedata.normalize("NFKD", name)
        name = "".join(letter for letter in letters if not unicodedata.combining(letter))
    parts = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", name)
    words = re.findall(r"\d+|[^\W\d_]+", parts.lower())
    glued = [(word, re.sub("(sets?|images?|imgs?|data)$", r" \1", word).split()) for word in words]
    return [
        part
        for word, pair in glued
        for part in (pair if pair and pair[0] in SPLIT_WORDS else [word])
    ]


def find_splits(names: list[str]) -> dict[str, str]:
    """Find the folders that are parts of a data set, by their names.

    A name is that of a part if it has no further words of its own, such as ``bounding_box_train``;
    or if at least half of the names differ from each other in the part alone, such as
    ``cars_train`` and ``cars_test``.

    Parameters
    ----------
    names : list of str

    Returns
    -------
    dict of str to {"train", "val", "test", "query", "gallery"}
        The part of each name that is one; other names can be those of identities.
    """
    found: dict[str, str] = {}
    alike: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        words = _words(name)
        parts = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
        if not parts:
            continue
        part = "train" if "train" in parts else min(parts)
        others = tuple(word for word in words if word not in SPLIT_WORDS)
        if all(word in _FILLERS or word.isdecimal() for word in others):
            found[name] = part
        else:
            alike.setdefault(others, {})[name] = part
    pairs = {
        name: part
        for group in alike.values()
        if len(set(group.values())) > 1
        for name, part in group.items()
    }
    if pairs and len(found) + len(pairs) >= len(names) / 2:
        found |= pairs
    return found


def is_camera(name: str) -> bool:
    """Return whether a folder is certainly named after a camera: ``cam_a``, ``image_02``.

    Parameters
    ----------
    name : str

    Returns
    -------
    bool
    """
    words = _words(name)
    heads = [word for word in words if word in _CAMERAS]
    rest = [word for word in words if word not in _CAMERAS]
    if len(heads) == 1 and rest:
        return all(word.isdecimal() or len(word) == 1 or word in _PLACES for word in rest)
    return len(words) == 2 and words[0] in _VIEWS and words[1].isdecimal()


def _is_part_or_number(word):
    return word in SPLIT_WORDS or word.isdecimal()


def _is_container(name):
    words = _words(name)
    return bool(words) and (set(words) <= _CONTAINERS or words == ["gt", "bbox"])


def find_suspects(names: list[str]) -> tuple[str, list[str]] | None:
    """Find what is certainly no identity.

    Parameters
    ----------
    names : list of str
        Distinct names of the identities.

    Returns
    -------
    kind : str
        A key of `_ONE`.
    suspects : list of str
        None in place of both, if all can be identities: a person can be called Val, and a vehicle
        can be a train.
    """
    splits = find_splits(names)
    cameras = [name for name in names if name not in splits and is_camera(name)]
    compound = [name for name in splits if not all(map(_is_part_or_number, _words(name)))]
    bare = [name for name in splits if not re.search(r"\d", name)]
    others = [name for name in names if name not in cameras and _is_container(name)]
    num_parts, half = len(set(splits.values())), len(names) / 2
    if compound or num_parts >= 3 or (num_parts == 2 and len(splits) >= half):
        return "splits", list(splits)
    if len(cameras) >= max(2, half):
        return "cameras", cameras
    if len(bare) + len(cameras) + len(others) == len(names):
        return "splits" if bare else "cameras" if cameras else "folders of images", names
    return None


def check(identities: list[str], filenames: list[str], source: str, is_list: bool) -> None:
    """Check that identities are not splits or cameras, by their names and by those of the files.

    Parameters
    ----------
    identities, filenames : list of str
        For each image the name of its identity, and its path.
    source : str
        Name of the data, for messages.
    is_list : bool
        Whether the identities are from a list: then names of files may contradict them.

    Raises
    ------
    DataError
        If some of them are certainly no identities; the message says what to write instead.
    """
    names = sorted(set(identities))
    found = find_suspects(names)
    # One person in a list can be called Val; a folder with this name alone holds a split.
    if found and not (is_list and len(names) == 1):
        kind, suspects = found
        what = f"{kind}, not identities" if len(suspects) > 1 else f"{_ONE[kind]}, not an identity"
        raise DataError(
            f"{source}: {_enumerate(suspects)} {'are' if len(suspects) > 1 else 'is'} {what}: "
            f"{_way_out(filenames, identities, suspects)}"
        )
    if not is_list:
        _check_files(filenames, names, source)


def _check_files(filenames, names, source):
    """Refuse folders whose files are named like those of a data set, and name many persons."""
    preset = guess_preset(_some(filenames))
    if preset is None:
        return
    pattern = NamePattern(preset)
    persons = [
        found and found["identity"] for found in map(pattern.match, map(_with_slashes, filenames))
    ]
    # Twice as many: a few images in a wrong folder, or groups of similar persons, are no cameras.
    if None not in persons and len(set(persons)) >= 2 * len(names):
        raise DataError(
            f"{source} has {len(names)} {'identity' if len(names) == 1 else 'identities'} "
            f"({_enumerate(names)}), but its files are named after {len(set(persons))}: add "
            f"--name_pattern={preset}, or list path,identity,camera in a CSV file"
        )


def _way_out(filenames, identities, suspects):
    named = zip(filenames, identities, strict=True)
    inside = [filename for filename, name in named if name in suspects]
    preset = guess_preset(_some(inside))
    if preset:
        return f"add --name_pattern={preset}, which reads identity and camera from the file names"
    return (
        "put the images into one folder per identity (DIR/IDENTITY, or DIR/train/IDENTITY), or "
        f"read identities from file names, such as --name_pattern='{EXAMPLE}', or list "
        "path,identity,camera in a CSV file"
    )


def _some(filenames):
    return [*map(_with_slashes, filenames[:: max(1, len(filenames) // 50)])]


def _with_slashes(filename):
    return filename.replace(os.sep, "/")


def _enumerate(names):
    shown = [name if name.isprintable() else repr(name) for name in names[:4]]
    return ", ".join(shown) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

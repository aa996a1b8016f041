"""Draws tracks: boxes with identities on frames, as pictures and as a video."""

import colorsys
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from deep_reid.datasets.images import read_bgr_image
from deep_reid.errors import RunError
from deep_reid.system import files

_GOLDEN_RATIO = 0.618034
_JPEG_QUALITY = 82


def color_of(track: int) -> tuple[int, int, int]:
    """Return the color of a track, (blue, green, red): always the same, and unlike its neighbours.

    Parameters
    ----------
    track : int

    Returns
    -------
    tuple of int
    """
    # The golden ratio spreads hues evenly, however many there are.
    hue, ring = track * _GOLDEN_RATIO % 1.0, track % 3
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.95, 0.7, 0.85)[ring], (1.0, 0.95, 0.75)[ring])
    return round(255 * blue), round(255 * green), round(255 * red)


def draw(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Draw boxes with their identities on a frame.

    Parameters
    ----------
    image : np.ndarray of uint8, shape (H, W, 3)
        BGR; drawn upon.
    boxes : np.ndarray of float64, shape (N, 5)
        Track, left, top, width and height.

    Returns
    -------
    np.ndarray
        The same image.
    """
    size = max(1, round(image.shape[0] / 360))
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45 * size
    # Corners far outside would overflow.
    limit = 4 * max(image.shape)
    for track, left, top, width, height in boxes.tolist():
        corners = np.clip([left, top, left + width, top + height], -limit, limit)
        x, y, right, bottom = np.rint(corners).astype(int).tolist()
        color, text = color_of(int(track)), f"{track:.0f}"
        cv2.rectangle(image, (x, y), (right, bottom), color, 2 * size)
        (text_width, text_height), _ = cv2.getTextSize(text, font, scale, size)
        # Above the box, where there is room: a label inside hides a face.
        y = max(0, y - text_height - 4 * size)
        end = x + text_width + 4 * size, y + text_height + 4 * size
        cv2.rectangle(image, (x, y), end, color, cv2.FILLED)
        is_light = np.dot(color, (0.114, 0.587, 0.299)) > 140
        place = x + 2 * size, y + text_height + 2 * size
        cv2.putText(image, text, place, font, scale, (0,) * 3 if is_light else (255,) * 3, size)
    return image


def draw_frame(path: Path, tracks: np.ndarray, frame: int) -> np.ndarray:
    """Read a frame, and draw its tracks.

    Parameters
    ----------
    path : Path
    tracks : np.ndarray of float64, shape (M, 6)
        Frame, track, left, top, width and height.
    frame : int

    Returns
    -------
    np.ndarray of uint8, shape (H, W, 3)
    """
    return draw(read_bgr_image(path, "frame"), tracks[tracks[:, 0] == frame, 1:])


def encode_jpeg(image: np.ndarray, max_width: int) -> bytes:
    """Encode an image of at most some width as JPEG."""
    height, width = image.shape[:2]
    if width > max_width:
        size = max_width, max(1, round(height * max_width / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def write_video(
    path: files.Path,
    frames: Mapping[int, Path],
    tracks: np.ndarray,
    frame_rate: float,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write a video of a sequence with its tracks, whole or not at all.

    Parameters
    ----------
    path : str or Path
        Named ``*.mp4``.
    frames : dict of int to Path
    tracks : np.ndarray of float64, shape (M, 6)
    frame_rate : float
    progress : callable, optional
        Called with 1 after each frame.

    Raises
    ------
    DataError
        If a frame cannot be decoded.
    RunError
        If OpenCV cannot write such a video.
    """
    with files.writing(path) as temporary:
        writer, size = None, (0, 0)
        try:
            for frame in sorted(frames):
                image = draw_frame(frames[frame], tracks, frame)
                if writer is None:
                    size = image.shape[1], image.shape[0]
                    codec = cv2.VideoWriter.fourcc(*"mp4v")
                    writer = cv2.VideoWriter(temporary, codec, frame_rate, size)
                    if not writer.isOpened():
                        raise RunError(
                            f"{path}: this OpenCV cannot write MPEG-4 videos of {size[0]} x "
                            f"{size[1]} pixels: leave them out, with --no-video"
                        )
                if (image.shape[1], image.shape[0]) != size:
                    image = cv2.resize(image, size)
                writer.write(image)
                if progress is not None:
                    progress(1)
        finally:
            if writer is not None:
                writer.release()

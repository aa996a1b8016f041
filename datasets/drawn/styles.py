"""Styles of drawing: the colors and textures of clothes, and the cameras with their scenes."""

import dataclasses
from functools import partial
from typing import TypeAlias

import cv2
import numpy as np

UNIT = 256
"""Height of images that scenes are painted for, before they are scaled to that of the layout."""

Color: TypeAlias = tuple[int, ...]
"""(blue, green, red) in 0..255, the order that OpenCV draws and writes."""


def bgr(code: str) -> Color:
    """Return the color of six hexadecimal digits, which have red first."""
    return tuple(bytes.fromhex(code)[::-1])


def _palette(codes):
    return tuple(map(bgr, codes.split()))


SKINS = _palette("f0c9a8 dba983 b07a52 7a4e32")
HAIRS = _palette("17130f 4a2f1d 8f6237 d0ad62 9b9a98 7d2f1c")


def _tint(rng, color, spread):
    """Return `color` made lighter or darker, clipped to 0..255."""
    return np.clip(np.add(color, rng.normal(0, spread)), 0, 255).tolist()


def _blocks(rng, panel, color, pitch, size, start=(0, 0), spread=0, shift=0, darker=0, own=None):
    """Paint a grid of blocks in `color`, or in their `own`; pairs are (vertical, horizontal).

    Each second row is moved by the share `shift` of a column, each second block is `darker`.
    """
    height, width = np.array(panel.shape[:2]) / UNIT
    for row, y in enumerate(np.arange(start[0], height, pitch[0])):
        first = start[1] - row % 2 * shift * pitch[1]
        for column, x in enumerate(np.arange(first, width, pitch[1])):
            shade = np.subtract(own or color, darker * ((row + column) % 2))
            ends = np.rint(np.array(((x, y), (x + size[1], y + size[0]))) * UNIT).astype(int)
            # The second corner belongs to a rectangle of OpenCV.
            first_end, last_end = (ends - ((0, 0), (1, 1))).tolist()
            cv2.rectangle(panel, first_end, last_end, _tint(rng, shade, spread), cv2.FILLED)


def _specks(rng, panel, color, number, least, most, spread):
    """Paint leaves, blades or grains anywhere; half sizes are from `least` to `most`."""
    centers = rng.integers(panel.shape[1::-1], size=(number, 2))
    axes = np.rint(rng.uniform(least, most, (number, 2)) * UNIT).astype(int)[:, ::-1]
    shades = np.clip(color + rng.normal(0, spread, (number, 1)), 0, 255)
    for center, size, shade in zip(centers, axes, shades, strict=True):
        cv2.ellipse(panel, center.tolist(), size.tolist(), 0, 0, 360, shade.tolist(), cv2.FILLED)


# What covers a wall or the ground, layer by layer; sizes are shares of the image's height.
_BRICKS = (partial(_blocks, pitch=(0.045, 0.12), size=(0.037, 0.112), spread=7, shift=0.5),)
_HEDGE = (
    partial(_specks, number=700, least=(0.012, 0.012), most=(0.04, 0.04), spread=13),
    partial(_blocks, pitch=(2, 0.55), size=(2, 0.05), start=(0, 0.2), own=(52, 68, 84)),
)
_RAILINGS = (
    partial(_blocks, pitch=(2, 0.07), size=(2, 0.012), start=(0.28, 0), own=(92, 96, 98)),
    partial(_blocks, pitch=(0.22, 9), size=(0.022, 9), start=(0.28, 0), own=(84, 88, 90)),
)
_WINDOWS = (
    partial(_blocks, pitch=(2, 0.34), size=(0.51, 0.24), start=(0, 0.06), own=(150, 160, 168)),
    partial(_blocks, pitch=(2, 0.34), size=(0.5, 0.21), start=(0, 0.075), own=(128, 116, 98)),
)
_SLABS = (partial(_blocks, pitch=(0.11, 0.22), size=(0.106, 0.214), spread=3, shift=0.5),)
_GRASS = (partial(_specks, number=1500, least=(0.012, 0.002), most=(0.022, 0.004), spread=14),)
_TILES = (partial(_blocks, pitch=(0.045, 0.09), size=(0.045, 0.09), spread=3, darker=17),)
_ASPHALT = (
    partial(_specks, number=4000, least=(0.002, 0.002), most=(0.006, 0.006), spread=8),
    partial(_blocks, pitch=(9, 9), size=(0.05, 9), own=(160, 165, 168)),
    partial(_blocks, pitch=(9, 0.6), size=(0.035, 0.3), start=(0.45, 0.2), own=(205, 212, 214)),
)


@dataclasses.dataclass(frozen=True)
class Camera:
    """Properties that all images of one camera share."""

    gains: tuple  # factors of blue, green and red
    contrast: float  # factor around middle gray
    brightness: float  # gray levels that are added then
    wall: tuple  # what the background has above the horizon; the ground is below
    wall_color: Color
    ground: tuple
    ground_color: Color
    horizon: float  # share of the image's height, from the top
    yaws: tuple  # directions in which people walk through this view, in degrees; see Pose
    scale: float  # body unit as a share of the image's height
    shear: float  # lean of the verticals
    tilt: float  # view from above; see Pose
    blur: float  # standard deviation as a share of the image's height
    noise: float  # standard deviation in gray levels
    light: float  # gain from left to right: -0.1 is 10 % darker on the right, lighter on the left


_STREET_CAMERAS = (
    Camera((0.95, 1.0, 1.06), 1.0, 6, _BRICKS, bgr("a4674f"), _SLABS, bgr("b9b4aa"),
           0.52, (0, 20, -20, 180), 0.86, 0.0, 0.10, 0.002, 3, 0.08),
    Camera((1.1, 1.0, 0.92), 0.94, -8, _HEDGE, bgr("4f7a45"), _SLABS, bgr("9aa0a3"),
           0.44, (180, 160, 200, 0), 0.83, 0.03, 0.14, 0.003, 4, -0.1),
    Camera((0.98, 1.05, 0.98), 1.06, 4, _RAILINGS, bgr("a9c4d4"), _GRASS, bgr("7fa05a"),
           0.46, (90, 75, 110, -90), 0.88, -0.02, 0.08, 0.002, 3, 0.05),
    Camera((0.9, 0.98, 1.1), 0.95, 10, _WINDOWS, bgr("cdbfa6"), _TILES, bgr("c9bda8"),
           0.5, (40, 30, -145, -40), 0.84, 0.0, 0.12, 0.004, 4, -0.06),
    Camera((1.06, 1.02, 0.96), 0.9, -16, _BRICKS, bgr("8d8f96"), _ASPHALT, bgr("6f7278"),
           0.4, (-90, -110, -70, 90), 0.82, 0.02, 0.16, 0.003, 6, 0.1),
    Camera((1.0, 0.95, 1.02), 1.08, 12, _HEDGE, bgr("8aa36b"), _ASPHALT, bgr("a8a49c"),
           0.36, (145, -140, 180, 30), 0.87, -0.03, 0.13, 0.002, 3, -0.08),
)  # fmt: skip

_POSTERS = (
    partial(_blocks, pitch=(9, 0.5), size=(0.4, 0.3), start=(0.06, 0.1), spread=45),
    partial(_blocks, pitch=(9, 0.5), size=(0.09, 0.3), start=(0.3, 0.1), own=(225, 228, 230)),
)
_SHUTTERS = (partial(_blocks, pitch=(0.05, 9), size=(0.036, 9), spread=6),)
_PANES = (
    partial(_blocks, pitch=(0.3, 0.42), size=(0.28, 0.4), spread=18, own=(146, 128, 108)),
    partial(_blocks, pitch=(0.3, 0.42), size=(0.05, 0.4), start=(0.02, 0), own=(190, 186, 176)),
)
_WALL_TILES = (partial(_blocks, pitch=(0.16, 0.16), size=(0.152, 0.152), spread=4, darker=7),)
_TERRAZZO = (partial(_specks, number=2200, least=(0.003, 0.004), most=(0.012, 0.014), spread=22),)
_BOARDS = (partial(_blocks, pitch=(0.06, 0.8), size=(0.054, 0.79), spread=9, shift=0.37),)
_CARPET = (partial(_blocks, pitch=(0.12, 0.24), size=(0.12, 0.24), spread=3, darker=26),)

_STATION_CAMERAS = (
    Camera((0.82, 0.97, 1.14), 0.96, 2, _WALL_TILES, bgr("b8b3a2"), _TERRAZZO, bgr("8f8a80"),
           0.48, (30, 0, 50, -150), 0.85, 0.02, 0.18, 0.003, 4, 0.12),
    Camera((1.14, 1.03, 0.9), 1.04, 8, _POSTERS, bgr("5a6f86"), _CARPET, bgr("6a5f72"),
           0.5, (-60, -90, -40, 120), 0.84, 0.0, 0.1, 0.002, 5, -0.05),
    Camera((0.94, 1.09, 0.96), 0.9, -10, _SHUTTERS, bgr("7d8288"), _TERRAZZO, bgr("a59a8c"),
           0.42, (180, -160, 150, 0), 0.86, -0.03, 0.2, 0.003, 6, 0.07),
    Camera((1.02, 1.0, 1.0), 1.1, 14, _PANES, bgr("8a94a0"), _BOARDS, bgr("a07c54"),
           0.46, (90, 110, 60, -90), 0.83, 0.02, 0.12, 0.004, 3, -0.1),
    Camera((0.88, 0.95, 1.08), 0.88, -14, _SHUTTERS, bgr("a48f6c"), _CARPET, bgr("4f6a6e"),
           0.38, (0, -30, 30, -170), 0.87, 0.0, 0.15, 0.003, 5, 0.04),
    Camera((1.08, 0.98, 0.98), 1.0, 0, _POSTERS, bgr("93826f"), _BOARDS, bgr("7b6a5c"),
           0.44, (-120, -90, -140, 60), 0.82, -0.02, 0.14, 0.002, 4, -0.08),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Style:
    """What people wear, and which cameras see them.

    Two styles share nothing but the bodies: a network that has learned one of them has not seen the
    other.
    """

    tops: tuple[Color, ...]
    bottoms: tuple[Color, ...]
    bags: tuple[Color, ...]
    shoes: tuple[Color, ...]
    textures: tuple[str, ...]  # names in `datasets.drawn.figures.TEXTURES`; the first one is plain
    cameras: tuple[Camera, ...]
    occluded: float  # share of walks in which something hides a part of the person


# Few colors in many arrangements: the mean color of a person does not identify the person.
STYLES = {
    "street": Style(
        _palette("e9e7e1 26262b 8b8f95 26386e b5232c 3c8050 dcb234 74a9d6 dc87a6 7c5234 6b4792 "
                 "d96f28"),
        _palette("3f5b86 25262b bda67c 777a80 5d6339 d9d7cf 6b3328"),
        _palette("b5232c 1f2024 2f57a4 d9a521 3f7a45 e4dfd2 7a4a2a"),
        _palette("1e1e20 e6e4de 6b4a32 a8313a"),
        ("plain", "logo", "rings", "stripes", "checks", "two_tone"),
        _STREET_CAMERAS,
        0.12,
    ),
    "station": Style(
        _palette("d8cfc0 3a3f44 0f6f78 7b1e3a c79a2e 8c7fb8 1c3f5f 6f7f3a e08a72 3fa99c 5a4636 "
                 "b7bcc4"),
        _palette("2b3a52 4a4a46 8a7558 9aa3ab 394b3a c9bda6 4f2a3a"),
        _palette("8f2f46 15181c 3e7f8c c8b04a 56704a d5c8b8 5b4a7a"),
        _palette("2a2420 cfcac2 7a5a3a 3d4f6a"),
        ("plain", "logo", "diagonals", "dots", "sash", "zigzag"),
        _STATION_CAMERAS,
        0.3,
    ),
}  # fmt: skip
DEFAULT_STYLE = "street"

"""Cameras, their scenes, and the images they take of drawn pedestrians."""

import dataclasses
import functools
import math
from functools import partial

import cv2
import numpy as np

from .figures import TOPS, Brush, Color, Fabric, Pose, bgr, paint_person, pick, sample_look

# Backgrounds are painted for this height of images, and then scaled to that of the layout.
_UNIT = 256
# Of whole frames, as a share of the height: a person in them is a quarter as high.
_FRAME_BLUR = 0.0008


def _tint(rng, color, spread):
    """Return `color` made lighter or darker, clipped to 0..255."""
    return np.clip(np.add(color, rng.normal(0, spread)), 0, 255).tolist()


def _blocks(rng, panel, color, pitch, size, start=(0, 0), spread=0, shift=0, darker=0, own=None):
    """Paint a grid of blocks in `color`, or in their `own`; pairs are (vertical, horizontal).

    Each second row is moved by the share `shift` of a column, each second block is `darker`.
    """
    height, width = np.array(panel.shape[:2]) / _UNIT
    for row, y in enumerate(np.arange(start[0], height, pitch[0])):
        first = start[1] - row % 2 * shift * pitch[1]
        for column, x in enumerate(np.arange(first, width, pitch[1])):
            shade = np.subtract(own or color, darker * ((row + column) % 2))
            ends = np.rint(np.array(((x, y), (x + size[1], y + size[0]))) * _UNIT).astype(int)
            # The second corner belongs to a rectangle of OpenCV.
            first_end, last_end = (ends - ((0, 0), (1, 1))).tolist()
            cv2.rectangle(panel, first_end, last_end, _tint(rng, shade, spread), cv2.FILLED)


def _specks(rng, panel, color, number, least, most, spread):
    """Paint leaves, blades or grains anywhere; half sizes are from `least` to `most`."""
    centers = rng.integers(panel.shape[1::-1], size=(number, 2))
    axes = np.rint(rng.uniform(least, most, (number, 2)) * _UNIT).astype(int)[:, ::-1]
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


CAMERAS = (
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


@functools.lru_cache(maxsize=32)
def _panorama(seed, camera, height):
    """Background of a camera, uint8, (1.2 * height, 2 * height, 3); not to be written to."""
    view = CAMERAS[camera]
    rng = np.random.default_rng((seed, 0, camera, 0, 0, 0))
    canvas = np.empty((round(1.2 * _UNIT), 2 * _UNIT, 3), dtype=np.uint8)
    border = round((view.horizon + 0.1) * _UNIT)
    wall, ground = (view.wall, view.wall_color), (view.ground, view.ground_color)
    for panel, (layers, color) in ((canvas[:border], wall), (canvas[border:], ground)):
        panel[:] = np.subtract(color, 14)
        for paint in layers:
            paint(rng, panel, color)
    return cv2.resize(canvas, (2 * height, round(1.2 * height)), interpolation=cv2.INTER_AREA)


def _paint_occluder(brush, rng):
    """Paint what hides a part of the person: a pole, a passer-by, or a car."""
    x, top, side = rng.uniform(-0.2, 0.2), rng.uniform(0.3, 0.5), pick(rng, (-1, 1))
    cloth = Fabric(pick(rng, TOPS))
    pole = [([(x, -0.3, 0.025, 0.01), (x, 1.3, 0.025, 0.01)], Fabric((118, 122, 124)))]
    body = [(0.4 * side, -0.3, 0.19, 0.19), (0.38 * side, top, 0.19, 0.19)]
    arm = [(0.25 * side, -0.3, 0.055, 0.055), (0.27 * side, top, 0.055, 0.055)]
    passer = [(body, cloth), (arm, cloth.darker())]
    car = [([(-0.5, -0.3, 0.6, 0.1 + top), (0.5, -0.3, 0.6, 0.1 + top)], cloth)]
    for shape in pick(rng, (pole, passer, car)):
        brush.hull(*shape)


@dataclasses.dataclass(frozen=True)
class Shot:
    """One image to be taken."""

    person: int  # gives the look; is not the label in the data set
    camera: int  # index into CAMERAS
    track: int = 0  # walk past the camera
    frame: int = 0  # number of the image in it
    spoiled: bool = False  # whether the detector failed: the person is cut off or missing


@functools.lru_cache(maxsize=64)
def _look(seed, person):
    return sample_look(np.random.default_rng((seed, 1, person, 0, 0, 0)))


def _paint_layer(shot, look, height, walk, still):
    """Paint person and occluder, (height, height / 2, 4) float32 weighted by opacity, 0..255.

    `walk` generates what stays the same during the track, `still` what is new in each image.
    """
    view = CAMERAS[shot.camera]
    weights = (0.5, 0.2, 0.2, 0.1)
    yaw = math.radians(pick(walk, view.yaws, weights) + walk.normal(0, 8))
    phase = walk.uniform(0, 2 * math.pi) + 0.5 * shot.frame
    pose = Pose(yaw, phase, walk.uniform(0.3, 0.5), view.tilt)
    zoom = view.scale * look.height * walk.normal(1, 0.02) * still.normal(1, 0.012)
    x, y = 0.25 + walk.normal(0, 0.012) + still.normal(0, 0.008), 0.945 + still.normal(0, 0.01)
    if shot.spoiled:
        zoom *= walk.uniform(1.4, 2.2)
        x, y = x + walk.choice((-1, 1)) * walk.uniform(0.05, 0.4), walk.uniform(0.75, 1.7)
    inner = 2 * height
    canvas = np.zeros((inner, height, 4), dtype=np.uint8)
    brush = Brush(canvas, (x * inner, y * inner), zoom * inner, view.shear + walk.normal(0, 0.01))
    paint_person(brush, look, pose)
    if walk.random() < 0.12:
        _paint_occluder(brush, walk)
    small = cv2.resize(canvas, (height // 2, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)


def _shade(layer, light):
    """Darken the rims of the painted figure in place, to make it look round; return its opacity."""
    opacity = layer[..., 3:] / 255
    size = layer.shape[0] // 16 * 2 + 1
    depth = cv2.blur(opacity, (size, size))[..., None]
    side = np.linspace(-light, light, layer.shape[1], dtype=np.float32)[None, :, None]
    layer[..., :3] *= 0.72 + 0.36 * depth + side
    return opacity


def _develop(image, view, rng):
    """Turn light, (H, W, 3) float32, into the camera's image, uint8 of that shape."""
    height, width = image.shape[:2]
    light = np.linspace(1 - view.light, 1 + view.light, width, dtype=np.float32)[None, :, None]
    gains = np.array(view.gains, dtype=np.float32) * view.contrast * rng.normal(1, 0.025)
    image = image * (gains.astype(np.float32) * light)
    image = cv2.GaussianBlur(image, (0, 0), max(0.3, view.blur * height))
    image += np.float32(view.brightness + 118 * (1 - view.contrast))
    image += view.noise * rng.standard_normal((height, width, 1), dtype=np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def paint_walker(seed: int, person: int, camera: int, pose: Pose, unit: float) -> np.ndarray:
    """Paint a person alone.

    Parameters
    ----------
    seed : int
        Seed of the data set, in 0..2**32 - 1.
    person, camera : int
        As in `Shot`.
    pose : Pose
    unit : float
        Pixels in a body unit.

    Returns
    -------
    ndarray of float32, shape (H, W, 4)
        Blue, green and red weighted by opacity, and opacity, 0..255. The person stands in the
        middle of the last row but an eighth of the height.
    """
    height = 16 * round(unit * 1.4 / 16)
    inner = 2 * height
    canvas = np.zeros((inner, inner, 4), dtype=np.uint8)
    scale = 2 * unit * _look(seed, person).height
    brush = Brush(canvas, (inner / 2, inner * 7 / 8), scale)
    paint_person(brush, _look(seed, person), pose)
    layer = cv2.resize(canvas, (height, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    _shade(layer, CAMERAS[camera].light)
    return layer


def height_of(seed: int, person: int) -> float:
    """Return the height of a person in body units."""
    return _look(seed, person).height


def paint_background(seed: int, camera: int, shape: tuple[int, int]) -> np.ndarray:
    """Return the scene of a camera without persons, float32, for a frame (height, width)."""
    height, width = shape
    scene = _panorama(seed, camera, width // 2)
    return scene[:height].astype(np.float32)


def develop(frame: np.ndarray, camera: int, rng: np.random.Generator) -> np.ndarray:
    """Turn light, (H, W, 3) float32, into the image of a camera, uint8 of that shape."""
    return _develop(frame, dataclasses.replace(CAMERAS[camera], blur=_FRAME_BLUR), rng)


def take(seed: int, shot: Shot, height: int) -> tuple[np.ndarray, int]:
    """Take one image; it does not depend on other images.

    Parameters
    ----------
    seed : int
        Seed of the data set, in 0..2**32 - 1.
    shot : Shot
        Who is seen where.
    height : int
        Pixels; the width is half of it.

    Returns
    -------
    image : ndarray, uint8, (height, height / 2, 3)
        Blue, green, red.
    quality : int
        Quality of the JPEG file in percent.
    """
    place = shot.person, shot.camera, shot.track
    walk = np.random.default_rng((seed, 2, *place, 0))
    still = np.random.default_rng((seed, 3, *place, shot.frame))
    scene = _panorama(seed, shot.camera, height)
    left = walk.uniform(0.15, 1.3) + 0.15 * math.sin(0.15 * shot.frame)
    left, top = round(left * height), round(walk.uniform(0.05, 0.15) * height)
    layer = _paint_layer(shot, _look(seed, shot.person), height, walk, still)
    opacity = _shade(layer, CAMERAS[shot.camera].light)
    image = scene[top : top + height, left : left + height // 2] * (1 - opacity) + layer[..., :3]
    return _develop(image, CAMERAS[shot.camera], still), int(still.integers(78, 96))

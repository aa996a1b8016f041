"""Cameras, their scenes, and the images they take of drawn pedestrians; free of TensorFlow."""

import dataclasses
import functools
import math

import cv2
import numpy as np

from .figures import TOPS, Brush, Fabric, Pose, bgr, paint_person, pick, sample_look


@dataclasses.dataclass(frozen=True)
class Camera:
    """What is the same in all images of one camera.

    Attributes
    ----------
    gains : tuple of float
        Factors of blue, green and red.
    contrast, brightness : float
        Factor around middle gray, and what is added then, in gray levels.
    wall, ground : str
        Kind of the background above and below the horizon; see `_WALLS` and `_GROUNDS`.
    wall_color, ground_color : tuple of int
        Their main colors.
    horizon : float
        Height of the border between both as a share of the image height, from the top.
    yaws : tuple of float
        Directions in which people walk through this view, in degrees; see `Pose`.
    scale, shear, tilt : float
        Body unit as a share of the image height, lean of the verticals, view from above.
    blur, noise : float
        Standard deviations, in shares of the image height and in gray levels.
    light : float
        Gain from left to right: -0.1 is 10 % darker on the right and lighter on the left.
    """

    gains: tuple
    contrast: float
    brightness: float
    wall: str
    wall_color: tuple
    ground: str
    ground_color: tuple
    horizon: float
    yaws: tuple
    scale: float
    shear: float
    tilt: float
    blur: float
    noise: float
    light: float


CAMERAS = (
    Camera((0.95, 1.0, 1.06), 1.0, 6, "bricks", bgr("a4674f"), "slabs", bgr("b9b4aa"),
           0.52, (0, 20, -20, 180), 0.86, 0.0, 0.10, 0.002, 3, 0.08),
    Camera((1.1, 1.0, 0.92), 0.94, -8, "hedge", bgr("4f7a45"), "slabs", bgr("9aa0a3"),
           0.44, (180, 160, 200, 0), 0.83, 0.03, 0.14, 0.003, 4, -0.1),
    Camera((0.98, 1.05, 0.98), 1.06, 4, "railings", bgr("a9c4d4"), "grass", bgr("7fa05a"),
           0.46, (90, 75, 110, -90), 0.88, -0.02, 0.08, 0.002, 3, 0.05),
    Camera((0.9, 0.98, 1.1), 0.95, 10, "windows", bgr("cdbfa6"), "tiles", bgr("c9bda8"),
           0.5, (40, 30, -145, -40), 0.84, 0.0, 0.12, 0.004, 4, -0.06),
    Camera((1.06, 1.02, 0.96), 0.9, -16, "bricks", bgr("8d8f96"), "asphalt", bgr("6f7278"),
           0.4, (-90, -110, -70, 90), 0.82, 0.02, 0.16, 0.003, 6, 0.1),
    Camera((1.0, 0.95, 1.02), 1.08, 12, "hedge", bgr("8aa36b"), "asphalt", bgr("a8a49c"),
           0.36, (145, -140, 180, 30), 0.87, -0.03, 0.13, 0.002, 3, -0.08),
)  # fmt: skip


def _tint(rng, color, spread):
    """Return `color` made lighter or darker, clipped to 0..255."""
    return tuple(float(part) for part in np.clip(np.add(color, rng.normal(0, spread)), 0, 255))


def _bricks(rng, panel, color, unit):
    high, wide = round(0.045 * unit), round(0.12 * unit)
    for row, y in enumerate(range(0, panel.shape[0], high)):
        for x in range(-(row % 2) * wide // 2, panel.shape[1], wide):
            corner = (x + wide - 3, y + high - 3)
            cv2.rectangle(panel, (x, y), corner, _tint(rng, color, 7), cv2.FILLED)


def _hedge(rng, panel, color, unit):
    height, width = panel.shape[:2]
    for _ in range(700):
        center = int(rng.integers(width)), int(rng.integers(height))
        radius = int(unit * rng.uniform(0.012, 0.04))
        cv2.circle(panel, center, radius, _tint(rng, color, 13), cv2.FILLED, cv2.LINE_AA)
    for x in np.arange(rng.uniform(0, 0.4), width / unit, 0.55) * unit:
        trunk = [(int(x), 0), (int(x + 0.05 * unit), height)]
        cv2.rectangle(panel, *trunk, (52, 68, 84), cv2.FILLED)


def _railings(rng, panel, color, unit):
    height, width = panel.shape[:2]
    fade = np.linspace(18, -12, height)[:, None, None]
    panel[:] = np.clip(np.array(color) + fade, 0, 255)
    for x in range(0, width, round(0.07 * unit)):
        post = (x + round(0.012 * unit), height)
        cv2.rectangle(panel, (x, height // 2), post, _tint(rng, (92, 96, 98), 4), cv2.FILLED)
    for y in (height // 2, height - round(0.05 * unit)):
        cv2.rectangle(panel, (0, y), (width, y + round(0.022 * unit)), (84, 88, 90), cv2.FILLED)


def _windows(rng, panel, color, unit):
    height, width = panel.shape[:2]
    for x in range(round(0.06 * unit), width, round(0.34 * unit)):
        right, bottom = x + round(0.24 * unit), height - round(0.09 * unit)
        cv2.rectangle(panel, (x, 0), (right, bottom), (150, 160, 168), cv2.FILLED)
        inner = (right - round(0.014 * unit), bottom - round(0.014 * unit))
        glass = _tint(rng, (128, 116, 98), 10)
        cv2.rectangle(panel, (x + round(0.014 * unit), 0), inner, glass, cv2.FILLED)


def _slabs(rng, panel, color, unit):
    height, width = panel.shape[:2]
    joint = _tint(rng, np.array(color) - 26, 2)
    for step in range(1, 6):
        y = int(height * (step / 6) ** 1.6)
        cv2.line(panel, (0, y), (width, y), joint, max(1, unit // 160), cv2.LINE_AA)
    for x in np.arange(-1.0, 2.0, 0.11) * width:
        ends = (int(x), 0), (int(width / 2 + 2.2 * (x - width / 2)), height)
        cv2.line(panel, *ends, joint, max(1, unit // 160), cv2.LINE_AA)


def _grass(rng, panel, color, unit):
    height, width = panel.shape[:2]
    for _ in range(1500):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        tip = (x + int(rng.normal(0, 0.008 * unit)), y - int(0.022 * unit))
        cv2.line(panel, (x, y), tip, _tint(rng, color, 14), max(1, unit // 200), cv2.LINE_AA)


def _tiles(rng, panel, color, unit):
    side = round(0.09 * unit)
    for row, y in enumerate(range(0, panel.shape[0], side // 2)):
        for column, x in enumerate(range(0, panel.shape[1], side)):
            shade = np.array(color) - 17 * ((row + column) % 2)
            corner = (x + side, y + side // 2)
            cv2.rectangle(panel, (x, y), corner, _tint(rng, shade, 3), cv2.FILLED)


def _asphalt(rng, panel, color, unit):
    height, width = panel.shape[:2]
    panel[:] = np.clip(np.array(color) + rng.normal(0, 7, (height, width, 1)), 0, 255)
    curb = round(0.05 * unit)
    cv2.rectangle(panel, (0, 0), (width, curb), _tint(rng, np.add(color, 42), 3), cv2.FILLED)
    for x in range(int(rng.integers(unit // 2)), width, round(0.6 * unit)):
        dash = (x, round(0.62 * height)), (x + round(0.3 * unit), round(0.67 * height))
        cv2.rectangle(panel, *dash, (205, 212, 214), cv2.FILLED)


_WALLS = {"bricks": _bricks, "hedge": _hedge, "railings": _railings, "windows": _windows}
_GROUNDS = {"slabs": _slabs, "grass": _grass, "tiles": _tiles, "asphalt": _asphalt}


@functools.lru_cache(maxsize=32)
def _panorama(seed, camera, height):
    """Background of a camera, uint8, (1.2 * height, 2 * height, 3); not to be written to."""
    view = CAMERAS[camera]
    rng = np.random.default_rng((seed, 0, camera, 0, 0, 0))
    unit = 256  # one size for all layouts, so that line widths keep their share of the image
    canvas = np.empty((round(1.2 * unit), 2 * unit, 3), dtype=np.uint8)
    border = round((view.horizon + 0.1) * unit)
    canvas[:border] = np.clip(np.array(view.wall_color) - 14, 0, 255)
    canvas[border:] = view.ground_color
    _WALLS[view.wall](rng, canvas[:border], view.wall_color, unit)
    _GROUNDS[view.ground](rng, canvas[border:], view.ground_color, unit)
    return cv2.resize(canvas, (2 * height, round(1.2 * height)), interpolation=cv2.INTER_AREA)


def _paint_pole(brush, rng):
    x = rng.uniform(-0.2, 0.2)
    color = _tint(rng, (118, 122, 124), 15)
    brush.polygon([(x, -0.3), (x + 0.05, -0.3), (x + 0.05, 1.3), (x, 1.3)], Fabric(color))


def _paint_passer(brush, rng):
    """Paint the shoulder and arm of somebody who walks past the camera."""
    side, color = pick(rng, (-1, 1)), Fabric(pick(rng, TOPS))
    top = rng.uniform(0.3, 0.5)
    brush.limb((side * 0.38, top), (side * 0.4, -0.3), (0.17, 0.2), color)
    brush.limb((side * 0.27, top), (side * 0.25, -0.3), (0.06, 0.05), color)


def _paint_car(brush, rng):
    """Paint a hood that hides the feet."""
    color = pick(rng, TOPS)
    top = rng.uniform(0.1, 0.2)
    hood = [(-0.7, top - 0.06), (-0.2, top), (0.3, top + 0.03), (0.7, top + 0.03)]
    brush.polygon([*hood, (0.7, -0.3), (-0.7, -0.3)], Fabric(color))
    trim = tuple(0.6 * part for part in color)
    brush.limb((-0.6, top - 0.1), (0.6, top - 0.06), (0.008, 0.008), Fabric(trim))


@dataclasses.dataclass(frozen=True)
class Shot:
    """One image to be taken.

    Attributes
    ----------
    person : int
        Number of the person, which decides on the look; not the label in the data set.
    camera : int
        Index into `CAMERAS`.
    track, frame : int
        Walk past the camera, and the number of the image in it.
    spoiled : bool
        Whether the detector failed: the person is cut off or missing.
    """

    person: int
    camera: int
    track: int = 0
    frame: int = 0
    spoiled: bool = False


@functools.lru_cache(maxsize=64)
def _look(seed, person):
    return sample_look(np.random.default_rng((seed, 1, person, 0, 0, 0)))


def _paint_layer(shot, look, height, walk, still):
    """Paint person and occluder, (height, height / 2, 4) float32 weighted by opacity, 0..255.

    `walk` is the generator of all that lasts during the track, `still` that of this image.
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
        pick(walk, (_paint_pole, _paint_passer, _paint_car))(brush, walk)
    small = cv2.resize(canvas, (height // 2, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)


def _shade(layer, light):
    """Darken the rims of the painted figure, which makes it look round, in place."""
    opacity = layer[..., 3:] / 255
    size = layer.shape[0] // 16 * 2 + 1
    depth = cv2.blur(opacity, (size, size))[..., None]
    side = np.linspace(-light, light, layer.shape[1], dtype=np.float32)[None, :, None]
    layer[..., :3] *= 0.72 + 0.36 * depth + side
    return opacity


def _develop(image, view, rng):
    """Turn light, (H, W, 3) float32, into what the camera delivers, uint8 of that shape."""
    height, width = image.shape[:2]
    light = np.linspace(1 - view.light, 1 + view.light, width, dtype=np.float32)[None, :, None]
    gains = np.array(view.gains, dtype=np.float32) * view.contrast * rng.normal(1, 0.025)
    image = image * (gains.astype(np.float32) * light)
    image = cv2.GaussianBlur(image, (0, 0), max(0.3, view.blur * height))
    image += np.float32(view.brightness + 118 * (1 - view.contrast))
    image += view.noise * rng.standard_normal((height, width, 1), dtype=np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def take(seed, shot, height):
    """Take one image; no other image has an influence on it.

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
        Quality in percent with which to store it as JPEG.
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

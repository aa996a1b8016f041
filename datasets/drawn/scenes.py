"""Cameras, their scenes, and the images they take of drawn pedestrians."""

import dataclasses
import functools
import math

import cv2
import numpy as np

from .figures import Brush, Fabric, Pose, paint_person, pick, sample_look
from .styles import DEFAULT_STYLE, STYLES, UNIT

# Of whole frames, as a share of the height: a person in them is a quarter as high.
_FRAME_BLUR = 0.0008


@functools.lru_cache(maxsize=32)
def _panorama(seed, style, camera, height):
    """Background of a camera, uint8, (1.2 * height, 2 * height, 3); not to be written to."""
    view = STYLES[style].cameras[camera]
    rng = np.random.default_rng((seed, 0, camera, 0, 0, 0))
    canvas = np.empty((round(1.2 * UNIT), 2 * UNIT, 3), dtype=np.uint8)
    border = round((view.horizon + 0.1) * UNIT)
    wall, ground = (view.wall, view.wall_color), (view.ground, view.ground_color)
    for panel, (layers, color) in ((canvas[:border], wall), (canvas[border:], ground)):
        panel[:] = np.subtract(color, 14)
        for paint in layers:
            paint(rng, panel, color)
    return cv2.resize(canvas, (2 * height, round(1.2 * height)), interpolation=cv2.INTER_AREA)


def _paint_occluder(brush, style, rng):
    """Paint what hides a part of the person: a pole, a passer-by, or a car."""
    x, top, side = rng.uniform(-0.2, 0.2), rng.uniform(0.3, 0.5), pick(rng, (-1, 1))
    cloth = Fabric(pick(rng, style.tops))
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
    camera: int  # index into the cameras of the style
    track: int = 0  # walk past the camera
    frame: int = 0  # number of the image in it
    spoiled: bool = False  # whether the detector failed: the person is cut off or missing


@functools.lru_cache(maxsize=64)
def _look(seed, style, person):
    return sample_look(np.random.default_rng((seed, 1, person, 0, 0, 0)), STYLES[style])


def _paint_layer(shot, style, look, height, walk, still):
    """Paint person and occluder, (height, height / 2, 4) float32 weighted by opacity, 0..255.

    `walk` generates what stays the same during the track, `still` what is new in each image.
    """
    view = style.cameras[shot.camera]
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
    if walk.random() < style.occluded:
        _paint_occluder(brush, style, walk)
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


def paint_walker(
    seed: int, person: int, camera: int, pose: Pose, unit: float, style: str = DEFAULT_STYLE
) -> np.ndarray:
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
    style : str
        One of `datasets.drawn.styles.STYLES`.

    Returns
    -------
    ndarray of float32, shape (H, W, 4)
        Blue, green and red weighted by opacity, and opacity, 0..255. The person stands in the
        middle of the last row but an eighth of the height.
    """
    height = 16 * round(unit * 1.4 / 16)
    inner = 2 * height
    canvas = np.zeros((inner, inner, 4), dtype=np.uint8)
    look = _look(seed, style, person)
    scale = 2 * unit * look.height
    brush = Brush(canvas, (inner / 2, inner * 7 / 8), scale)
    paint_person(brush, look, pose)
    layer = cv2.resize(canvas, (height, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    _shade(layer, STYLES[style].cameras[camera].light)
    return layer


def height_of(seed: int, person: int, style: str = DEFAULT_STYLE) -> float:
    """Return the height of a person in body units."""
    return _look(seed, style, person).height


def paint_background(
    seed: int, camera: int, shape: tuple[int, int], style: str = DEFAULT_STYLE
) -> np.ndarray:
    """Return the scene of a camera without persons, float32, for a frame (height, width)."""
    height, width = shape
    scene = _panorama(seed, style, camera, width // 2)
    return scene[:height].astype(np.float32)


def develop(
    frame: np.ndarray, camera: int, rng: np.random.Generator, style: str = DEFAULT_STYLE
) -> np.ndarray:
    """Turn light, (H, W, 3) float32, into the image of a camera, uint8 of that shape."""
    return _develop(
        frame, dataclasses.replace(STYLES[style].cameras[camera], blur=_FRAME_BLUR), rng
    )


def take(seed: int, shot: Shot, height: int, style: str = DEFAULT_STYLE) -> tuple[np.ndarray, int]:
    """Take one image; it does not depend on other images.

    Parameters
    ----------
    seed : int
        Seed of the data set, in 0..2**32 - 1.
    shot : Shot
        Who is seen where.
    height : int
        Pixels; the width is half of it.
    style : str
        One of `datasets.drawn.styles.STYLES`.

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
    scene = _panorama(seed, style, shot.camera, height)
    view = STYLES[style].cameras[shot.camera]
    left = walk.uniform(0.15, 1.3) + 0.15 * math.sin(0.15 * shot.frame)
    left, top = round(left * height), round(walk.uniform(0.05, 0.15) * height)
    look = _look(seed, style, shot.person)
    layer = _paint_layer(shot, STYLES[style], look, height, walk, still)
    opacity = _shade(layer, view.light)
    image = scene[top : top + height, left : left + height // 2] * (1 - opacity) + layer[..., :3]
    return _develop(image, view, still), int(still.integers(78, 96))

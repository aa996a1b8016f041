"""Draws pedestrians: their looks, their poses, and the painter of both.

A body is a list of parts. A part is the hull of two balls (ellipsoids) in one cloth, such as a
forearm; the two balls of a face are the same. The painter turns the balls to the camera and fills
the hulls, far parts first.

Lengths are in body units: 1 is the height of an average person.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from .styles import DEFAULT_STYLE, HAIRS, SKINS, STYLES, Color, Style

# Where the second color is seen, by body coordinates.
_WEAVES = {
    "rings": lambda x, y: np.floor(y / 0.046) % 2 == 0,
    "stripes": lambda x, y: np.floor((x + 0.018) / 0.036) % 2 == 0,
    "checks": lambda x, y: (np.floor(x / 0.058) + np.floor(y / 0.058)) % 2 == 0,
    "two_tone": lambda x, y: y < 0.655,
    "diagonals": lambda x, y: np.floor((x + y) / 0.042) % 2 == 0,
    "dots": lambda x, y: (x % 0.056 - 0.028) ** 2 + (y % 0.056 - 0.028) ** 2 < 0.016**2,
    "sash": lambda x, y: np.abs(y - 0.68 - 0.9 * x) < 0.032,
    "zigzag": lambda x, y: np.floor((y + np.abs(x % 0.06 - 0.03)) / 0.04) % 2 == 0,
}
TEXTURES = ("plain", "logo", *_WEAVES)
BAG_KINDS = ("none", "backpack", "shoulder", "hand")
LEG_KINDS = ("trousers", "shorts", "skirt")

_SHIFT = 4  # fractional bits of the coordinates given to OpenCV
_ANGLES = np.linspace(0, 2 * math.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


@dataclasses.dataclass(frozen=True)
class Fabric:
    """A piece of cloth: two colors and one of `TEXTURES`; plain cloth shows only the main color."""

    main: Color  # may have an opacity as fourth number
    second: Color = (0, 0, 0)
    texture: str = "plain"

    def darker(self) -> "Fabric":
        """Return the same cloth in shadow."""
        main, second = (tuple(int(0.78 * part) for part in c) for c in (self.main, self.second))
        return Fabric(main, second, self.texture)


@dataclasses.dataclass(frozen=True)
class Look:
    """Properties that all images of a person share."""

    height: float  # relative to the average person
    width: float  # relative to the average person
    leg: float  # length
    skin: Color
    hair: Color
    hair_length: float  # below the middle of the head
    hat: Color
    has_hat: bool
    top: Fabric
    long_sleeves: bool
    hem: float  # length of the top below the hips
    legs: str  # one of LEG_KINDS
    bottom: Fabric
    shoes: Color
    bag: str  # one of BAG_KINDS
    bag_color: Color


@dataclasses.dataclass(frozen=True)
class Pose:
    """How a person stands in front of the camera."""

    yaw: float  # direction of walking in radians; 0 towards the camera, pi / 2 to the right
    phase: float  # moment of the step in radians
    stride: float  # largest swing of a leg in radians
    tilt: float  # how far the camera looks down: rise in the image for each unit of depth


def pick(
    rng: np.random.Generator, options: Sequence[Any], weights: Sequence[float] | None = None
) -> Any:
    """Draw one of `options`, with the probabilities `weights` if given."""
    return options[int(rng.choice(len(options), p=weights))]


def _unlike(rng, options, color):
    """Pick a color that differs from `color` under every camera."""
    return pick(rng, [one for one in options if np.abs(np.subtract(one, color)).sum() > 200])


def sample_look(rng: np.random.Generator, style: Style = STYLES[DEFAULT_STYLE]) -> Look:
    """Dress a new person.

    Parameters
    ----------
    rng : numpy.random.Generator
    style : Style

    Returns
    -------
    Look
    """
    main = pick(rng, style.tops)
    return Look(
        height=rng.uniform(0.9, 1.04),
        width=rng.uniform(0.88, 1.22),
        leg=rng.uniform(0.45, 0.51),
        skin=pick(rng, SKINS),
        hair=pick(rng, HAIRS),
        hair_length=pick(rng, (0.0, 0.0, 0.09, 0.2)),
        hat=pick(rng, style.tops),
        has_hat=rng.random() < 0.2,
        top=Fabric(
            main, _unlike(rng, style.tops, main), pick(rng, style.textures, (0.3, *[0.14] * 5))
        ),
        long_sleeves=rng.random() < 0.6,
        hem=pick(rng, (0.0, 0.0, 0.03, 0.16)),
        legs=pick(rng, LEG_KINDS, (0.6, 0.2, 0.2)),
        bottom=Fabric(pick(rng, style.bottoms)),
        shoes=pick(rng, style.shoes),
        bag=pick(rng, BAG_KINDS, (0.3, 0.3, 0.25, 0.15)),
        bag_color=_unlike(rng, style.bags, main),
    )


class Brush:
    """Fills shapes given in body coordinates: x to the right of the image, y up from the ground.

    Parameters
    ----------
    canvas : ndarray, uint8, (H, W, 4)
        Blue, green, red, opacity; painted in place. Start from zeros: then a canvas that is scaled
        down has colors weighted by their opacity.
    foot : tuple of float
        Pixel (x, y) of the origin.
    scale, shear : float
        Pixels in a body unit; lean of the verticals, x for each unit of y.
    """

    def __init__(
        self, canvas: np.ndarray, foot: tuple[float, float], scale: float, shear: float = 0.0
    ) -> None:
        self.canvas, self.foot, self.scale, self.shear = canvas, foot, scale, shear

    def hull(self, balls: ArrayLike, fabric: Fabric) -> None:
        """Fill the hull of upright ellipses: array (N, 4) of center and half sizes, x first."""
        ellipses = np.asarray(balls)[:, None]
        outlines = ellipses[..., :2] + ellipses[..., 2:] * _CIRCLE
        self.polygon(cv2.convexHull(outlines.reshape(-1, 2).astype(np.float32))[:, 0], fabric)

    def polygon(self, points: ArrayLike, fabric: Fabric) -> None:
        """Fill a polygon, given as an array (N, 2) of its corners, with a Fabric."""
        x, y = np.asarray(points, dtype=np.float64).T
        x = self.foot[0] + self.scale * (x + self.shear * y)
        y = self.foot[1] - self.scale * y
        corners = np.rint(np.stack([x, y], axis=1) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(self.canvas, [corners], (*fabric.main, 255)[:4], shift=_SHIFT)
        if fabric.texture in _WEAVES:
            self._weave(corners, fabric)

    def _weave(self, corners, fabric):
        inside = np.zeros(self.canvas.shape[:2], dtype=np.uint8)
        cv2.fillPoly(inside, [corners], 1, shift=_SHIFT)
        left, top, width, height = cv2.boundingRect(inside)
        y = (self.foot[1] - np.arange(top, top + height)[:, None]) / self.scale
        x = (np.arange(left, left + width) - self.foot[0]) / self.scale - self.shear * y
        window = np.s_[top : top + height, left : left + width]
        second = _WEAVES[fabric.texture](x, y) & (inside[window] > 0)
        self.canvas[window][second] = (*fabric.second, 255)


# ---- the body: points are left, forward and up, from the middle of the hips


def _part(over, fabric, start, size, end=None, end_size=None):
    """Return by how much a part is painted nearer than it is, its cloth, and its two balls."""
    end, end_size = start if end is None else end, end_size or size
    # A size is a radius, or half width, half height and half depth.
    sizes = (one if isinstance(one, tuple) else (one, one, one) for one in (size, end_size))
    return over, fabric, [(*point, *one) for point, one in zip((start, end), sizes, strict=True)]


def _joints(start, angles, length):
    """Return the three joints of an arm or leg; its bones have an angle, from down to forward."""
    bones = [(0, length * math.sin(angle), -length * math.cos(angle)) for angle in angles]
    return np.cumsum([start, *bones], axis=0)


def _leg(look, pose, side, step):
    swing = pose.stride * math.sin(step)
    # The leg that swings forward bends its knee.
    bend = swing - pose.stride * (0.2 + 1.1 * max(0.0, math.cos(step)))
    wide, cloth, skin = look.width, look.bottom, Fabric(look.skin)
    hip, knee, ankle = _joints((0.046 * side * wide, 0, 0), (swing, bend), 0.47 * look.leg)
    lower, loose = (cloth, 1.2) if look.legs == "trousers" else (skin, 1.0)
    upper = skin if look.legs == "skirt" else cloth
    # The upper clothes cover the legs, however they swing.
    yield _part(-0.2, lower, knee, 0.036 * wide, ankle, 0.025 * wide * loose)
    yield _part(-0.2, Fabric(look.shoes), ankle, 0.025, ankle + (0, 0.065, -0.018), 0.02)
    yield _part(-0.2, upper, hip, 0.055 * wide, knee, 0.041 * wide)


def _arm(look, pose, side, step):
    swing = -0.9 * pose.stride * math.sin(step)
    joints = _joints((side, 0, 0.303), (swing, swing + 0.8 * pose.stride), 0.15)
    joints[:, 0] *= 0.092 * look.width * np.array((1, 1.22, 1.28))
    shoulder, elbow, hand = joints
    top, skin, wide = look.top, Fabric(look.skin), 0.038 * look.width
    sleeve = top if look.long_sleeves else skin
    # A dark rim sets the arm off from a trunk of the same cloth.
    yield _part(0.05, sleeve.darker(), elbow, 0.031, hand, 0.026)
    yield _part(0.05, top.darker(), shoulder, wide, elbow, 0.034)
    yield _part(0.05, skin, hand, 0.025)
    yield _part(0.05, sleeve, elbow, 0.027, hand, 0.022)
    yield _part(0.05, top, shoulder, wide - 0.002, elbow, 0.03)
    if look.bag == "hand" and side < 0:
        color, top, low = Fabric(look.bag_color), hand - (0, 0, 0.075), hand - (0, 0, 0.15)
        yield _part(0.03, color, hand, 0.012, top)
        yield _part(0.03, color, top, (0.048, 0.012, 0.048), low, (0.06, 0.012, 0.06))


def _trunk(look):
    wide, flare = look.width, look.width * (1.05 + 1.2 * look.hem)
    if look.legs == "skirt":
        waist, hem = (0.075 * wide, 0.01, 0.06 * wide), (0.115 * wide, 0.01, 0.105 * wide)
        yield _part(0, look.bottom, (0, 0, 0.05), waist, (0, 0, -0.18), hem)
    yield _part(0, Fabric(look.skin), (0, 0, 0.315), 0.032, (0, 0, 0.39))
    shoulders, hem = (0.108 * wide, 0.055, 0.068 * wide), (0.083 * flare, 0.01, 0.07 * flare)
    yield _part(0, look.top, (0, 0, 0.3), shoulders, (0, 0, -0.02 - look.hem), hem)
    if look.top.texture == "logo":
        size = 0.055 * wide, 0.012, 0.001
        yield _part(0, Fabric(look.top.second), (0, 0.05, 0.18), size, (0, 0.05, 0.25))


def _head(look):
    hair, hat = Fabric(look.hair), Fabric(look.hat)
    yield _part(0.01, hair, (0, -0.008, 0.44), (0.052, 0.066, 0.052))
    yield _part(0.011, Fabric(look.skin), (0, 0.022, 0.426), (0.042, 0.054, 0.03))
    if look.has_hat:
        yield _part(0.05, hat, (0, 0, 0.475), (0.058, 0.035, 0.058))
        yield _part(0.05, hat, (0, 0.022, 0.45), (0.056, 0.011, 0.078))
    if look.hair_length:
        yield _part(0.04, hair, (0, -0.05, 0.41), 0.05, (0, -0.06, 0.44 - look.hair_length), 0.042)


def _bag(look):
    """Yield what is carried on the trunk; a bag in the hand belongs to the arm."""
    color, side = Fabric(look.bag_color), 0.115 * look.width
    if look.bag == "backpack":
        yield _part(-0.03, color, (0, -0.1, 0.135), (0.085, 0.085, 0.05), (0, -0.1, 0.24))
        yield _part(-0.03, color.darker(), (-0.05, -0.12, 0.12), 0.006, (0.05, -0.12, 0.12))
        for left in (-0.06, 0.06):
            yield _part(0, color, (left, 0.06, 0.335), 0.011, (1.1 * left, 0.06, 0.165), 0.009)
    elif look.bag == "shoulder":
        yield _part(0.15, color, (-0.55 * side, 0, 0.345), 0.009, (side, 0, -0.01))
        yield _part(0.02, color, (side, 0, 0.03), (0.065, 0.015, 0.065), (side, 0, -0.065))


def _parts(look, pose):
    for side, step in ((-1, pose.phase), (1, pose.phase + math.pi)):
        yield from _leg(look, pose, side, step)
        yield from _arm(look, pose, side, step)
    yield from _trunk(look)
    yield from _head(look)
    yield from _bag(look)


def paint_person(brush: Brush, look: Look, pose: Pose) -> None:
    """Paint a walking person.

    Parameters
    ----------
    brush : Brush
        Where to paint; its foot is the ground below the person.
    look : Look
        Who it is.
    pose : Pose
        How the person walks, and which side is seen.
    """
    sin, cos = math.sin(pose.yaw), math.cos(pose.yaw)
    overs, fabrics, balls = zip(*_parts(look, pose), strict=True)
    left, forward, up, breadth, height, thickness = np.moveaxis(np.array(balls), 2, 0)
    depth = left * sin - forward * cos
    ground = (up - height).min()
    x, y = left * cos + forward * sin, up - ground + pose.tilt * depth
    ellipses = np.stack([x, y, np.hypot(breadth * cos, thickness * sin), height], axis=2)
    brush.hull([(0.03, 0.0, 0.2, 0.035)], Fabric((0, 0, 0, 100)))
    depth = depth.mean(axis=1)
    for i in np.argsort(overs - depth, kind="stable"):
        # What is behind the body lies in its shadow.
        brush.hull(ellipses[i], fabrics[i].darker() if depth[i] > 0.04 else fabrics[i])

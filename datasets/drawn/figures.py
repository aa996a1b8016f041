"""Drawn pedestrians: who they are, and how they are painted; free of TensorFlow.

Body coordinates: one unit is the height of a person of average size, x runs to the right of the
image from the middle of the body, y runs upwards from the ground. Colors are (blue, green, red)
tuples in 0..255, the order OpenCV draws and writes.
"""

import dataclasses
import math

import cv2
import numpy as np


def bgr(code):
    """Read a color.

    Parameters
    ----------
    code : str
        Six hexadecimal digits, red first.

    Returns
    -------
    tuple of int
        Blue, green, red in 0..255.
    """
    red, green, blue = bytes.fromhex(code)
    return blue, green, red


# Few colors, worn in many arrangements: the mean color of a person tells little about who it is.
TOPS = tuple(map(bgr, (
    "e9e7e1", "26262b", "8b8f95", "26386e", "b5232c", "3c8050",
    "dcb234", "74a9d6", "dc87a6", "7c5234", "6b4792", "d96f28",
)))  # fmt: skip
BOTTOMS = tuple(map(bgr, ("3f5b86", "25262b", "bda67c", "777a80", "5d6339", "d9d7cf", "6b3328")))
BAGS = tuple(map(bgr, ("b5232c", "1f2024", "2f57a4", "d9a521", "3f7a45", "e4dfd2", "7a4a2a")))
SHOES = tuple(map(bgr, ("1e1e20", "e6e4de", "6b4a32", "a8313a")))
SKINS = tuple(map(bgr, ("f0c9a8", "dba983", "b07a52", "7a4e32")))
HAIRS = tuple(map(bgr, ("17130f", "4a2f1d", "8f6237", "d0ad62", "9b9a98", "7d2f1c")))

TEXTURES = ("plain", "rings", "stripes", "checks", "two_tone", "logo")
BAG_KINDS = ("none", "backpack", "shoulder", "hand")
LEG_KINDS = ("trousers", "shorts", "skirt")
SHIFT = 4  # fractional bits of the coordinates given to OpenCV
SHADOW = (0, 0, 0, 100)


@dataclasses.dataclass(frozen=True)
class Fabric:
    """A piece of cloth.

    Attributes
    ----------
    main, second : tuple of int
        Colors (blue, green, red); `second` is unused by plain cloth.
    texture : str
        One of `TEXTURES`.
    """

    main: tuple
    second: tuple = (0, 0, 0)
    texture: str = "plain"

    def darker(self):
        """Return the same cloth in shadow.

        Returns
        -------
        Fabric
        """
        main, second = (
            tuple(int(0.78 * part) for part in color) for color in (self.main, self.second)
        )
        return Fabric(main, second, self.texture)

    def weave(self, x, y):
        """Tell where the second color shows.

        Parameters
        ----------
        x, y : ndarray, float, broadcastable
            Body coordinates.

        Returns
        -------
        ndarray of bool
        """
        if self.texture == "rings":
            return np.floor(y / 0.046) % 2 == 0
        if self.texture == "stripes":
            return np.floor((x + 0.018) / 0.036) % 2 == 0
        if self.texture == "checks":
            return (np.floor(x / 0.058) + np.floor(y / 0.058)) % 2 == 0
        return y < 0.655


@dataclasses.dataclass(frozen=True)
class Look:
    """All that stays the same in every image of one person.

    Attributes
    ----------
    height, width : float
        Body size and girth relative to the average.
    leg : float
        Height of the hips in body units.
    skin, hair, shoes, hat, bag_color : tuple of int
        Colors (blue, green, red).
    hair_length : float
        How far the hair hangs below the middle of the head, in body units.
    has_hat, long_sleeves : bool
        Whether a hat is worn, and whether the sleeves reach the hands.
    top, bottom : Fabric
        Upper and lower clothes.
    hem : float
        How far the upper clothes reach below the hips, in body units.
    legs, bag : str
        One of `LEG_KINDS` and one of `BAG_KINDS`.
    """

    height: float
    width: float
    leg: float
    skin: tuple
    hair: tuple
    hair_length: float
    hat: tuple
    has_hat: bool
    top: Fabric
    long_sleeves: bool
    hem: float
    legs: str
    bottom: Fabric
    shoes: tuple
    bag: str
    bag_color: tuple


@dataclasses.dataclass(frozen=True)
class Pose:
    """How a person stands in front of the camera.

    Attributes
    ----------
    yaw : float
        Direction of walking in radians; 0 towards the camera, pi / 2 to the right.
    phase : float
        Moment of the step in radians.
    stride : float
        Largest swing of a leg in radians.
    tilt : float
        How far the camera looks down: rise in the image for each unit of depth.
    """

    yaw: float
    phase: float
    stride: float
    tilt: float


def pick(rng, options, weights=None):
    """Draw one of `options`, with the probabilities `weights` where they are given."""
    return options[int(rng.choice(len(options), p=weights))]


def _unlike(rng, options, color):
    """Pick a color that can be told from `color` under every camera."""
    far = [one for one in options if np.abs(np.subtract(one, color)).sum() > 200]
    return pick(rng, far)


def sample_look(rng):
    """Dress a new person.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.

    Returns
    -------
    Look
    """
    main = pick(rng, TOPS)
    top = Fabric(main, _unlike(rng, TOPS, main), pick(rng, TEXTURES, (0.3, *[0.14] * 5)))
    return Look(
        height=rng.uniform(0.9, 1.04),
        width=rng.uniform(0.88, 1.22),
        leg=rng.uniform(0.45, 0.51),
        skin=pick(rng, SKINS),
        hair=pick(rng, HAIRS),
        hair_length=pick(rng, (0.0, 0.0, 0.09, 0.2)),
        hat=pick(rng, TOPS),
        has_hat=rng.random() < 0.2,
        top=top,
        long_sleeves=rng.random() < 0.6,
        hem=pick(rng, (0.0, 0.0, 0.03, 0.16)),
        legs=pick(rng, LEG_KINDS, (0.6, 0.2, 0.2)),
        bottom=Fabric(pick(rng, BOTTOMS)),
        shoes=pick(rng, SHOES),
        bag=pick(rng, BAG_KINDS, (0.3, 0.3, 0.25, 0.15)),
        bag_color=_unlike(rng, BAGS, main),
    )


def _capsule(start, end, radius_start, radius_end):
    """Outline of a tapered limb with round ends, (N, 2) float body coordinates."""
    angles = math.atan2(end[1] - start[1], end[0] - start[0]) + np.linspace(-1.5, 1.5, 7) * (
        math.pi / 3
    )
    arc = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.concatenate([end + radius_end * arc, start - radius_start * arc])


class Brush:
    """Paints shapes given in body coordinates.

    Parameters
    ----------
    canvas : ndarray, uint8, (H, W, 4)
        Blue, green, red, opacity; painted in place. Start from zeros, so that scaling the canvas
        down leaves colors weighted by their opacity.
    foot : tuple of float
        Pixel (x, y) of the body origin.
    scale : float
        Pixels in a body unit.
    shear : float
        Lean of the verticals, x for each unit of y.
    """

    def __init__(self, canvas, foot, scale, shear=0.0):
        self.canvas = canvas
        self.foot = foot
        self.scale = scale
        self.shear = shear

    def _pixels(self, points):
        points = np.asarray(points, dtype=np.float64)
        x = self.foot[0] + self.scale * (points[:, 0] + self.shear * points[:, 1])
        y = self.foot[1] - self.scale * points[:, 1]
        return np.rint(np.stack([x, y], axis=1) * (1 << SHIFT)).astype(np.int32)

    def polygon(self, points, fabric):
        """Fill a polygon.

        Parameters
        ----------
        points : array_like, float, (N, 2)
            Corners in body coordinates.
        fabric : Fabric
            Colors and texture; a logo is painted by whoever knows where the chest is.
        """
        corners = self._pixels(points)
        cv2.fillPoly(self.canvas, [corners], (*fabric.main, 255), shift=SHIFT)
        if fabric.texture not in ("plain", "logo"):
            self._weave(corners, fabric)

    def _weave(self, corners, fabric):
        height, width = self.canvas.shape[:2]
        left, top = np.maximum(corners.min(axis=0) >> SHIFT, 0)
        right, bottom = np.minimum((corners.max(axis=0) >> SHIFT) + 2, (width, height))
        if right <= left or bottom <= top:
            return
        inside = np.zeros((bottom - top, right - left), dtype=np.uint8)
        offset = np.array([left, top]) << SHIFT
        cv2.fillPoly(inside, [(corners - offset).astype(np.int32)], 1, shift=SHIFT)
        y = (self.foot[1] - np.arange(top, bottom)[:, None]) / self.scale
        x = (np.arange(left, right)[None, :] - self.foot[0]) / self.scale - self.shear * y
        inside *= fabric.weave(x, y)
        window = self.canvas[top:bottom, left:right]
        cv2.copyTo(np.full_like(window, (*fabric.second, 255)), inside, window)

    def limb(self, start, end, radii, fabric):
        """Paint an arm, a leg or part of one.

        Parameters
        ----------
        start, end : array_like, float, (2,)
            Ends in body coordinates.
        radii : tuple of float
            Thickness at both ends, in body units.
        fabric : Fabric
            What covers it.
        """
        start, end = np.asarray(start), np.asarray(end)
        self.polygon(_capsule(start, end, *radii), fabric)

    def ellipse(self, center, axes, color, arc=(0, 360)):
        """Fill an upright ellipse or a segment of one.

        Parameters
        ----------
        center : tuple of float
            Middle in body coordinates.
        axes : tuple of float
            Half width and half height in body units.
        color : tuple of int
            Blue, green, red and perhaps opacity, 0..255.
        arc : tuple of int
            First and last angle in degrees, clockwise from the right.
        """
        middle = self._pixels([center])[0]
        size = np.rint(np.multiply(axes, self.scale * (1 << SHIFT))).astype(int)
        color = (*color, 255)[:4]
        cv2.ellipse(
            self.canvas, middle.tolist(), size.tolist(), 0, *arc, color, cv2.FILLED, shift=SHIFT
        )


class _Skeleton:
    """Joints of a walking body, projected to (x, y, depth); a larger depth is farther away."""

    def __init__(self, look, pose):
        self.sin, self.cos = math.sin(pose.yaw), math.cos(pose.yaw)
        self.tilt = pose.tilt
        self.side = 0.092 * look.width
        steps = [pose.phase, pose.phase + math.pi]
        legs = [self._leg(look, pose.stride, step) for step in steps]
        self.drop = min(ankle[1] for _, ankle in legs) - 0.035
        self.hip = look.leg - self.drop
        self.shoulder = self.hip + 0.315
        self.head = self.shoulder + 0.125
        self.legs = [
            self._place_leg(joints, lat) for joints, lat in zip(legs, (-1, 1), strict=True)
        ]
        self.arms = [
            self._arm(pose.stride, step, lat) for step, lat in zip(steps, (-1, 1), strict=True)
        ]

    def project(self, lateral, forward, up):
        """Project (3,) body coordinates; `lateral` to the left hand, `forward` to the nose."""
        depth = lateral * self.sin - forward * self.cos
        return lateral * self.cos + forward * self.sin, up + self.tilt * depth, depth

    @staticmethod
    def _leg(look, stride, step):
        """(forward, up) of knee and ankle; the leg that swings forward bends its knee."""
        thigh, shin = 0.52 * look.leg, 0.42 * look.leg
        swing = stride * math.sin(step)
        bend = swing - stride * (0.2 + 1.1 * max(0.0, math.cos(step)))
        knee = thigh * math.sin(swing), look.leg - thigh * math.cos(swing)
        return knee, (knee[0] + shin * math.sin(bend), knee[1] - shin * math.cos(bend))

    def _place_leg(self, joints, lateral):
        lateral *= 0.5 * self.side
        points = [(0.0, self.hip)] + [(forward, up - self.drop) for forward, up in joints]
        points.append((points[-1][0] + 0.065, points[-1][1] - 0.018))
        return [self.project(lateral, forward, up) for forward, up in points]

    def _arm(self, stride, step, lateral):
        swing = -0.9 * stride * math.sin(step)
        bend = swing + 0.8 * stride
        elbow = 0.15 * math.sin(swing), self.shoulder - 0.15 * math.cos(swing)
        hand = elbow[0] + 0.15 * math.sin(bend), elbow[1] - 0.15 * math.cos(bend)
        side = lateral * self.side
        points = ((side, 0.0, self.shoulder - 0.012), (1.22 * side, *elbow), (1.28 * side, *hand))
        return [self.project(*point) for point in points]

    def half_width(self, breadth, thickness):
        """Half of what is seen of a body `2 * breadth` wide and `2 * thickness` deep."""
        return math.hypot(breadth * self.cos, thickness * self.sin)


def _paint_leg(brush, look, leg, far):
    """Paint a leg and its shoe; the far leg lies in the shadow of the near one."""
    hip, knee, ankle, toe = (np.array(joint[:2]) for joint in leg)
    skin = Fabric(look.skin)
    girth = look.width
    upper, lower = {
        "trousers": (look.bottom, look.bottom),
        "shorts": (look.bottom, skin),
        "skirt": (skin, skin),
    }[look.legs]
    if far:
        upper, lower = upper.darker(), lower.darker()
    loose = 1.2 if look.legs == "trousers" else 1.0
    brush.limb(knee, ankle, (0.036 * girth, 0.025 * girth * loose), lower)
    brush.limb(ankle, toe, (0.025, 0.02), Fabric(look.shoes))
    brush.limb(hip, knee, (0.055 * girth, 0.041 * girth), upper)


def _paint_arm(brush, look, arm):
    shoulder, elbow, hand = (np.array(joint[:2]) for joint in arm)
    skin = Fabric(look.skin)
    sleeve = look.top if look.long_sleeves else skin
    upper = 0.038 * look.width
    # A dark rim sets the arm off from a trunk of the same cloth.
    brush.limb(elbow, hand, (0.031, 0.026), sleeve.darker())
    brush.limb(shoulder, elbow, (upper, 0.034), look.top.darker())
    brush.ellipse(hand, (0.024, 0.026), look.skin)
    brush.limb(elbow, hand, (0.027, 0.022), sleeve)
    brush.limb(shoulder, elbow, (upper - 0.002, 0.03), look.top)


def _paint_skirt(brush, look, body):
    waist, hem = body.half_width(0.075, 0.06), body.half_width(0.115, 0.105)
    top, bottom = body.hip + 0.05, body.hip - 0.19
    waist, hem = waist * look.width, hem * look.width
    brush.polygon([(-waist, top), (waist, top), (hem, bottom), (-hem, bottom)], look.bottom)


def _paint_torso(brush, look, body):
    """Paint the neck and the upper clothes, with a logo on the chest if it can be seen."""
    wide = look.width
    shoulder, waist = body.half_width(0.108, 0.068) * wide, body.half_width(0.083, 0.07) * wide
    hem = waist * (1.05 + 1.2 * look.hem)
    neck, top, low = body.shoulder + 0.055, body.shoulder, body.hip - 0.03 - look.hem
    brush.limb((0, top), (0, neck + 0.02), (0.032, 0.03), Fabric(look.skin))
    right = [(0.35 * shoulder, top + 0.045), (0.8 * shoulder, top + 0.028), (shoulder, top - 0.01)]
    right += [(waist, body.hip + 0.11), (hem, low)]
    outline = right + [(-x, y) for x, y in reversed(right)]
    brush.polygon(outline, look.top)
    if look.top.texture == "logo" and body.cos > 0.2:
        x, reach = 0.05 * body.sin, 0.055 * wide * body.cos
        chest = [(x - reach, top - 0.05), (x + reach, top - 0.05)]
        chest += [(x + reach, top - 0.15), (x - reach, top - 0.15)]
        brush.polygon(chest, Fabric(look.top.second))


def _paint_head(brush, look, body):
    """Paint hair all round, then the face over it as far as it is turned to the camera."""
    middle = body.head + 0.06 * body.tilt
    brush.ellipse((-0.008 * body.sin, middle), (0.052, 0.066), look.hair)
    if body.cos > -0.6:
        shown = min(1.0, 0.62 + 0.5 * body.cos)
        face = 0.022 * body.sin
        brush.ellipse((face, middle - 0.014), (0.042 * shown, 0.054), look.skin)
    if look.has_hat:
        brush.ellipse((0, middle + 0.012), (0.058, 0.062), look.hat, (180, 360))
        brim = [(-0.058, middle + 0.002), (0.058, middle + 0.002)]
        peak = 0.045 * body.sin
        brim = [(x + (peak if x * peak > 0 else 0), y) for x, y in brim]
        brush.limb(*brim, (0.01, 0.01), Fabric(look.hat))


def _paint_long_hair(brush, look, body):
    if look.hair_length:
        back = -0.03 * body.sin
        end = (1.3 * back, body.head - look.hair_length)
        brush.limb((back, body.head - 0.03), end, (0.05, 0.042), Fabric(look.hair))


def _paint_backpack(brush, look, body):
    x = -0.1 * body.sin
    half = body.half_width(0.085, 0.05)
    top, low = body.shoulder + 0.01, body.hip + 0.05
    color = Fabric(look.bag_color)
    brush.limb((x, top - half), (x, low + half), (half, half), color)
    pocket = (x - 0.6 * half, low + 0.07), (x + 0.6 * half, low + 0.07)
    brush.limb(*pocket, (0.006, 0.006), color.darker())


def _paint_straps(brush, look, body):
    for side in (-0.06, 0.06):
        x = side * body.cos + 0.04 * body.sin
        ends = (x, body.shoulder + 0.02), (x * 1.1, body.shoulder - 0.15)
        brush.limb(*ends, (0.011, 0.009), Fabric(look.bag_color))


def _paint_shoulder_bag(brush, look, body, near):
    """Paint a strap across the chest and the bag on the left hip, if on this side of the body."""
    color = Fabric(look.bag_color)
    x, y, depth = body.project(1.25 * body.side, 0.0, body.hip - 0.01)
    if near:
        start = body.project(-0.7 * body.side, 0.0, body.shoulder + 0.03)
        brush.limb(start[:2], (x, y), (0.009, 0.009), color)
    if near == (depth <= 0.02):
        half = 0.062 + 0.02 * abs(body.sin)
        box = [(x - half, y + 0.055), (x + half, y + 0.055), (x + half, y - 0.07)]
        brush.polygon([*box, (x - half, y - 0.07)], color)


def _paint_hand_bag(brush, look, hand):
    x, y = hand[:2]
    color = Fabric(look.bag_color)
    brush.limb((x, y), (x, y - 0.06), (0.012, 0.012), color)
    box = [(x - 0.05, y - 0.06), (x + 0.05, y - 0.06), (x + 0.062, y - 0.16), (x - 0.062, y - 0.16)]
    brush.polygon(box, color)


def _paint_behind(brush, look, body):
    """Paint what the trunk hides from the camera."""
    if body.cos > 0:
        _paint_long_hair(brush, look, body)
    if look.bag == "backpack" and body.cos > -0.15:
        _paint_backpack(brush, look, body)
    if look.bag == "shoulder":
        _paint_shoulder_bag(brush, look, body, near=False)


def _paint_before(brush, look, body):
    """Paint what covers the trunk."""
    if look.bag == "backpack" and body.cos > -0.15:
        _paint_straps(brush, look, body)
    if look.bag == "backpack" and body.cos <= -0.15:
        _paint_backpack(brush, look, body)
    if look.bag == "shoulder":
        _paint_shoulder_bag(brush, look, body, near=True)
    if body.cos <= 0:
        _paint_long_hair(brush, look, body)


def paint_person(brush, look, pose):
    """Paint a walking person, far parts first.

    Parameters
    ----------
    brush : Brush
        Where to paint; its foot is the ground below the person.
    look : Look
        Who it is.
    pose : Pose
        How the person walks, and which side is seen.
    """
    body = _Skeleton(look, pose)
    brush.ellipse((0.03, 0.0), (0.2, 0.035), SHADOW)
    legs = sorted(body.legs, key=lambda joints: -joints[1][2])
    for leg, is_far in zip(legs, (abs(body.sin) > 0.45, False), strict=True):
        _paint_leg(brush, look, leg, is_far)
    far, near = sorted(body.arms, key=lambda joints: -joints[0][2])
    turned = abs(body.sin) > 0.45
    if turned:
        _paint_arm(brush, look, far)
    _paint_behind(brush, look, body)
    if look.legs == "skirt":
        _paint_skirt(brush, look, body)
    _paint_torso(brush, look, body)
    _paint_head(brush, look, body)
    if not turned:
        _paint_arm(brush, look, far)
    _paint_before(brush, look, body)
    if look.bag == "hand":
        _paint_hand_bag(brush, look, body.arms[0][-1])
    _paint_arm(brush, look, near)

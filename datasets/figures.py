"""Drawn pedestrians, and the cameras that see them; free of TensorFlow.

Body coordinates: one unit is the height of a person of average size, x runs to the right of the
image from the middle of the body, y runs upwards from the ground. Colors are (blue, green, red)
tuples in 0..255, the order OpenCV draws and writes.
"""

import dataclasses
import functools
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


def _pick(rng, options, weights=None):
    return options[int(rng.choice(len(options), p=weights))]


def _unlike(rng, options, color):
    """Pick a color that can be told from `color` under every camera."""
    far = [one for one in options if np.abs(np.subtract(one, color)).sum() > 200]
    return _pick(rng, far)


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
    main = _pick(rng, TOPS)
    top = Fabric(main, _unlike(rng, TOPS, main), _pick(rng, TEXTURES, (0.3, *[0.14] * 5)))
    return Look(
        height=rng.uniform(0.9, 1.04),
        width=rng.uniform(0.88, 1.22),
        leg=rng.uniform(0.45, 0.51),
        skin=_pick(rng, SKINS),
        hair=_pick(rng, HAIRS),
        hair_length=_pick(rng, (0.0, 0.0, 0.09, 0.2)),
        hat=_pick(rng, TOPS),
        has_hat=rng.random() < 0.2,
        top=top,
        long_sleeves=rng.random() < 0.6,
        hem=_pick(rng, (0.0, 0.0, 0.03, 0.16)),
        legs=_pick(rng, LEG_KINDS, (0.6, 0.2, 0.2)),
        bottom=Fabric(_pick(rng, BOTTOMS)),
        shoes=_pick(rng, SHOES),
        bag=_pick(rng, BAG_KINDS, (0.3, 0.3, 0.25, 0.15)),
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
    side, color = _pick(rng, (-1, 1)), Fabric(_pick(rng, TOPS))
    top = rng.uniform(0.3, 0.5)
    brush.limb((side * 0.38, top), (side * 0.4, -0.3), (0.17, 0.2), color)
    brush.limb((side * 0.27, top), (side * 0.25, -0.3), (0.06, 0.05), color)


def _paint_car(brush, rng):
    """Paint a hood that hides the feet."""
    color = _pick(rng, TOPS)
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
    yaw = math.radians(_pick(walk, view.yaws, weights) + walk.normal(0, 8))
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
        _pick(walk, (_paint_pole, _paint_passer, _paint_car))(brush, walk)
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

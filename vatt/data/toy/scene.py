"""Draws the scenes of the toy corpus: what an object is, how it moves, and the frames that show it.

A scene is one object (shape x colour x motion) over a textured background with camera jitter and a
small dull distractor. Everything but the three attributes is drawn at random and independent of
them. Every shape and motion means the same after a horizontal flip, which training applies.

    scene = draw_scene(rng, shape="star", colour="red", motion="circle", duration=2.6)
    frames = render(scene, rng)          # uint8 [frames, HEIGHT, WIDTH, 3]
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

FPS = 25
HEIGHT, WIDTH = 72, 80  # pixels

SHAPES = ("disc", "square", "triangle", "star", "ring", "cross", "heart", "moon")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "yellow": (240, 220, 45),
    "green": (45, 185, 70),
    "blue": (45, 85, 235),
    "purple": (185, 60, 215),
    "white": (245, 245, 245),
}
MOTIONS = ("slide", "bob", "circle", "pulse", "blink", "turn", "shake", "jump")

# Seconds of one repetition: short enough for several inside any window of 1.6 s.
PERIODS: dict[str, tuple[float, float]] = {
    "slide": (0.80, 1.00),
    "bob": (0.80, 1.00),
    "circle": (0.80, 1.00),
    "pulse": (0.70, 0.90),
    "blink": (0.45, 0.55),
    "turn": (0.70, 0.90),
    "shake": (0.08, 0.12),
    "jump": (0.30, 0.36),
}

_GRID = 192  # side of the distance table of a shape
_SPAN = 1.3  # the table covers [-_SPAN, _SPAN] in units of the object's radius


@dataclass(frozen=True)
class Scene:
    """One object doing one thing for `duration` seconds."""

    shape: str
    colour: str
    motion: str
    duration: float  # s, a whole number of frames
    period: float  # s
    phase: float  # in periods, of picture and sound alike

    @property
    def num_frames(self) -> int:
        return round(self.duration * FPS)


def draw_scene(
    rng: np.random.Generator, shape: str, colour: str, motion: str, duration: float
) -> Scene:
    """Returns a scene with period and phase drawn from `rng`."""
    low, high = PERIODS[motion]
    return Scene(shape, colour, motion, duration, rng.uniform(low, high), rng.uniform())


def _star(points: int, inner: float) -> np.ndarray:
    angles = np.pi / 2 + np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2 == 0, 1.15, inner)
    return np.stack([radius * np.cos(angles), -radius * np.sin(angles)], axis=-1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -(y + 2.5)], axis=-1) / 15.5


def _cross(arm: float) -> np.ndarray:
    quarter = np.array([[arm, -arm], [arm, -1.08], [-arm, -1.08]])
    turn = np.array([[0, -1], [1, 0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _polygon_distance(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Signed distance to a polygon, negative inside."""
    best = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        best = np.minimum(best, np.hypot(x - ax - along * ex, y - ay - along * ey))
        if ey:
            crosses = ((ay > y) != (by > y)) & (x < ex * (y - ay) / ey + ax)
            inside ^= crosses
    return np.where(inside, -best, best)


@functools.cache
def distance_table(shape: str) -> np.ndarray:
    """Returns the signed distance to the edge of a shape, in radii, float32 [_GRID, _GRID]."""
    axis = (np.arange(_GRID) + 0.5) / _GRID * 2 * _SPAN - _SPAN
    x, y = np.meshgrid(axis, axis)
    radius = np.hypot(x, y)
    if shape == "disc":
        distance = radius - 0.92
    elif shape == "ring":
        distance = np.abs(radius - 0.72) - 0.28
    elif shape == "moon":
        distance = np.maximum(radius - 1.0, 0.78 - np.hypot(x - 0.5, y))
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - 0.80
    elif shape == "triangle":
        angles = np.pi / 2 + np.arange(3) * 2 * np.pi / 3
        corners = 1.2 * np.stack([np.cos(angles), -np.sin(angles)], axis=-1)
        distance = _polygon_distance(x, y, corners)
    elif shape == "star":
        distance = _polygon_distance(x, y, _star(5, 0.48))
    elif shape == "heart":
        distance = _polygon_distance(x, y, _heart())
    elif shape == "cross":
        distance = _polygon_distance(x, y, _cross(0.32))
    else:
        raise ValueError(f"shape '{shape}' is not one of {', '.join(SHAPES)}")
    return distance.astype(np.float32)


@dataclass(frozen=True)
class Track:
    """Where an object is in every frame; all arrays [frames]."""

    x: np.ndarray  # pixels from the resting place
    y: np.ndarray
    scale_x: np.ndarray  # 1 is the resting size
    scale_y: np.ndarray
    visible: np.ndarray  # 0 to 1


def phases(scene: Scene, times: np.ndarray) -> np.ndarray:
    """Returns the phase of the scene's motion in periods at `times` (s)."""
    return times / scene.period + scene.phase


def track(scene: Scene, rng: np.random.Generator) -> Track:
    """Returns the path of the object of a scene. Amplitudes are in pixels of the rendered frame."""
    times = (np.arange(scene.num_frames) + 0.5) / FPS
    phase = phases(scene, times)
    angle = 2 * np.pi * phase
    still = np.zeros_like(phase)
    full = np.ones_like(phase)
    x, y, scale_x, scale_y, visible = still, still, full, full, full
    reach = rng.uniform(11.5, 14.0)
    if scene.motion == "slide":
        x = reach * np.sin(angle)
    elif scene.motion == "bob":
        y = reach * np.sin(angle)
    elif scene.motion == "circle":
        direction = rng.choice([-1.0, 1.0])
        x, y = 0.85 * reach * np.cos(angle), 0.85 * reach * np.sin(direction * angle)
    elif scene.motion == "pulse":
        scale_x = scale_y = 0.85 + 0.45 * np.sin(angle)
    elif scene.motion == "blink":
        visible = (phase % 1 < 0.5).astype(float)
    elif scene.motion == "turn":
        scale_x = np.maximum(np.abs(np.cos(np.pi * phase)), 0.08)
    elif scene.motion == "shake":
        steps = np.floor(phase).astype(int)
        steps -= steps.min()
        offsets = rng.uniform(2.5, 5.0, (steps.max() + 1, 2)) * rng.choice(
            [-1.0, 1.0], (steps.max() + 1, 2)
        )
        x, y = offsets[steps, 0], offsets[steps, 1]
    elif scene.motion == "jump":
        x, y = _jumps(phase, reach, rng)
    else:
        raise ValueError(f"motion '{scene.motion}' is not one of {', '.join(MOTIONS)}")
    return Track(x, y, scale_x, scale_y, visible)


def _jumps(phase: np.ndarray, reach: float, rng: np.random.Generator) -> tuple:
    """Positions that stay for a period and then are somewhere else, at least `reach` away."""
    steps = np.floor(phase).astype(int)
    steps -= steps.min()
    spots = [rng.uniform(-reach, reach, 2)]
    while len(spots) <= steps.max():
        spot = rng.uniform(-reach, reach, 2)
        if np.hypot(*(spot - spots[-1])) > reach:
            spots.append(spot)
    path = np.array(spots)[steps]
    return path[:, 0], path[:, 1]


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Dull blotches at two scales, float32 [height, width, 3]."""
    picture = np.zeros((height, width, 3), np.float32)
    base = rng.uniform(60, 110)
    for cells, contrast in ((4, 16.0), (12, 9.0)):
        grey = rng.normal(0, contrast, (cells, cells, 1))
        tint = rng.normal(0, contrast * 0.35, (cells, cells, 3))
        picture += _enlarge((grey + tint).astype(np.float32), height, width)
    return np.clip(picture + base, 25, 175)


def _enlarge(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear enlargement, [h, w, 3] -> [height, width, 3]."""
    rows = np.tensordot(_mixing(len(grid), height), grid, axes=1)  # [height, w, 3]
    return np.matmul(_mixing(grid.shape[1], width), rows)


@functools.cache
def _mixing(cells: int, size: int) -> np.ndarray:
    """Returns the matrix [size, cells] of linear interpolation."""
    place = np.linspace(0, cells - 1, size)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells))).astype(np.float32)


def _smooth_walk(rng: np.random.Generator, steps: int, reach: float) -> np.ndarray:
    """A slow random path within +-reach, [steps, 2]."""
    knots = rng.uniform(-reach, reach, (max(2, steps // 12 + 2), 2))
    places = np.linspace(0, len(knots) - 1, steps)
    return np.stack([np.interp(places, np.arange(len(knots)), k) for k in knots.T], axis=-1)


def _paint(
    frames: np.ndarray, shape: str, colour: np.ndarray, radius: float, angle: float, path: Track
) -> None:
    """Draws a shape into uint8 `frames` [frames, height, width, 3] in place, with soft edges.

    `path.x`, `path.y` are pixel positions in the frame. `radius` in pixels, `angle` in radians.
    """
    count, height, width, _ = frames.shape
    half = int(np.ceil(radius * _SPAN * max(path.scale_x.max(), path.scale_y.max()))) + 1
    left = np.floor(path.x).astype(int) - half
    top = np.floor(path.y).astype(int) - half
    cell = np.arange(2 * half + 1) + 0.5
    dx = ((left[:, None] + cell - path.x[:, None]) / (radius * path.scale_x[:, None]))[:, None, :]
    dy = ((top[:, None] + cell - path.y[:, None]) / (radius * path.scale_y[:, None]))[:, :, None]
    dx, dy = dx.astype(np.float32), dy.astype(np.float32)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    to_cell = np.float32(_GRID / (2 * _SPAN))
    column = ((cos * dx + sin * dy + _SPAN) * to_cell).astype(np.int32).clip(0, _GRID - 1)
    row = ((cos * dy - sin * dx + _SPAN) * to_cell).astype(np.int32).clip(0, _GRID - 1)
    distance = distance_table(shape).ravel().take(row * _GRID + column)
    pixel = radius * np.sqrt(path.scale_x * path.scale_y)
    distance *= pixel.astype(np.float32)[:, None, None]  # pixels, [frames, cells, cells]
    cover = np.clip(0.5 - distance, 0, 1) * path.visible.astype(np.float32)[:, None, None]
    shade = np.clip(-distance * 0.5 + 0.1, 0.25, 1)  # a darker rim keeps shapes clear on any ground
    paint = shade[..., None] * colour.astype(np.float32)
    for k in range(count):
        y0, x0 = max(top[k], 0), max(left[k], 0)
        y1, x1 = min(top[k] + len(cell), height), min(left[k] + len(cell), width)
        if y1 <= y0 or x1 <= x0 or not path.visible[k]:
            continue
        inner = (slice(y0 - top[k], y1 - top[k]), slice(x0 - left[k], x1 - left[k]))
        patch = frames[k, y0:y1, x0:x1]
        alpha = cover[k][inner][..., None]
        patch[:] = patch + alpha * (paint[k][inner] - patch)


def render(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Returns the frames of a scene, uint8 [frames, HEIGHT, WIDTH, 3]."""
    count, margin = scene.num_frames, 3
    picture = _background(rng, HEIGHT + 2 * margin, WIDTH + 2 * margin).astype(np.uint8)
    camera = _smooth_walk(rng, count, margin - 0.5) + rng.normal(0, 0.3, (count, 2))
    shift = np.clip(np.round(camera), -margin, margin).astype(int)
    frames = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    for k, (dx, dy) in enumerate(shift):
        frames[k] = picture[margin - dy : margin - dy + HEIGHT, margin - dx : margin - dx + WIDTH]

    still = np.ones(count)
    grey = rng.uniform(60, 190) + rng.normal(0, 6, 3)
    edge = np.array([rng.uniform(8, WIDTH - 8), rng.uniform(8, HEIGHT - 8)])
    drift = _smooth_walk(rng, count, 2.0) + edge + shift
    distractor = Track(drift[:, 0], drift[:, 1], still, still, still)
    shape = SHAPES[rng.integers(len(SHAPES))]
    _paint(frames, shape, grey, rng.uniform(4.0, 6.5), rng.uniform(0, 2 * np.pi), distractor)

    path = track(scene, rng)
    centre = np.array([WIDTH, HEIGHT]) / 2 + rng.uniform(-2.5, 2.5, 2)
    place = centre + shift
    path = Track(
        path.x + place[:, 0], path.y + place[:, 1], path.scale_x, path.scale_y, path.visible
    )
    colour = np.array(COLOURS[scene.colour]) * rng.uniform(0.85, 1.05) + rng.normal(0, 6, 3)
    tilt = rng.uniform(-0.15, 0.15) + (np.pi if scene.shape == "moon" and rng.random() < 0.5 else 0)
    _paint(frames, scene.shape, np.clip(colour, 0, 255), rng.uniform(17.0, 20.0), tilt, path)
    return frames

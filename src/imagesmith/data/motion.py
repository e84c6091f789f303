"""Moving pictures made of still ones, of which every motion is known: what flow networks are taught with.

A photograph drifts, shakes, turns and grows behind up to two pieces of others that move on their own, as objects do
before a background. Everything is sampled at the size of the target and degraded afterwards.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.tensors import to_float

MOST_PX = 20.0
"""Fastest drift, in pixels of the target for each frame; most are far slower."""
_STILL = 0.2


class MovingClip(NamedTuple):
    """Frames (T, 3, side, side) in [0, 1], and how each came from the one before."""

    frames: Tensor
    flow: Tensor
    """(T - 1, 2, side / unit, side / unit) in units of `unit` pixels: frame t at p is frame t - 1 at p + flow."""


def moving_clip(photos: Sequence[Tensor], frames: int, side: int, unit: int, rng: torch.Generator) -> MovingClip:
    """A clip from uint8 photographs (3, H, W): the first is the background, each other one an object before it."""
    at = _pixels(side, 1)
    coarse = _pixels(side, unit)
    path = _path(frames, photos[0], side, rng)
    clip = _sampled(photos[0], path, at)
    flow = _flow(path, coarse) / unit
    for photo in photos[1:]:
        path = _path(frames, photo, side, rng)
        shape = _Shape.drawn(path, side, rng)
        alpha = shape.alpha(path, at).unsqueeze(1)
        clip = alpha * _sampled(photo, path, at) + (1 - alpha) * clip
        inside = shape.alpha(path[1:], coarse).unsqueeze(1) > 0.5
        flow = torch.where(inside, _flow(path, coarse) / unit, flow)
    return MovingClip(clip.clamp_(0, 1), flow)


class _Shape(NamedTuple):
    """An outline between an ellipse and a box, in the coordinates of its photograph."""

    centre: Tensor
    turn: Tensor
    radii: Tensor
    power: float

    @classmethod
    def drawn(cls, path: Tensor, side: int, rng: torch.Generator) -> "_Shape":
        """Somewhere in the frame in the middle of the clip, a tenth to a third of the frame wide."""
        place = torch.cat([torch.rand(2, generator=rng, dtype=torch.float64) * side, torch.ones(1)])
        angle = _uniform(rng, 0, math.pi)
        return cls(
            (path[len(path) // 2] @ place)[:2].float(),
            _rotation(angle).float(),
            side * torch.tensor([_uniform(rng, 0.1, 0.35), _uniform(rng, 0.1, 0.35)]),
            2 + 6 * _uniform(rng, 0, 1) ** 2,
        )

    def alpha(self, path: Tensor, at: Tensor) -> Tensor:
        """(T, h, w): 1 inside, 0 outside, a pixel between."""
        own = (_moved(path, at) - self.centre) @ self.turn.T / self.radii
        beyond = 1 - own.abs().pow(self.power).sum(-1)
        return (0.5 + beyond * float(self.radii.min()) / self.power).clamp(0, 1)


def _path(frames: int, photo: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """(T, 3, 3) float64: from the pixel (column, row, 1) of each frame to that of the photograph.

    Half of the paths only drift by whole pixels, which leaves the photograph as sharp as it is. Some do not move at
    all, as most of most films does not, and half do not shake.
    """
    steps = torch.arange(frames, dtype=torch.float64) - (frames - 1) / 2
    speed = 0.0 if _uniform(rng, 0, 1) < _STILL else MOST_PX * _uniform(rng, 0, 1) ** 2.5
    heading = _uniform(rng, 0, 2 * math.pi)
    drift = speed * torch.tensor([math.cos(heading), math.sin(heading)], dtype=torch.float64)
    shaking = 1.5 * _uniform(rng, 0, 1) ** 2 if _uniform(rng, 0, 1) < 0.5 else 0.0
    shake = shaking * torch.randn(frames, 2, generator=rng, dtype=torch.float64).cumsum(0)
    places = steps[:, None] * drift + shake - shake.mean(0)
    half = side / 2
    room = torch.tensor([photo.shape[2], photo.shape[1]], dtype=torch.float64) - side
    places += half - 0.5 + room.clamp(min=0) * torch.rand(2, generator=rng, dtype=torch.float64)
    path = torch.eye(3, dtype=torch.float64).repeat(frames, 1, 1)
    if _uniform(rng, 0, 1) < 0.5:
        path[:, :2, 2] = (places - half).round()
        return path
    turning, growing = math.radians(_uniform(rng, -1.5, 1.5)), _uniform(rng, -0.015, 0.015)
    for t, step in enumerate(steps.tolist()):
        path[t, :2, :2] = _rotation(turning * step) * math.exp(growing * step)
    centre = torch.full((2,), half - 0.5, dtype=torch.float64)
    path[:, :2, 2] = places - path[:, :2, :2] @ centre
    return path


def _sampled(photo: Tensor, path: Tensor, at: Tensor) -> Tensor:
    """The frames (T, 3, h, w) that the path sees of a uint8 photograph, mirrored beyond its edges."""
    size = torch.tensor([photo.shape[2], photo.shape[1]])
    grid = _moved(path, at) * (2 / (size - 1)) - 1
    # all frames below each other: one photograph then serves them without a copy for each
    tall = F.grid_sample(
        to_float(photo, "uint8").unsqueeze(0),
        grid.flatten(0, 1).unsqueeze(0),
        mode="bicubic",
        padding_mode="reflection",
        align_corners=True,
    )
    return tall.view(3, *grid.shape[:3]).transpose(0, 1)


def _flow(path: Tensor, at: Tensor) -> Tensor:
    """(T - 1, 2, h, w) in pixels: where in the frame before the same place of the photograph was."""
    back = torch.linalg.inv(path[:-1]) @ path[1:]
    return (_moved(back, at) - at).permute(0, 3, 1, 2)


def _moved(path: Tensor, at: Tensor) -> Tensor:
    """The places (h, w, 2) of every frame's pixels through its matrix: (T, h, w, 2)."""
    path = path.to(at.dtype)
    return (at.view(-1, 2) @ path[:, :2, :2].mT + path[:, None, :2, 2]).unflatten(1, at.shape[:2])


def _pixels(side: int, unit: int) -> Tensor:
    """(side / unit, side / unit, 2): column and row of the middle of each `unit` x `unit` pixels."""
    middles = (torch.arange(side // unit) + 0.5) * unit - 0.5
    rows, columns = torch.meshgrid(middles, middles, indexing="ij")
    return torch.stack([columns, rows], dim=-1)


def _rotation(angle: float) -> Tensor:
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)


def _uniform(rng: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng, dtype=torch.float64))

"""How far a result can be trusted, pixel by pixel: what networks disagree about they tend to get wrong."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imagesmith.data.files import Frame, ImageMeta
from imagesmith.infer.holes import FARTHEST_PX, guessed, highest_near, near
from imagesmith.infer.modes import VISIBLE, opacity, seen_colours, spread
from imagesmith.runtime.memory import UNLIMITED, Limits
from imagesmith.tensors import from_float
from imagesmith.zoo import ModelCard
from imagesmith.zoo.blend import AT_STRENGTH

if TYPE_CHECKING:
    from imagesmith.infer.restore import Restorer

CALIBRATION: dict[str, tuple[float, float]] = {
    "deblur": (5.059, 0.853),
    "denoise": (5.664, 0.684),
    "inpaint": (3.968, 0.842),
    "jpeg": (5.403, 0.767),
    "photo-x2": (7.713, 0.731),
    "photo-x4": (8.456, 0.688),
    "sr-x2": (6.352, 0.678),
    "sr-x3": (7.106, 0.678),
    "sr-x4": (7.69, 0.659),
    "sr-x4-gan": (1.594, 0.826),
}
"""Expected absolute error = factor * disagreement ** exponent, both in grey levels, by the name of a model.

Fitted by `benchmarks/uncertainty.py` on photographs of the training set that no model was chosen by."""

WHITE_LEVELS = 32.0
"""The expected error that a heat map shows as white."""

_RAMP = ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))
"""Colours of a heat map from no error to WHITE_LEVELS, evenly spaced, each lighter than the one before."""


def disagreement(restorer: "Restorer", frame: Frame, mask: Tensor | None, limits: Limits = UNLIMITED) -> Tensor:
    """(H * scale, W * scale) in grey levels: the spread of the 8 turns, and the distance to a faithful partner.

    In holes it never falls on the way inwards from what is known, however sure the network is of what it invents there.
    Of a float picture beyond [0, 1] it is that of what the network sees, whose whole range is 255 levels; 0 where alpha
    shows nothing.
    """
    found = _of_colours(restorer, _as_seen(frame), mask, limits)
    if frame.channels == frame.colours:
        return found
    is_shown = _is_shown(frame)
    for axis in (0, 1):
        is_shown = is_shown.repeat_interleave(restorer.scale, dim=axis)
    return torch.where(is_shown, found, 0.0)


def _of_colours(restorer: "Restorer", frame: Frame, mask: Tensor | None, limits: Limits) -> Tensor:
    """`disagreement` about a float32 frame without alpha."""
    if mask is not None:
        return _disagreement_in_holes(restorer, frame, mask, limits)
    found = _spread(restorer, frame, None, limits)
    if restorer.partner is not None:
        sharp, faithful = (one.frame(frame, limits=limits).pixels for one in (restorer, restorer.partner))
        found = found + 255 * (sharp - faithful).abs().mean(dim=2)
    return found


def _is_shown(frame: Frame) -> Tensor:
    """Where alpha lets anything through, bool (H, W)."""
    return opacity(frame)[0] >= VISIBLE


def _as_seen(frame: Frame) -> Frame:
    """The colours of a frame in the network's range, float32; black where alpha shows nothing."""
    seen = seen_colours(frame) * _is_shown(frame)
    return replace(frame, pixels=seen.permute(1, 2, 0).contiguous(), depth="float32")


def _spread(restorer: "Restorer", frame: Frame, mask: Tensor | None, limits: Limits) -> Tensor:
    """How far the 8 turns of a float32 frame disagree, (H * scale, W * scale) in grey levels."""
    strips = restorer.network.strips(
        frame, mask, lambda run: spread(run, restorer.scale), lambda _: None, strength=1.0, limits=limits
    )
    return 255 * torch.cat([rows.mean(dim=2) for _, rows in strips])


def _disagreement_in_holes(restorer: "Restorer", frame: Frame, mask: Tensor, limits: Limits) -> Tensor:
    """The disagreement about what is in the holes, 0 outside; about what is guessed at half the size, that there.

    The turns agree about what is far inside, where they see no more than the guess.
    """
    if not mask.any():
        return torch.zeros(mask.shape)
    doubts = list[Tensor]()

    def fill(small: Frame, holes: Tensor) -> Frame:
        doubts.append(_of_colours(restorer, small, holes, limits))
        return restorer.frame(small, mask=holes, limits=limits)

    filled, within_reach = guessed(frame, mask, fill)
    found = torch.where(within_reach, _spread(restorer, filled, within_reach, limits), 0.0)
    if doubts:
        blank = replace(frame, pixels=torch.zeros(*mask.shape, 1))
        guess, _ = guessed(blank, mask, lambda small, _: replace(small, pixels=doubts[0].unsqueeze(2)))
        found = torch.where(within_reach, found, guess.pixels[..., 0])
    return _never_falling(found, mask)


def _never_falling(doubt: Tensor, holes: Tensor) -> Tensor:
    """A `doubt` (H, W), 0 outside of the `holes`, raised to the highest on the way from what is known to each pixel."""
    settled = ~holes
    for _ in range(FARTHEST_PX):
        if settled.all():
            return doubt
        reached = near(settled, 1)
        before = highest_near(torch.where(settled, doubt, 0.0), 1)
        doubt = torch.where(reached & ~settled, torch.maximum(doubt, before), doubt)
        settled = reached
    before = highest_near(torch.where(settled, doubt, 0.0), FARTHEST_PX)
    return torch.where(settled, doubt, torch.maximum(doubt, before))


def calibration(card: ModelCard) -> tuple[float, float] | None:
    """Factor and exponent for a shipped model, see CALIBRATION; None for others.

    Those of a blend lie as far between those of its two models; on photographs the mean of the expected errors was
    then within an eighth of the true one, at strengths of 0.25, 0.5 and 0.75.
    """
    name, _, strength = card.name.partition(AT_STRENGTH)
    if not strength or card.faithful is None or card.path is not None:
        return CALIBRATION.get(card.title)
    share, (factor, exponent), (least, lowest) = float(strength), CALIBRATION[name], CALIBRATION[card.faithful]
    return least ** (1 - share) * factor**share, (1 - share) * lowest + share * exponent


def expected_error(restorer: "Restorer", frame: Frame, mask: Tensor | None, limits: Limits = UNLIMITED) -> Tensor:
    """`disagreement`, translated into the absolute error that goes with it on photographs; see CALIBRATION.

    What a `strength` below 1 leaves of the picture is added as a second error, independent of the network's own.
    """
    factor, exponent = calibration(restorer.card) or (1.0, 1.0)
    error = factor * disagreement(restorer, frame, mask, limits) ** exponent
    if restorer.strength == 1:
        return error
    return torch.hypot(error, (1 - restorer.strength) * _mended(restorer, frame, limits))


def _mended(restorer: "Restorer", frame: Frame, limits: Limits) -> Tensor:
    """How far the whole result lies from the picture, (H, W) in grey levels; for networks that keep the size."""
    frame = _as_seen(frame)
    strips = restorer.network.strips(frame, None, lambda run: run, lambda _: None, strength=1.0, limits=limits)
    whole = torch.cat([rows for _, rows in strips])
    return 255 * (whole - frame.pixels).abs().mean(dim=2)


def fitted(disagreements: Tensor, errors: Tensor, bins: int = 40) -> tuple[float, float]:
    """Factor and exponent of the power law from disagreement to mean absolute error, pixels (N,) in grey levels.

    The exponent by least squares between the logarithms of both means, over `bins` groups of equally many pixels; the
    factor so that the mean expected error is the mean error.
    """
    order = disagreements.argsort()
    groups = [(disagreements[part].mean(), errors[part].mean()) for part in order.tensor_split(bins)]
    x, y = torch.tensor([pair for pair in groups if min(pair) > 0], dtype=torch.float64).log().T
    exponent = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return (errors.mean() / (disagreements**exponent).mean()).item(), exponent.item()


def heat_map(error: Tensor) -> Frame:
    """A picture of expected errors (H, W) in grey levels: black for none, pale yellow for WHITE_LEVELS and above."""
    ramp = torch.tensor(_RAMP, dtype=torch.float32) / 255
    place = (error / WHITE_LEVELS).clamp(0, 1) * (len(ramp) - 1)
    below = place.long().clamp(max=len(ramp) - 2)
    colours = torch.lerp(ramp[below], ramp[below + 1], (place - below).unsqueeze(-1))
    return Frame(from_float(colours, "uint8"), "uint8", ImageMeta("png", "RGB"))

"""What surrounds the network for gray, transparent and float pictures: functions from sub-pixels to sub-pixels.

Each takes a piece of the picture (N, C, h, w) and returns (N, C * scale**2, h, w), as the network's `subpixels` does,
so all of it happens tile by tile: sub-pixel k of one channel lies over sub-pixel k of another, without any shuffle.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.frame import Frame
from imagesmith.errors import ImageError
from imagesmith.runtime.tiling import Subpixels
from imagesmith.tensors import Depth, to_float, to_gray

LOCK_PX = 7
"""How much farther than its network a colour lock sees."""
FLAT_PX = 4  # alpha that is constant this far around a pixel stays exactly what it is
_LOCK_SIGMA_PX = 2.0  # what is broader than this is colour and brightness, what is finer is detail
_SAMPLES = 4096  # of each part, from which the range of most values is told
_FLAT = 8  # a range so many times that of most values leaves these little more than a flat gray
_NO_DIGITS = 2.0**20  # and so many times, a few of the 24 bits that float32 has
_ROUNDING = 2.0**-22  # of a value: what differs by less is one value computed in two ways
_FEW_DIGITS = 2.0**-16  # of a value: what differs by less has few digits of its own to lose
VISIBLE = 1 / 512  # below half a grey level of 8 bits a colour divided by its alpha is noise


def turned(subpixels: Subpixels, scale: int) -> Subpixels:
    """The mean over the 8 flips and quarter turns of the picture (self-ensemble, Timofte et al. 2016)."""

    def mean(x: Tensor) -> Tensor:
        first, *others = _turns(subpixels, scale, x)
        total = first.clone()
        for y in others:
            total.add_(y)
        return F.pixel_unshuffle(total.div_(8), scale)

    return mean


def spread(subpixels: Subpixels, scale: int) -> Subpixels:
    """The standard deviation over the 8 flips and quarter turns: how far the network disagrees with itself.

    In what a file can hold: answers that are all blacker than black are the same black.
    """

    def deviation(x: Tensor) -> Tensor:
        answers = torch.stack([y.clamp(0, 1) for y in _turns(subpixels, scale, x)])
        return F.pixel_unshuffle(answers.std(dim=0), scale)

    return deviation


def _turns(subpixels: Subpixels, scale: int, x: Tensor) -> Iterator[Tensor]:
    """The enlarged results for the 8 flips and quarter turns of `x`, each turned back."""
    for flip in (False, True):
        for turns in range(4):
            turned_x = torch.rot90(x.flip(3) if flip else x, turns, (2, 3))
            y = torch.rot90(F.pixel_shuffle(subpixels(turned_x), scale), -turns, (2, 3))
            yield y.flip(3) if flip else y


def colour_locked(subpixels: Subpixels, scale: int, channels: int) -> Subpixels:
    """The result with the colours and brightness of the picture: what is broader than 2 pixels comes from there.

    The mean of the sub-pixels of each pixel is compared with the pixel, and the smooth part of the difference removed.
    The first `channels` are the picture, what follows tells the network more.
    """

    def locked(x: Tensor) -> Tensor:
        y = subpixels(x).unflatten(1, (channels, -1))
        drift = _smooth(y.mean(dim=2) - x[:, :channels].to(y.device))
        fine = F.interpolate(drift, scale_factor=scale, mode="bilinear") if scale > 1 else drift
        return (y - F.pixel_unshuffle(fine, scale).view_as(y)).flatten(1, 2)

    return locked


def _smooth(x: Tensor) -> Tensor:
    """A Gaussian blur of each channel that ends three standard deviations away; edges are repeated."""
    radius = LOCK_PX - 1
    taps = torch.arange(-radius, radius + 1, device=x.device) / _LOCK_SIGMA_PX
    kernel = torch.softmax(-taps.square() / 2, dim=0).to(x.dtype)
    y = F.pad(x, (radius,) * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
    y = F.conv2d(F.conv2d(y, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return y.view_as(x)


def for_colours(subpixels: Subpixels, net_channels: int, colours: int) -> Subpixels:
    """A network of 3 (or 1) channels for pictures of 1 or 3 `colours`.

    Gray is shown to a colour network as R = G = B, and its answer weighed back to one luma; a gray network takes the
    channels of a colour picture one by one.
    """
    if net_channels == colours:
        return subpixels
    if net_channels == 1:
        return lambda x: subpixels(x.flatten(0, 1).unsqueeze(1)).reshape(x.shape[0], -1, *x.shape[2:])
    assert (net_channels, colours) == (3, 1), f"no way from {colours} to {net_channels} channels"

    def gray(x: Tensor) -> Tensor:
        y = subpixels(x.expand(-1, 3, -1, -1)).unflatten(1, (3, -1))
        return to_gray(y.transpose(1, 2)).squeeze(2)

    return gray


def with_alpha(colour: Subpixels, gray: Subpixels, flat_px: int, *, is_bounded: bool = True) -> Subpixels:
    """Colour and straight alpha (the last channel): colour is premultiplied, alpha takes the same network as gray.

    Edges of both are then equally sharp, and the network's overshoot at a hard edge cancels in their quotient. Left in
    the result it would be a rim, so alpha stays between the four pixels around it and colour between the colours that
    are visible around it, if it `is_bounded`; what is opaque all round is the network's alone. Where alpha is constant
    within `flat_px` there is no edge, and the network is not asked for it: it would wobble there. Invisible pixels keep
    the colour they hide.
    """

    def both(x: Tensor) -> Tensor:
        straight, alpha = x[:, :-1], x[:, -1:]
        flat = _highest(alpha, flat_px) == _lowest(alpha, flat_px)
        y = colour(straight * alpha).unflatten(1, (straight.shape[1], -1))
        raw = alpha if flat.all() else torch.where(flat, alpha, gray(alpha))
        scale = math.isqrt(y.shape[2])
        y_alpha = raw.clamp(-_highest_corner(-alpha, scale), _highest_corner(alpha, scale)).unsqueeze(1)
        y = (y / raw.clamp(min=VISIBLE).unsqueeze(1)).clamp(0, 1)
        if is_bounded and not flat.all():
            seen, edge = alpha > 0, ~(flat | (_lowest(alpha, 1) == 1))
            darkest = _lowest(torch.where(seen, straight, 1.0), 1).where(edge, 0.0).unsqueeze(2)
            brightest = _highest(torch.where(seen, straight, 0.0), 1).where(edge, 1.0).unsqueeze(2)
            y = y.clamp(darkest, brightest)
        y = torch.where(y_alpha < VISIBLE, straight.unsqueeze(2), y)
        return torch.cat((y, y_alpha), dim=1).flatten(1, 2)

    return both


def _highest(x: Tensor, radius: int) -> Tensor:
    """The largest value within `radius` pixels, each channel by itself."""
    return F.max_pool2d(x, 2 * radius + 1, stride=1, padding=radius)


def _lowest(x: Tensor, radius: int) -> Tensor:
    return -_highest(-x, radius)


def _highest_corner(x: Tensor, scale: int) -> Tensor:
    """For each sub-pixel (N, scale**2, H, W) the largest of the four pixels of `x` (N, 1, H, W) that surround it.

    The middle sub-pixel of an odd scale lies on its pixel, between two pairs; it gets the larger one.
    """
    cells = F.max_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 2, stride=1)
    fine = cells.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    height, width = x.shape[2] * scale, x.shape[3] * scale
    starts = {scale // 2, (scale + 1) // 2}
    surrounding = [fine[..., i : i + height, j : j + width] for i in starts for j in starts]
    return F.pixel_unshuffle(torch.stack(surrounding).amax(dim=0), scale)


def mixed(subpixels: Subpixels, strength: float) -> Subpixels:
    """So much of the result, and the rest of the picture as it was; for networks that keep the size."""
    return lambda x: torch.lerp(x, subpixels(x).clamp(0, 1), strength)


def for_file(
    subpixels: Subpixels, depth: Depth, device: torch.device, *, colours: int, low: float = 0.0, high: float = 1.0
) -> Subpixels:
    """Takes file values of `depth` to `device` and answers in the same range.

    The first `colours` channels lie in [low, high], any alpha in [0, 1]. Only float files reach beyond [0, 1]; what is
    not finite in them is taken for `low`.
    """
    if depth != "float32":
        return lambda x: subpixels(to_float(x.to(device), depth))

    def ranged(x: Tensor) -> Tensor:
        x = torch.nan_to_num(x.to(device), nan=low, posinf=high, neginf=low)
        alphas = x.shape[1] - colours
        offset = x.new_tensor([low] * colours + [0.0] * alphas).view(1, -1, 1, 1)
        span = x.new_tensor([high - low] * colours + [1.0] * alphas).view(1, -1, 1, 1)
        y = subpixels(((x - offset) / span).clamp(0, 1)).unflatten(1, (x.shape[1], -1)).clamp(0, 1)
        return (y * span.unsqueeze(2) + offset.unsqueeze(2)).flatten(1, 2)

    return ranged


def seen_colours(frame: Frame) -> Tensor:
    """(C, H, W) float in [0, 1], C = 1 or 3: the colours of a frame as a network sees them, see `colour_range`."""
    colours = to_float(frame.pixels[..., : frame.colours], frame.depth)
    low, high = colour_range([frame.pixels], frame.colours, frame.depth, lambda _: None)
    return in_range(colours, low, high).permute(2, 0, 1)


def shown_colours(frame: Frame) -> Tensor:
    """`seen_colours` as a viewer shows them: on white, wherever alpha lets it through."""
    return 1 - (1 - seen_colours(frame)) * opacity(frame)


def opacity(frame: Frame) -> Tensor:
    """(1, H, W) in [0, 1]: the alpha of a frame."""
    return opacity_of(to_float(frame.pixels[..., frame.colours :], frame.depth).permute(2, 0, 1), 0)


def opacity_of(values: Tensor, colours: int) -> Tensor:
    """(..., 1, H, W) in [0, 1]: what follows the colours of floats (..., C, H, W), 1 where nothing does."""
    return values[..., colours:, :, :].nan_to_num().clamp(0, 1).prod(dim=-3, keepdim=True)


def in_range(values: Tensor, low: float, high: float) -> Tensor:
    """Values of [low, high] in [0, 1]; what is not finite is `low`, but for infinity."""
    return ((values.nan_to_num(low, high, low) - low) / (high - low)).clamp(0, 1)


def colour_range(
    parts: Iterable[Tensor], colours: int, depth: Depth, report: Callable[[str], None]
) -> tuple[float, float]:
    """What the network is to see as 0 and 1: these, unless a float picture, whose rows `parts` are, reaches beyond.

    Float files declare no range, so the values tell: [0, 1] is widened just as far as needed, and every brightness
    within keeps its place. Networks are made for [0, 1] and do not know brighter than white. Alpha stays as it is.
    ImageError where a few values, such as fillers of places without data, leave no digits to the others.
    """
    if depth != "float32":
        return 0.0, 1.0
    low, high, opaque, is_finite = 0.0, 1.0, 1.0, True
    samples, chance = list[Tensor](), torch.Generator().manual_seed(0)
    for part in parts:
        colour = part[..., :colours]
        are_finite = torch.isfinite(colour)
        finite = colour.flatten() if are_finite.all() else colour[are_finite]  # which takes 24 bytes for each of them
        is_finite = is_finite and finite.numel() == colour.numel()
        if finite.numel():
            low, high = min(low, finite.min().item()), max(high, finite.max().item())
            samples.append(finite[torch.randint(finite.numel(), (_SAMPLES,), generator=chance)])
        if part.shape[-1] > colours:
            opaque = max(opaque, part[..., colours:].max().item())
    if not is_finite:
        report("values that are not finite were taken for the darkest")
    if (low, high) != (0.0, 1.0):
        report(f"float values from {low:.4g} to {high:.4g} were scaled into [0, 1] for the network, and back")
        _check_use_of_range(torch.cat(samples), low, high, report)
    if opaque > 1 + VISIBLE:
        report(f"alpha up to {opaque:.4g} was clipped to 1, which is opaque; divide it first")
    return low, high


def _check_use_of_range(samples: Tensor, low: float, high: float, report: Callable[[str], None]) -> None:
    """Say so, or raise ImageError, where most of the values between (low, high) use a small part of it.

    The ends themselves are left out: one of them may be what fills half of the picture. Where all between is one value,
    as on a blank page, there is nothing that could be lost.
    """
    inner = samples[(samples > low) & (samples < high)].sort().values
    if not inner.numel():
        return
    first, last = (inner[int(share * (len(inner) - 1))].item() for share in (0.01, 0.99))
    span, largest = last - first, max(abs(first), abs(last))
    if span <= _ROUNDING * largest or high - low < _FLAT * span:
        return
    found = f"98 % of the values lie between {first:.8g} and {last:.8g}, the range is {low:.8g} to {high:.8g}"
    what_to_do = "replace what fills places without data, or scale first"
    if high - low > _NO_DIGITS * max(span, _FEW_DIGITS * largest):
        raise ImageError(
            f"expected float values that share a range, got some far from all others: {found}\n{what_to_do}"
        )
    report(f"{found}: networks see them as flat; {what_to_do}")

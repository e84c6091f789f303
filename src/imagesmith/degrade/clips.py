"""Degradations of whole clips: what a codec does to them, and the others with one strength for all frames."""

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import av
import torch
from av.video.reformatter import ColorRange, Interpolation
from torch import Tensor
from torch.nn import functional as F

from imagesmith.degrade import x264
from imagesmith.degrade.combine import Chain, Degradation, OneOf, Parts, Shuffled, Sometimes
from imagesmith.degrade.draw import Range, chance, uniform
from imagesmith.degrade.noise import GaussianNoise, PoissonGaussianNoise
from imagesmith.degrade.scale import Resize
from imagesmith.tensors import from_float, to_float

_LEAST_PX = 16

SWSCALE_EXACTLY = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
"""How swscale is to convert colours: as it is, it cuts off where it should round, half a grey level or a whole one."""


@dataclass(frozen=True)
class H264:
    """Compression as films have it: H.264, 4:2:0, a quality `crf` (0 lossless, 51 worst) drawn per clip.

    A picture is a clip of one frame. Frames are filled up to what the codec takes by repeating their last pixels.
    """

    crf: Range = (18.0, 35.0)
    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 0
    context_px: ClassVar[int] = 16

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        return self.clip(image.unsqueeze(0), rng)[0]

    def clip(self, clip: Tensor, rng: torch.Generator) -> Tensor:
        """(T, C, H, W), C = 1 or 3, nominally in [0, 1], through encoder and decoder."""
        count, channels, *size = clip.shape
        height, width = (max(_LEAST_PX, side + side % 2) for side in size)
        whole = F.pad(clip, (0, width - size[1], 0, height - size[0]), "replicate").expand(-1, 3, -1, -1)
        options = {"crf": f"{uniform(self.crf, rng):.1f}", "preset": "veryfast", "threads": "1", **x264.repeatable()}
        pixels = from_float(whole, "uint8").permute(0, 2, 3, 1).contiguous().numpy()
        film = io.BytesIO()
        with av.open(film, "w", format="nut") as out:
            track = out.add_stream("libx264", rate=Fraction(25), options=options)
            track.width, track.height, track.pix_fmt = width, height, "yuv420p"
            for frame in pixels:
                out.mux(track.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            out.mux(track.encode(None))
        film.seek(0)
        with av.open(film, "r") as coded:
            decoded = [_rgb(frame) for frame in coded.decode(video=0)]
        assert len(decoded) == count, f"{count} frames went in, {len(decoded)} came out"
        inside = torch.stack(decoded).permute(0, 3, 1, 2)[:, :channels, : size[0], : size[1]]
        return to_float(inside, "uint8").to(clip.dtype)


def _rgb(frame: av.VideoFrame) -> Tensor:
    """A decoded frame as uint8 (H, W, 3)."""
    rgb = frame.reformat(format="rgb24", interpolation=SWSCALE_EXACTLY, dst_color_range=ColorRange.JPEG, threads=1)
    return torch.from_numpy(rgb.to_ndarray())


def degrade_clip(part: Degradation, clip: Tensor, rng: torch.Generator) -> Tensor:
    """What `part` makes of a clip (T, C, H, W): its strength is drawn once, its noise anew for every frame.

    All else that chance decides, such as the path of a blur or the place of a hole, stands still.
    """
    if isinstance(part, H264):
        return part.clip(clip, rng)
    if isinstance(part, Chain | Sometimes | OneOf | Shuffled):
        for each in _chosen(part, rng):
            clip = degrade_clip(each, clip, rng)
        return clip
    if isinstance(part, Resize):
        return part.frames(clip, rng, lambda smaller: degrade_clip(Chain(part.between), smaller, rng))
    if isinstance(part, GaussianNoise | PoissonGaussianNoise):  # pixel by pixel: all frames as one tall picture
        count, channels, height, width = clip.shape
        tall = part(clip.transpose(0, 1).reshape(channels, count * height, width), rng)
        return tall.reshape(channels, count, height, width).transpose(0, 1)
    seed = int(torch.randint(1 << 62, (), generator=rng))
    return torch.stack([part(frame, torch.Generator().manual_seed(seed)) for frame in clip])


def _chosen(part: Chain | Sometimes | OneOf | Shuffled, rng: torch.Generator) -> Parts:
    """The parts that are applied, in their order."""
    if isinstance(part, Chain):
        return part.parts
    if isinstance(part, Sometimes):
        return (part.part,) if chance(part.probability, rng) else ()
    if isinstance(part, OneOf):
        return (part.parts[int(torch.randint(len(part.parts), (), generator=rng))],)
    return tuple(part.parts[index] for index in torch.randperm(len(part.parts), generator=rng).tolist())

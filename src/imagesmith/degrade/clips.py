"""Degradations of whole clips: what a codec does to them, and the others with one strength for all frames."""

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import av
import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.degrade.combine import Chain, Degradation, OneOf, Sometimes
from imagesmith.degrade.draw import Range, chance, uniform
from imagesmith.tensors import from_float, to_float

_LEAST_PX = 16


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
        options = {"crf": f"{uniform(self.crf, rng):.1f}", "preset": "veryfast", "threads": "1"}
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
            decoded = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in coded.decode(video=0)]
        assert len(decoded) == count, f"{count} frames went in, {len(decoded)} came out"
        inside = torch.stack(decoded).permute(0, 3, 1, 2)[:, :channels, : size[0], : size[1]]
        return to_float(inside, "uint8").to(clip.dtype)


def degrade_clip(part: Degradation, clip: Tensor, rng: torch.Generator) -> Tensor:
    """What `part` makes of a clip (T, C, H, W): its strength is drawn once, its noise anew for every frame."""
    if isinstance(part, H264):
        return part.clip(clip, rng)
    if isinstance(part, Chain):
        for each in part.parts:
            clip = degrade_clip(each, clip, rng)
        return clip
    if isinstance(part, Sometimes):
        return degrade_clip(part.part, clip, rng) if chance(part.probability, rng) else clip
    if isinstance(part, OneOf):
        return degrade_clip(part.parts[int(torch.randint(len(part.parts), (), generator=rng))], clip, rng)
    count, channels, height, width = clip.shape
    if part.scale == 1 and part.context_px == 0 and part.planes == 0:  # pixel by pixel: all frames as one tall picture
        tall = part(clip.transpose(0, 1).reshape(channels, count * height, width), rng)
        return tall.reshape(channels, count, height, width).transpose(0, 1)
    seed = int(torch.randint(1 << 62, (), generator=rng))
    return torch.stack([part(frame, torch.Generator().manual_seed(seed)) for frame in clip])

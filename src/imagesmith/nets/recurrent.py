"""Recurrent: a compact restorer of films that remembers, frame by frame and without a look at the whole film.

The trunk is `Compact`'s, so that weights of single-picture networks are a start. What it remembers - its features and
its last result - is moved to where the picture is now (`FlowNet`), and doubted where the moved last frame does not look
like this one. Sources: the last result fed back after warping (FRVSR, Sajjadi et al. 2018), hidden features beside it
(RLSP, Fuoli et al. 2019; BasicVSR, Chan et al. 2021). Licence: Apache-2.0.
"""

from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.nets.compact import Pair
from imagesmith.nets.flow import FlowNet
from imagesmith.tensors.warping import warp


class State(NamedTuple):
    """What is remembered of the frame before: itself, the trunk's features, and the result."""

    frame: Tensor
    """(N, 3, H, W)."""
    hidden: Tensor
    """(N, width, H / fold, W / fold)."""
    output: Tensor
    """(N, 3, H * scale, W * scale)."""


class Recurrent(nn.Module):
    """(frame (N, 3, H, W) in [0, 1], state) -> (result (N, 3, H * scale, W * scale) float32, unclamped; new state).

    A state of None remembers nothing: the first frame, or a scene cut. The trunk computes at 1 / `fold` of the size,
    which must divide it; `width` feature maps, `blocks` residual pairs of convolutions. With `look_ahead` 1 the next
    frame is a third argument, None where there is none.

    It has two halves: `aligned` sees the whole frame, `trunk` only `halo` pixels far, so that it can work in tiles.
    """

    channels = 3
    planes = 0

    def __init__(
        self,
        scale: int = 4,
        width: int = 48,
        blocks: int = 7,
        *,
        fold: int = 1,
        flow_width: int = 32,
        look_ahead: int = 0,
    ) -> None:
        super().__init__()
        if look_ahead not in (0, 1):
            raise ValueError(f"look_ahead must be 0 or 1, got {look_ahead}")
        self.scale, self.multiple_of, self.look_ahead = scale, fold, look_ahead
        self.halo = fold * (2 * blocks + 2)
        self.features_per_px = (width + 3 * (scale * fold) ** 2) / fold**2  # of what is aligned with a frame
        self.factor = scale * fold
        """Pixels of the result for each of the trunk's, along a side."""
        self.flow = FlowNet(flow_width)
        self.doubt = nn.Conv2d(3, 1 + look_ahead, 3, padding=1)
        self.head = nn.Conv2d(3 * fold**2, width, 3, padding=1)
        self.fuse = nn.Conv2d(width + 3 * self.factor**2 + look_ahead * 3 * fold**2, width, 3, padding=1)
        self.body = nn.ModuleList(Pair(width) for _ in range(blocks))
        self.tail = nn.Conv2d(width, 3 * self.factor**2, 3, padding=1)
        nn.init.constant_(self.doubt.weight, -0.5)
        nn.init.constant_(self.doubt.bias, 2.0)  # type: ignore[arg-type]
        for conv in (self.fuse, self.tail):
            conv.weight.data.mul_(0.1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, state: State | None = None, ahead: Tensor | None = None) -> tuple[Tensor, State]:
        result, hidden = self.trunk(x, self.aligned(x, state, ahead))
        return result, State(x, hidden, result)

    def aligned(self, x: Tensor, state: State | None, ahead: Tensor | None = None) -> Tensor | None:
        """What is known besides the frame, where it belongs in the frame: (N, C, H / fold, W / fold).

        None where nothing is known. Flow and doubt need the whole frame, as motion has no bounds.
        """
        if state is None and ahead is None:
            return None
        small = self.small(x)
        parts = [self._remembered(small, state), *self._foreseen(small, ahead)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def trunk(self, x: Tensor, aligned: Tensor | None) -> tuple[Tensor, Tensor]:
        """The result and the features to remember, from the frame and what is `aligned` with it."""
        folded = F.pixel_unshuffle(x, self.multiple_of)
        y = self.head((folded - 0.5).to(self.head.weight.dtype))
        if aligned is not None:
            y = y + self.fuse(aligned)
        for pair in self.body:
            y = pair(y)
        # every pixel of the result starts from its nearest pixel of the frame; added before the shuffle
        n, fold, scale, (h, w) = len(x), self.multiple_of, self.scale, folded.shape[-2:]
        base = folded.view(n, 3, fold, 1, fold, 1, h, w).expand(-1, -1, -1, scale, -1, scale, -1, -1)
        residual = self.tail(y).to(x.dtype).view(n, 3, fold, scale, fold, scale, h, w)
        return F.pixel_shuffle((residual + base).reshape(n, -1, h, w), self.factor), y

    def clip(self, frames: Tensor) -> Tensor:
        """Whole clips (N, T, 3, H, W) -> (N, T, 3, H * scale, W * scale), each remembered from its first frame on."""
        return torch.stack(list(self._results(frames)), dim=1)

    def _results(self, frames: Tensor) -> Iterator[Tensor]:
        state, count = None, frames.shape[1]
        for t in range(count):
            ahead = frames[:, t + 1] if self.look_ahead and t + 1 < count else None
            result, state = self(frames[:, t], state, ahead)
            yield result

    def small(self, x: Tensor) -> Tensor:
        """The frame at the trunk's size."""
        return F.avg_pool2d(x, self.multiple_of) if self.multiple_of > 1 else x

    def fused(self) -> Self:
        """Itself: there is no branch to merge."""
        return self

    def _remembered(self, small: Tensor, state: State | None) -> Tensor:
        """Features and result of the frame before, moved and weighed; zeros where nothing is remembered."""
        if state is None:
            channels = self.head.out_channels + 3 * self.factor**2
            return small.new_zeros(len(small), channels, *small.shape[-2:], dtype=self._dtype)
        before = self.small(state.frame)
        flow = self.flow(small, before)
        moved = warp(torch.cat([before, state.hidden.to(before.dtype)], dim=1), flow)
        fine = self.factor * F.interpolate(flow, scale_factor=float(self.factor), mode="bilinear", align_corners=False)
        # in the trunk's dtype from here on: these are the largest tensors besides the result
        output = F.pixel_unshuffle((warp(state.output, fine) - 0.5).to(self._dtype), self.factor)
        return self._trust(small, moved[:, :3], 0) * torch.cat([moved[:, 3:].to(self._dtype), output], dim=1)

    def _foreseen(self, small: Tensor, ahead: Tensor | None) -> Iterator[Tensor]:
        """The next frame, moved and weighed, for networks that look ahead."""
        if not self.look_ahead:
            return
        if ahead is None:
            yield small.new_zeros(len(small), 3 * self.multiple_of**2, *small.shape[-2:], dtype=self._dtype)
            return
        after = self.small(ahead)
        folded = F.pixel_unshuffle(ahead, self.multiple_of)
        moved = warp(torch.cat([after, folded], dim=1), self.flow(small, after))
        yield self._trust(small, moved[:, :3], 1) * (moved[:, 3:] - 0.5).to(self._dtype)

    def _trust(self, small: Tensor, moved: Tensor, which: int) -> Tensor:
        """(N, 1, h, w) in [0, 1]: how far what was moved by a flow may be believed, from how alike the frames look."""
        difference = (moved - small).abs().mul(8).to(self._dtype)
        return torch.sigmoid(self.doubt(difference)[:, which : which + 1]).to(self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        """That of the trunk, whose head may be more exact."""
        return self.tail.weight.dtype

"""Pictures moved along a flow: (N, 2, H, W) in pixels, right and down, which tells each pixel where to look."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(image: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """`image` (N, C, H, W) sampled at each pixel's place moved by `flow`; float32, of float64 images float64.

    What lies outside repeats the nearest edge pixel. `mode` is bilinear or bicubic.
    """
    height, width = image.shape[-2:]
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    columns, rows = _places(flow)
    grid = torch.stack([columns * (2 / max(1, width - 1)) - 1, rows * (2 / max(1, height - 1)) - 1], dim=-1)
    return F.grid_sample(image, grid.to(image.dtype), mode=mode, padding_mode="border", align_corners=True)


def stays_inside(flow: Tensor) -> Tensor:
    """bool (N, 1, H, W): whether the place to which `flow` points lies in the picture."""
    height, width = flow.shape[-2:]
    columns, rows = _places(flow)
    return ((columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)).unsqueeze(1)


def sampled(image: Tensor, grid: Tensor, padding: str) -> Tensor:
    """`F.grid_sample`, bilinear without aligned corners, that can be differentiated by `image` as often as wanted.

    torch's own knows no second derivative before 2.13, which gradient penalties need. `padding` is zeros, border or
    reflection; the grid gets no gradient.
    """
    result: Tensor = _Sampled.apply(image, grid, ("zeros", "border", "reflection").index(padding))
    return result


class _Sampled(torch.autograd.Function):
    """A linear function of the image."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, grid: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape, ctx.padding = image.shape, padding
        return torch.grid_sampler_2d(image, grid.to(image.dtype), 0, padding, False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Spread.apply(gradient, *ctx.saved_tensors, ctx.shape, ctx.padding), None, None


class _Spread(torch.autograd.Function):
    """Its transpose: what lies at the places of `grid` is spread over the pixels of an image of `shape`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, shape: torch.Size, padding: int) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.padding = padding
        like = values.new_zeros(shape)
        places = grid.to(values.dtype)
        return torch.ops.aten.grid_sampler_2d_backward(values, like, places, 0, padding, False, [True, False])[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _Sampled.apply(gradient, *ctx.saved_tensors, ctx.padding), None, None, None


def _places(flow: Tensor) -> tuple[Tensor, Tensor]:
    """The columns and rows (N, H, W) to which `flow` points, in float32: bf16 knows no fractions of long motions."""
    height, width = flow.shape[-2:]
    columns, rows = (torch.arange(side, device=flow.device, dtype=torch.float32) for side in (width, height))
    return flow[:, 0].float() + columns, flow[:, 1].float() + rows[:, None]

"""The Inception network of 2015 whose features define FID: the graph that TensorFlow published, in plain PyTorch.

Sources: Szegedy et al. 2015 (Rethinking the Inception Architecture); Heusel et al. 2017 for its use. What differs from
the Inception v3 of model collections: 1008 classes, average pooling that leaves the padding out, one maximum pooling in
the last block where the paper has an average, and a bilinear resize without antialiasing or half-pixel centres.
Parameters are named as in the known PyTorch ports, so that their weight file loads.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SIDE = 299


class Inception2015(nn.Module):
    """uint8 RGB images (N, 3, H, W) -> 1008 class logits (N, 1008)."""

    channels = 3
    classes = 1008

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, same=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, same=False)
        self.Mixed_5b = _Mixed(192, _fine(pool_width=32))
        self.Mixed_5c = _Mixed(256, _fine(pool_width=64))
        self.Mixed_5d = _Mixed(288, _fine(pool_width=64))
        self.Mixed_6a = _Mixed(288, _TO_17)
        self.Mixed_6b = _Mixed(768, _middle(width=128))
        self.Mixed_6c = _Mixed(768, _middle(width=160))
        self.Mixed_6d = _Mixed(768, _middle(width=160))
        self.Mixed_6e = _Mixed(768, _middle(width=192))
        self.Mixed_7a = _Mixed(768, _TO_8)
        self.Mixed_7b = _Mixed(1280, _coarse(_average))
        self.Mixed_7c = _Mixed(2048, _coarse(_maximum))
        self.fc = nn.Linear(2048, self.classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """(N, 2048) float32: the last pooling, "pool3", on which FID and KID are computed."""
        assert images.dtype == torch.uint8, f"expected uint8 images, got {images.dtype}"
        x = (resize_tf1(images.float(), _SIDE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halve(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(_halve(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))


def resize_tf1(x: Tensor, side: int) -> Tensor:
    """Bilinear resize of (N, C, H, W) to a square as TensorFlow 1 does it: pixel i is read at i * size / side."""
    for axis in (-1, -2):
        size = x.shape[axis]
        place = torch.arange(side, dtype=torch.float32, device=x.device) * torch.tensor(size / side)
        low = place.long()
        share = place - low
        if axis == -2:
            share = share.unsqueeze(-1)
        at_low = x.index_select(axis, low)
        x = at_low + (x.index_select(axis, (low + 1).clamp_max(size - 1)) - at_low) * share
    return x


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


class _Step(NamedTuple):
    """One convolution inside a block."""

    name: str
    width: int
    kernel: tuple[int, int]
    stride: int = 1


_Pool = Callable[[Tensor], Tensor]
_Chain = Sequence[_Pool | _Step | tuple[_Step, _Step]]
"""Poolings and convolutions one after the other; a pair of steps both read the same and lie side by side."""


class _Conv(nn.Module):
    """Convolution, batch norm, ReLU; `same` pads to keep the size, a stride of 2 never pads."""

    def __init__(
        self, inputs: int, width: int, kernel: int | tuple[int, int], stride: int = 1, *, same: bool = True
    ) -> None:
        super().__init__()
        height, breadth = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, breadth // 2) if same and stride == 1 else 0
        self.conv = nn.Conv2d(inputs, width, (height, breadth), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Chains that read the same input; their results are stacked along the channels."""

    def __init__(self, inputs: int, chains: Sequence[_Chain]) -> None:
        super().__init__()
        self._chains = chains
        for chain in chains:
            width = inputs
            for link in chain:
                if callable(link):
                    continue
                steps = (link,) if isinstance(link, _Step) else link
                for step in steps:
                    self.add_module(step.name, _Conv(width, step.width, step.kernel, step.stride))
                width = sum(step.width for step in steps)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._run(chain, x) for chain in self._chains], dim=1)

    def _run(self, chain: _Chain, x: Tensor) -> Tensor:
        for link in chain:
            if callable(link):
                x = link(x)
            elif isinstance(link, _Step):
                x = self.get_submodule(link.name)(x)
            else:
                x = torch.cat([self.get_submodule(step.name)(x) for step in link], dim=1)
        return x


def _step(name: str, width: int, kernel: str, stride: int = 1) -> _Step:
    """A step whose kernel is written as 'height x width'."""
    height, breadth = kernel.split("x")
    return _Step(name, width, (int(height), int(breadth)), stride)


def _fine(pool_width: int) -> list[_Chain]:
    """The blocks at 35x35."""
    return [
        [_step("branch1x1", 64, "1x1")],
        [_step("branch5x5_1", 48, "1x1"), _step("branch5x5_2", 64, "5x5")],
        [
            _step("branch3x3dbl_1", 64, "1x1"),
            _step("branch3x3dbl_2", 96, "3x3"),
            _step("branch3x3dbl_3", 96, "3x3"),
        ],
        [_average, _step("branch_pool", pool_width, "1x1")],
    ]


_TO_17: list[_Chain] = [
    [_step("branch3x3", 384, "3x3", stride=2)],
    [
        _step("branch3x3dbl_1", 64, "1x1"),
        _step("branch3x3dbl_2", 96, "3x3"),
        _step("branch3x3dbl_3", 96, "3x3", stride=2),
    ],
    [_halve],
]


def _middle(width: int) -> list[_Chain]:
    """The blocks at 17x17: 7x7 convolutions as rows and columns."""
    return [
        [_step("branch1x1", 192, "1x1")],
        [
            _step("branch7x7_1", width, "1x1"),
            _step("branch7x7_2", width, "1x7"),
            _step("branch7x7_3", 192, "7x1"),
        ],
        [
            _step("branch7x7dbl_1", width, "1x1"),
            _step("branch7x7dbl_2", width, "7x1"),
            _step("branch7x7dbl_3", width, "1x7"),
            _step("branch7x7dbl_4", width, "7x1"),
            _step("branch7x7dbl_5", 192, "1x7"),
        ],
        [_average, _step("branch_pool", 192, "1x1")],
    ]


_TO_8: list[_Chain] = [
    [_step("branch3x3_1", 192, "1x1"), _step("branch3x3_2", 320, "3x3", stride=2)],
    [
        _step("branch7x7x3_1", 192, "1x1"),
        _step("branch7x7x3_2", 192, "1x7"),
        _step("branch7x7x3_3", 192, "7x1"),
        _step("branch7x7x3_4", 192, "3x3", stride=2),
    ],
    [_halve],
]


def _coarse(pool: _Pool) -> list[_Chain]:
    """The blocks at 8x8, whose 3x3 convolutions fork into a row and a column."""
    return [
        [_step("branch1x1", 320, "1x1")],
        [
            _step("branch3x3_1", 384, "1x1"),
            (_step("branch3x3_2a", 384, "1x3"), _step("branch3x3_2b", 384, "3x1")),
        ],
        [
            _step("branch3x3dbl_1", 448, "1x1"),
            _step("branch3x3dbl_2", 384, "3x3"),
            (_step("branch3x3dbl_3a", 384, "1x3"), _step("branch3x3dbl_3b", 384, "3x1")),
        ],
        [pool, _step("branch_pool", 192, "1x1")],
    ]

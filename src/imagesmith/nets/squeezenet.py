"""SqueezeNet 1.0 up to its second pooling: a small published network whose features a perceptual loss can compare.

Source: Iandola et al. 2016, table 1, as its authors trained it with Caffe; parameters are named as in their ports.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (104.0, 117.0, 123.0)
"""What the authors subtract from blue, green and red of 0 to 255."""


class SqueezeNet(nn.Module):
    """`net.stages(image (N, 3, H, W) in [0, 1])` -> the features (N, F, h, w) before each pooling, at 1/2 and 1/4."""

    heads = None
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2)
        self.fire2 = _Fire(96, 16, 64)
        self.fire3 = _Fire(128, 16, 64)
        self.fire4 = _Fire(128, 32, 128)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)

    def stages(self, image: Tensor) -> list[Tensor]:
        first = F.relu(self.conv1(255 * image.flip(1) - self.mean))
        second = self.fire4(self.fire3(self.fire2(F.max_pool2d(first, 3, 2, ceil_mode=True))))
        return [first, second]


class _Fire(nn.Module):
    """A 1x1 convolution to few features, from which a 1x1 and a 3x3 convolution make `each` features."""

    def __init__(self, incoming: int, few: int, each: int) -> None:
        super().__init__()
        self.conv1x1_1 = nn.Conv2d(incoming, few, 1)
        self.conv1x1_2 = nn.Conv2d(few, each, 1)
        self.conv3x3_2 = nn.Conv2d(few, each, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1x1_1(x))
        return F.relu(torch.cat([self.conv1x1_2(x), self.conv3x3_2(x)], dim=1))

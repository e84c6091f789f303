"""VGG-16 and VGG-19: the published networks of perceptual losses, and LPIPS, which weighs the features of the first.

Sources: Simonyan and Zisserman 2015, table 1, columns D and E; Zhang et al. 2018 (LPIPS), sec. 3. Layers are numbered
as in torchvision's `features`, so that its weight files load.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of each stage, by the number of layers with weights."""
WIDTHS = (64, 128, 256, 512, 512)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the training photographs, in RGB."""


class Vgg(nn.Module):
    """`net.stages(image (N, 3, H, W) in [0, 1])` -> the features (N, F, h, w) before each pooling, five of them.

    Height and width are at least 16. With `weighted`, `heads` says what each feature counts, as LPIPS has learnt it.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, layers: int = 16, *, weighted: bool = False) -> None:
        super().__init__()
        self.features = nn.ModuleDict()
        index, incoming = 0, 3
        self._convolutions: list[list[str]] = []
        for depth, width in zip(DEPTHS[layers], WIDTHS, strict=True):
            names = [str(index + 2 * k) for k in range(depth)]  # each is followed by a rectifier
            for name in names:
                self.features[name] = nn.Conv2d(incoming, width, 3, padding=1)
                incoming = width
            self._convolutions.append(names)
            index += 2 * depth + 1  # and all of them by a pooling
        self.heads = nn.ParameterList(torch.ones(width) for width in WIDTHS) if weighted else None
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)

    def stages(self, image: Tensor) -> list[Tensor]:
        x = (image - self.mean) / self.deviation
        found: list[Tensor] = []
        for names in self._convolutions:
            x = F.max_pool2d(x, 2) if found else x
            for name in names:
                x = F.relu(self.features[name](x))
            found.append(x)
        return found

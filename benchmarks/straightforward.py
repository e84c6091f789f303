"""The script that a user would write: read with Pillow, whole image, padded, through the float32 network, save.

python benchmarks/straightforward.py MODEL IN_FOLDER OUT_FOLDER
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.zoo import load_model


class Fitted(nn.Module):
    """A network for pictures of any size and without knowledge about them: padded, unknown planes are zero."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.scale: int = net.scale
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        net: Any = self.net
        height, width = x.shape[-2:]
        below, right = -height % net.multiple_of, -width % net.multiple_of
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        if net.planes:
            x = torch.cat((x, x.new_zeros(1, net.planes, *x.shape[-2:])), dim=1)
        return net(x)[..., : height * self.scale, : width * self.scale]


def restored(net: Callable[[Tensor], Tensor], photo: np.ndarray, device: str = "cpu") -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (H * scale, W * scale, 3)."""
    x = torch.from_numpy(photo).permute(2, 0, 1)[None].contiguous().float().to(device) / 255
    with torch.no_grad():
        y = net(x)
    return (y[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def main() -> None:
    name, source, destination = sys.argv[1:]
    net = Fitted(load_model(name).net)
    for path in sorted(Path(source).iterdir()):
        photo = np.array(Image.open(path).convert("RGB"))
        Image.fromarray(restored(net, photo)).save(Path(destination) / path.name)


if __name__ == "__main__":
    main()

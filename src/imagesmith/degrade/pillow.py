"""Between tensors and Pillow's pictures."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imagesmith.tensors import from_float, to_float


def to_pillow(image: Tensor) -> Image.Image:
    """Float (1 or 3, H, W) in [0, 1] -> mode L or RGB, rounded to 8 bits."""
    pixels = from_float(image, "uint8")
    return Image.fromarray((pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0).contiguous()).numpy())


def from_pillow(picture: Image.Image) -> Tensor:
    """Mode L or RGB -> float32 (1 or 3, H, W) in [0, 1]."""
    pixels = torch.from_numpy(np.array(picture))
    return to_float(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1), "uint8")

"""DCGAN: a stack of strided convolutions that makes images, and its mirror that judges them.

Sources: Radford et al. 2016 ("Unsupervised representation learning with deep convolutional generative adversarial
networks"), in the form of PyTorch's example: at 64x64 the layers, the names of the tensors and their first values are
the same, so its files load. Other sizes have more or fewer of the middle layers. Class-conditional: an embedding beside
the latent in the generator, projection (Miyato & Koyama 2018) in the discriminator. Licence: Apache-2.0.
"""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from imagesmith.errors import ConfigError

Size = int | tuple[int, int]
_SMALLEST_BASE, _LARGEST_BASE = 4, 32
_WIDEST = 16  # feature maps of the smallest layer, in widths: the example's rule of doubling up to 128 pixels


class DcganGenerator(nn.Module):
    """Latent (N, latent_size) and, with `classes`, label int64 (N,) -> image (N, channels, height, width) in [-1, 1].

    `size` is (height, width) or the side of a square; both are `base` x 2^k, where a `base` not given is the smallest
    that is at least 4. `width` is the number of feature maps before the last layer. `last_kernel` is 4, or 1 for a last
    layer that does not enlarge (a variant for 32 pixels found in the wild).
    """

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        *,
        latent_size: int = 100,
        width: int = 64,
        classes: int = 0,
        base: Size | None = None,
        last_kernel: int = 4,
    ) -> None:
        super().__init__()
        if last_kernel not in (1, 4):
            raise ConfigError(f"expected last_kernel 4, or 1 for a last layer that does not enlarge, got {last_kernel}")
        self.size, self.channels, self.latent_size, self.classes = _pair(size), channels, latent_size, classes
        self.base, doublings = _base(self.size, base)
        maps = _maps(width, doublings if last_kernel == 4 else doublings + 1)[::-1]
        if classes:
            self.embedding = nn.Embedding(classes, latent_size)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent_size * (2 if classes else 1), maps[0], self.base, bias=False),
            *_normed(maps[0]),
        ]
        for wide, narrow in itertools.pairwise(maps):
            layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), *_normed(narrow)]
        last = (4, 2, 1) if last_kernel == 4 else (1, 1, 0)
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(maps[-1], channels, *last, bias=False), nn.Tanh())
        self.main.apply(_initialise)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        assert (label is not None) == (self.classes > 0), "a label belongs to a net with classes, and to no other"
        assert latent.shape[1:] == (self.latent_size,), f"expected (N, {self.latent_size}), got {tuple(latent.shape)}"
        x = latent if label is None else torch.cat([latent, self.embedding(label)], dim=1)
        first, *others = self.main
        # a transposed convolution of one pixel is a matrix product; its result comes out in channels_last
        assert isinstance(first.weight, Tensor)
        kernel = first.weight.permute(0, 2, 3, 1)
        y = (x.to(kernel.dtype) @ kernel.flatten(1)).unflatten(1, kernel.shape[1:]).permute(0, 3, 1, 2)
        for layer in others:
            y = layer(y)
        return _at_least_float32(y)


class DcganDiscriminator(nn.Module):
    """Image (N, channels, height, width) in [-1, 1] and, with `classes`, label int64 (N,) -> logits (N,).

    `size` and `base` as in DcganGenerator, `width` the number of feature maps after the first layer. `spectral_norm`
    bounds every layer by its largest singular value, in place of the batch norms (Miyato et al. 2018).
    """

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        *,
        width: int = 64,
        classes: int = 0,
        spectral_norm: bool = False,
        base: Size | None = None,
    ) -> None:
        super().__init__()
        self.size, self.channels, self.classes = _pair(size), channels, classes
        self.base, halvings = _base(self.size, base)
        maps = _maps(width, halvings)
        bias = spectral_norm  # otherwise batch norm shifts, and the example has none
        layers: list[nn.Module] = [nn.Conv2d(channels, maps[0], 4, 2, 1, bias=bias), nn.LeakyReLU(0.2, inplace=True)]
        for narrow, wide in itertools.pairwise(maps):
            norm = nn.Identity() if spectral_norm else nn.BatchNorm2d(wide)
            layers += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=bias), norm, nn.LeakyReLU(0.2, inplace=True)]
        self.main = nn.Sequential(*layers, nn.Conv2d(maps[-1], 1, self.base, bias=bias))
        if classes:
            self.embedding = nn.Embedding(classes, maps[-1] * math.prod(self.base))
        self.apply(_initialise)
        if spectral_norm:
            for layer in list(self.modules()):
                if isinstance(layer, nn.Conv2d | nn.Embedding):
                    with_spectral_norm(layer)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        assert (label is not None) == (self.classes > 0), "a label belongs to a net with classes, and to no other"
        last: Any = self.main[-1]
        weights = last.weight.flatten(1) if label is None else last.weight.flatten(1) + self.embedding(label)
        # a sum of products, since a matrix product under autocast would round the logits to bf16
        logits = (self.features(image) * weights).sum(dim=1)
        return logits if last.bias is None else logits + last.bias

    def features(self, image: Tensor) -> Tensor:
        """What the last layer weighs: (N, F), F = feature maps x base height x base width."""
        assert image.shape[1:] == (self.channels, *self.size), f"expected images {self.size}, got {tuple(image.shape)}"
        y = image.to(next(self.parameters()).dtype, memory_format=torch.channels_last)
        for layer in list(self.main)[:-1]:
            y = layer(y)
        return _at_least_float32(y.flatten(1))


def _pair(size: Size) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _base(size: tuple[int, int], base: Size | None) -> tuple[tuple[int, int], int]:
    """The smallest feature map of nets for `size`, and how often it is doubled."""
    height, width = size
    if base is None:
        doublings = 0
        while min(height, width) >= 2 * _SMALLEST_BASE and height % 2 == width % 2 == 0:
            height, width, doublings = height // 2, width // 2, doublings + 1
        if doublings and max(height, width) <= _LARGEST_BASE:
            return (height, width), doublings
    else:
        height, width = _pair(base)
        doublings = (size[0] // height).bit_length() - 1 if min(height, width) > 0 else 0
        if doublings > 0 and (height << doublings, width << doublings) == size:
            return (height, width), doublings
    smallest = f"the base {height}x{width}" if base is not None else "a base from 4 to 32"
    raise ConfigError(
        f"expected an image size of {smallest} doubled several times, got {size[0]}x{size[1]} (height x width)\n"
        "choose one such as 64x64, 96x64 or 28x28"
    )


def _maps(width: int, layers: int) -> list[int]:
    """Feature maps from the layer next to the image down to the smallest."""
    return [width * min(2**layer, _WIDEST) for layer in range(layers)]


def _normed(maps: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(maps), nn.ReLU(inplace=True)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _initialise(layer: nn.Module) -> None:
    """First values of the example: kernels N(0, 0.02), batch norm N(1, 0.02), shifts 0."""
    if any(parameter.is_meta for parameter in layer.parameters(recurse=False)):
        return  # shapes alone have no values, and drawing some would import torch's compiler, which takes a second
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
    if isinstance(bias := getattr(layer, "bias", None), Tensor):
        nn.init.zeros_(bias)

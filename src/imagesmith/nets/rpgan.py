"""rpgan: residual generator and discriminator without normalisation, for the relativistic objective with R1 and R2.

Re-implemented from the ideas of R3GAN (Huang et al. 2024, sec. 4): two mirrored stacks of residual stages, one per
resolution; blocks scaled at initialisation so that no normalisation is needed (Fixup, Zhang et al. 2019); a learned
basis at the smallest resolution; logits by projection onto the label (Miyato and Koyama 2018). Plain convolutions and
PyTorch's own resampling, so nothing has to be compiled. Licence: Apache-2.0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.errors import ConfigError

WIDTHS = (256, 128, 64)
"""Feature maps of each stage, from the smallest resolution to the largest."""


class RpganGenerator(nn.Module):
    """latent (N, latent_size), label (N,) or None -> (N, channels, H, W), nominally in [-1, 1], unclamped.

    Each stage doubles the resolution and has `blocks` residual blocks; the last one makes `patch` x `patch` pixels at
    each place (sub-pixel convolution, Shi et al. 2016). `size` (a side, or height and width) must therefore be
    divisible by patch * 2 ** (len(widths) - 1). `group_width` None means full convolutions.
    """

    def __init__(
        self,
        size: int | Sequence[int] = 32,
        *,
        channels: int = 3,
        latent_size: int = 64,
        classes: int = 0,
        widths: Sequence[int] = WIDTHS,
        blocks: int = 1,
        patch: int = 2,
        group_width: int | None = None,
    ) -> None:
        super().__init__()
        self.size, (height, width) = _sides(size, patch * 2 ** (len(widths) - 1))
        self.channels, self.latent_size, self.classes, self.patch = channels, latent_size, classes, patch
        self.embedding = nn.Embedding(classes, latent_size) if classes else None
        self.basis = nn.Parameter(torch.randn(widths[0], height, width))
        self.scale = nn.Linear(latent_size * (2 if classes else 1), widths[0], bias=False)
        stages: list[nn.Module] = []
        for before, after in zip((widths[0], *widths[:-1]), widths, strict=True):
            stages.append(_Stage(before, after, blocks, len(widths) * blocks, group_width))
        self.stages = nn.ModuleList(stages)
        self.out = nn.Conv2d(widths[-1], channels * patch**2, 3 if patch > 1 else 1, padding="same")
        _initialise(self.scale)
        _initialise(self.out)
        with torch.no_grad():  # all pixels of a patch start alike: no checkerboard at first (ICNR, Aitken et al. 2017)
            self.out.weight.copy_(self.out.weight[:: patch**2].repeat_interleave(patch**2, dim=0))

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        assert (label is None) == (self.embedding is None), "labels go with a generator that has classes"
        if self.embedding is not None and label is not None:
            latent = torch.cat([latent, self.embedding(label)], dim=1)
        x = self.basis * self.scale(latent)[:, :, None, None]
        for k, stage in enumerate(self.stages):
            x = stage(x, upsample=k > 0)
        image = F.pixel_shuffle(self.out(x), self.patch)
        return image.to(torch.promote_types(torch.float32, latent.dtype))


class RpganDiscriminator(nn.Module):
    """image (N, channels, H, W) in [-1, 1], label (N,) or None -> logits (N,); the generator's stages mirrored."""

    def __init__(
        self,
        size: int | Sequence[int] = 32,
        *,
        channels: int = 3,
        classes: int = 0,
        widths: Sequence[int] = WIDTHS,
        blocks: int = 1,
        patch: int = 2,
        group_width: int | None = None,
    ) -> None:
        super().__init__()
        self.size, (height, width) = _sides(size, patch * 2 ** (len(widths) - 1))
        self.channels, self.classes, self.patch = channels, classes, patch
        downwards = tuple(reversed(widths))
        self.stem = nn.Conv2d(channels * patch**2, downwards[0], 3 if patch > 1 else 1, padding="same")
        stages: list[nn.Module] = []
        for before, after in zip((downwards[0], *downwards[:-1]), downwards, strict=True):
            stages.append(_Stage(before, after, blocks, len(widths) * blocks, group_width))
        self.stages = nn.ModuleList(stages)
        self.pool = nn.Conv2d(widths[0], widths[0], (height, width), groups=widths[0], bias=False)
        self.embedding = nn.Embedding(classes, widths[0]) if classes else None
        self.head = nn.Linear(widths[0], 1, bias=False)
        for layer in (self.stem, self.pool, self.head):
            _initialise(layer)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        assert (label is None) == (self.embedding is None), "labels go with a discriminator that has classes"
        features = self.features(image)
        with torch.autocast(image.device.type, enabled=False):  # differences of logits need all their digits
            logits = self.head(features)[:, 0]
            if self.embedding is not None and label is not None:
                logits = logits + (features * self.embedding(label)).sum(1) / features.shape[1] ** 0.5
        return logits

    def features(self, image: Tensor) -> Tensor:
        """What the logits are a linear function of: (N, widths[0])."""
        x = self.stem(F.pixel_unshuffle(image, self.patch))
        for k, stage in enumerate(self.stages):
            x = stage(x, downsample=k > 0)
        x = x.to(torch.promote_types(torch.float32, image.dtype))
        # what `pool` computes; convolutions of one channel each are differentiated twice one by one, 7 % of a step
        return (x * self.pool.weight[:, 0].to(x.dtype)).sum((2, 3))


class _Stage(nn.Module):
    """Resampling by 2, a change of width, and residual blocks."""

    def __init__(self, before: int, after: int, blocks: int, all_blocks: int, group_width: int | None) -> None:
        super().__init__()
        self.transition = nn.Conv2d(before, after, 1, bias=False) if before != after else None
        self.blocks = nn.ModuleList(_Block(after, all_blocks, group_width) for _ in range(blocks))
        if self.transition is not None:
            _initialise(self.transition)

    def forward(self, x: Tensor, *, upsample: bool = False, downsample: bool = False) -> Tensor:
        if downsample:
            x = F.avg_pool2d(x, 2)
        if self.transition is not None:
            x = self.transition(x)
        if upsample:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        for block in self.blocks:
            x = block(x)
        return x


class _Block(nn.Module):
    """x + a bottleneck of 1x1, 3x3 and 1x1 convolutions, the middle twice as wide and grouped, or as wide and full."""

    def __init__(self, width: int, all_blocks: int, group_width: int | None) -> None:
        super().__init__()
        inner = width if group_width is None else 2 * width
        groups = 1 if group_width is None else inner // group_width
        self.first = nn.Conv2d(width, inner, 1)
        self.middle = nn.Conv2d(inner, inner, 3, padding=1, groups=groups)
        self.last = nn.Conv2d(inner, width, 1, bias=False)
        gain = 2**0.5 * all_blocks**-0.25  # two layers with a gain share Fixup's L**(-1/2)
        _initialise(self.first, gain)
        _initialise(self.middle, gain)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(x), 0.2)
        y = F.leaky_relu(self.middle(y), 0.2)
        return x + self.last(y)


def _sides(size: int | Sequence[int], factor: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The image's height and width, and those of the smallest stage, `factor` times smaller."""
    height, width = (size, size) if isinstance(size, int) else size
    if height % factor or width % factor:
        raise ConfigError(
            f"expected a size divisible by {factor} for these widths and patch, got {height}x{width}; "
            "change the size or the number of widths"
        )
    return (height, width), (height // factor, width // factor)


def _initialise(layer: nn.Module, gain: float = 1.0) -> None:
    """Normal weights of variance gain**2 / inputs, no bias."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor), "only layers with weights are initialised"
    nn.init.normal_(weight, std=gain * weight[0].numel() ** -0.5)
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)

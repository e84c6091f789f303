"""Modes of StackedMNIST: three digits, one in each colour channel, make 1000 kinds of image to count.

Protocol: Metz et al. 2017 (Unrolled GANs, sec. 3.4), as later papers use it (PacGAN, Lin et al. 2018): 26,000 images,
each channel named by a digit classifier, a mode counts as found when one image shows it.
"""

from typing import Any

import torch
from torch import Tensor

from imagesmith.tensors import generator_for

STACKED_SAMPLES = 26_000
"""Images of the protocol. The divergence depends on their number: even perfect ones have (1000 - 1) / (2 N) nats."""
DIGITS = 10


def stack_digits(digits: Tensor, labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of three digits drawn with replacement: (count, 3, H, W) in the dtype of `digits`, and their modes.

    `digits` is (N, 1, H, W), `labels` int64 (N,) in 0-9. The mode, int64 (count,) in 0-999, reads the channels as a
    decimal number.
    """
    assert digits.shape[1:2] == (1,), f"expected digits (N, 1, H, W), got {tuple(digits.shape)}"
    drawn = torch.randint(len(digits), (count, 3), generator=generator_for(seed))
    return digits[drawn, 0], modes_of(labels[drawn])


@torch.inference_mode()
def name_channels(classifier: Any, images: Tensor, batch: int = 1000) -> Tensor:
    """The digit that `classifier` sees in each channel: int64 (N, 3) of images (N, 3, H, W) in [0, 1].

    Of images larger than the classifier's `size` the middle is shown to it: digits padded to 32 pixels, as generators
    like them, have their 28 back.
    """
    height, width = classifier.size
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    assert min(top, left) >= 0, f"expected images of {height}x{width} or more, got {tuple(images.shape)}"
    single = images[:, :, top : top + height, left : left + width].flatten(0, 1).unsqueeze(1)
    return torch.cat([classifier(part).argmax(dim=1) for part in single.split(batch)]).view(-1, 3)


def modes_of(predictions: Tensor) -> Tensor:
    """int64 (N,) in 0-999 of the digits (N, 3)."""
    return predictions @ predictions.new_tensor([100, 10, 1])


def stacked_modes(predictions: Tensor) -> tuple[int, float]:
    """How many of the 1000 modes occur among the digits (N, 3), and KL(found || uniform) in nats."""
    assert predictions.shape[1:] == (3,), f"expected (N, 3), got {tuple(predictions.shape)}"
    assert len(predictions), "expected at least one image"
    counts = torch.bincount(modes_of(predictions), minlength=DIGITS**3)
    shares = counts[counts > 0].double() / len(predictions)
    return len(shares), float((shares * (shares * DIGITS**3).log()).sum())

"""A classic convolutional classifier: the evaluator of generated images and the extractor of their features."""

from torch import Tensor, nn


def _convolution(incoming: int, outgoing: int, *, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU; pooling comes before the norm, where it saves three quarters of the work."""
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False),
        nn.MaxPool2d(2) if pool else nn.Identity(),
        nn.BatchNorm2d(outgoing),
        nn.ReLU(inplace=True),
    )


class Cnn(nn.Module):
    """Six 3x3 convolutions with three max poolings, global average pooling and a fully connected layer.

    `net(image)`: (N, channels, H, W) in [0, 1] -> logits (N, classes). `net.features(image)` -> (N, features): what the
    fully connected layer sees, non-negative; `net.stages(image)` -> the features (N, F, h, w) of each resolution, for a
    perceptual loss. Height and width may differ from `size`, on which it was trained, but are at least 8.
    """

    heads = None

    def __init__(
        self, classes: int, channels: int = 3, size: tuple[int, int] = (32, 32), width: int = 32, features: int = 192
    ) -> None:
        super().__init__()
        self.classes, self.channels, self.size = classes, channels, (size[0], size[1])
        self.body = nn.Sequential(
            _convolution(channels, width, pool=True),
            _convolution(width, 2 * width),
            _convolution(2 * width, 4 * width, pool=True),
            _convolution(4 * width, 4 * width),
            _convolution(4 * width, 4 * width),
            _convolution(4 * width, features, pool=True),
        )
        self.head = nn.Linear(features, classes)

    def features(self, image: Tensor) -> Tensor:
        """(N, features) of (N, channels, H, W) in [0, 1]."""
        return self.body(4 * image - 2).mean(dim=(2, 3))  # photographs have a standard deviation near 1/4

    def stages(self, image: Tensor) -> list[Tensor]:
        """The last features at 1/2, 1/4 and 1/8 of the size of (N, channels, H, W) in [0, 1]."""
        half = self.body[:2](4 * image - 2)
        quarter = self.body[2:5](half)
        return [half, quarter, self.body[5:](quarter)]

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, classes) of (N, channels, H, W) in [0, 1]."""
        return self.head(self.features(image))
